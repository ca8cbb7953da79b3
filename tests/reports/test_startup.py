"""What takes seconds to import is imported only by what needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"matplotlib", "seaborn", "optuna", "scipy", "rliable", "plotext", "torch", "tensorboard"}
CODE = """
import sys
from reports.__main__ import app
try:
    app({arguments!r})
except SystemExit as end:
    print(end.code, *({slow!r} & sys.modules.keys()))
"""


def slow_imports(*arguments: str) -> tuple[int, set[str]]:
    """The exit status of a command, and which of ``SLOW`` it has imported."""
    command = [sys.executable, "-c", CODE.format(arguments=list(arguments), slow=SLOW)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    status, *loaded = result.stdout.splitlines()[-1].split()
    return int(status), set(loaded)


@pytest.mark.parametrize(
    "command", [[], ["build"], ["inspect"], ["compare"], ["watch"], ["record"], ["card"]]
)
def test_help_imports_nothing_slow(command: list[str]) -> None:
    assert slow_imports(*command, "--help") == (0, set())


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "none"],
        ["build", "empty"],
        ["build", "empty", "--format", "pdf"],
        ["inspect", "none"],
        ["compare", "none", "empty"],
        ["watch", "none"],
        ["record", "none", "--out", "a.gif"],
        ["card", "none"],
    ],
    ids=" ".join,
)
def test_a_refusal_imports_nothing_slow(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    assert slow_imports(*arguments) == (2, set())
