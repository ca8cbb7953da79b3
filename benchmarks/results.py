"""Run folders as tidy tables."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.run import FORMAT
from benchmarks.specs import RunSpec
from benchmarks.storage import TEMPORARY, Folder, is_finished, is_on_disk, walk

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


class BrokenRunError(Exception):
    """A run folder cannot be read; the message names the file and says what is wrong."""


class OtherVersionError(BrokenRunError):
    """A run folder is of a version that this one cannot read."""


def check_versions(root: Folder) -> None:
    """Check that the finished runs below ``root`` are of this version.

    :raises OtherVersionError: one that is not
    """
    for folder in _run_folders(root):
        try:
            _read_record(folder / "run.json")
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
    rows = [_read_run(folder) | {"path": folder} for folder in _run_folders(root)]
    return _frame(rows, RUN_COLUMNS, _KEYS).astype({"peak_memory_mib": float})


def load_evaluations(root: Folder) -> pd.DataFrame:
    """One row for each evaluation below ``root``, with ``EVALUATION_COLUMNS``, sorted.

    :raises BrokenRunError: a run folder that cannot be read
    """
    # One table at the end: pandas takes longer to make a small one than the disk to read it.
    runs, measured = [], [np.empty((0, len(_MEASURED)))]
    for folder in _run_folders(root):
        run = _read_run(folder)
        runs.append([run[key] for key in _KEYS])
        measured.append(_read_measured(folder))
    lengths = [len(rows) for rows in measured[1:]]
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    key: np.repeat(np.array([run[i] for run in runs], dtype=object), lengths)
                    for i, key in enumerate(_KEYS)
                }
            ).infer_objects(),
            _measured_frame(np.concatenate(measured)),
        ],
        axis=1,
    )
    return frame.sort_values([*_KEYS, "timesteps"], kind="stable", ignore_index=True)


def load_failures(root: Folder) -> pd.DataFrame:
    """One row for each failed run below ``root``, with ``FAILURE_COLUMNS``, sorted.

    A run that failed once and has been finished since is not a failure.

    :raises BrokenRunError: a record that cannot be read
    """
    rows = []
    for path in _failure_files(root):
        record = _read_record(path)
        rows.append({**record, **_member(path, record, "spec")})
        _require(path, rows[-1], FAILURE_COLUMNS)
    return _frame(rows, FAILURE_COLUMNS, _KEYS)


def load_failed_specs(root: Folder) -> list[tuple[RunSpec, Folder]]:
    """The failed runs below ``root``, each with the folder below which it stands, to try again.

    :raises BrokenRunError: a record that cannot be read
    """
    found = []
    for path in _failure_files(root):
        fields = _member(path, _read_record(path), "spec")
        try:
            spec = RunSpec.from_dict(fields)
        except (KeyError, TypeError) as error:
            raise BrokenRunError(f"{path}: spec: is not that of a run: {error}") from error
        found.append((spec, path.absolute().parents[3]))
    return found


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
        raise BrokenRunError(f"{path}: {error}") from error
    if header != _MEASURED:
        got = ", ".join(header) or "none"
        raise BrokenRunError(f"{path}: must have the columns {', '.join(_MEASURED)}, got {got}")
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
            if _is_run(name) and (is_on_disk(root) or is_finished(folder / name)):
                yield folder / name


def _failure_files(root: Folder) -> Iterator[Folder]:
    for folder, names, files in _walk(root):
        for name in files:
            run = name.removesuffix(".failed.json")
            if _is_run(name) and run != name and run not in names:
                yield folder / name


def _walk(root: Folder) -> Iterator[tuple[Folder, list[str], list[str]]]:
    """Every folder down to those of the runs, with the names of the folders and files in it.

    What is inside of runs is left out: temporary folders may vanish while a sweep goes on.
    """
    for folder, names, files in walk(root):
        yield folder, names.copy(), files
        names[:] = [name for name in names if not _is_run(name) and not name.startswith(TEMPORARY)]


def _is_run(name: str) -> bool:
    return name.startswith("seed-")


def _read_run(folder: Folder) -> dict[str, Any]:
    path = folder / "run.json"
    record = _read_record(path)
    # Runs made before this was measured do not have it.
    run = {"peak_memory_mib": None, **record, **_member(path, record, "spec")}
    _require(path, run, RUN_COLUMNS[:-1])
    return run


def _read_record(path: Folder) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    if not isinstance(record, dict):
        raise BrokenRunError(f"{path}: must hold an object")
    if record.get("format") != FORMAT:
        raise OtherVersionError(
            f"{path}: has the format {record.get('format')!r}; this version reads {FORMAT}"
        )
    return record


def _member(path: Folder, record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise BrokenRunError(f"{path}: {key}: must be an object, got {value!r}")
    return value


def _require(path: Folder, record: dict[str, Any], keys: Iterable[str]) -> None:
    absent = [key for key in keys if key not in record]
    if absent:
        raise BrokenRunError(f"{path}: has no {', '.join(absent)}")


def _frame(rows: list[dict[str, Any]], columns: list[str], keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(keys, kind="stable", ignore_index=True)
