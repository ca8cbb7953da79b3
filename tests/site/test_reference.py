"""The reference: every public name has a page, every argument a type or default and a meaning."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

import sb3_natural

ROOT = Path(__file__).parents[2]
LISTED = re.compile(
    r"currentmodule:: (\S+)\n\n.. autosummary::\n   :toctree: api\n\n((?:   \w+\n)+)"
)


def listed() -> list[tuple[str, str]]:
    """Module and name of what the pages of the reference list."""
    text = "".join(page.read_text() for page in sorted((ROOT / "docs/reference").glob("*.md")))
    return [(module, name) for module, names in LISTED.findall(text) for name in names.split()]


def arguments(documented: Any) -> set[str]:
    """The names of the arguments that a caller may give."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(documented).parameters.values()
    return {each.name for each in found if each.kind not in kinds and each.name[0] != "_"}


def test_all_public_names_of_the_plugin_are_listed():
    names = {name for module, name in listed() if module == "sb3_natural"}
    assert names == set(sb3_natural.__all__) - {"__version__"}
    solvers = {name for module, name in listed() if module == "sb3_natural.curvature.solvers"}
    public = set(importlib.import_module("sb3_natural.curvature.solvers").__all__)
    assert solvers == public - {"SOLVERS"}


@pytest.mark.parametrize(("module", "name"), listed(), ids=lambda each: each)
def test_each_has_a_page_with_a_meaning_for_every_argument(site, module, name):
    page = BeautifulSoup((site / f"reference/api/{module}.{name}.html").read_text(), "html.parser")
    assert page.h1.text.startswith(name)
    documented = getattr(importlib.import_module(module), name)
    assert page.select_one("article dd p").text.strip().endswith((".", ":", ","))
    wanted = set() if is_error(documented) else arguments(documented)
    rows = [row("td") for row in page.select("article > section > dl > dd > .table-wrapper tr")]
    meanings = {cells[0].text.strip(): cells[-1].text.strip() for cells in rows if len(cells) == 4}
    assert wanted - set(meanings) == set()
    assert [name for name, meaning in meanings.items() if len(meaning.split()) < 2] == []


def is_error(documented: Any) -> bool:
    return inspect.isclass(documented) and issubclass(documented, Exception)


@pytest.mark.parametrize("package", ["benchmarks", "studies", "reports"])
def test_every_command_has_its_options(site, package):
    import typer

    text = (site / "reference/command-lines.html").read_text()
    shown = BeautifulSoup(text, "html.parser").article.get_text()
    app = importlib.import_module(f"{package}.__main__").app
    commands = typer.main.get_command(app).commands
    assert len(commands) > 3
    for name, command in commands.items():
        assert f"python -m {package} {name}" in shown
        for parameter in command.params:
            assert all(option in shown for option in parameter.opts if option.startswith("--"))
