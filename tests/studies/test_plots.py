"""The figures of a study say what they show."""

from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from studies.objective import Problem
from studies.parameters import Parameter
from studies.plots import plot_history, plot_sensitivity, plot_values
from studies.sensitivity import RUN_COLUMNS, width
from studies.study import DEFAULT, SCORES

CHOICE = Parameter("gamma", "gamma", "discount factor", choices=(0.9, 0.99))


@pytest.fixture
def study() -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    distributions = {
        "clip_range": FloatDistribution(0.02, 0.8, log=True),
        "gamma": CategoricalDistribution((0.9, 0.99)),
    }
    for i, value in enumerate([0.2, 0.1, 0.4]):
        study.add_trial(
            create_trial(
                params={"clip_range": value, "gamma": (0.9, 0.99)[i % 2]},
                distributions=distributions,
                value=10 * value,
                user_attrs={SCORES: [9 * value, 11 * value], DEFAULT: i == 0},
            )
        )
    return study


def written_in(path: Path) -> list[str]:
    return [
        line.strip().removeprefix("<!-- ").removesuffix(" -->")
        for line in path.read_text().splitlines()
        if "<!--" in line
    ]


def test_values(study: optuna.Study, problem: Problem, tmp_path: Path) -> None:
    two = replace(problem, space=(*problem.space, CHOICE))

    plot_values(study, two, tmp_path / "figure.svg")

    said = written_in(tmp_path / "figure.svg")
    for text in (
        "PPO on CartPole-v1: 64 steps, 2 seeds, 3 trials",
        "clip_range (epsilon):",
        "clip range of the probability ratio",
        "discount factor",
        "0.99",
        "score: final return",
        "(mean of the last 10% of evaluations)",
        "0: random policy (23.14), 1: reference (475)",
        "one run",
        "defaults",
        "best trial",
    ):
        assert text in said


def test_returns_that_are_not_normalised_are_called_returns(
    study: optuna.Study, problem: Problem, tmp_path: Path
) -> None:
    plot_values(study, replace(problem, scales={"CartPole-v1": None}), tmp_path / "figure.svg")

    said = written_in(tmp_path / "figure.svg")
    assert "final return" in said
    assert not any("random policy" in text for text in said)


def test_history(study: optuna.Study, problem: Problem, tmp_path: Path) -> None:
    plot_history(study, problem, tmp_path / "figure.svg")

    said = written_in(tmp_path / "figure.svg")
    for text in ("PPO on CartPole-v1: 64 steps, 2 seeds", "trial", "best so far"):
        assert text in said


def test_without_a_completed_trial_there_is_nothing_to_show(
    problem: Problem, tmp_path: Path
) -> None:
    empty = optuna.create_study(direction="maximize")

    for plot in (plot_values, plot_history):
        with pytest.raises(ValueError, match="no trial has completed"):
            plot(empty, problem, tmp_path / "figure.svg")


def test_sensitivity(problem: Problem, tmp_path: Path) -> None:
    rows = [
        ("clip_range", value, "CartPole-v1", seed, 0.0, score + 0.01 * (seed % 2))
        for value, score in ((0.02, 0.5), (0.2, 1.0), (0.8, 0.7))
        for seed in (1000, 1001)
    ]
    runs = pd.DataFrame(rows, columns=RUN_COLUMNS)
    good = width(runs)

    plot_sensitivity(problem, {"clip_range": runs}, {"clip_range": good}, tmp_path / "figure.svg")

    said = written_in(tmp_path / "figure.svg")
    for text in ("within 10% of the best", "95% interval over seeds", "interquartile mean"):
        assert text in said
    assert any(text.endswith("decades wide") and f"{good.decades:.2f}" in text for text in said)
