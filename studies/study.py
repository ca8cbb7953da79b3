"""A study: its trials in a storage that several processes and machines can share.

A storage is a journal file, kept beside the runs, or any database that Optuna knows by a URL. A
trial whose worker has died is tried once more; which trials those are, a journal's workers say by
file locks, which end with the process, and a database's by Optuna's heartbeat.
"""

import os
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from benchmarks.errors import SpecError
from benchmarks.folder_names import as_file_name, check_name, is_level
from benchmarks.names import message
from benchmarks.secrets import MASK, mask
from studies.objective import Problem
from studies.search_spaces import Parameter, Value, decoded, encoded, rule_name

# Whoever reads a study, a report too, would be told of it again and again.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"studies\.study")

# What the study's user attributes hold.
_PROBLEM = "problem"
_GRID = "grid"
CONFIRMED = "confirmed"
# What a trial's hold.
DEFAULT = "default"  # whether it has the values of the hyperparameter files
WORKER = "worker"  # who carries it out
SURPLUS = "surplus"  # whether others had begun all trials that were due
_INTERRUPTED = "interrupted"  # the number of the trial that it is instead of

STORAGE_VARIABLE = "STUDIES_STORAGE"  # of the environment, with the storage's URL
JOURNAL = "journal.log"  # in the study's folder, unless a database has it
_RETRIES = 1
_ATTEMPTS = 5
_HEARTBEAT = 10  # seconds
_STALE = 120  # seconds without a heartbeat; a busy machine may leave out some
# Seconds that a worker has to claim the trial that it has been given, and the maker of a study to
# say what it is about.
_CLAIMING = 10.0


class StudyError(Exception):
    """A study cannot be opened or carried on; the message says why."""


class BrokenStudyError(StudyError):
    """What is stored of a study cannot be read; the message says what."""


def study_folder(where: str, name: str, root: Path) -> Path:
    """Where a study's runs are, whose name must be a folder's.

    Names of folders that are there already are taken as they are.

    :param where: the name was given, such as ``--studies``
    :raises SpecError: it is none
    """
    if name not in studies_in(root):
        check_name(where, name)
    return root / name


def studies_in(root: Path) -> list[str]:
    """The names of the folders in a folder."""
    return sorted(path.name for path in root.glob("*") if path.is_dir())


def check_unlike(where: str, name: str, others: Iterable[str]) -> None:
    """Check that a study's name does not differ from another one's by upper and lower case alone.

    :raises SpecError: on some systems, and in some databases, they would be the same
    """
    for other in others:
        if other != name and other.casefold() == name.casefold():
            raise SpecError(
                f"{where}: must differ from the study {other!r} by more than upper and lower case, "
                f"got {name!r}"
            )


def connect(storage: str, folder: Path) -> BaseStorage:
    """The storage at a URL; none: the journal file in the study's folder.

    :raises StudyError: nothing answers there, or Optuna does not know the kind of database
    :raises BrokenStudyError: the journal cannot be read
    """
    if not storage:
        try:
            return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        except (ValueError, KeyError, TypeError) as error:  # no JSON, or none of Optuna's
            reason = f"{JOURNAL}: {type(error).__name__}: {error}"
            raise BrokenStudyError(f"{folder.name!r} cannot be read: {reason}") from None
    try:
        url = make_url(storage)
    except Exception:
        url = None
    # What is taken for the host may be a part of the password.
    if url is None or "@" in (url.host or ""):
        raise StudyError(
            f"{_given(storage)}: {mask(storage)!r}: must be a database's URL, such as "
            "postgresql://user@host/name; in a password, / is written %2F and @ is written %40"
        )
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(
                storage,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=_HEARTBEAT,
                grace_period=_STALE,
                heartbeat_stale_trial_callback=Retry(max_retry=_RETRIES),
            )
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            # Another process may have been making the same tables.
            if attempt == _ATTEMPTS - 1:
                raise _unreachable(storage, url, error) from None
            time.sleep(1.0)
        except Exception as error:  # of SQLAlchemy, of its drivers, of Optuna
            raise _unreachable(storage, url, error) from None
    raise AssertionError


