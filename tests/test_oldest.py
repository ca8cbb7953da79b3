"""The lower bounds in pyproject.toml are the versions that ``make test-oldest`` installs."""

import re
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.requirements import PROJECT, ROOT, requirements

CONSTRAINTS = "constraints-oldest.txt"
IMPORTS_BENCHMARKS = re.compile(r"^\s*(from|import) benchmarks\b", re.MULTILINE)


def pinned() -> dict[str, Version]:
    """The versions in the file, by name."""
    lines = [line for line in (ROOT / CONSTRAINTS).read_text().splitlines() if line[0] != "#"]
    pins = {canonicalize_name((each := Requirement(line)).name): each for line in lines}
    return {name: exact(each.specifier, "==") for name, each in pins.items()}


def exact(specifiers: SpecifierSet, operator: str) -> Version:
    """The version behind the only one of the specifiers that has this operator."""
    (version,) = [each.version for each in specifiers if each.operator == operator]
    return Version(version)


@pytest.mark.parametrize("requirement", [Requirement(each) for each in requirements()], ids=str)
def test_what_the_plugin_asks_for_is_tested_at_its_lower_bound(requirement):
    assert exact(requirement.specifier, ">=") == pinned()[canonicalize_name(requirement.name)]


def test_of_the_extras_too_where_they_are_installed():
    """The suite asks for newer versions of two that the plugin asks for."""
    core = {canonicalize_name(Requirement(each).name) for each in requirements()}
    tested = {
        name: exact(each.specifier, ">=")
        for each in map(Requirement, set(requirements("suite", "envpool")) - set(requirements()))
        if (name := canonicalize_name(each.name)) in pinned().keys() - core
    }
    assert tested == {name: pinned()[name] for name in ("envpool", "psutil", "scipy")}


def test_the_oldest_python_is_the_first_that_the_classifiers_name():
    oldest = exact(SpecifierSet(PROJECT["project"]["requires-python"]), ">=")
    named = [each.rpartition(" ")[2] for each in PROJECT["project"]["classifiers"]]
    assert str(oldest) == next(each for each in named if each.startswith("3."))
    assert PROJECT["tool"]["mypy"]["python_version"] == str(oldest)
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.major}{oldest.minor}"


@pytest.fixture(scope="module")
def commands() -> list[str]:
    """What ``make test-oldest`` would run in a fresh clone."""
    make = ["make", "--dry-run", "--always-make", "test-oldest", "PYTHON=python3"]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return said.replace("\\\n", "").splitlines()


def test_make_test_oldest_installs_these_versions(commands):
    (install,) = [line for line in commands if " -m pip " in line]
    assert f"-c {CONSTRAINTS} -e " in install


def test_make_test_oldest_leaves_out_the_modules_that_import_benchmarks(commands):
    (run,) = [line.split() for line in commands if " -m pytest " in line]
    given = [ROOT / each for each in run if each.startswith("tests/")]
    assert [path for path in given if not path.exists()] == []
    modules = [file for path in given for file in (path.rglob("*.py") if path.is_dir() else [path])]
    importing = {module for module in modules if IMPORTS_BENCHMARKS.search(module.read_text())}
    assert importing == {ROOT / each[9:] for each in run if each.startswith("--ignore=")}
