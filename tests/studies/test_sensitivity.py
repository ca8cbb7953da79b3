"""Scores over a parameter's range, and the width of the good part of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import trim_mean

from benchmarks.errors import SpecError
from benchmarks.results import load_runs, read_evaluations
from studies import sensitivity
from studies.errors import StudyError
from studies.objective import Problem
from studies.parameters import Parameter
from studies.search_spaces import space_for
from studies.sensitivity import (
    BASE,
    RUN_COLUMNS,
    curve,
    good_interval,
    importances,
    measure,
    store,
    stored,
    width,
)
from studies.storage import connect
from studies.study import SCORES, completed, create
from tests.studies.conftest import CarryOn


def runs_with(scores: np.ndarray, values: list[float], n_envs: int = 1) -> pd.DataFrame:
    """Runs of those scores, of shape (values, seeds * environments)."""
    rows = [
        ("target_kl", value, f"Env{i % n_envs}-v0", 1000 + i // n_envs, 0.0, score)
        for value, row in zip(values, scores, strict=True)
        for i, score in enumerate(row)
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def test_the_good_interval_ends_where_straight_lines_cross_the_bound() -> None:
    positions = np.array([-3.0, -2.0, -1.0, 0.0])

    low, high = good_interval(positions, np.array([0.5, 1.0, 0.95, 0.45]))

    assert low == pytest.approx(-2.2)  # 0.9 is a fifth of the way from 1.0 to 0.5
    assert high == pytest.approx(-0.9)  # and a tenth of the way from 0.95 to 0.45


def test_the_good_interval_does_not_reach_beyond_a_gap() -> None:
    positions = np.arange(5.0)

    low, high = good_interval(positions, np.array([0.99, 0.5, 1.0, 0.5, 0.99]))

    assert (low, high) == pytest.approx((1.8, 2.2))


def test_with_negative_scores_ten_percent_are_of_their_size() -> None:
    low, high = good_interval(np.arange(3.0), np.array([-300.0, -100.0, -105.0]))

    assert (low, high) == pytest.approx((0.95, 2.0))


def test_a_width_is_in_decades_and_says_where_the_range_ends() -> None:
    scores = np.array([[0.5, 0.5], [1.0, 1.0], [0.95, 0.95]])

    good = width(runs_with(scores, [0.001, 0.01, 0.1]))

    assert (good.parameter, good.best, good.best_score) == ("target_kl", 0.01, 1.0)
    assert good.low == pytest.approx(10**-2.2)
    assert good.high == pytest.approx(0.1)
    assert good.decades == pytest.approx(1.2)
    # Both seeds say the same, so there is nothing to doubt.
    assert (good.decades_low, good.decades_high) == pytest.approx((1.2, 1.2))
    assert (good.reaches_low, good.reaches_high) == (False, True)


def test_the_widths_interval_is_between_those_of_the_seeds() -> None:
    """One seed has a width of 1.2 decades, the other one of 2; both have the same best value."""
    scores = np.array([[0.5, 1.0], [1.0, 1.0], [0.95, 1.0]])

    good = width(runs_with(scores, [0.001, 0.01, 0.1]))

    assert good.decades_low == pytest.approx(1.2)
    assert good.decades_high == pytest.approx(2.0)


def test_one_seed_has_no_interval() -> None:
    runs = runs_with(np.array([[0.5], [1.0]]), [0.001, 0.01])

    assert curve(runs)[["low", "high"]].isna().all(axis=None)
    assert np.isnan(width(runs).decades_low)


def test_a_curve_is_the_interquartile_mean_over_seeds_and_environments() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8))

    points = curve(runs_with(scores, [0.1, 0.2, 0.4], n_envs=2))

    np.testing.assert_allclose(points["score"], [trim_mean(row, 0.25) for row in scores])
    assert (points["low"] < points["score"]).all()
    assert (points["high"] > points["score"]).all()
    assert points["runs"].tolist() == [8, 8, 8]


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_a_sweep_takes_in_the_trials_that_fit_and_makes_no_run_twice(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    study = carry_on(problem, 2)
    (parameter,) = problem.space
    folder = tmp_path / "mine"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("run.json")}

    runs = measure(study, problem, folder, parameter, 3, 1, "the command", shown=False)

    tried = [trial.params["clip_range"] for trial in completed(study)]
    assert runs["value"].unique().tolist() == sorted([0.02, 0.126491, 0.8, *tried])
    assert runs["seed"].tolist() == [1000, 1001] * 5
    assert set(runs[BASE]) == {study.best_trial.number}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.rglob("run.json"))) == 10
    for value, seed, score in zip(runs["value"], runs["seed"], runs["score"], strict=True):
        (spec,) = problem.specs("mine", {parameter: float(value)}, [int(seed)])
        returns = read_evaluations(spec.folder(folder / "runs"))["return_mean"]
        assert score == pytest.approx((returns.iloc[-1] - 23.14) / (475 - 23.14))
    again = measure(study, problem, folder, parameter, 3, 1, "the command", shown=False)
    pd.testing.assert_frame_equal(runs, again)


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_trials_that_differ_in_something_else_are_no_points(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    rate = next(each for each in space_for("ppo", ["learning_rate"]))
    two = replace(problem, space=(*problem.space, rate))
    study = carry_on(two, 4, sampler="random")

    runs = measure(study, two, tmp_path / "mine", rate, 3, 1, "the command", shown=False)

    best = max(trial.value or 0 for trial in completed(study))
    base = next(trial for trial in completed(study) if trial.value == best)
    assert set(runs["value"]) == {1e-5, 0.000316228, 1e-2, base.params["learning_rate"]}


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_a_default_that_is_written_as_an_integer_is_a_point_and_not_trained_again(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    vf_coef = Parameter("vf_coef", "vf_coef", "", 0.5, 3.0, log=True)
    small = {**problem.hyperparams["CartPole-v1"], "vf_coef": 1}
    two = replace(
        problem, hyperparams={"CartPole-v1": small}, space=(*problem.space, vf_coef), seeds=(1000,)
    )
    study = carry_on(two, 1)

    runs = measure(study, two, tmp_path / "mine", vf_coef, 3, 1, "the command", shown=False)

    assert runs["value"].tolist() == [0.5, 1.0, 1.22474, 3.0]
    assert len(load_runs(tmp_path / "mine" / "runs")) == 4


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_the_best_value_is_a_point_though_its_runs_are_elsewhere(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    study = carry_on(problem, 2, sampler="random")

    (parameter,) = problem.space
    runs = measure(study, problem, tmp_path / "here", parameter, 3, 1, "the command", shown=False)

    best = study.best_trial
    there = runs[runs["value"] == best.params[parameter.name]]
    assert there["score"].tolist() == best.user_attrs[SCORES]


def test_sweeps_are_stored_to_the_last_bit(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(3, 4))
    first = runs_with(scores, [0.1 / 3, 0.2 / 3, 0.4], n_envs=2).assign(**{BASE: 7})
    second = runs_with(scores[:2] / 3, [0.1, 0.2]).assign(parameter="another", **{BASE: 0})

    store({"target_kl": first, "another": second}, tmp_path)

    again = stored(tmp_path)
    assert list(again) == ["target_kl", "another"]
    pd.testing.assert_frame_equal(again["target_kl"], first, check_exact=True)
    pd.testing.assert_frame_equal(again["another"], second, check_exact=True)
    assert stored(tmp_path / "nothing") == {}


def test_a_file_of_sweeps_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sensitivity.csv"
    for content, message in (
        ("", "No columns"),
        ("parameter,value,env_id,seed,return,score\n", "has no column base; remove it"),
    ):
        file.write_text(content)
        with pytest.raises(StudyError, match=rf"sensitivity\.csv: {message}"):
            stored(tmp_path)


def test_what_cannot_be_swept_is_refused(problem: Problem, tmp_path: Path) -> None:
    choice = Parameter("gamma", "gamma", "", choices=(0.9, 0.99))
    two = replace(problem, space=(*problem.space, choice))

    assert sensitivity.swept(two, "epsilon").name == "clip_range"
    assert [each.name for each in sensitivity.sweepable(two)] == ["clip_range"]
    with pytest.raises(SpecError, match=r"'delta' is not one of .* clip_range \(epsilon\), gamma"):
        sensitivity.swept(two, "delta")
    with pytest.raises(SpecError, match="'gamma' has no range of positive numbers"):
        sensitivity.swept(two, "gamma")
    study = create("mine", problem, connect("", tmp_path))
    with pytest.raises(StudyError, match="no trial has completed"):
        measure(study, problem, tmp_path, problem.space[0], 3, 1, "", shown=False)


def test_importances_are_shares(problem: Problem, carry_on: CarryOn) -> None:
    rate = next(each for each in space_for("ppo", ["learning_rate"]))
    two = replace(problem, space=(*problem.space, rate), seeds=(1000,))

    shares = importances(carry_on(two, 6, sampler="random"), two)

    assert set(shares) == {"clip_range", "learning_rate"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importances(carry_on(problem, 1, "other"), problem) == {}
