"""The memory of this process."""

import psutil

from benchmarks import processes
from benchmarks.speed.protocol import UnavailableError

_MIB = 2**20


def resident_mib() -> float:
    """The memory that this process holds now, in MiB."""
    return psutil.Process().memory_info().rss / _MIB


def peak_resident_mib() -> float:
    """The most memory that this process has held so far, in MiB.

    :raises UnavailableError: this is not Linux
    """
    peak = processes.peak_resident_mib()
    if peak is None:
        raise UnavailableError("peak memory is read from /proc, which only Linux has")
    return peak
