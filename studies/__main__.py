"""``python -m studies``: tune delta, epsilon and c, and measure how much they matter."""

from benchmarks.processes import exit_on_interrupt

# Worker processes also import this module, under another name.
if __name__ == "__main__":
    exit_on_interrupt()  # before the imports that take time

from studies.commands import app

__all__ = ["app"]

if __name__ == "__main__":
    app()
