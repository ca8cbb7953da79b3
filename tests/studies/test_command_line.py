"""What ``python -m studies`` refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from studies.__main__ import app


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--algo", "a2c"], "--algo: 'a2c' is not one of npg, trpo, ppo"),
        (["--env", "CartPol-v1"], "--env: 'CartPol-v1' is not an environment of Gymnasium"),
        (["--steps", "19"], "--steps: must be at least 20"),
        (["--seeds", "0"], "--seeds"),
        (["--trials", "0"], "--trials"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused(
    tmp_path: Path, changed: list[str], message: str
) -> None:
    arguments = ["--algo", "ppo", "--env", "CartPole-v1", "--trials", "1", "--seeds", "1"]
    arguments += ["--steps", "64", "--out", str(tmp_path / "out")]

    result = CliRunner().invoke(app, ["run", *arguments, *changed])

    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
