"""Thresholds: which there are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports.__main__ import app
from reports.data import thresholds
from reports.data.runs import ReportError
from reports.data.thresholds import Threshold
from tests.reports.conftest import RunFolders, build_report


def refusal(folders: RunFolders, *options: str) -> str:
    out = folders.root.parent / "report"
    arguments = ["build", str(folders.root), "--out", str(out), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not out.exists()
    return result.stderr


def test_given_thresholds_are_read() -> None:
    given = thresholds.parse(["CartPole-v1=475", "Acrobot-v1=-85", "ALE/Pong-v5=1.5e1"])
    assert given == {"CartPole-v1": 475.0, "Acrobot-v1": -85.0, "ALE/Pong-v5": 15.0}


def test_what_is_given_precedes_what_gymnasium_has() -> None:
    env_ids = ["Hopper-v5", "CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Mine-v0"]
    assert thresholds.resolve(env_ids, {"CartPole-v1": 100.0, "Mine-v0": -1.0}) == {
        "Acrobot-v1": Threshold(-100.0, given=False),
        "CartPole-v1": Threshold(100.0, given=True),
        "Hopper-v5": Threshold(3_800.0, given=False),
        "Mine-v0": Threshold(-1.0, given=True),
    }


@pytest.mark.parametrize(
    ("env_id", "value"),
    [
        ("CartPole-v1", 475.0),
        ("some.module:CartPole-v1", 475.0),
        ("Pendulum-v1", None),
        ("Nobody/Knows-v0", None),
        ("not an id", None),
    ],
)
def test_registered_threshold(env_id: str, value: float | None) -> None:
    assert thresholds.registered(env_id) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["CartPole-v1"], "must be ENV=RETURN, such as CartPole-v1=475, got 'CartPole-v1'"),
        (["=475"], "must be ENV=RETURN, such as CartPole-v1=475, got '=475'"),
        (["CartPole-v1=high"], "CartPole-v1: must be a finite number, got 'high'"),
        (["CartPole-v1="], "CartPole-v1: must be a finite number, got ''"),
        (["CartPole-v1=nan"], "CartPole-v1: must be a finite number, got 'nan'"),
        (["CartPole-v1=inf"], "CartPole-v1: must be a finite number, got 'inf'"),
        (
            ["CartPole-v1=475", "CartPole-v1=400"],
            "CartPole-v1: is given twice, 475 and 400; give one",
        ),
        (
            ["Cartpole-v1=475"],
            "Cartpole-v1: no finished run is on it; it must be one of Acrobot-v1, CartPole-v1",
        ),
    ],
)
def test_bad_thresholds_are_refused_with_the_value_and_what_is_valid(
    folders: RunFolders, options: list[str], message: str
) -> None:
    folders.add("npg", "CartPole-v1")
    folders.add("npg", "Acrobot-v1")
    arguments = [part for option in options for part in ("--threshold", option)]
    assert refusal(folders, *arguments) == f"error: --threshold: {message}\n"


def test_an_unknown_environment_is_a_report_error_in_python_too(
    folders: RunFolders, tmp_path: Path
) -> None:
    folders.add("npg")
    with pytest.raises(ReportError, match="it must be one of CartPole-v1"):
        build_report(folders.root, tmp_path / "out", thresholds=["Hopper-v5=1"])
    assert not (tmp_path / "out").exists()
