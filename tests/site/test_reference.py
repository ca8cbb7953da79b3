"""The reference: every public name has a page, every argument and every method a meaning."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag

import sb3_natural

ROOT = Path(__file__).parents[2]
OURS = ("sb3_natural", "benchmarks", "studies", "reports")
OPERATORS = ("__call__", "__matmul__")
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
    names = {each.name for each in found if each.kind not in kinds and each.name[0] != "_"}
    return names - {"self", "cls"}


def methods(owner: type) -> dict[str, Any]:
    """The public methods that a class has from our packages, by name."""
    found = {}
    fields = getattr(owner, "__dataclass_fields__", {})  # the default of one may be a function
    for name in set(dir(owner)) - set(fields):
        function = inspect.unwrap(getattr(owner, name, None))
        is_ours = (getattr(function, "__module__", None) or "").split(".")[0] in OURS
        if inspect.isroutine(function) and is_ours and (name[0] != "_" or name in OPERATORS):
            found[name] = function
    return found


def page_of(site: Path, module: str, name: str) -> Tag:
    text = (site / f"reference/api/{module}.{name}.html").read_text()
    article = BeautifulSoup(text, "html.parser").article
    assert article is not None
    return article


def meanings(entry: Tag) -> dict[str, str]:
    """By argument, what its row says; of a tuple's or record's field, what stands below it."""
    body = entry.find("dd", recursive=False)
    tables = body.find_all("div", class_="table-wrapper", recursive=False)
    rows = [row("td") for table in tables for row in table("tr")]
    found = {row[0].text.strip(): row[-1].text.strip() for row in rows if len(row) == 4}
    for field in body.find_all("dl", class_="attribute", recursive=False):
        text = field.dd.text.strip()
        if "Alias for field number" not in text:
            found[field.dt["id"].rpartition(".")[2]] = text
    return found


def explains(entry: Tag) -> bool:
    """Whether an entry begins with a sentence."""
    first = entry.select_one("dd p")
    return first is not None and first.text.strip().endswith((".", ":", ","))


def test_all_public_names_of_the_plugin_are_listed():
    names = {name for module, name in listed() if module == "sb3_natural"}
    assert names == set(sb3_natural.__all__) - {"__version__"}
    solvers = {name for module, name in listed() if module == "sb3_natural.curvature.solvers"}
    public = set(importlib.import_module("sb3_natural.curvature.solvers").__all__)
    assert solvers == public - {"SOLVERS"}


@pytest.mark.parametrize(("module", "name"), listed(), ids=lambda each: each)
def test_each_has_a_page_with_a_meaning_for_every_argument(site, module, name):
    page = page_of(site, module, name)
    assert page.h1.text.startswith(name)
    documented = getattr(importlib.import_module(module), name)
    entry = page.select_one("section > dl")
    assert explains(entry)
    wanted = set() if is_error(documented) else arguments(documented)
    found = meanings(entry)
    assert wanted - set(found) == set()
    if inspect.isroutine(documented):
        assert set(found) - set(inspect.signature(documented).parameters) == set()
    assert [name for name, meaning in found.items() if len(meaning.split()) < 2] == []


CLASSES = [
    (module, name)
    for module, name in listed()
    if inspect.isclass(getattr(importlib.import_module(module), name))
]


@pytest.mark.parametrize(("module", "name"), CLASSES, ids=lambda each: each)
def test_each_method_is_there_with_a_meaning_for_every_argument(site, module, name):
    """A method with one argument may leave it to its sentence to say what that is."""
    page = page_of(site, module, name)
    for method, function in methods(getattr(importlib.import_module(module), name)).items():
        signature = page.find("dt", id=f"{module}.{name}.{method}")
        assert signature is not None, method
        assert explains(signature.parent), method
        wanted = arguments(function)
        missing = wanted - set(meanings(signature.parent))
        assert len(wanted) == 1 or missing == set(), (method, missing)


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
