"""The source of what is not ours and in no package: a user's own algorithms and environments.

Results of before say nothing about code that has been edited since. So a run's record has, for
each module that its algorithm, environment and wrappers come from, a hash of the module's file and
of all files of one's own that it imports. Nothing is executed to find that out: the modules that a
record names may be anything.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.algorithms import ALGORITHMS
from benchmarks.provenance import commit
from benchmarks.records import RunSpec

if TYPE_CHECKING:
    from benchmarks.environments import Wrapper

# What these are is said by the run's commit.
_OURS = ("sb3_natural", "benchmarks", "studies", "reports")
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Source:
    """``hash``: 16 hex digits, of the files; ``commit``: that of their repository, if any."""

    hash: str
    commit: str | None


def sources(spec: RunSpec, wrappers: Sequence[Wrapper]) -> dict[str, Source]:
    """The sources of a run's algorithm, environment and wrappers, by the names of their modules.

    What is installed as a package, and what is ours, is left out.
    """
    found = {name: _source(name) for name in sorted(set(_modules(spec, wrappers)))}
    return {name: source for name, source in found.items() if source is not None}


def changed(records: Iterable[Any]) -> list[list[str]]:
    """For each run, the modules whose source is another one now than its record says.

    Modules that are not here, and runs of before this was recorded, count as unchanged.

    :param records: what stands under ``sources`` in records of runs
    """
    now: dict[str, Source | None] = {}
    found = []
    for record in records:
        then = record if isinstance(record, dict) else {}
        now |= {name: _source(name) for name in then if name not in now}
        found.append([name for name in then if _differs(then[name], now[name])])
    return found


def by_module(changed_modules: Iterable[Iterable[str]]) -> Counter[str]:
    """How many runs were made with another source of a module.

    :param changed_modules: as :func:`changed` returns them
    """
    return Counter(chain.from_iterable(changed_modules))


def _differs(then: Any, now: Source | None) -> bool:
    return now is not None and isinstance(then, dict) and then.get("hash") != now.hash


def _modules(spec: RunSpec, wrappers: Sequence[Wrapper]) -> Iterator[str]:
    from benchmarks.environments import env_spec

    if spec.algo not in ALGORITHMS:
        yield spec.algo.rpartition(":" if ":" in spec.algo else ".")[0]
    yield spec.env_id.rpartition(":")[0]  # it may register the environment
    entry_point = env_spec(spec.env_id).entry_point
    if isinstance(entry_point, str):
        yield entry_point.partition(":")[0]
    else:
        yield getattr(entry_point, "__module__", "")
    for wrapper in wrappers:
        for path in [wrapper] if isinstance(wrapper, str) else wrapper:
            yield path.rpartition(".")[0]


def _source(module: str) -> Source | None:
    """None for what is installed, ours, built in, or nowhere to be found."""
    path = _path(module.partition(".")[0])
    files = _files(module, path)
    if not files:
        return None
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = file.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return Source(digest.hexdigest()[:16], commit(next(iter(files.values())).parent))


def _path(top: str) -> list[Path]:
    """Where one's own modules are looked for: Python's path, and where this one was imported from.

    It may have been installed for editing, in a way that does not show in the path.
    """
    spec = getattr(sys.modules.get(top), "__spec__", None)
    places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
    folders = [*(Path(place).parent for place in places), *map(Path, sys.path)]
    python = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    return [
        folder
        for folder in map(Path.absolute, folders)
        if not any(part in _INSTALLED for part in folder.parts)
        and not any(each in (folder, *folder.parents) for each in python)
    ]


def _files(module: str, path: list[Path]) -> dict[str, Path]:
    """The files of a module, its packages, and all that they import from a path, by module."""
    files: dict[str, Path] = {}
    seen, waiting = {""}, [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] in _OURS:
            continue
        seen.add(name)
        for full, file in _found(name, path):
            if full not in files:
                files[full] = file
                is_package = file.name == "__init__.py"
                waiting += _imports(file, full if is_package else full.rpartition(".")[0])
    return files


def _found(name: str, path: list[Path]) -> Iterator[tuple[str, Path]]:
    """The files of a module and of the packages above it, as far as they are there."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if not part.isidentifier():
            return
        names = (f"{part}/__init__.py", f"{part}.py")
        files = [folder / each for folder in path for each in names if (folder / each).is_file()]
        if files:
            yield ".".join(parts[: i + 1]), files[0]
        path = [folder / part for folder in path if (folder / part).is_dir()]


def _imports(file: Path, package: str) -> list[str]:
    """What a file may import: modules, and what is taken from them, which may be modules, too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            names += [".".join([*base, alias.name]) for alias in node.names]
    return names
