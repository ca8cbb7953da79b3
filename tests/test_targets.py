"""No test without a target of the Makefile that runs it.

Tests that need packages which ``make test`` does not have are in ``tests/peers``, and what takes
long has a mark. Those on a GPU are the one exception: they run where there is one
(``helpers.DEVICES``).
"""

import ast
import re
from pathlib import Path

from benchmarks.speed import peers
from tests.requirements import (
    EXTRAS,
    PROJECT,
    ROOT,
    brought_by,
    imports,
    lacking,
    names,
    requirements,
)

MODULES = sorted((ROOT / "tests").rglob("*.py"))
PEERS = [module for module in MODULES if module.is_relative_to(ROOT / "tests" / "peers")]
OTHERS = [module for module in MODULES if module not in PEERS]
PYTEST = PROJECT["tool"]["pytest"]["ini_options"]

# What no package changes, and what the test needs to be run.
CONDITIONS = {
    "root may write everywhere",
    "needs the right to mount a small file system",
    "counts threads in /proc",
    "there are no pseudo-terminals here",
    "elsewhere nothing is forked",
    "no AVX-512, or a torch without oneDNN",
    "s3fs is installed",
    "PostgreSQL is not installed and cannot be (apt-get install postgresql)",
    "Chromium is not installed and cannot be (apt-get install chromium)",
    "neither pdflatex nor tectonic is installed",
    "pdftotext is not installed",
}


def skips(module: Path) -> list[tuple[str, str]]:
    """How a module skips tests, and for want of which package or for which reason."""
    found = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            how, texts = node.func.attr, [*node.args, *(each.value for each in node.keywords)]
            if how in ("importorskip", "skip", "skipif", "xfail"):
                texts = texts[:1] if how == "importorskip" else texts
                text = [each.value for each in texts if isinstance(each, ast.Constant)]
                found.append((how, str(*text)))
    return found


def test_no_package_is_missed_in_make_test():
    brought = brought_by(requirements("suite", "test", "docs"))
    for module in OTHERS:
        needed = {text for how, text in skips(module) if how == "importorskip"}
        assert lacking(imports(module) | needed, brought) == set(), module
    assert lacking({"pfrl", "wandb", "mlflow"}, brought) == {"pfrl", "wandb", "mlflow"}


def test_all_other_reasons_to_skip_are_known():
    reasons = {text for module in OTHERS for how, text in skips(module) if how != "importorskip"}
    assert reasons == CONDITIONS


def test_nothing_is_skipped_in_the_peers_environment():
    assert [(module, skips(module)) for module in PEERS if skips(module)] == []


def test_what_make_test_leaves_out_has_a_target():
    makefile, guide = ((ROOT / name).read_text() for name in ("Makefile", "CONTRIBUTING.md"))
    marks = [line.partition(":")[0] for line in PYTEST["markers"]]
    assert f'-m "{" and ".join(f"not {mark}" for mark in marks)}"' in makefile
    for mark in marks:
        assert f"\ntest-{mark}: " in makefile
        assert f"-m {mark} " in makefile
        assert f"make test-{mark}" in guide
    for folder in [each for each in PYTEST["norecursedirs"] if each.startswith("tests/")]:
        assert f"pytest {folder}" in makefile
    assert {"make test-peers", "make docs"} <= set(re.findall(r"make [\w-]+", guide))


def test_versions_of_all_that_is_asked_for_are_held():
    """But for those of the peers' environment that are the same as here."""
    own = [extra for extra in EXTRAS if extra not in ("peers", "tracking")]
    for file, wanted in (
        ("constraints.txt", names(requirements(*own))),
        ("constraints-peers.txt", names(peers.requirements()) - set(peers.SHARED)),
    ):
        lines = (ROOT / file).read_text().splitlines()
        assert wanted - names(line for line in lines if not line.startswith("#")) == set(), file