def _unreachable(storage: str, url: URL, error: Exception) -> StudyError:
    # The driver's own: SQLAlchemy adds a link to its pages.
    said = str(getattr(error, "orig", None) or error)
    if url.password:  # drivers may say it without the URL
        said = said.replace(str(url.password), MASK)
    shown = mask(url.render_as_string())
    return StudyError(f"{_given(storage)}: {shown!r}: {message(mask(said))}")


def _given(storage: str) -> str:
    """Where a storage's URL was given: in the variable of the environment, or else the option."""
    return STORAGE_VARIABLE if os.environ.get(STORAGE_VARIABLE) == storage else "--storage"


def create(name: str, problem: Problem, storage: BaseStorage) -> optuna.Study:
    """Create a study, or open the one of that name to carry it on; the defaults come first.

    :raises StudyError: the stored study is about something else
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
        enqueued = {parameter.name: encoded(value) for parameter, value in values.items()}
        for parameter in values:
            if parameter.excludes in enqueued:
                enqueued[rule_name(parameter)] = parameter.excludes
        study.enqueue_trial(enqueued, user_attrs={DEFAULT: True}, skip_if_exists=True)
    # Last: a study that says what it is about has its first trials.
    study.set_user_attr(_PROBLEM, problem.to_dict())
    return study


def _stored_problem(study: optuna.Study) -> dict[str, Any] | None:
    """What a study is about; its maker has a moment to say it, or has died before it did."""
    deadline = time.monotonic() + _CLAIMING
    while (stored := study.user_attrs.get(_PROBLEM)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return stored


def fix_grid(study: optuna.Study, n_trials: int) -> None:
    """Keep the size of the grid with the study: another one has other points.

    :raises StudyError: the study has been begun with another one
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

    :raises StudyError: there is none of that name, or it is not one of ours
    :raises BrokenStudyError: what is stored of it cannot be read
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
    for each in (problem.algo, *problem.env_ids):  # they are folders' names, below the runs
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
    """The trials but for those that others have been made instead of, and those too many."""
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
    """Those of the trials that are in one of the states."""
    return [trial for trial in trials if trial.state in states]


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a value, in their order."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The completed trial of the highest score, the first of them; None if there is none."""
    trials = completed(study)
    return max(trials, key=lambda trial: trial.values[0]) if trials else None


def values_of(problem: Problem, trial: FrozenTrial) -> dict[Parameter, Value]:
    """A trial's values by parameter."""
    return {
        each: decoded(trial.params[each.name])
        for each in problem.space
        if each.name in trial.params
    }


def claim(folder: Path, trial_number: int) -> FileLock:
    """The lock that a worker holds while it carries out a trial of a journal's study."""
    return FileLock(folder / f".lock-trial-{trial_number}")


def retry_abandoned(study: optuna.Study, folder: Path) -> None:
    """Have the trials tried once more whose workers have died."""
    optuna.storages.fail_stale_trials(study)
    # Not "is a database": Optuna wraps those in a cache.
    if not isinstance(study._storage, JournalStorage):
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_abandoned(trial, folder):
            continue
        # In this order: should this process die in between, the next one finds it replaced.
        if trial.number not in _replaced(study.get_trials(deepcopy=False)):
            Retry(max_retry=_RETRIES)(study, trial)
        with suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
            study.tell(trial.number, state=TrialState.FAIL)


def _is_abandoned(trial: FrozenTrial, folder: Path) -> bool:
    began = trial.datetime_start
    if began is None or (datetime.now() - began).total_seconds() < _CLAIMING:
        return False
    lock = claim(folder, trial.number)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
    return True


def requeue(study: optuna.Study, numbers: Iterable[int]) -> None:
    """Put trials that are being interrupted back; this does not count as a death."""
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
