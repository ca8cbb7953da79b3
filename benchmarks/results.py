"""Run folders as tidy tables."""

import csv
import json
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from benchmarks.names import csv_text, message
from benchmarks.records import (
    FORMAT,
    FailureRecord,
    OneRunRecord,
    Record,
    RunRecord,
    RunSpec,
    described,
)
from benchmarks.storage import FAILED, TEMPORARY, Folder, is_finished, is_on_disk, walk

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
_MEASURED = ["timesteps", "wall_seconds", "return_mean", "return_std", "length_mean", "episodes"]
EVALUATION_COLUMNS = [*_KEYS, *_MEASURED]
FAILURE_COLUMNS = [*_KEYS, "error", "traceback"]
_LARGEST = 2**26  # bytes of a file; every run's are smaller by far
_LARGEST_VALUE = 1e100  # whose square is finite, too

AnyRecord = TypeVar("AnyRecord", bound=Record)


class BrokenRunError(Exception):
    """A run folder cannot be read; the message, of one line, names the file and what is wrong."""

    def __init__(self, text: object) -> None:
        super().__init__(message(text))


class OtherVersionError(BrokenRunError):
    """A run folder is of a version that this one cannot read."""


@dataclass(frozen=True)
class Readable:
    """What can be read below a folder, and why the rest of it cannot.

    The tables are as :func:`load_runs`, :func:`load_evaluations` and :func:`load_failures` give
    them; ``broken`` has an error for each run, or record of a failure, that is not in them.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    failures: pd.DataFrame
    broken: list[BrokenRunError]


def load_readable(
    root: Folder, reading: Callable[[Sequence[Folder]], Iterable[Folder]] = iter
) -> Readable:
    """Everything below ``root`` in one pass, without the runs that cannot be read.

    :param reading: goes through the folders; to show how far it has come
    """
    runs: list[dict[str, Any]] = []
    measured: list[np.ndarray] = []
    failures: list[dict[str, Any]] = []
    broken: list[BrokenRunError] = []
    for folder in reading(sorted(_run_folders(root))):
        try:
            run, values = _read_run(folder, root), _read_measured(folder)
        except BrokenRunError as error:
            broken.append(error)
            continue
        runs.append(run | {"path": folder})
        measured.append(values)
    for path in sorted(_failure_files(root)):
        try:
            failures.append(_read_failure(path, root))
        except BrokenRunError as error:
            broken.append(error)
    return Readable(
        _runs_frame(runs),
        _evaluations_frame(runs, measured),
        _frame(failures, FAILURE_COLUMNS, _KEYS),
        broken,
    )


def check_versions(root: Folder) -> None:
    """Check that the finished runs below ``root`` are of this version.

    :raises OtherVersionError: one that is not
    """
    for folder in _run_folders(root):
        try:
            _read_object(folder / "run.json")
        except OtherVersionError:
            raise
        except BrokenRunError:
            continue  # says who reads it


def load_runs(root: Folder) -> pd.DataFrame:
    """One row for each finished run below ``root``, with ``RUN_COLUMNS``, sorted.

    ``hyperparams``, ``evaluation``, ``versions`` and ``machine`` are dictionaries;
    ``peak_memory_mib`` is NaN where it is not known.

    :raises BrokenRunError: a run folder that cannot be read
    """
    folders = _run_folders(root)
    return _runs_frame([_read_run(folder, root) | {"path": folder} for folder in folders])


def load_evaluations(root: Folder) -> pd.DataFrame:
    """One row for each evaluation below ``root``, with ``EVALUATION_COLUMNS``, sorted.

    :raises BrokenRunError: a run folder that cannot be read
    """
    folders = list(_run_folders(root))
    runs = [_read_run(folder, root) for folder in folders]
    return _evaluations_frame(runs, [_read_measured(folder) for folder in folders])


def load_failures(root: Folder) -> pd.DataFrame:
    """One row for each failed run below ``root``, with ``FAILURE_COLUMNS``, sorted.

    A run that failed once and has been finished since is not a failure.

    :raises BrokenRunError: a record that cannot be read
    """
    rows = [_read_failure(path, root) for path in _failure_files(root)]
    return _frame(rows, FAILURE_COLUMNS, _KEYS)


def load_failed_specs(root: Folder) -> list[tuple[RunSpec, Folder]]:
    """The failed runs below ``root``, each with the folder below which it stands, to try again.

    :raises BrokenRunError: a record that cannot be read
    """
    return [_failed_spec(path.absolute()) for path in _failure_files(root)]


def _failed_spec(path: Folder) -> tuple[RunSpec, Folder]:
    spec = read_spec(path)
    out = path.parents[3] if len(path.parents) > 3 else path.parent
    if spec.failure_file(out) != path:
        raise BrokenRunError(f"{path}: is not where the record of its run stands")
    return spec, out


def read_spec(path: Folder) -> RunSpec:
    """The spec in a record, that of a finished run (``run.json``) or of a failed one.

    :raises BrokenRunError: it cannot be read
    """
    return read_record(path, OneRunRecord).spec


def check_run(folder: Folder) -> None:
    """Check that a finished run can be read, and is the one that its folder's name says.

    :raises BrokenRunError: it cannot
    """
    _read_run(folder, folder.parents[3])
    _read_measured(folder)


def read_evaluations(folder: Folder) -> pd.DataFrame:
    """The evaluations of one finished run, in the order of their steps.

    :raises BrokenRunError: they cannot be read
    """
    return _measured_frame(_read_measured(folder))


def _read_measured(folder: Folder) -> np.ndarray:
    """The evaluations of a run, of shape (evaluations, columns)."""
    path = folder / "evaluations.csv"
    try:
        header, *rows = list(csv.reader(content(path).decode().splitlines())) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    if header != _MEASURED:
        raise BrokenRunError(f"{path}: {_wrong_columns(header)}")
    if not rows:
        raise BrokenRunError(f"{path}: has no evaluation")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(_MEASURED):
            raise BrokenRunError(f"{path}: evaluation {number} has {len(row)} cells")
    try:
        # pandas leaves the place of NaN empty.
        values = np.array([[cell or "nan" for cell in row] for row in rows], dtype=float)
    except ValueError as error:
        raise BrokenRunError(f"{path}: has a value that is not a number: {error}") from error
    _check_measured(path, values)
    return values


def _check_measured(path: Folder, values: np.ndarray) -> None:
    timesteps, seconds, returns, spreads, lengths, episodes = values.T
    for counts, least in ((timesteps, 0), (episodes, 1)):
        if not ((counts >= least) & (counts < 2**53) & (counts == np.floor(counts))).all():
            raise BrokenRunError(f"{path}: timesteps and episodes must be integers, none negative")
    if (np.diff(timesteps) <= 0).any():
        raise BrokenRunError(f"{path}: timesteps must rise from one evaluation to the next")
    # An agent may have no finite return (see without_return), and then its returns no spread.
    has_return = np.isfinite(returns)
    amounts = {"wall_seconds": seconds, "return_std": spreads[has_return], "length_mean": lengths}
    for column, amount in amounts.items():
        if not ((amount >= 0) & np.isfinite(amount)).all():
            raise BrokenRunError(f"{path}: {column} must be at least 0 and finite")
    measured = np.concatenate([returns[has_return], spreads[has_return], lengths])
    if (np.abs(measured) > _LARGEST_VALUE).any():
        raise BrokenRunError(f"{path}: has a value beyond {_LARGEST_VALUE:g}")


def _wrong_columns(header: list[str]) -> str:
    problems = [f"{name!r} is unknown" for name in header if name not in _MEASURED]
    problems += [f"{name!r} is missing" for name in _MEASURED if name not in header]
    got = ", ".join(problems if header and problems else header) or "none"
    return f"must have the columns {', '.join(_MEASURED)}, in this order; got {got}"


def _evaluations_frame(
    runs: Sequence[dict[str, Any]], measured: Sequence[np.ndarray]
) -> pd.DataFrame:
    """The evaluations of several runs, as many arrays as runs."""
    # One table at the end: pandas takes longer to make a small one than the disk to read it.
    lengths = [len(rows) for rows in measured]
    columns = {
        key: np.repeat(np.array([run[key] for run in runs], dtype=object), lengths) for key in _KEYS
    }
    values = np.concatenate([np.empty((0, len(_MEASURED))), *measured])
    frame = pd.concat([pd.DataFrame(columns).infer_objects(), _measured_frame(values)], axis=1)
    return frame.sort_values([*_KEYS, "timesteps"], kind="stable", ignore_index=True)


def _measured_frame(values: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=_MEASURED)
    return frame.astype({"timesteps": int, "episodes": int})


def without_return(evaluations: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """The runs with an evaluation whose return is no finite number, each with what is wrong.

    They have finished, and no sweep makes them again, but there is nothing to compare them by.

    :param evaluations: with ``EVALUATION_COLUMNS``
    :return: by suite, algorithm, environment, config and seed
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


