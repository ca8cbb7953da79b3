"""Finished runs without what is large, to be kept in a repository or published with a paper.

An archived run has its ``run.json`` and ``evaluations.csv`` as they were and a shorter
``progress.csv``; what was not committed is kept if it is short; the model, its normalisation and
the TensorBoard log are left out. Reports read
archives as they read runs, and a sweep goes on from one.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import BrokenRunError, content, failure_files, load_failed_specs, load_runs
from benchmarks.run import UNCOMMITTED
from benchmarks.storage import Folder, is_finished, whole_folder

_ROWS = 100
_LARGEST_DIFF = 30_000  # bytes, about what the rest takes


def archive(root: Folder, out: Folder, n_rows: int = _ROWS) -> tuple[int, int]:
    """Write finished runs, and the records of those that failed, into an archive.

    A new archive is there whole or not at all. Runs that are in it already are left as they are;
    others are added when all of them have been read, each whole.

    :param root: the folder below which the runs stand
    :param n_rows: how many rows of the training log to keep, evenly spread, the last one with them
    :return: how many runs were added, and how many were there before
    :raises benchmarks.results.BrokenRunError: a run folder that cannot be read
    :raises OSError: naming the file that cannot be read or written
    """
    runs, failures = load_runs(root)["path"], failure_files(root)
    load_failed_specs(root)  # which refuses one that cannot be read, or stands where it must not
    names = [_name(folder, root) for folder in runs]
    missing = [name for name in names if not is_finished(out / name)]
    with whole_folder(out) as unfinished:
        for name in missing:
            _copy(root / name, unfinished / name, n_rows)
        for failure in failures:
            target = unfinished / _name(failure, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(failure.read_bytes())
    return len(missing), len(names) - len(missing)


def _copy(folder: Folder, target: Path, n_rows: int) -> None:
    """Copy what is kept of a run."""
    target.mkdir(parents=True)
    for name in ("run.json", "evaluations.csv"):
        (target / name).write_bytes((folder / name).read_bytes())
    log = folder / "progress.csv"
    if log.exists() and log.stat().st_size:
        (target / log.name).write_text(_thinned_log(log, n_rows), encoding="utf-8")
    diff = folder / UNCOMMITTED
    if diff.exists() and diff.stat().st_size <= _LARGEST_DIFF:
        (target / diff.name).write_bytes(diff.read_bytes())


def _thinned_log(log: Folder, n_rows: int) -> str:
    try:
        return thinned(content(log).decode(), n_rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BrokenRunError(f"{log}: {error}") from error


def thinned(text: str, n_rows: int) -> str:
    """A CSV table with at most ``n_rows`` of its rows, numbers with six significant digits."""
    header, *rows = csv.reader(io.StringIO(text))
    if len(rows) > n_rows:
        kept = np.linspace(len(rows) - 1, 0, n_rows).round().astype(int)[::-1]
        rows = [rows[i] for i in kept]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *map(_rounded, rows)])
    return file.getvalue()


def _name(path: Any, root: Folder) -> str:
    """Of a folder or file below a root, relative to it."""
    return str(path.relative_to(root).as_posix())


def _rounded(row: Sequence[str]) -> list[str]:
    return [_rounded_cell(cell) for cell in row]


def _rounded_cell(cell: str) -> str:
    try:
        value = float(cell)
    except ValueError:
        return cell
    return cell if value.is_integer() or not math.isfinite(value) else f"{value:.6g}"
