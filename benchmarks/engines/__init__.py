"""Engines execute the runs of a sweep, on this machine or on a Ray cluster.

An engine is a generator: it claims runs from a work queue, executes them, and yields their progress
and their ends. Closing it ends the runs in flight.
"""

from benchmarks.engines.events import Advanced, Ended, Failure
from benchmarks.engines.local import run_locally

__all__ = ["Advanced", "Ended", "Failure", "run_locally"]
