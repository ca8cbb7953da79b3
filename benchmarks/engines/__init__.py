"""Engines: where the runs of a sweep are executed, on this machine or on a Ray cluster.

An engine is a generator: it claims runs from a work queue, executes them, and yields what happens.
Closing it ends what is in flight.
"""

from benchmarks.engines.events import Advanced, Ended, Failure
from benchmarks.engines.local import run_locally

__all__ = ["Advanced", "Ended", "Failure", "run_locally"]
