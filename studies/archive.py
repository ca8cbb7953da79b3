"""Studies as a few Parquet tables: small enough for a repository, and read like their folders.

``studies.parquet`` has a row for each study, ``trials.parquet`` for each trial, with what Optuna
stores of them, and ``sweeps.parquet`` for each run of a parameter's sweep. The runs themselves are
not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import parquet
from benchmarks.parquet import Row
from benchmarks.storage import whole_folder
from studies.archived import (
    STUDIES,
    STUDY_COLUMNS,
    SWEEP_COLUMNS,
    SWEEPS,
    TRIAL_COLUMNS,
    TRIALS,
)
from studies.errors import StudyError
from studies.storage import connect, has_journal, studies_in

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def archive(root: Path, storage: str, out: Path) -> list[str]:
    """Write all studies of a folder, or of a database, into an archive.

    :param root: where the studies' folders are
    :param storage: the database's URL; empty: the studies' journals are in their folders
    :param out: a folder, which must not be an archive already
    :return: their names
    :raises StudyError: one cannot be read, there is none, or ``out`` is an archive
    :raises OSError: naming the file that cannot be written
    """
    from studies.sensitivity import stored

    if (out / STUDIES).exists():
        raise StudyError(f"--out: {out}: is an archive already; choose another folder")
    studies = list(_studies(root, storage))
    if not studies:
        raise StudyError(f"{root}: there is no study in it")
    names = [study.study_name for study in studies]
    sweeps = [
        {"study": name, **{str(key): value for key, value in row.items()}}
        for name in names
        for frame in stored(root / name).values()
        for row in frame.to_dict("records")
    ]
    with whole_folder(out, last=STUDIES) as folder:
        parquet.write(parquet.from_rows(sweeps, SWEEP_COLUMNS), folder / SWEEPS)
        trials = [_trial_row(study, trial) for study in studies for trial in study.get_trials()]
        parquet.write(parquet.from_rows(trials, TRIAL_COLUMNS), folder / TRIALS)
        rows = [_study_row(study) for study in studies]
        parquet.write(parquet.from_rows(rows, STUDY_COLUMNS), folder / STUDIES)
    return names


def _studies(root: Path, storage: str) -> Iterator[Study]:
    from optuna import get_all_study_names, load_study

    if storage:
        connected = connect(storage, root)
        for name in get_all_study_names(connected):
            yield load_study(study_name=name, storage=connected)
        return
    for name in studies_in(root):
        if has_journal(root / name):
            yield load_study(study_name=name, storage=connect("", root / name))


def _study_row(study: Study) -> Row:
    fields = {
        "study": study.study_name,
        "directions": [direction.name for direction in study.directions],
        "user_attrs": study.user_attrs,
        "system_attrs": study._storage.get_study_system_attrs(study._study_id),
    }
    return parquet.row_of(fields, STUDY_COLUMNS)


def _trial_row(study: Study, trial: FrozenTrial) -> Row:
    from optuna.distributions import distribution_to_json

    fields = {
        "study": study.study_name,
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {
            name: distribution_to_json(each) for name, each in trial.distributions.items()
        },
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": trial.intermediate_values,
        "started": trial.datetime_start and trial.datetime_start.isoformat(),
        "completed": trial.datetime_complete and trial.datetime_complete.isoformat(),
    }
    return parquet.row_of(fields, TRIAL_COLUMNS)
