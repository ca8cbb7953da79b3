"""Which rooms of this repository import which, read from the sources.

A room is a package or a module with all that is in it, unless that is a room of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("benchmarks", "reports", "sb3_natural", "studies")


def module_name(path: Path) -> str:
    """The dotted name of the module in a file below the repository's root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(module: str) -> bool:
    """Whether the repository has a package or a module of this name."""
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def imported(source: str) -> Iterator[str]:
    """The modules of this repository that a module imports, anywhere in its source.

    :raises ValueError: a relative import; here, imports name the whole path
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: imports must name the whole path")
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if exists(name) else str(node.module) for name in within]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] in (*PACKAGES, "tests"))


def room_of(module: str, rooms: Collection[str]) -> str:
    """The room that a module is in: the longest beginning of its name that is one.

    A module outside all of them is its own.
    """
    parts = module.split(".")
    beginnings = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in beginnings if name in rooms), module)


def arrows(rooms: Collection[str]) -> set[tuple[str, str]]:
    """All pairs of rooms of which the first imports the second."""
    found = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        room = room_of(module_name(path), rooms)
        for name in imported(path.read_text(encoding="utf-8")):
            found.add((room, room_of(name, rooms)))
    return {(room, other) for room, other in found if room != other}
