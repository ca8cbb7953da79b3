"""What modules import, and what the requirements of this project bring."""

import ast
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OURS = {"sb3_natural", "benchmarks", "studies", "reports", "docs", "tests"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def requirements(*wanted: str) -> list[str]:
    """Those of the project, with some of its extras."""
    return [*PROJECT["project"]["dependencies"], *(each for e in wanted for each in EXTRAS[e])]


def names(wanted: Iterable[str]) -> set[str]:
    """The names of the distributions that are asked for."""
    return {canonicalize_name(Requirement(each).name) for each in wanted}


def brought_by(wanted: Iterable[str]) -> set[str]:
    """The names of all that pip installs for requirements, by the metadata of what is here."""
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(each), "") for each in wanted]
    while todo:
        requirement, asked_by = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": asked_by}):
            continue
        for extra in ("", *requirement.extras):
            if (each := (canonicalize_name(requirement.name), extra)) not in seen:
                seen.add(each)
                todo += [(Requirement(line), extra) for line in _requires(requirement.name)]
    return {name for name, _ in seen}


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # of another platform, say
        return []


def imports(module: Path, unguarded_only: bool = False) -> set[str]:
    """The packages that a module imports, but for Python's own and ours.

    :param unguarded_only: only those that the module cannot be imported without
    """
    tree = ast.parse(module.read_text())
    nodes: Iterable[ast.AST] = tree.body if unguarded_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found} - OURS - set(sys.stdlib_module_names)


def lacking(packages: Iterable[str], distributions: set[str]) -> set[str]:
    """Those packages that none of the distributions has; one that is not installed has its name."""
    of = {"sbx": ["sbx-rl"]} | _distributions()
    return {
        package
        for package in packages
        if not distributions & {canonicalize_name(each) for each in of.get(package, [package])}
    }


_distributions = cache(packages_distributions)  # takes half a second
