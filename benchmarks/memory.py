"""How much memory this process has held."""

from pathlib import Path


def peak_resident_mib() -> float | None:
    """The most memory that this process has held so far, in MiB; None where only Linux tells."""
    try:
        # getrusage's ru_maxrss is more portable, but starts from the parent process's.
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmHWM"].split()[0]) / 1024
