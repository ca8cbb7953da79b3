"""Runs as tidy tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.names import csv_text
from benchmarks.records import (
    MEASURED,
    BrokenRunError,
    FailureRecord,
    OtherVersionError,
    RunRecord,
    RunSpec,
    root_of,
)
from benchmarks.run_files import Found, StoredFailure, check_place, find, find_run
from benchmarks.storage import Folder

RUN_COLUMNS = [
    "suite",
    "algo",
    "env_id",
    "seed",
    "config",
    "n_timesteps",
    "timesteps",
    "wall_seconds",
    "evaluation_seconds",
    "peak_memory_mib",
    "started",
    "commit",
    "dirty",
    "command",
    "hyperparams",
    "evaluation",
    "versions",
    "machine",
    "sources",
    "path",
]
_KEYS = RUN_COLUMNS[:5]
EVALUATION_COLUMNS = [*_KEYS, *MEASURED]
FAILURE_COLUMNS = [*_KEYS, "error", "traceback"]


@dataclass(frozen=True)
class Readable:
    """What can be read below a folder, and why the rest of it cannot.

    The tables are as :func:`load_runs`, :func:`load_evaluations` and :func:`load_failures` give
    them. ``broken`` has an error for each run, record of a failure or archive that is not in them.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    failures: pd.DataFrame
    broken: list[BrokenRunError]


def load_readable(
    root: Folder, reading: Callable[[Sequence[Folder]], Iterable[Folder]] = iter
) -> Readable:
    """Everything below ``root`` in one pass, without the runs that cannot be read.

    :param reading: iterates over the runs' folders, to show the progress
    """
    return readable(find(root), root, reading)


def readable(
    found: Found,
    root: Folder,
    reading: Callable[[Sequence[Folder]], Iterable[Folder]] = iter,
) -> Readable:
    """As :func:`load_readable`, of what has been found below ``root``."""
    runs: list[dict[str, Any]] = []
    measured: list[np.ndarray] = []
    failures: list[dict[str, Any]] = []
    broken = list(found.broken)
    for folder, run in zip(reading([run.folder for run in found.runs]), found.runs, strict=True):
        try:
            row, values = _run_row(folder, root, run.record()), run.measured()
        except BrokenRunError as error:
            broken.append(error)
            continue
        runs.append(row)
        measured.append(values)
    for failure in found.failures:
        try:
            failures.append(_failure_row(failure, root))
        except BrokenRunError as error:
            broken.append(error)
    return Readable(
        _runs_frame(runs),
        _evaluations_frame(runs, measured),
        _frame(failures, FAILURE_COLUMNS, _KEYS),
        # A table of an archive that cannot be read is the same error for each of its runs.
        list({str(error): error for error in broken}.values()),
    )


def check_versions(root: Folder) -> None:
    """Check that the finished runs below ``root`` are of this version.

    :raises OtherVersionError: one that is not
    :raises BrokenRunError: an archive that cannot be read
    """
    for run in _found(root).runs:
        try:
            run.record()
        except OtherVersionError:
            raise
        except BrokenRunError:
            continue  # whoever reads the run says so


def load_runs(root: Folder) -> pd.DataFrame:
    """A table of finished runs, one row for each, sorted by the first five columns.

    The columns are ``suite``, ``algo``, ``env_id``, ``seed``, ``config``, ``n_timesteps`` (asked
    for), ``timesteps`` (taken), ``wall_seconds`` (of training), ``evaluation_seconds``,
    ``peak_memory_mib`` (NaN where it is not known), ``started``, ``commit``, ``dirty``,
    ``command``, ``hyperparams``, ``evaluation``, ``versions``, ``machine`` (these four are
    dictionaries), ``sources`` and ``path`` (of the run's folder, even if the run is archived and
    has none).

    :param root: a folder of runs, or an archive of them: a path, or a place that
        ``upath.UPath`` reaches
    :raises BrokenRunError: a run or an archive that cannot be read
    """
    return _runs_frame([_run_row(run.folder, root, run.record()) for run in _found(root).runs])


def load_evaluations(root: Folder) -> pd.DataFrame:
    """A table of the evaluations of finished runs, one row for each, sorted by run and step.

    The columns are ``suite``, ``algo``, ``env_id``, ``seed``, ``config``, ``timesteps``,
    ``wall_seconds`` (of training so far), ``return_mean``, ``return_std``, ``length_mean`` and
    ``episodes``.

    :param root: as for :func:`load_runs`
    :raises BrokenRunError: a run or an archive that cannot be read
    """
    found = _found(root).runs
    runs = [_run_row(run.folder, root, run.record()) for run in found]
    return _evaluations_frame(runs, [run.measured() for run in found])


