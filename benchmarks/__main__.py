"""``python -m benchmarks``: run sweeps and look after them, list suites, measure speed."""

from benchmarks.interrupts import end_when_interrupted

# Worker processes import this module, too, under another name.
if __name__ == "__main__":
    end_when_interrupted()  # before what takes seconds

from benchmarks.commands import app

__all__ = ["app"]

if __name__ == "__main__":
    app()
