"""The source of a user's own algorithms and environments, which belong to no package.

Results say nothing about code that was edited after them. Therefore a run's record has, for each
module of its algorithm, environment and wrappers, a hash of the module's file and of all of the
user's files that it imports. To find these, nothing is executed, since a record may name any
module.
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

# The run's commit identifies these.
_OURS = ("sb3_natural", "benchmarks", "studies", "reports")
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Source:
    """``hash``: of the files, 16 hex digits; ``commit``: of their repository, if there is one."""

    hash: str
    commit: str | None


def sources(spec: RunSpec, wrappers: Sequence[Wrapper]) -> dict[str, Source]:
    """The sources of a run's algorithm, environment and wrappers, by the names of their modules.

    Installed packages and the packages of this project are left out.
    """
    found = {name: _source(name) for name in sorted(set(_modules(spec, wrappers)))}
    return {name: source for name, source in found.items() if source is not None}


def changed(records: Iterable[Any]) -> list[list[str]]:
    """For each run, the modules whose source has changed since.

    Modules that cannot be found, and runs whose sources were not recorded, count as unchanged.

    :param records: the ``sources`` in the records of runs
    """
    now: dict[str, Source | None] = {}
    found = []
    for record in records:
        then = record if isinstance(record, dict) else {}
        now |= {name: _source(name) for name in then if name not in now}
        found.append([name for name in then if _differs(then[name], now[name])])
    return found


def by_module(changed_modules: Iterable[Iterable[str]]) -> Counter[str]:
    """By module, the number of runs that were made with another source of it.

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
    """None for a module that is installed, ours, built in, or cannot be found."""
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
    """The folders to look for a user's modules in: Python's path, and where this one comes from.

    An editable installation need not show in Python's path.
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
    """The files of a module, of its packages, and of their imports from a path, by module."""
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
    """The files of a module and of the packages that contain it, as far as they exist."""
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
    """The names that a file imports; a name that is imported from a module may be a module."""
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
