"""Finished runs without what is large, to keep in a repository or to publish with a paper.

An archive keeps the records and evaluations of runs as they are, shortens their training logs, and
keeps what was not committed if it is short. Models, their normalisation and TensorBoard logs are
left out. Reports read archives as they read run folders, and a sweep into an archive's folder skips
the runs that it has.
"""

from typing import TYPE_CHECKING

import numpy as np

from benchmarks import manifests
from benchmarks.archive_files import folder_of, open_archive, tables_of, write
from benchmarks.records import BrokenRunError, RunKey
from benchmarks.run_files import FinishedRun, check_place, find
from benchmarks.storage import Folder

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 100
_LARGEST_DIFF = 30_000  # bytes, about what the rest of a run takes


def archive(root: Folder, out: Folder, n_rows: int = _ROWS) -> tuple[int, int]:
    """Write finished runs, records of failed ones and manifests into an archive.

    A new archive is there whole or not at all. Runs that are in it already stay as they are; others
    are added when all of them have been read, all or none.

    :param root: the folder below which the runs stand
    :param out: the archive's folder, or the table of runs in it
    :param n_rows: the rows of each training log to keep, evenly spread and with the last one
    :return: the numbers of runs that were added, and that were there already
    :raises BrokenRunError: a run or an archive that cannot be read, or a run that is there twice
    :raises OSError: naming the file that cannot be written
    """
    found = find(root)
    asked, broken = manifests.readable(found, root)
    if broken := [*found.broken, *broken]:
        raise broken[0]
    out = folder_of(out)
    tables = tables_of(open_archive(out))
    n_before = 0
    folders: dict[RunKey, Folder] = {}
    for run in found.runs:
        record = run.record()
        check_place(run.folder, root, record)
        if record.key in folders:
            raise BrokenRunError(f"{run.folder}: is the same run as {folders[record.key]}")
        folders[record.key] = run.folder
        if tables.has(record.key):
            n_before += 1
        else:
            tables.add_run(record, _short_diff(run), run.measured(), _short_log(run, n_rows))
    for failure in found.failures:
        failed = failure.record()
        check_place(failure.folder, root, failed)
        tables.add_failure(failed)
    for manifest in asked:
        tables.add_manifest(manifest.path.name, manifests.fields_of(manifest))
    write(out, tables)
    return len(found.runs) - n_before, n_before


def _short_diff(run: FinishedRun) -> str | None:
    diff = run.diff()
    return diff if diff is not None and len(diff.encode()) <= _LARGEST_DIFF else None


def _short_log(run: FinishedRun, n_rows: int) -> "pd.DataFrame | None":
    log = run.progress()
    return None if log is None else thinned(log, n_rows)


def thinned(log: "pd.DataFrame", n_rows: int) -> "pd.DataFrame":
    """At most ``n_rows`` rows of a log, numbers other than integers with six significant digits."""
    if len(log) > n_rows:
        log = log.iloc[np.linspace(len(log) - 1, 0, n_rows).round().astype(int)[::-1]]
    return log.map(lambda cell: _rounded(cell) if isinstance(cell, float) else cell)


def _rounded(value: float) -> float:
    return value if value.is_integer() else float(f"{value:.6g}")
