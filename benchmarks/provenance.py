"""Where a run comes from: code, versions and machine, without the machine's names and paths."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

_REPOSITORY = Path(__file__).parents[1]
# The code that a run executes; anything else may differ from the commit without consequence. It is
# given by kinds of files, since other files in these folders (.env) may be private.
_RUNNING_CODE = (
    ":(glob)sb3_natural/**/*.py",
    ":(glob)benchmarks/**/*.py",
    ":(glob)benchmarks/suites/*.yaml",
    ":(glob)benchmarks/hyperparams/*.yml",
    ":(glob)sb3_natural/hyperparams/*.yml",
    "benchmarks/normalisation.csv",
)
_PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "gymnasium": "gymnasium",
    "mujoco": "mujoco",
    "stable_baselines3": "stable-baselines3",
    "sb3_contrib": "sb3-contrib",
    "sb3_natural": "sb3-natural",
}
# Equivalent separators in the names of distributions.
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True)
class Code:
    """The code that a run executes.

    ``commit`` is the one that is checked out, and ``dirty`` says whether the code differs from it;
    both are None outside a git repository. ``diff`` is the difference, for ``git apply``, empty if
    there is none; untracked files are named above it.
    """

    commit: str | None
    dirty: bool | None
    diff: str


def code() -> Code:
    """The code as it is now."""
    return Code(commit(), is_dirty(), uncommitted())


@cache
def loaded_code() -> Code:
    """The code that this process has imported: as it was when this was called first."""
    return code()


def commit(folder: Path | None = None) -> str | None:
    """The commit that is checked out, or None outside a git repository.

    :param folder: a folder of the repository; None for the repository of this code
    """
    return _git("rev-parse", "HEAD", folder=folder)


def is_dirty() -> bool | None:
    """Whether the code that a run executes differs from the commit; None if that is unknown."""
    status = _git("status", "--porcelain", "--", *_RUNNING_CODE)
    return None if status is None else bool(status)


def uncommitted() -> str:
    """How the code that a run executes differs from the commit; new files are only named."""
    new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *_RUNNING_CODE)
    names = [f"Not tracked: {name}\n" for name in (new or "").split("\0") if name]
    changed = _git("diff", "--no-color", "--no-ext-diff", "HEAD", "--", *_RUNNING_CODE)
    return "".join([*names, f"{changed}\n" if changed else ""])


def _git(*arguments: str, folder: Path | None = None) -> str | None:
    """The output of git, without the last newline; None if its status is not 0.

    :param folder: where git runs; None for the repository of this code
    """
    try:
        # Without locks, so that somebody's commit at the same time does not fail.
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder or _REPOSITORY,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError:
        return None
    return done.stdout.removesuffix("\n") if done.returncode == 0 else None


def versions() -> dict[str, str | None]:
    """The versions of Python and of the packages that decide a run's result."""
    return {"python": platform.python_version()} | {
        name: _installed(package) for name, package in _PACKAGES.items()
    }


def packages(classes: Iterable[type], modules: Iterable[str] = ()) -> dict[str, str | None]:
    """The versions of the distributions that classes and their bases come from, by name.

    Distributions that the modules of these classes import, such as Box2D, are included. Names are
    as in package indices (``ale-py``, ``box2d``). A module that belongs to no distribution has its
    own name, and None.

    :param modules: the names of further modules
    """
    names = {name.partition(".")[0] for name in (*modules, *_modules(classes))}
    found: dict[str, str | None] = {}
    for name in sorted(names - set(sys.stdlib_module_names) - {"benchmarks", "__main__"}):
        # An editable installation lists no modules.
        for distribution in module_distributions().get(name, [name]):
            found[_SEPARATORS.sub("-", distribution).lower()] = _installed(distribution)
    return found


def _modules(classes: Iterable[type]) -> Iterator[str]:
    for cls in {base for each in classes for base in each.__mro__}:
        yield cls.__module__
        for value in vars(sys.modules.get(cls.__module__, object)).values():
            if isinstance(value, ModuleType):
                yield value.__name__


@cache
def module_distributions() -> Mapping[str, list[str]]:
    """The distributions of each module that can be imported; finding them takes half a second."""
    return packages_distributions()


@cache
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """The properties of the machine that decide how fast a run is."""
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
