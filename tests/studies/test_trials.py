"""What a pruner sees of a trial, and what it leaves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState

from benchmarks.normalisation import Scale
from studies.objective import Problem
from studies.study import completed, connect, counted, create, values_of
from studies.trials import SCORES, Objective


class AfterSoManyLooks(optuna.pruners.BasePruner):
    """Prunes every trial at a certain step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return trial.last_step == self._step


@pytest.fixture
def two_environments(problem: Problem) -> Problem:
    """The second one has returns of other sizes."""
    hyperparams = problem.hyperparams["CartPole-v1"]
    return replace(
        problem,
        env_ids=("CartPole-v1", "Pendulum-v1"),
        hyperparams={"CartPole-v1": hyperparams, "Pendulum-v1": hyperparams},
        scales={
            "CartPole-v1": Scale(23.0, 475.0, "here"),
            "Pendulum-v1": Scale(-1200.0, -200.0, "here"),
        },
    )


def carry_out(
    problem: Problem, folder: Path, by_run: bool, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    study = create("mine", problem, connect("", folder))
    study.pruner = pruner or optuna.pruners.NopPruner()
    objective = Objective(problem, "mine", folder / "runs", "the command", by_run)
    study.optimize(objective, n_trials=1)
    return study


def evaluations(problem: Problem, trial: FrozenTrial, folder: Path) -> list[list[float]]:
    """The normalised returns of each run, recomputed by hand."""
    curves = []
    for spec in problem.specs("mine", values_of(problem, trial)):
        frame = pd.read_csv(spec.folder(folder / "runs") / "evaluations.csv")
        scale = problem.scales[spec.env_id]
        assert scale is not None
        returns = frame["return_mean"].to_numpy()
        curves.append(list((returns - scale.random) / (scale.reference - scale.random)))
    return curves


def test_a_pruner_of_steps_sees_the_mean_score_after_each_evaluation(
    two_environments: Problem, tmp_path: Path
) -> None:
    (trial,) = completed(carry_out(two_environments, tmp_path, by_run=False))

    curves = evaluations(two_environments, trial, tmp_path)
    seen = [
        np.mean([*(curve[-1] for curve in curves[:i]), value])
        for i, curve in enumerate(curves)
        for value in curve
    ]
    assert len(seen) == 12
    assert list(trial.intermediate_values) == list(range(12))
    np.testing.assert_allclose(list(trial.intermediate_values.values()), seen)


def test_a_pruner_of_runs_sees_the_score_of_each_run(
    two_environments: Problem, tmp_path: Path
) -> None:
    (trial,) = completed(carry_out(two_environments, tmp_path, by_run=True))

    finals = [curve[-1] for curve in evaluations(two_environments, trial, tmp_path)]
    assert list(trial.intermediate_values) == [0, 1, 2, 3]
    np.testing.assert_allclose(list(trial.intermediate_values.values()), finals)
    np.testing.assert_allclose(trial.user_attrs[SCORES], finals)


def test_a_pruned_trial_leaves_the_runs_that_it_finished(problem: Problem, tmp_path: Path) -> None:
    """Three evaluations a run: the fifth look is in the middle of the second run."""
    (trial,) = counted(carry_out(problem, tmp_path, False, AfterSoManyLooks(4)))

    assert trial.state is TrialState.PRUNED
    assert len(trial.intermediate_values) == 5
    first, second = problem.specs("mine", values_of(problem, trial))
    assert (first.folder(tmp_path / "runs") / "run.json").exists()
    assert not second.folder(tmp_path / "runs").exists()
    assert not list(tmp_path.rglob(".tmp-*"))


def test_runs_that_are_there_are_seen_as_if_they_were_made_now(
    problem: Problem, tmp_path: Path
) -> None:
    (made,) = completed(carry_out(problem, tmp_path, by_run=False))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    (tmp_path / "journal.log").unlink()

    (found,) = completed(carry_out(problem, tmp_path, by_run=False))

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == times
    assert found.intermediate_values == made.intermediate_values
    assert found.value == made.value
