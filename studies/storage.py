"""Where studies are stored: a journal beside the runs, or a database that Optuna knows by a URL.

Several processes and machines can share a storage.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import SpecError
from benchmarks.folder_names import check_name
from benchmarks.names import message
from benchmarks.secrets import MASK, mask
from studies.errors import BrokenStudyError, StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import URL

STORAGE_VARIABLE = "STUDIES_STORAGE"  # an environment variable with the storage's URL
JOURNAL = "journal.log"  # in the study's folder, unless a database has the study
RETRIES = 1  # of a trial whose worker has died
_ATTEMPTS = 5
_HEARTBEAT = 10  # seconds
_STALE = 120  # seconds without a heartbeat; a busy machine may miss some


def study_folder(where: str, name: str, root: Path) -> Path:
    """The folder of a study.

    The name must be valid for a folder on every system, unless the folder exists already.

    :param where: the name was given, such as ``--studies``
    :raises SpecError: the name is not valid
    """
    if name not in studies_in(root):
        check_name(where, name)
    return root / name


def studies_in(root: Path) -> list[str]:
    """The names of the studies' folders in a folder, and of the studies that are archived there."""
    from studies.archived import archived_names

    names = {path.name for path in root.glob("*") if path.is_dir()}
    with suppress(BrokenStudyError):  # see is_stored
        names.update(archived_names(root))
    return sorted(names)


def has_journal(folder: Path) -> bool:
    """Whether the journal of a study is in its folder."""
    return (folder / JOURNAL).is_file()


def is_stored(folder: Path) -> bool:
    """Whether a study's journal is in its folder, or the study is in an archive beside it.

    If the archive cannot be read, it may be: whoever reads the study says so.
    """
    from studies.archived import archived_names

    try:
        return has_journal(folder) or folder.name in archived_names(folder.parent)
    except BrokenStudyError:
        return True


def check_not_archived(folder: Path) -> None:
    """Check that a study can be continued.

    :raises StudyError: it is archived
    """
    if not has_journal(folder) and is_stored(folder):
        raise StudyError(
            f"{folder.name!r} is archived in {folder.parent} and cannot be continued; choose "
            "another --root or --name"
        )


def check_unlike(where: str, name: str, others: Iterable[str]) -> None:
    """Check that a study's name differs from every other by more than upper and lower case.

    :raises SpecError: on some systems, and in some databases, two names would be the same
    """
    for other in others:
        if other != name and other.casefold() == name.casefold():
            raise SpecError(
                f"{where}: must differ from the study {other!r} by more than upper and lower case, "
                f"got {name!r}"
            )


def connect(storage: str, folder: Path) -> BaseStorage:
    """The storage at a URL or, if that is empty, the journal in the study's folder.

    Of an archived study it is a copy in memory, to be read.

    :param storage: URL of a database, or empty
    :param folder: the study's folder, such as ``studies-out/NAME``
    :raises StudyError: nothing answers there, or Optuna does not know the kind of database
    :raises BrokenStudyError: the journal or the archive cannot be read
    """
    from studies.archived import archived_storage

    if storage:
        return _database(storage)
    archived = None if has_journal(folder) else archived_storage(folder.parent, folder.name)
    return archived or _journal(folder)


def _journal(folder: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    except (ValueError, KeyError, TypeError) as error:  # not JSON, or not Optuna's
        reason = f"{JOURNAL}: {type(error).__name__}: {error}"
        raise BrokenStudyError(f"{folder.name!r} cannot be read: {reason}") from None


def _database(storage: str) -> BaseStorage:
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    url = _checked_url(storage)
    for attempt in range(_ATTEMPTS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # about heartbeats
                return RDBStorage(
                    storage,
                    engine_kwargs={"pool_pre_ping": True},
                    heartbeat_interval=_HEARTBEAT,
                    grace_period=_STALE,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
                )
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            # Another process may have been making the same tables.
            if attempt == _ATTEMPTS - 1:
                raise _unreachable(storage, url, error) from None
            time.sleep(1.0)
        except Exception as error:  # of SQLAlchemy, of a driver, of Optuna
            raise _unreachable(storage, url, error) from None
    raise AssertionError


def _checked_url(storage: str) -> URL:
    from sqlalchemy import make_url

    try:
        url = make_url(storage)
    except Exception:
        url = None
    # An @ in what looks like the host belongs to the password.
    if url is None or "@" in (url.host or ""):
        raise StudyError(
            f"{_given_with(storage)}: {mask(storage)!r}: must be a database's URL, such as "
            "postgresql://user@host/name; in a password, / is written %2F and @ is written %40"
        )
    return url


def _unreachable(storage: str, url: URL, error: Exception) -> StudyError:
    # The driver's own error: SQLAlchemy adds a link to its documentation.
    reason = str(getattr(error, "orig", None) or error)
    if url.password:  # a driver may quote it without the URL
        reason = reason.replace(str(url.password), MASK)
    shown = mask(url.render_as_string())
    return StudyError(f"{_given_with(storage)}: {shown!r}: {message(mask(reason))}")


def _given_with(storage: str) -> str:
    """The variable or the option that a storage's URL was given with."""
    return STORAGE_VARIABLE if os.environ.get(STORAGE_VARIABLE) == storage else "--storage"
