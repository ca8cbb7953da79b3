"""Studies with real environments and a real journal: what is stored, counted and tried again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.records import RunSpec
from benchmarks.results import read_evaluations
from studies import study as studies
from studies import workers
from studies.confirmation import confirm
from studies.errors import StudyError
from studies.objective import Problem
from studies.storage import connect
from studies.study import (
    DEFAULT,
    ERROR,
    RETURNS,
    SCORES,
    SECONDS,
    completed,
    counted,
    create,
    in_state,
    load,
    requeue,
    retry_abandoned,
    trial_lock,
    values_of,
)
from studies.workers import Task, n_trials_due
from tests.studies.conftest import CarryOn


def clip_ranges(trials: list[FrozenTrial]) -> list[float]:
    return [trial.params["clip_range"] for trial in trials]


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.trials]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers claim what they begin without delay."""
    monkeypatch.setattr(studies, "_CLAIMING", 0.0)


def final(spec: RunSpec, runs: Path) -> float:
    returns = read_evaluations(spec.folder(runs))["return_mean"]
    return float(returns.tolist()[-1])  # the last tenth of three


def test_a_trials_value_is_that_of_its_run_folders(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    three = replace(problem, seeds=(1000, 1001, 1002, 1003))

    (trial,) = completed(carry_on(three, 1))

    returns = [
        final(spec, tmp_path / "mine" / "runs")
        for spec in three.specs("mine", values_of(three, trial))
    ]
    assert trial.user_attrs[RETURNS] == returns
    # CartPole-v1: a random policy has 23.14, the reference 475.
    scores = [(value - 23.14) / (475 - 23.14) for value in returns]
    np.testing.assert_allclose(trial.user_attrs[SCORES], scores)
    assert len(set(returns)) > 2
    # Of four the highest and the lowest are left out.
    assert trial.value == pytest.approx(np.mean(sorted(scores)[1:3]))


def test_the_defaults_come_first(problem: Problem, carry_on: CarryOn) -> None:
    first, second = completed(carry_on(problem, 2))

    assert first.params == {"clip_range": 0.2}
    assert first.user_attrs[DEFAULT]
    assert second.params != first.params
    assert DEFAULT not in second.user_attrs


def test_the_value_tried_is_the_one_that_the_run_had(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    trials = completed(carry_on(problem, 2))

    for trial in trials:
        for spec in problem.specs("mine", values_of(problem, trial)):
            assert spec.hyperparams["clip_range"] == trial.params["clip_range"]
            assert (spec.folder(tmp_path / "mine" / "runs") / "run.json").exists()
    assert len(list((tmp_path / "mine" / "runs").rglob("run.json"))) == 4


def test_with_two_objectives_the_second_is_the_time(problem: Problem, carry_on: CarryOn) -> None:
    both = replace(problem, objective="final-and-seconds")

    (trial,) = completed(carry_on(both, 1))

    assert trial.values[0] == pytest.approx(np.mean(trial.user_attrs[SCORES]))
    assert trial.values[1] == pytest.approx(np.mean(trial.user_attrs[SECONDS]))
    assert trial.values[1] > 0


def test_a_study_carried_on_proposes_what_one_in_a_piece_proposes(
    problem: Problem, carry_on: CarryOn
) -> None:
    """With runs that fail at once: they take a trial each all the same."""
    broken = replace(
        problem,
        env_ids=("no.such.module:Env-v0",),
        hyperparams={"no.such.module:Env-v0": {}},
        scales={"no.such.module:Env-v0": None},
        seeds=(1000,),
    )
    whole = carry_on(broken, 4, "whole")
    carry_on(broken, 1, "pieces")
    pieces = carry_on(broken, 4, "pieces")

    assert len(set(clip_ranges(counted(whole)))) == 4
    assert clip_ranges(counted(pieces)) == clip_ranges(counted(whole))


def test_a_failing_run_fails_its_trial_and_the_study_goes_on(
    problem: Problem, carry_on: CarryOn
) -> None:
    env_id = "tests.benchmarks.envs:Raising-v0"
    broken = replace(
        problem,
        env_ids=(env_id,),
        hyperparams={env_id: problem.hyperparams["CartPole-v1"]},
        scales={env_id: None},
        n_timesteps=512,
        seeds=(1000,),
    )

    study = carry_on(broken, 2)

    assert [trial.state for trial in counted(study)] == [TrialState.FAIL, TrialState.FAIL]
    assert counted(study)[0].user_attrs[ERROR] == (
        f"ppo {env_id} seed 1000: ValueError: the pole is gone"
    )


def test_another_problem_under_the_same_name_is_refused_with_the_difference(
    problem: Problem, tmp_path: Path
) -> None:
    create("mine", problem, connect("", tmp_path))
    (parameter,) = problem.space
    other = replace(
        problem,
        env_ids=("Acrobot-v1",),
        seeds=(1000,),
        space=(replace(parameter, high=0.9),),
        hyperparams={"CartPole-v1": problem.hyperparams["CartPole-v1"] | {"gamma": 0.9}},
    )

    with pytest.raises(StudyError) as refusal:
        create("mine", other, connect("", tmp_path))

    assert str(refusal.value).splitlines()[1:] == [
        "  env_ids: stored ['CartPole-v1'], now ['Acrobot-v1']",
        "  hyperparams.CartPole-v1.gamma: stored None, now 0.9",
        "  seeds: stored [1000, 1001], now [1000]",
        "  space.clip_range.high: stored 0.8, now 0.9",
    ]
    create("mine", problem, connect("", tmp_path))


def test_a_stored_study_says_what_it_is_about(problem: Problem, tmp_path: Path) -> None:
    create("mine", problem, connect("", tmp_path))

    assert load("mine", connect("", tmp_path))[1] == problem
    with pytest.raises(StudyError, match=r"'yours' is not a study in this storage; .*: mine"):
        load("yours", connect("", tmp_path))


@pytest.mark.usefixtures("at_once")
def test_a_study_whose_maker_died_is_made_whole_and_one_of_others_is_refused(
    problem: Problem, tmp_path: Path
) -> None:
    optuna.create_study(storage=connect("", tmp_path), study_name="mine", direction="maximize")
    theirs = optuna.create_study(storage=connect("", tmp_path), study_name="theirs")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)

    (default,) = counted(create("mine", problem, connect("", tmp_path)))

    assert default.user_attrs[DEFAULT]
    for open_it in (
        lambda: create("theirs", problem, connect("", tmp_path)),
        lambda: load("theirs", connect("", tmp_path)),
    ):
        with pytest.raises(StudyError, match="'theirs' has not been made by python -m studies"):
            open_it()


def test_a_grid_keeps_its_size(problem: Problem, tmp_path: Path) -> None:
    study = create("mine", problem, connect("", tmp_path))
    studies.fix_grid(study, 5)

    studies.fix_grid(study, 5)
    with pytest.raises(
        StudyError, match="--trials: the grid of the study 'mine' has 5 trials, got 6"
    ):
        studies.fix_grid(study, 6)


def test_a_storage_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--storage: 'nonsense://here'"):
        connect("nonsense://here", tmp_path)


def begin(study: optuna.Study) -> optuna.trial.Trial:
    trial = study.ask()
    trial.suggest_float("clip_range", 0.02, 0.8, log=True)
    return trial


@pytest.mark.usefixtures("at_once")
def test_a_trial_whose_worker_has_died_is_tried_once_more(problem: Problem, tmp_path: Path) -> None:
    study = create("mine", problem, connect("", tmp_path))
    begin(study)

    for _ in range(2):
        retry_abandoned(study, tmp_path)

    (again,) = counted(study)
    assert again.state is TrialState.WAITING
    assert again.params == {"clip_range": 0.2}
    assert again.user_attrs[DEFAULT]

    begin(study)
    retry_abandoned(study, tmp_path)

    (dead,) = counted(study)
    assert dead.number == again.number
    assert dead.state is TrialState.FAIL


@pytest.mark.usefixtures("at_once")
def test_a_trial_whose_worker_lives_is_left_to_it(problem: Problem, tmp_path: Path) -> None:
    study = create("mine", problem, connect("", tmp_path))
    trial = begin(study)

    with trial_lock(tmp_path, trial.number):
        retry_abandoned(study, tmp_path)

    assert [each.state for each in counted(study)] == [TrialState.RUNNING]
    assert len(study.trials) == 1


@pytest.mark.usefixtures("at_once")
def test_a_trial_is_its_workers_until_its_value_is_stored(
    problem: Problem, carry_on: CarryOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may look for abandoned trials at any moment."""
    stored = JournalStorage.set_trial_state_values

    def look_and_store(storage: JournalStorage, trial_id: int, state: TrialState, *rest: Any):
        if state is TrialState.COMPLETE:
            retry_abandoned(load("mine", connect("", tmp_path / "mine"))[0], tmp_path / "mine")
        return stored(storage, trial_id, state, *rest)

    monkeypatch.setattr(JournalStorage, "set_trial_state_values", look_and_store)

    study = carry_on(problem, 2)

    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


@pytest.mark.usefixtures("at_once")
def test_a_trial_that_has_just_ended_is_not_tried_again(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create("mine", problem, connect("", tmp_path))
    trial = begin(study)
    running = study.get_trials(deepcopy=True)
    study.tell(trial.number, 0.5)
    # As it was a moment ago.
    monkeypatch.setattr(study, "get_trials", lambda **_: running)

    retry_abandoned(study, tmp_path)

    monkeypatch.undo()
    assert [each.state for each in study.trials] == [TrialState.COMPLETE]


def test_a_worker_has_a_moment_to_claim_its_trial(problem: Problem, tmp_path: Path) -> None:
    study = create("mine", problem, connect("", tmp_path))
    begin(study)

    retry_abandoned(study, tmp_path)

    assert [each.state for each in counted(study)] == [TrialState.RUNNING]


@pytest.mark.usefixtures("at_once")
def test_an_interruption_does_not_count_as_a_death(problem: Problem, tmp_path: Path) -> None:
    study = create("mine", problem, connect("", tmp_path))
    for _ in range(3):
        requeue(study, [begin(study).number])

    (waiting,) = counted(study)
    assert waiting.state is TrialState.WAITING
    assert waiting.params == {"clip_range": 0.2}
    assert waiting.user_attrs[DEFAULT]

    begin(study)
    retry_abandoned(study, tmp_path)

    assert [each.state for each in counted(study)] == [TrialState.WAITING]


def test_two_workers_that_begin_at_once_propose_different_values(
    problem: Problem, carry_on: CarryOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two commands do that were given on two machines: each knows its own workers alone."""
    optimize = optuna.Study.optimize
    due: list[tuple[Task, int]] = []

    def elsewhere_first(study: optuna.Study, *arguments: Any, **options: Any) -> None:
        """What the other command does between this one's decision to begin and its trial."""
        if states(study) == [TrialState.COMPLETE] and due:  # after the defaults
            task, n_trials = due.pop()
            workers.work(replace(task, search=replace(task.search, n_trials=n_trials)))
        optimize(study, *arguments, **options)

    def noted(study: optuna.Study, task: Task) -> int:
        if not study.trials[0].state.is_finished():
            due[:] = [(task, 3)]
        return n_trials_due(study, task)

    monkeypatch.setattr(optuna.Study, "optimize", elsewhere_first)
    monkeypatch.setattr(workers, "n_trials_due", noted)

    study = carry_on(problem, 4)

    assert [trial.number for trial in completed(study)] == [0, 1, 2, 3]
    assert len(set(clip_ranges(study.trials))) == 4


def test_two_workers_that_begin_the_last_trial_at_once(
    problem: Problem, carry_on: CarryOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that one is due; the later of the two leaves it at that."""

    def due_then_begun(study: optuna.Study, task: Task) -> int:
        due = n_trials_due(study, task)
        if states(study) == [TrialState.COMPLETE]:  # after the defaults
            begin(study)
        return due

    monkeypatch.setattr(workers, "n_trials_due", due_then_begun)

    study = carry_on(problem, 2)

    assert [trial.number for trial in counted(study)] == [0, 1]
    assert [trial.state for trial in counted(study)] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert study.trials[2].state is TrialState.FAIL

    # The other one dies; and a study that is extended has as many trials as it should.
    study.tell(1, state=TrialState.FAIL)
    study = carry_on(problem, 3)
    assert [trial.number for trial in counted(study)] == [0, 1, 3]


@pytest.mark.usefixtures("at_once")
def test_a_databases_trials_are_not_judged_by_locks(problem: Problem, tmp_path: Path) -> None:
    """There are none: its workers may be on machines that share no folder."""
    storage = connect(f"sqlite:///{tmp_path / 'studies.db'}", tmp_path)
    study = create("mine", problem, storage)
    trial = begin(study)
    storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]

    retry_abandoned(study, tmp_path)

    assert [each.state for each in study.trials] == [TrialState.RUNNING]


def test_a_database_notices_by_heartbeats_that_a_worker_has_died(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.storage._HEARTBEAT", 1)
    monkeypatch.setattr("studies.storage._STALE", 1)
    storage = connect(f"sqlite:///{tmp_path / 'studies.db'}", tmp_path)
    study = create("mine", problem, storage)
    trial = begin(study)
    storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    retry_abandoned(study, tmp_path)
    assert [each.state for each in counted(study)] == [TrialState.RUNNING]

    deadline = pd.Timestamp.now() + pd.Timedelta(30, "s")
    while in_state(counted(study), TrialState.RUNNING) and pd.Timestamp.now() < deadline:
        retry_abandoned(study, tmp_path)

    (again,) = counted(study)
    assert again.state is TrialState.WAITING
    assert again.params == {"clip_range": 0.2}


@pytest.mark.parametrize(
    ("attributes", "why"),
    [({ERROR: "seed 1000: ValueError: gone\nmore"}, "ValueError: gone"), ({}, "its worker died")],
)
def test_a_study_in_which_every_trial_failed_says_why(
    problem: Problem, tmp_path: Path, attributes: dict[str, str], why: str
) -> None:
    study = create("mine", problem, connect("", tmp_path))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))

    with pytest.raises(StudyError, match=rf"^no trial has completed; the last one: .*{why}"):
        confirm(study, problem, tmp_path, 1, "the command", shown=False)
    assert not list(tmp_path.rglob("run.json"))
