"""Run folders as tidy tables."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.run import FORMAT, TEMPORARY

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


def load_runs(root: Path) -> pd.DataFrame:
    """One row for each finished run below ``root``, with ``RUN_COLUMNS``, sorted.

    ``hyperparams``, ``evaluation``, ``versions`` and ``machine`` are dictionaries.

    :raises BrokenRunError: a run folder that cannot be read
    """
    rows = [_read_run(folder) | {"path": folder} for folder in _run_folders(root)]
    return _frame(rows, RUN_COLUMNS, _KEYS)


def load_evaluations(root: Path) -> pd.DataFrame:
    """One row for each evaluation below ``root``, with ``EVALUATION_COLUMNS``, sorted.

    :raises BrokenRunError: a run folder that cannot be read
    """
    frames = []
    for folder in _run_folders(root):
        run = _read_run(folder)
        evaluations = read_evaluations(folder)
        for position, key in enumerate(_KEYS):
            evaluations.insert(position, key, run[key])
        frames.append(evaluations)
    if not frames:
        return _frame([], EVALUATION_COLUMNS, _KEYS)
    frame = pd.concat(frames, ignore_index=True)
    return frame.sort_values([*_KEYS, "timesteps"], kind="stable", ignore_index=True)


def load_failures(root: Path) -> pd.DataFrame:
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


def read_evaluations(folder: Path) -> pd.DataFrame:
    """The evaluations of one finished run, in the order of their steps.

    :raises BrokenRunError: they cannot be read
    """
    path = folder / "evaluations.csv"
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    if list(frame.columns) != _MEASURED:
        raise BrokenRunError(
            f"{path}: must have the columns {', '.join(_MEASURED)}, got {', '.join(frame.columns)}"
        )
    if frame.empty:
        raise BrokenRunError(f"{path}: has no evaluation")
    if not all(pd.api.types.is_numeric_dtype(frame[column]) for column in _MEASURED):
        raise BrokenRunError(f"{path}: has a value that is not a number")
    return frame


def final_window(n_evaluations: int) -> int:
    """How many of a run's last evaluations count as final: a tenth, rounded down, at least one."""
    return max(1, n_evaluations // 10)


def final_return(returns: pd.Series) -> float:
    """The mean over the last tenth of a run's evaluations, in order of steps."""
    return float(returns.iloc[-final_window(len(returns)) :].mean())


def _run_folders(root: Path) -> Iterator[Path]:
    return (folder / name for folder, names, _ in _walk(root) for name in names if _is_run(name))


def _failure_files(root: Path) -> Iterator[Path]:
    for folder, names, files in _walk(root):
        for name in files:
            run = name.removesuffix(".failed.json")
            if _is_run(name) and run != name and run not in names:
                yield folder / name


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder down to those of the runs, with the names of the folders and files in it.

    What is inside of runs is left out: temporary folders may vanish while a sweep goes on.
    """
    for folder, names, files in os.walk(root):
        yield Path(folder), names.copy(), files
        names[:] = [name for name in names if not _is_run(name) and not name.startswith(TEMPORARY)]


def _is_run(name: str) -> bool:
    return name.startswith("seed-")


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    record = _read_record(path)
    run = {**record, **_member(path, record, "spec")}
    _require(path, run, RUN_COLUMNS[:-1])
    return run


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    if not isinstance(record, dict):
        raise BrokenRunError(f"{path}: must hold an object")
    if record.get("format") != FORMAT:
        raise BrokenRunError(
            f"{path}: has the format {record.get('format')!r}; this version reads {FORMAT}"
        )
    return record


def _member(path: Path, record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise BrokenRunError(f"{path}: {key}: must be an object, got {value!r}")
    return value


def _require(path: Path, record: dict[str, Any], keys: Iterable[str]) -> None:
    absent = [key for key in keys if key not in record]
    if absent:
        raise BrokenRunError(f"{path}: has no {', '.join(absent)}")


def _frame(rows: list[dict[str, Any]], columns: list[str], keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(keys, kind="stable", ignore_index=True)
