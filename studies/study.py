"""A study: its problem and its trials, in a storage that workers share.

A trial whose worker has died is tried once more. Where the study is a journal, a worker holds the
lock of its trial, which ends with the process; a database has Optuna's heartbeat instead.
"""

import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from benchmarks.folder_names import as_file_name, is_level
from benchmarks.locks import lock_file, locked
from studies.errors import BrokenStudyError, StudyError
from studies.objective import Problem
from studies.parameters import Parameter, Value, decode, encode, rule_name
from studies.storage import RETRIES

# Everyone who reads a study, such as a report, would be warned of Retry again and again.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"studies\.study")

# The user attributes of a study.
_PROBLEM = "problem"
_GRID = "grid"
CONFIRMED = "confirmed"
# The user attributes of a trial.
DEFAULT = "default"  # whether it has the values of the hyperparameter files
WORKER = "worker"  # who carries it out
SURPLUS = "surplus"  # whether all trials that were due had already begun
RETURNS = "returns"  # the final return of each run, in the order of Problem.specs
SCORES = "scores"  # the score of each run
SECONDS = "seconds"  # the seconds of training of each run
ERROR = "error"  # why it failed
# A system attribute: the number of the interrupted trial that it replaces.
_INTERRUPTED = "interrupted"

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# Seconds that a worker has to lock the trial that it was given, and that the process which creates
# a study has to store its problem.
_CLAIMING = 10.0


class TrialFailedError(Exception):
    """A trial has no value; the message says which run failed, and why."""


def quiet() -> None:
    """Keep Optuna from logging what the display shows, and from warning of experimental parts."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)


def create(name: str, problem: Problem, storage: BaseStorage) -> optuna.Study:
    """Create a study, whose first trials have the defaults, or open it to continue it.

    :raises StudyError: a study of that name has another problem
    """
    directions = [StudyDirection.MAXIMIZE]
    if problem.has_two_objectives:
        directions.append(StudyDirection.MINIMIZE)
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        stored = None
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
        stored = _stored_problem(study)
    if stored is not None:
        _refuse_another_problem(name, stored, problem.to_dict())
        return study
    if any(DEFAULT not in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
        raise StudyError(f"{name!r} has not been made by python -m studies run")
    for values in problem.defaults():
        enqueued = {parameter.name: encode(value) for parameter, value in values.items()}
        for parameter in values:
            if parameter.excludes in enqueued:
                enqueued[rule_name(parameter)] = parameter.excludes
        study.enqueue_trial(enqueued, user_attrs={DEFAULT: True}, skip_if_exists=True)
    # Last, so that a study with a problem has its first trials.
    study.set_user_attr(_PROBLEM, problem.to_dict())
    return study


def _stored_problem(study: optuna.Study) -> dict[str, Any] | None:
    """The stored problem of a study; None if its maker has died before storing it."""
    deadline = time.monotonic() + _CLAIMING
    while (stored := study.user_attrs.get(_PROBLEM)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return stored


def fix_grid(study: optuna.Study, n_trials: int) -> None:
    """Store the size of the grid with the study: a grid of another size has other points.

    :raises StudyError: the study was begun with another size
    """
    stored = study.user_attrs.get(_GRID)
    if stored is None:
        study.set_user_attr(_GRID, n_trials)
    elif stored != n_trials:
        raise StudyError(
            f"--trials: the grid of the study {study.study_name!r} has {stored} trials, "
            f"got {n_trials}; choose another --name"
        )


def load(name: str, storage: BaseStorage) -> tuple[optuna.Study, Problem]:
    """A stored study, and what it is about.

    :param name: name of the study
    :param storage: where it is stored, as :func:`studies.storage.connect` gives it
    :return: Optuna's study, and its problem
    :raises StudyError: there is no study of that name, or it is not one of ours
    :raises BrokenStudyError: its problem cannot be read
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        names = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise StudyError(f"{name!r} is not a study in this storage; there are: {names}") from None
    if _PROBLEM not in study.user_attrs:
        raise StudyError(f"{name!r} has not been made by python -m studies run")
    try:
        problem = Problem.from_dict(study.user_attrs[_PROBLEM])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenStudyError(
            f"{name!r} cannot be read: what it is about: {type(error).__name__}: {error}"
        ) from None
    for each in (problem.algo, *problem.env_ids):  # they name folders below the runs
        if not is_level(as_file_name(each)):
            raise BrokenStudyError(
                f"{name!r} cannot be read: {each!r} is no name of an algorithm or an environment"
            )
    return study, problem


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


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: all but those that were replaced and those that were too many."""
    trials = study.get_trials(deepcopy=False)
    left_out = _replaced(trials) | {each.number for each in trials if SURPLUS in each.user_attrs}
    return [trial for trial in trials if trial.number not in left_out]


def _replaced(trials: Iterable[FrozenTrial]) -> set[int]:
    replaced = set()
    for trial in trials:
        replaced.update(Retry.retry_history(trial))
        replaced.update(trial.system_attrs.get(_INTERRUPTED, []))
        # Every trial that is retried has itself in its history.
        replaced.discard(trial.number)
    return replaced


def in_state(trials: Iterable[FrozenTrial], *states: TrialState) -> list[FrozenTrial]:
    """The trials that are in one of the states."""
    return [trial for trial in trials if trial.state in states]


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a value, in their order."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The first completed trial with the highest score; None if no trial has completed."""
    trials = completed(study)
    return max(trials, key=lambda trial: trial.values[0]) if trials else None


def values_of(problem: Problem, trial: FrozenTrial) -> dict[Parameter, Value]:
    """A trial's values by parameter."""
    return {
        each: decode(trial.params[each.name]) for each in problem.space if each.name in trial.params
    }


def trial_lock(folder: Path, number: int) -> FileLock:
    """The lock that a worker holds while it carries out a trial of a journal's study."""
    return FileLock(lock_file(_trial_path(folder, number)))


def _trial_path(folder: Path, number: int) -> Path:
    """What stands for a trial among the files of a study; there is no such file."""
    return folder / f"trial-{number}"


def retry_abandoned(study: optuna.Study, folder: Path) -> None:
    """Have the trials of dead workers tried once more."""
    optuna.storages.fail_stale_trials(study)
    # Databases cannot be asked for: Optuna wraps them in a cache.
    if not isinstance(study._storage, JournalStorage):
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_abandoned(study, trial, folder):
            continue
        # In this order: if this process dies in between, the next one finds the trial replaced.
        if trial.number not in _replaced(study.get_trials(deepcopy=False)):
            Retry(RETRIES)(study, trial)
        with suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
            study.tell(trial.number, state=TrialState.FAIL)


def _is_abandoned(study: optuna.Study, trial: FrozenTrial, folder: Path) -> bool:
    began = trial.datetime_start
    if began is None or (datetime.now() - began).total_seconds() < _CLAIMING:
        return False
    with locked(_trial_path(folder, trial.number)) as is_free:
        # Looked at again, since its worker may have ended it, and the lock, in the meantime.
        return is_free and not study._storage.get_trial(trial._trial_id).state.is_finished()


def requeue(study: optuna.Study, numbers: Iterable[int]) -> None:
    """Put interrupted trials back, which does not count as a retry."""
    for trial in study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        if trial.number not in numbers:
            continue
        attrs = {**trial.system_attrs}
        attrs[_INTERRUPTED] = [*attrs.get(_INTERRUPTED, []), trial.number]
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={
                    key: trial.user_attrs[key] for key in (DEFAULT,) if key in trial.user_attrs
                },
                system_attrs=attrs,
            )
        )
        with suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
            study.tell(trial.number, state=TrialState.FAIL)