def _run_folders(root: Folder) -> Iterator[Folder]:
    for folder, names, _ in _walk(root):
        for name in names:
            # Elsewhere than on a disk, a folder has its name before it is whole.
            if is_run(name) and (is_on_disk(root) or is_finished(folder / name)):
                yield folder / name


def _failure_files(root: Folder) -> Iterator[Folder]:
    for folder, names, files in _walk(root):
        for name in files:
            run = name.removesuffix(FAILED)
            if is_run(name) and run != name and run not in names:
                yield folder / name


def _walk(root: Folder) -> Iterator[tuple[Folder, list[str], list[str]]]:
    """Every folder down to those of the runs, with the names of the folders and files in it.

    What is inside of runs is left out: temporary folders may vanish while a sweep goes on.
    """
    for folder, names, files in walk(root):
        yield folder, names.copy(), files
        names[:] = [name for name in names if not is_run(name) and not name.startswith(TEMPORARY)]


def is_run(name: str) -> bool:
    """Whether a name is that of a run's folder."""
    return name.startswith("seed-")


def _read_run(folder: Folder, root: Folder) -> dict[str, Any]:
    record = read_run(folder)
    _check_place(folder, root, record, folder.name)
    return {
        **vars(record),
        **vars(record.spec),
        "evaluation": record.spec.to_dict()["evaluation"],
        "machine": record.machine.model_dump(exclude_none=True),
    }


