"""Where a run comes from: code, versions, machine. Neither names nor paths of the machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_REPOSITORY = Path(__file__).parents[1]
# The code that a run executes; anything else may differ from the commit without consequence.
_RUNNING_CODE = ("sb3_natural", "benchmarks")
_PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "gymnasium": "gymnasium",
    "mujoco": "mujoco",
    "stable_baselines3": "stable-baselines3",
    "sb3_contrib": "sb3-contrib",
    "sb3_natural": "sb3-natural",
}


def code() -> dict[str, Any]:
    """The commit that is checked out, and whether the code differs from it."""
    return {"commit": commit(), "dirty": is_dirty()}


def commit() -> str | None:
    """The commit that is checked out, or None outside a git repository."""
    return _git("rev-parse", "HEAD")


def is_dirty() -> bool | None:
    """Whether the code that a run executes differs from the commit; None if that is unknown."""
    status = _git("status", "--porcelain", "--", *_RUNNING_CODE)
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        # No lock is taken, so that someone's commit at the same time does not fail.
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=_REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide a run's result."""
    return {"python": platform.python_version()} | {
        name: _installed(package) for name, package in _PACKAGES.items()
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """What decides how fast a run is."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
