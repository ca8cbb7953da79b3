"""How much memory this process holds."""

from pathlib import Path

import psutil

from benchmarks.speed.protocol import UnavailableError

_MIB = 2**20


def resident_mib() -> float:
    """Memory that this process holds now, in MiB."""
    return psutil.Process().memory_info().rss / _MIB


def peak_resident_mib() -> float:
    """The most memory that this process has held so far, in MiB.

    :raises UnavailableError: not on Linux
    """
    try:
        # getrusage's ru_maxrss is more portable, but starts from the parent process's.
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        raise UnavailableError("peak memory is read from /proc, which only Linux has") from None
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmHWM"].split()[0]) * 1024 / _MIB
