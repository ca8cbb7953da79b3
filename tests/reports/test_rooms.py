"""Which room of ``reports`` imports which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import reports

ROOT = Path(reports.__file__).parent
MAY_IMPORT = {
    "data": {"data"},
    "rendering": {"rendering"},
    "sections": {"data", "rendering"},
    "live": {"data", "rendering", "live"},
}


def imports(path: Path) -> set[str]:
    """The rooms that a module imports, at its top or within its functions."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "reports":
            modules |= {f"reports.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
    names = {module.split(".")[1] for module in modules if module.startswith("reports.")}
    return names & {*MAY_IMPORT, "document", "__main__"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_those_below_it_alone(room: str) -> None:
    found = {path.name: imports(path) - MAY_IMPORT[room] for path in (ROOT / room).glob("*.py")}
    assert {name: others for name, others in found.items() if others} == {}


def test_sections_are_reached_through_their_interface_alone() -> None:
    imported = imports(ROOT / "document.py")
    assert imported == {"data", "rendering", "sections"}
