"""The files for people: how to contribute, report and cite. What they name is there."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import sb3_natural
from tests.requirements import PROJECT, ROOT

GUIDES = [ROOT / name for name in ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md")]
BUG = ROOT / ".github/ISSUE_TEMPLATE/bug_report.yml"
FORMS = [BUG, ROOT / ".github/ISSUE_TEMPLATE/feature_request.yml"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def commands(text: str) -> list[str]:
    """What stands as code, in a line or in a block."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*(line for block in blocks for line in block.splitlines()), *code_in_lines(rest)]


def code_in_lines(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize(
    "path",
    [*GUIDES, BUG, ROOT / ".github/PULL_REQUEST_TEMPLATE.md"],
    ids=lambda path: path.name,
)
def test_every_command_that_is_named_exists(path: Path) -> None:
    found = commands(path.read_text())
    targets = {
        word
        for command in found
        if command.startswith("make ")
        for word in command.partition("#")[0].split()[1:]
        if "=" not in word
    }
    assert targets - TARGETS == set()
    modules = {name for command in found for name in re.findall(r"python -m ([\w.]+)", command)}
    assert [name for name in modules if not is_runnable(name)] == []
    assert targets or modules


def is_runnable(module: str) -> bool:
    """Whether there is such a module, and a package can be run."""
    found = importlib.util.find_spec(module)
    if found is not None and found.submodule_search_locations:
        found = importlib.util.find_spec(f"{module}.__main__")
    return found is not None


def test_every_command_of_the_suite_that_is_named_is_one() -> None:
    text = "\n".join(path.read_text() for path in [*GUIDES, BUG])
    named = re.findall(r"python\s+-m\s+(benchmarks|studies|reports)\s+(\w+)", text)
    assert len(named) > 10
    for package, command in named:
        app = importlib.import_module(f"{package}.__main__").app
        assert command in typer.main.get_command(app).commands, (package, command)


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text()
    links = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
    folders = r"(?:tests|docs|benchmarks|studies|reports|sb3_natural|\.ci)/[\w./-]+"
    named = {code for code in code_in_lines(text) if re.fullmatch(folders, code)}
    named = {each for each in named if "NAME" not in each}
    assert named or path.name not in ("CONTRIBUTING.md", "RELEASING.md")
    assert [each for each in named if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_as_github_requires(path: Path) -> None:
    form = read_yaml(path)
    assert {"name", "description", "body"} <= set(form)
    assert set(form) <= {"name", "description", "body", "title", "labels", "assignees", "projects"}
    assert all(isinstance(form[key], str) and form[key] for key in ("name", "description"))
    kinds = [element["type"] for element in form["body"]]
    assert set(kinds) <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert set(kinds) - {"markdown"}
    asked = [element for element in form["body"] if element["type"] != "markdown"]
    for element in form["body"]:
        check_element(element)
    for unique in ([e["id"] for e in asked], [e["attributes"]["label"] for e in asked]):
        assert len(set(unique)) == len(unique)


def check_element(element: dict[str, Any]) -> None:
    """The keys of a part of a form, and the types of their values."""
    assert set(element) <= {"type", "id", "attributes", "validations"}
    attributes = element["attributes"]
    if element["type"] == "markdown":
        assert attributes.keys() == {"value"}
        return
    assert re.fullmatch(r"[\w-]+", element["id"])
    assert isinstance(attributes["label"], str)
    keys = {"label", "description", "placeholder", "value", "render", "options", "multiple"}
    assert set(attributes) <= keys
    assert set(element.get("validations", {})) <= {"required"}
    if element["type"] == "dropdown":
        options = attributes["options"]
        assert all(isinstance(option, str) for option in options)  # not true and false
        assert len(set(options)) == len(options) > 1
    if element["type"] == "checkboxes":
        assert all(isinstance(option["label"], str) for option in attributes["options"])


def test_a_bug_report_asks_for_what_it_takes() -> None:
    form = read_yaml(BUG)
    by_id = {element["id"]: element for element in form["body"] if "id" in element}
    assert "python -m sb3_natural.about" in by_id["about"]["attributes"]["description"]
    for needed in ("what", "example", "about"):
        assert by_id[needed]["validations"]["required"]
    assert "interval" in by_id["learning"]["attributes"]["description"]


def test_the_choice_of_issues_is_as_github_requires() -> None:
    config = read_yaml(ROOT / ".github/ISSUE_TEMPLATE/config.yml")
    assert config.keys() == {"blank_issues_enabled", "contact_links"}
    assert isinstance(config["blank_issues_enabled"], bool)
    for link in config["contact_links"]:
        assert link.keys() == {"name", "url", "about"}
        assert link["url"].startswith("https://")


# The keys of the Citation File Format, version 1.2.0, that are used here or could be.
OF_CITATION = {
    *("cff-version", "message", "type", "title", "abstract", "version", "date-released", "license"),
    *("authors", "keywords", "references", "repository-code", "url", "doi", "identifiers"),
}
OF_REFERENCE = {
    *("type", "title", "authors", "year", "doi", "url", "journal", "volume", "issue", "start"),
    *("end", "collection-title"),
}
PAPERS = {
    2001: "A natural policy gradient",
    2008: "Natural actor-critic",
    2015: "Trust region policy optimization",
    2018: "Natural gradient deep Q-learning",
}


def test_the_citation_is_as_its_format_requires() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= OF_CITATION
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == PROJECT["project"]["license"]
    assert isinstance(citation["date-released"], datetime.date)
    assert len(citation["abstract"]) > 200
    assert len(set(citation["keywords"])) == len(citation["keywords"]) >= 5
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference) <= OF_REFERENCE
        assert reference["type"] in ("article", "conference-paper")
        assert isinstance(reference["year"], int)
        assert ("journal" if reference["type"] == "article" else "collection-title") in reference
        assert all(set(a) == {"family-names", "given-names"} for a in reference["authors"])
        if "doi" in reference:
            assert re.fullmatch(r"10\.\d{4,9}(\.\d+)?/\S+", reference["doi"])
        else:
            assert reference["url"].startswith("https://")


def test_the_papers_of_the_algorithms_are_cited() -> None:
    references = read_yaml(ROOT / "CITATION.cff")["references"]
    titles = {reference["title"] for reference in references}
    assert len(titles) == len(references)
    found = {(reference["year"], reference["title"]) for reference in references}
    assert set(PAPERS.items()) <= found
    for word in ("experience replay", "Kronecker-factored", "Stable-Baselines3"):
        assert any(word in title for title in titles), word


def test_the_version_is_the_same_everywhere() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == sb3_natural.__version__ == PROJECT["project"]["version"]


def test_no_address_is_given_that_the_project_does_not_have() -> None:
    urls = PROJECT["project"].get("urls", {})
    citation = read_yaml(ROOT / "CITATION.cff")
    assert ("repository-code" in citation) == ("Repository" in urls)
