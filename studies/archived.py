"""Reading archives of studies, as :mod:`studies.archive` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import parquet
from benchmarks.parquet import INTEGER, JSON, NUMBER, TEXT, Row
from benchmarks.records import BrokenRunError
from studies.errors import BrokenStudyError

if TYPE_CHECKING:
    import pandas as pd
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

STUDIES = "studies.parquet"
TRIALS = "trials.parquet"
SWEEPS = "sweeps.parquet"
STUDY_COLUMNS = {"study": TEXT, "directions": JSON, "user_attrs": JSON, "system_attrs": JSON}
TRIAL_COLUMNS = {
    "study": TEXT,
    "number": INTEGER,
    "state": TEXT,
    "values": JSON,
    "params": JSON,
    "distributions": JSON,
    "user_attrs": JSON,
    "system_attrs": JSON,
    "intermediate_values": JSON,
    "started": TEXT,
    "completed": TEXT,
}
SWEEP_COLUMNS = {
    "study": TEXT,
    "parameter": TEXT,
    "value": NUMBER,
    "env_id": TEXT,
    "seed": INTEGER,
    "return": NUMBER,
    "score": NUMBER,
    "base": INTEGER,
}


def archived_names(root: Path) -> list[str]:
    """The names of the studies in an archive; none if there is no archive.

    :raises BrokenStudyError: the table of studies cannot be read
    """
    return [row["study"] for row in _rows(root / STUDIES, STUDY_COLUMNS)]


def archived_storage(root: Path, name: str) -> BaseStorage | None:
    """A storage, in memory, with a study of an archive; None if it has no such study.

    :raises BrokenStudyError: the study cannot be read
    """
    from optuna import load_study
    from optuna.study import StudyDirection

    rows = [row for row in _rows(root / STUDIES, STUDY_COLUMNS) if row["study"] == name]
    if not rows:
        return None
    trials = [row for row in _rows(root / TRIALS, TRIAL_COLUMNS) if row["study"] == name]
    where = f"{root / STUDIES}: {name}"
    try:
        fields = parquet.fields_of(rows[0], STUDY_COLUMNS, where)
        directions = [StudyDirection[each] for each in fields["directions"]]
        storage, study_id = _new_study(name, directions)
        for key, value in fields["user_attrs"].items():
            storage.set_study_user_attr(study_id, key, value)
        for key, value in fields["system_attrs"].items():
            storage.set_study_system_attr(study_id, key, value)
        study = load_study(study_name=name, storage=storage)
        for number, row in enumerate(trials):  # an archive has them in their order
            where = f"{root / TRIALS}: {name}: trial {number}"
            study.add_trial(_trial(number, row, where))
    except Exception as error:  # Optuna checks in many ways what it is given
        reason = f"{where}: {type(error).__name__}: {error}"
        raise BrokenStudyError(f"{name!r} cannot be read: {reason}") from error
    return storage


def _new_study(name: str, directions: Sequence[StudyDirection]) -> tuple[BaseStorage, int]:
    """A storage in memory, with an empty study in it and the study's number."""
    from optuna import logging
    from optuna.storages import InMemoryStorage

    storage, verbosity = InMemoryStorage(), logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)  # Optuna logs that there is a new study
    try:
        return storage, storage.create_new_study(directions, name)
    finally:
        logging.set_verbosity(verbosity)


def _trial(number: int, row: Row, where: str) -> FrozenTrial:
    from optuna.distributions import json_to_distribution
    from optuna.trial import FrozenTrial, TrialState

    fields = parquet.fields_of(row, TRIAL_COLUMNS, where)
    if fields["number"] != number:
        raise ValueError(f"must have this number, got {fields['number']}")
    for name in ("user_attrs", "system_attrs"):
        if not isinstance(fields[name], dict):
            raise ValueError(f"{name} must be an object, got {fields[name]!r}")
    intermediate = {int(step): value for step, value in fields["intermediate_values"].items()}
    return FrozenTrial(
        number=fields["number"],
        state=TrialState[fields["state"]],
        value=None,
        values=fields["values"],
        datetime_start=_time(fields["started"]),
        datetime_complete=_time(fields["completed"]),
        params=fields["params"],
        distributions={
            name: json_to_distribution(each) for name, each in fields["distributions"].items()
        },
        user_attrs=fields["user_attrs"],
        system_attrs=fields["system_attrs"],
        intermediate_values=intermediate,
        trial_id=fields["number"],
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def archived_sweeps(root: Path, name: str) -> pd.DataFrame | None:
    """The sweeps of a study, as ``sensitivity.csv`` has them; None if there are none.

    :raises BrokenStudyError: the table of sweeps cannot be read
    """
    import pandas as pd

    rows = [row for row in _rows(root / SWEEPS, SWEEP_COLUMNS) if row["study"] == name]
    return pd.DataFrame(rows).drop(columns="study") if rows else None


def _rows(path: Path, columns: parquet.Columns) -> Sequence[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return [row for _, row in parquet.read_rows(path, columns, "study")]
    except BrokenRunError as error:
        raise BrokenStudyError(str(error)) from None