def _read_failure(path: Folder, root: Folder) -> dict[str, Any]:
    record = read_record(path, FailureRecord)
    _check_place(path, root, record, path.name.removesuffix(FAILED))
    return {**vars(record), **vars(record.spec)}


def _check_place(path: Folder, root: Folder, record: OneRunRecord, name: str) -> None:
    """Check that a record stands where a sweep would look for it, as far as below a root."""
    levels = record.spec.levels(record.config)
    parts = (*path.parts[len(root.parts) : -1], name)[-len(levels) :]
    if parts != levels[-len(parts) :]:
        raise BrokenRunError(
            f"{path}: holds the run {'/'.join(levels)}, which its place contradicts"
        )


def read_run(folder: Folder) -> RunRecord:
    """The record of a finished run.

    :raises BrokenRunError: it cannot be read
    """
    return read_record(folder / "run.json", RunRecord)


def read_record(path: Folder, kind: type[AnyRecord]) -> AnyRecord:
    """What a JSON file of this version holds, checked.

    :raises BrokenRunError: it cannot be read
    """
    fields = _read_object(path)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise BrokenRunError(f"{path}: {described(error)}") from error


def _read_object(path: Folder) -> dict[str, Any]:
    """The object in a JSON file of this version."""
    try:
        fields = json.loads(content(path))
    except (ValueError, RecursionError) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise BrokenRunError(f"{path}: must hold an object")
    found = fields.get("format")
    if found != FORMAT or isinstance(found, bool):
        raise OtherVersionError(f"{path}: has the format {found!r}; this version reads {FORMAT}")
    return fields


def content(path: Folder) -> bytes:
    """What is in a run's file, which may be something else, or larger than any that a run writes.

    :raises BrokenRunError: it cannot be read
    """
    try:
        # A pipe would never be read to its end.
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise BrokenRunError(f"{path}: is not a file")
        with path.open("rb") as file:
            found: bytes = file.read(_LARGEST + 1)
    except OSError as error:
        raise BrokenRunError(f"{path}: {error.strerror or error}") from error
    if len(found) > _LARGEST:
        raise BrokenRunError(f"{path}: must have at most {_LARGEST:,} bytes")
    return found


def _runs_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return _frame(rows, RUN_COLUMNS, _KEYS).astype({"peak_memory_mib": float})


def for_spreadsheets(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame for CSV, whose texts are nothing that a spreadsheet would compute."""
    return frame.map(lambda value: csv_text(value) if isinstance(value, str) else value)


def _frame(rows: list[dict[str, Any]], columns: list[str], keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(keys, kind="stable", ignore_index=True)
