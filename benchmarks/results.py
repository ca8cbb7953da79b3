"""Run folders as tidy tables."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.run import FORMAT
from benchmarks.specs import RunSpec
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
    "path",
]
_KEYS = RUN_COLUMNS[:5]
_MEASURED = ["timesteps", "wall_seconds", "return_mean", "return_std", "length_mean", "episodes"]
EVALUATION_COLUMNS = [*_KEYS, *_MEASURED]
FAILURE_COLUMNS = [*_KEYS, "error", "traceback"]
_NUMBERS = ["seed", "n_timesteps", "timesteps", "wall_seconds", "evaluation_seconds"]
_OBJECTS = ["hyperparams", "evaluation", "versions", "machine"]
_PROTOCOL = ["points", "episodes", "seed"]


class BrokenRunError(Exception):
    """A run folder cannot be read; the message names the file and says what is wrong."""


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
            run, values = _read_run(folder), _read_measured(folder)
        except BrokenRunError as error:
            broken.append(error)
            continue
        runs.append(run | {"path": folder})
        measured.append(values)
    for path in sorted(_failure_files(root)):
        try:
            failures.append(_read_failure(path))
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
            read_record(folder / "run.json")
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
    return _runs_frame([_read_run(folder) | {"path": folder} for folder in _run_folders(root)])


def load_evaluations(root: Folder) -> pd.DataFrame:
    """One row for each evaluation below ``root``, with ``EVALUATION_COLUMNS``, sorted.

    :raises BrokenRunError: a run folder that cannot be read
    """
    folders = list(_run_folders(root))
    runs = [_read_run(folder) for folder in folders]
    return _evaluations_frame(runs, [_read_measured(folder) for folder in folders])


def load_failures(root: Folder) -> pd.DataFrame:
    """One row for each failed run below ``root``, with ``FAILURE_COLUMNS``, sorted.

    A run that failed once and has been finished since is not a failure.

    :raises BrokenRunError: a record that cannot be read
    """
    rows = [_read_failure(path) for path in _failure_files(root)]
    return _frame(rows, FAILURE_COLUMNS, _KEYS)


def load_failed_specs(root: Folder) -> list[tuple[RunSpec, Folder]]:
    """The failed runs below ``root``, each with the folder below which it stands, to try again.

    :raises BrokenRunError: a record that cannot be read
    """
    return [(read_spec(path), path.absolute().parents[3]) for path in _failure_files(root)]


def failure_files(root: Folder) -> list[Folder]:
    """The records of the failed runs below ``root``."""
    return sorted(_failure_files(root))


def read_spec(path: Folder) -> RunSpec:
    """The spec in a record, that of a finished run (``run.json``) or of a failed one.

    :raises BrokenRunError: it cannot be read
    """
    fields = _member(path, read_record(path), "spec")
    try:
        return RunSpec.from_dict(fields)
    except (KeyError, TypeError) as error:
        raise BrokenRunError(f"{path}: spec: is not that of a run: {error}") from error


def check_run(folder: Folder) -> None:
    """Check that a finished run can be read.

    :raises BrokenRunError: it cannot
    """
    _read_run(folder)
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
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, ValueError) as error:
        raise BrokenRunError(f"{path}: {_reason(error)}") from error
    if header != _MEASURED:
        raise BrokenRunError(f"{path}: {_wrong_columns(header)}")
    if not rows:
        raise BrokenRunError(f"{path}: has no evaluation")
    try:
        # pandas leaves the place of NaN empty.
        values = np.array([[cell or "nan" for cell in row] for row in rows], dtype=float)
    except ValueError as error:
        raise BrokenRunError(f"{path}: has a value that is not a number: {error}") from error
    if not np.isfinite(values[:, [0, -1]]).all():
        raise BrokenRunError(f"{path}: timesteps and episodes must be integers")
    return values


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


def final_window(n_evaluations: int) -> int:
    """How many of a run's last evaluations count as final: a tenth, rounded down, at least one."""
    return max(1, n_evaluations // 10)


def final_return(returns: pd.Series) -> float:
    """The mean over the last tenth of a run's evaluations, in order of steps."""
    return float(returns.iloc[-final_window(len(returns)) :].mean())


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


def _read_run(folder: Folder) -> dict[str, Any]:
    path = folder / "run.json"
    record = read_record(path)
    # Runs made before this was measured do not have it.
    run = {"peak_memory_mib": None, **record, **_member(path, record, "spec")}
    _require(path, run, RUN_COLUMNS[:-1])
    for key in _OBJECTS:
        _member(path, run, key)
    for key in _NUMBERS:
        _check_number(path, key, run[key])
    _require(path, run["evaluation"], _PROTOCOL)
    return run


def _read_failure(path: Folder) -> dict[str, Any]:
    record = read_record(path)
    failure = {**record, **_member(path, record, "spec")}
    _require(path, failure, FAILURE_COLUMNS)
    return failure


def _check_number(path: Folder, key: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise BrokenRunError(f"{path}: {key}: must be a finite number, got {value!r}")


def read_record(path: Folder) -> dict[str, Any]:
    """The object in a JSON file of this version.

    :raises BrokenRunError: it cannot be read
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BrokenRunError(f"{path}: {_reason(error)}") from error
    if not isinstance(record, dict):
        raise BrokenRunError(f"{path}: must hold an object")
    if record.get("format") != FORMAT:
        raise OtherVersionError(
            f"{path}: has the format {record.get('format')!r}; this version reads {FORMAT}"
        )
    return record


def _reason(error: OSError | ValueError) -> str:
    """What is wrong; an OSError names the file, too, which has been named."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _member(path: Folder, record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise BrokenRunError(f"{path}: {key}: must be an object, got {value!r}")
    return value


def _require(path: Folder, record: dict[str, Any], keys: Iterable[str]) -> None:
    absent = [key for key in keys if key not in record]
    if absent:
        raise BrokenRunError(f"{path}: has no {', '.join(absent)}")


def _runs_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return _frame(rows, RUN_COLUMNS, _KEYS).astype({"peak_memory_mib": float})


def _frame(rows: list[dict[str, Any]], columns: list[str], keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(keys, kind="stable", ignore_index=True)
