"""``python -m benchmarks``: run sweeps and look after them, list suites, measure speed."""

from benchmarks.processes import exit_on_interrupt

# Worker processes also import this module, under another name.
if __name__ == "__main__":
    exit_on_interrupt()  # before the imports that take time

from benchmarks.commands import app

__all__ = ["app"]

if __name__ == "__main__":
    app()
