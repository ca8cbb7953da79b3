"""What a pruner sees of a trial, and what it leaves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState

from benchmarks.normalisation import Scale
from studies import execution, trials
from studies.objective import Problem
from studies.search import Search
from studies.storage import connect
from studies.study import ERROR, SCORES, TrialFailedError, completed, counted, create, values_of
from studies.trials import Objective, make_runs
from studies.workers import LocalWorkers, Task


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


def with_environment(problem: Problem, name: str) -> Problem:
    """The problem on an environment that goes wrong, with one seed."""
    env_id = f"tests.benchmarks.envs:{name}-v0"
    hyperparams = problem.hyperparams["CartPole-v1"]
    return replace(
        problem,
        env_ids=(env_id,),
        hyperparams={env_id: hyperparams},
        scales={env_id: None},
        seeds=(1000,),
        n_timesteps=256,
    )


def test_a_trial_whose_run_takes_too_long_has_failed_and_says_why(
    problem: Problem, tmp_path: Path
) -> None:
    endless = with_environment(problem, "Endless")
    study = create("mine", endless, connect("", tmp_path))
    objective = Objective(endless, "mine", tmp_path / "runs", "the command", False, run_timeout=0.5)

    study.optimize(objective, n_trials=1, catch=(TrialFailedError,))

    (trial,) = counted(study)
    assert trial.state is TrialState.FAIL
    why = "TimeoutError: --run-timeout: the run has taken more than 0.5 seconds"
    assert trial.user_attrs[ERROR] == f"ppo {endless.env_ids[0]} seed 1000: {why}"
    assert not list(tmp_path.rglob(".tmp-*"))


def test_so_has_one_whose_run_only_ends_with_its_worker(
    problem: Problem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment catches the exception that is to end it; once is enough."""
    hanging = with_environment(problem, "Hanging")
    study = create("mine", hanging, connect("", tmp_path))
    task = Task("mine", "", tmp_path, Search(n_trials=1), "the command", run_timeout=5)

    execution.carry_out(study, hanging, task, LocalWorkers(), 1, shown=True)

    (trial,) = study.trials
    assert trial.state is TrialState.FAIL
    why = "TimeoutError: --run-timeout: the run has taken more than 5 seconds"
    assert trial.user_attrs[ERROR] == why
    output = capsys.readouterr().out
    assert f"a worker has died: {why}" in output
    assert "in fail" in output  # where it hung


def test_runs_that_are_no_trials_may_not_take_longer_either(
    problem: Problem, tmp_path: Path
) -> None:
    endless = with_environment(problem, "Endless")

    with pytest.raises(TrialFailedError, match="seed 1000: TimeoutError: --run-timeout: the run"):
        make_runs(endless.specs("mine", {}), tmp_path, 1, "the command", False, run_timeout=1)


def test_an_error_without_end_is_cut(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise ValueError("http://alice:S3CRET@here \ud800" + "x" * 10_000_000)

    monkeypatch.setattr(trials, "run", run)
    study = create("mine", problem, connect("", tmp_path))
    objective = Objective(problem, "mine", tmp_path / "runs", "the command", False)

    study.optimize(objective, n_trials=1, catch=(TrialFailedError,))

    error, where = counted(study)[0].user_attrs[ERROR], "ppo CartPole-v1 seed 1000"
    assert error.startswith(rf"{where}: ValueError: http://alice:***@here \ud800xxx")
    assert len(error) < 2_100
