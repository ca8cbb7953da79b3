"""The scale on which returns on different environments compare."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.commands import app
from benchmarks.errors import SpecError
from benchmarks.normalisation import (
    Scale,
    load_scales,
    random_returns,
    rows_for,
)
from benchmarks.records import Evaluation
from benchmarks.suite import load_suite

HEADER = "env_id,random,random_episodes,reference,reference_source\n"

WriteScales = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteScales:
    """Write a file of scales, given what comes below the header."""

    def write_scales(rows: str) -> Path:
        path = tmp_path / "scales.csv"
        path.write_text(HEADER + rows)
        return path

    return write_scales


def test_scales_are_read_by_environment(write: WriteScales) -> None:
    path = write('A-v1,-1.5,100,10,threshold\nALE/B-v5,2,100,1e3,"TRPO, of the Zoo"\n')

    assert load_scales(path) == {
        "A-v1": Scale(-1.5, 10.0, "threshold"),
        "ALE/B-v5": Scale(2.0, 1000.0, "TRPO, of the Zoo"),
    }


def test_a_reference_may_be_lower_than_the_random_policy(write: WriteScales) -> None:
    """Such a scale is of no use to maximise, but it is one."""
    assert load_scales(write("A-v1,5,100,1,given\n"))["A-v1"].reference == 1.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("A-v1,1,9,2,s\nB-v1,low,9,2,s\n", "line 3: B-v1: random: must be a number, got 'low'"),
        ("A-v1,1,9,,s\n", "line 2: A-v1: reference: must be a number, got ''"),
        ("A-v1,1,9,nan,s\n", "line 2: A-v1: reference: must be a number, got 'nan'"),
        ("A-v1,-inf,9,1,s\n", "line 2: A-v1: random: must be a number, got '-inf'"),
        ("A-v1,1,9,2,s\nA-v1,1,9,2,s\n", "line 3: A-v1: is there twice"),
        (
            "A-v1,3,9,3.0,s\n",
            "line 2: A-v1: random and reference must differ, both are 3.0",
        ),
    ],
)
def test_a_row_that_is_wrong_is_refused_with_file_line_column_and_value(
    write: WriteScales, rows: str, message: str
) -> None:
    path = write(rows)

    with pytest.raises(SpecError) as refusal:
        load_scales(path)
    assert str(refusal.value) == f"{path}: {message}"


def test_a_row_that_is_too_short_is_refused(write: WriteScales) -> None:
    with pytest.raises(SpecError, match="line 2: A-v1: reference: must be a number, got None"):
        load_scales(write("A-v1,1,9\n"))


def test_empty_lines_are_counted(write: WriteScales) -> None:
    with pytest.raises(SpecError, match="line 4: A-v1: random: must be a number"):
        load_scales(write("\n\nA-v1,low,9,2,s\n"))


@pytest.mark.parametrize("text", ["", "env_id,random,reference\n", HEADER.replace(",", ";")])
def test_other_columns_are_refused_with_those_that_there_must_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scales.csv"
    path.write_text(text)

    with pytest.raises(SpecError, match=re.escape(f"{path}: must have the columns {HEADER[:6]}, ")):
        load_scales(path)


def test_the_random_policy_has_0_and_the_reference_1() -> None:
    scale = Scale(random=-200.0, reference=-100.0, reference_source="made up")

    scores = scale.normalise(np.array([-200.0, -100.0, -150.0, 0.0, -250.0]))

    assert scores.tolist() == [0.0, 1.0, 0.5, 2.0, -0.5]


def test_an_environment_that_has_not_been_measured_has_no_scale() -> None:
    assert "tests.benchmarks.envs:Raising-v0" not in load_scales()


def test_a_random_policy_keeps_the_pole_up_for_some_20_steps_the_same_each_time() -> None:
    returns = random_returns("CartPole-v1", 100)

    assert len(returns) == 100
    assert 15 < np.mean(returns) < 30
    assert len(set(returns)) > 10
    assert random_returns("CartPole-v1", 100) == returns


def test_more_episodes_begin_with_the_same_ones() -> None:
    """Each environment goes on where it was."""
    few, more = random_returns("CartPole-v1", 20), random_returns("CartPole-v1", 40)

    assert [more[i : i + 2] for i in range(0, 40, 4)] == [few[i : i + 2] for i in range(0, 20, 2)]


@pytest.mark.parametrize("n_episodes", [1, 15, 99])
def test_episodes_that_cannot_be_shared_out_are_refused(n_episodes: int) -> None:
    message = f"--episodes: must be a multiple of 10, got {n_episodes}"
    with pytest.raises(SpecError, match=message):
        random_returns("CartPole-v1", n_episodes)


def test_measured_lines_can_be_read(write: WriteScales) -> None:
    thresholds = rows_for(["CartPole-v1"], 20, None)
    given = rows_for(["Acrobot-v1"], 10, -62.5)

    scales = load_scales(write(f"{thresholds}\n{given}\n"))

    mean = round(float(np.mean(random_returns("CartPole-v1", 20))), 2)
    assert scales["CartPole-v1"] == Scale(mean, 475.0, "Gymnasium's reward threshold")
    assert -501 < scales["Acrobot-v1"].random < -400
    assert scales["Acrobot-v1"].reference == -62.5
    assert scales["Acrobot-v1"].reference_source == "given"
    assert thresholds.split(",")[2] == "20"


def test_a_warning_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluation, "max_steps", 5)
    endless = "tests.benchmarks.envs:Endless-v0"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        arguments = ["random", endless, "--episodes", "10", "--reference", "9"]
        result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    assert caught == []
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "warning: UserWarning: evaluation: max_steps: an episode was cut after 5"
    )
    assert result.stdout == f"{HEADER}{endless},5,10,9,given\n"


def test_an_environment_without_a_threshold_needs_a_reference() -> None:
    message = "Pendulum-v1: Gymnasium has no reward threshold for it; say --reference"
    with pytest.raises(SpecError, match=message):
        rows_for(["Pendulum-v1"], 10, None)


@pytest.mark.parametrize("suite", ["classic", "mujoco"])
def test_every_environment_of_the_suites_has_been_measured(suite: str) -> None:
    for env in load_suite(suite).envs:
        scale = load_scales().get(env.env_id)
        assert scale is not None, env.env_id
        assert scale.random < scale.reference, env.env_id
        assert scale.reference_source, env.env_id


def test_the_shipped_measurement_is_what_is_measured_today() -> None:
    scale = load_scales().get("CartPole-v1")

    assert scale is not None
    # Two standard errors: another version of Gymnasium may draw other episodes.
    assert scale.random == pytest.approx(np.mean(random_returns("CartPole-v1", 100)), abs=2.5)
