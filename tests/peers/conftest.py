"""The suite of one environment that the benchmarks' tests have."""

from tests.benchmarks.conftest import tiny_suite

__all__ = ["tiny_suite"]
