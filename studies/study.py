"""A study: kept in a journal file, carried on where it was interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from studies.objective import Problem, TrialFailedError, measure

# Of the study: what it is about, and which trials were cut short.
_PROBLEM = "problem"
_INTERRUPTED = "interrupted"
# Of a trial.
RETURNS = "returns"  # final return of each seed
ERROR = "error"
DEFAULT = "default"  # whether it has the default value
_PROCESS = "process"


class StudyError(Exception):
    """A study cannot be carried on; the message says why."""


def open_study(name: str, problem: Problem, folder: Path) -> optuna.Study:
    """Create a study, or open the one of that name in ``folder`` to carry it on.

    A trial that a killed process left running is marked as failed and its value is enqueued
    again: the runs that it finished are reused. The default value comes first.

    :raises StudyError: the stored study is about something else, or a process is running it
    """
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )
    stored = study.user_attrs.get(_PROBLEM)
    if stored is None:
        study.set_user_attr(_PROBLEM, problem.to_dict())
    else:
        _refuse_another_problem(name, stored, problem.to_dict())
    _requeue_interrupted(study)
    if not any(trial.user_attrs.get(DEFAULT) for trial in study.trials):
        study.enqueue_trial(
            {problem.parameter.name: problem.parameter.default}, user_attrs={DEFAULT: True}
        )
    return study


def _refuse_another_problem(name: str, stored: dict[str, Any], given: dict[str, Any]) -> None:
    before, now = _flat(stored), _flat(given)
    differences = [
        f"  {key}: stored {before.get(key)!r}, now {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if differences:
        raise StudyError(
            f"the stored study {name!r} is another one; choose another --name\n"
            + "\n".join(differences)
        )


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _requeue_interrupted(study: optuna.Study) -> None:
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if _is_alive(trial):
            raise StudyError(
                f"trial {trial.number} of the study {study.study_name!r} is being run by process "
                f"{trial.user_attrs[_PROCESS]}"
            )
        params = trial.params or trial.system_attrs.get("fixed_params", {})
        waiting = [
            each.system_attrs.get("fixed_params")
            for each in study.get_trials(states=(TrialState.WAITING,))
        ]
        # In this order, whatever moment the next kill comes at, no value is lost or run twice.
        study.set_user_attr(
            _INTERRUPTED, sorted({*study.user_attrs.get(_INTERRUPTED, []), trial.number})
        )
        if params and params not in waiting:
            is_default = {DEFAULT: True} if trial.user_attrs.get(DEFAULT) else None
            study.enqueue_trial(params, user_attrs=is_default)
        study.tell(trial.number, state=TrialState.FAIL)


def _is_alive(trial: FrozenTrial) -> bool:
    try:
        process = psutil.Process(trial.user_attrs[_PROCESS])
        began = trial.datetime_start
        # A process that began after the trial has only inherited the number.
        return began is not None and process.create_time() <= began.timestamp()
    except (KeyError, psutil.NoSuchProcess):
        return False


def carried_out(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ended by themselves, completed or failed, in their order."""
    interrupted = study.user_attrs.get(_INTERRUPTED, [])
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    return [trial for trial in ended if trial.number not in interrupted]


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a value, in their order."""
    return study.get_trials(states=(TrialState.COMPLETE,))


def optimise(
    study: optuna.Study,
    problem: Problem,
    folder: Path,
    n_trials: int,
    jobs: int,
    command: str,
    report: Callable[[FrozenTrial], None],
    show_progress: bool,
) -> None:
    """Carry out trials until the study has ``n_trials`` of them.

    :param report: called with each trial as it ends
    :param show_progress: show the runs of each trial
    """
    while (n_done := len(carried_out(study))) < n_trials:
        # A generator for each trial: a study carried on proposes what it would have proposed.
        study.sampler = optuna.samplers.TPESampler(seed=n_done)
        trial = study.ask()
        trial.set_user_attr(_PROCESS, psutil.Process().pid)
        space = problem.parameter
        value = trial.suggest_float(space.name, space.low, space.high, log=space.log)
        specs = problem.specs(study.study_name, value)
        try:
            returns = measure(specs, folder / "runs", jobs, command, show_progress)
        except TrialFailedError as error:
            trial.set_user_attr(ERROR, str(error))
            report(study.tell(trial, state=TrialState.FAIL))
        else:
            trial.set_user_attr(RETURNS, returns)
            report(study.tell(trial, float(np.mean(returns))))