def load_failures(root: Folder) -> pd.DataFrame:
    """A table of failed runs, one row for each, sorted.

    A run that failed once and has finished since is not a failure. The columns are ``suite``,
    ``algo``, ``env_id``, ``seed``, ``config``, ``error`` and ``traceback``.

    :param root: as for :func:`load_runs`
    :raises BrokenRunError: a record or an archive that cannot be read
    """
    rows = [_failure_row(failure, root) for failure in _found(root).failures]
    return _frame(rows, FAILURE_COLUMNS, _KEYS)


def load_failed_specs(root: Folder) -> list[tuple[RunSpec, Folder]]:
    """The failed runs below ``root``, each with the folder below which it stands, to try again.

    :raises BrokenRunError: a record or an archive that cannot be read
    """
    found = []
    for failure in _found(root).failures:
        record, folder = failure.record(), failure.folder.absolute()
        out = root_of(folder)
        if record.spec.folder(out) != folder:
            raise BrokenRunError(f"{folder}: is not where the record of its run stands")
        found.append((record.spec, out))
    return found


def _found(root: Folder) -> Found:
    found = find(root)
    if found.broken:
        raise found.broken[0]
    return found


def read_evaluations(folder: Folder) -> pd.DataFrame:
    """The evaluations of one finished run, in the order of their steps.

    :raises BrokenRunError: they cannot be read
    """
    return _measured_frame(find_run(folder).measured())


def _evaluations_frame(
    runs: Sequence[dict[str, Any]], measured: Sequence[np.ndarray]
) -> pd.DataFrame:
    """The evaluations of several runs, an array for each."""
    # One table at the end: pandas takes longer to make a small one than the disk takes to read it.
    lengths = [len(rows) for rows in measured]
    columns = {
        key: np.repeat(np.array([run[key] for run in runs], dtype=object), lengths) for key in _KEYS
    }
    values = np.concatenate([np.empty((0, len(MEASURED))), *measured])
    frame = pd.concat([pd.DataFrame(columns).infer_objects(), _measured_frame(values)], axis=1)
    return frame.sort_values([*_KEYS, "timesteps"], kind="stable", ignore_index=True)


def _measured_frame(values: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=MEASURED)
    return frame.astype({"timesteps": int, "episodes": int})


def without_return(evaluations: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """The runs with an evaluation whose return is not finite, each with what is wrong.

    They have finished, and no sweep makes them again, but they cannot be compared.

    :param evaluations: with ``EVALUATION_COLUMNS``
    :return: a line for each run, by suite, algorithm, environment, config and seed
    """
    unusable = evaluations[~np.isfinite(evaluations["return_mean"])]
    keys = ["suite", "algo", "env_id", "config", "seed"]
    return {
        tuple(row[key] for key in keys): (
            f"{row['algo']} on {row['env_id']}, config {row['config']}, seed {row['seed']}: the "
            f"evaluation at step {row['timesteps']:,} has return_mean={row['return_mean']}"
        )
        for row in unusable.drop_duplicates(keys).to_dict("records")
    }


def _run_row(folder: Folder, root: Folder, record: RunRecord) -> dict[str, Any]:
    check_place(folder, root, record)
    return {
        **vars(record),
        **vars(record.spec),
        "evaluation": record.spec.to_dict()["evaluation"],
        "machine": record.machine.model_dump(exclude_none=True),
        "path": folder,
    }


def _failure_row(failure: StoredFailure, root: Folder) -> dict[str, Any]:
    record: FailureRecord = failure.record()
    check_place(failure.folder, root, record)
    return {**vars(record), **vars(record.spec)}


def _runs_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return _frame(rows, RUN_COLUMNS, _KEYS).astype({"peak_memory_mib": float})


def for_spreadsheets(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame for CSV in which a spreadsheet takes no text for a formula."""
    return frame.map(lambda value: csv_text(value) if isinstance(value, str) else value)


def frame_csv(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """A frame as CSV, :func:`for_spreadsheets`.

    :param float_format: such as ``%.10g``; None: as many digits as tell floats apart
    """
    cells = for_spreadsheets(frame)
    return cells.to_csv(index=False, float_format=float_format, lineterminator="\n")


def _frame(rows: list[dict[str, Any]], columns: list[str], keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(keys, kind="stable", ignore_index=True)
