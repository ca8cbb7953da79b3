"""What can be said of trackers without one; tests/peers has those that log."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.errors import SpecError
from benchmarks.tracking import TRACKERS, prepare


def test_a_tracker_that_cannot_be_is_refused(monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--track: 'neptune' is not one of wandb, mlflow"):
        prepare(["neptune"], tmp_path, True)
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
        with pytest.raises(SpecError, match=f"--track: '{name}' is not installed"):
            prepare([name], tmp_path, True)


def test_the_command_line_says_it(tiny_suite: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["run", str(tiny_suite), "--track", "neptune", "--out", str(tmp_path / "runs")]
    )

    assert result.exit_code == 2
    assert "'neptune' is not one of wandb, mlflow" in result.stderr
    assert not (tmp_path / "runs").exists()
