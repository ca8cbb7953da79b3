"""The files of runs: how they are found, read and written; see :mod:`benchmarks.records`.

A finished run is a folder, or a row in the tables of an archive (:mod:`benchmarks.archive_files`).
Either is named by the path of its folder, which an archived run does not have.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import archive_files
from benchmarks.archive_files import ArchivedFailure, ArchivedManifest, ArchivedRun
from benchmarks.locks import LOCK
from benchmarks.records import (
    FORMAT,
    MEASURED,
    AnyRecord,
    BrokenRunError,
    EvaluationRow,
    FailureRecord,
    ManifestRecord,
    OneRunRecord,
    RunRecord,
    below_root,
    check_measured,
    content,
    failed_run_name,
    is_run_name,
    root_of,
    validated,
)
from benchmarks.storage import (
    RECORD,
    TEMPORARY,
    Folder,
    has_record,
    is_below,
    is_on_disk,
    walk,
    write_whole,
)

if TYPE_CHECKING:
    import pandas as pd

PROGRESS = "progress.csv"
UNCOMMITTED = "uncommitted.diff"
_EVALUATIONS = "evaluations.csv"
_MANIFEST_PREFIX, _MANIFEST_SUFFIX = "sweep-", ".json"
# Folders between that of a sweep and those of its runs: the suite's, the algorithm's, the
# environment's.
_LEVELS = 3


@dataclass(frozen=True)
class RunFolder:
    """A finished run in a folder of its own."""

    folder: Folder

    def record(self) -> RunRecord:
        """The run's record.

        :raises BrokenRunError: it cannot be read
        """
        return read_record(self.folder / RECORD, RunRecord)

    def measured(self) -> np.ndarray:
        """The run's evaluations, shape ``(n_evaluations, n_columns)``; see ``MEASURED``.

        :raises BrokenRunError: they cannot be read
        """
        return _read_measured(self.folder / _EVALUATIONS)

    def progress(self, columns: Iterable[str] | None = None) -> "pd.DataFrame | None":
        """The columns of the run's training log, or those of them that it has; None without one.

        :raises BrokenRunError: the log cannot be read
        """
        return _read_progress(self.folder / PROGRESS, columns)

    def diff(self) -> str | None:
        """What was not committed when the run began, if that was recorded."""
        path = self.folder / UNCOMMITTED
        return _text(path) if path.exists() else None


@dataclass(frozen=True)
class FailureFile:
    """The record of a failed run, in a file of its own."""

    path: Folder

    @property
    def folder(self) -> Folder:
        """Where the run's folder would be."""
        return self.path.with_name(failed_run_name(self.path.name) or self.path.name)

    def record(self) -> FailureRecord:
        """What is known of the failure.

        :raises BrokenRunError: it cannot be read
        """
        return read_record(self.path, FailureRecord)


@dataclass(frozen=True)
class ManifestFile:
    """What a sweep was asked for, in a file of its own."""

    path: Folder

    def record(self) -> ManifestRecord:
        """The manifest.

        :raises BrokenRunError: it cannot be read
        """
        return read_record(self.path, ManifestRecord)


FinishedRun = RunFolder | ArchivedRun
StoredFailure = FailureFile | ArchivedFailure
StoredManifest = ManifestFile | ArchivedManifest


@dataclass(frozen=True)
class Found:
    """What stands below a folder, unread, each list in the order of the paths.

    ``failures``: without those of runs that have finished since. ``manifests``: also those of
    folders above, since their sweeps may have runs here. ``locks`` and ``scratch``: files and
    folders of runs in progress, and what processes that died have left of them. ``broken``: the
    archives that cannot be read.
    """

    runs: list[FinishedRun] = field(default_factory=list)
    failures: list[StoredFailure] = field(default_factory=list)
    manifests: list[StoredManifest] = field(default_factory=list)
    locks: list[Path] = field(default_factory=list)
    scratch: list[Path] = field(default_factory=list)
    broken: list[BrokenRunError] = field(default_factory=list)


def find(root: Folder, nested: bool = True) -> Found:
    """Look for finished, failed and unfinished runs, and for the manifests of their sweeps.

    :param root: a folder, which may also be one inside an archive; or an archive's table of runs
    :param nested: also enter the folders in it; the runs of archives are found at any depth
    """
    start = archive_files.folder_of(root)
    found, places = Found(), []
    on_disk = is_on_disk(start)
    for folder, names, files in walk(start) if start.exists() else ():
        for name in names:
            # Elsewhere than on a disk, a folder has its name before it is whole.
            if is_run_name(name) and (on_disk or has_record(folder / name)):
                found.runs.append(RunFolder(folder / name))
            elif name.startswith(TEMPORARY) and on_disk:
                found.scratch.append(Path(str(folder), name))
        names[:] = [
            each
            for each in names
            if nested and not (is_run_name(each) or each.startswith(TEMPORARY))
        ]
        for name in files:
            if failed_run_name(name):
                found.failures.append(FailureFile(folder / name))
            elif _is_manifest(name):
                found.manifests.append(ManifestFile(folder / name))
            elif name == archive_files.RUNS:
                places.append(folder)
            elif name.startswith(LOCK) and on_disk:
                found.locks.append(Path(str(folder), name))
    above = start.absolute().parents[:_LEVELS]
    if on_disk:
        pattern = f"{_MANIFEST_PREFIX}*{_MANIFEST_SUFFIX}"
        paths = (path for folder in above for path in Path(str(folder)).glob(pattern))
        found.manifests.extend(ManifestFile(path) for path in paths if path.is_file())
    for place in [*places, *above]:
        _add_archived(found, place, start)
    finished = {run.folder for run in found.runs}
    found.failures[:] = [each for each in found.failures if each.folder not in finished]
    for runs in (found.runs, found.failures):
        runs.sort(key=lambda each: each.folder)
    found.manifests.sort(key=lambda each: each.path)
    return found


def _add_archived(found: Found, place: Folder, start: Folder) -> None:
    """Add what an archive has below a folder, unless it has a folder or a file of its own."""
    try:
        archive = archive_files.open_archive(place)
        if archive is None:
            return
        runs, failures = archive.runs.values(), archive.failures
        manifests = archive.manifests
    except BrokenRunError as error:
        found.broken.append(error)
        return
    known = {each.folder.absolute() for each in found.runs}
    found.runs.extend(each for each in runs if _is_new(each.folder, known, start))
    known = {each.folder.absolute() for each in found.failures}
    found.failures.extend(each for each in failures if _is_new(each.folder, known, start))
    known = {each.path.absolute() for each in found.manifests}
    found.manifests.extend(each for each in manifests if each.path.absolute() not in known)


def _is_new(folder: Folder, known: set[Folder], start: Folder) -> bool:
    return folder.absolute() not in known and is_below(folder, start)


def is_there(root: Folder) -> bool:
    """Whether there is a folder, or would be one if the runs of an archive had folders."""
    return root.is_dir() or is_finished(root) or bool(find(root).runs)


def find_run(folder: Folder) -> FinishedRun:
    """The run that stands in a folder, or would if it were not archived.

    :raises BrokenRunError: an archive above cannot be read
    """
    return (None if has_record(folder) else _archived(folder)) or RunFolder(folder)


def is_finished(folder: Folder) -> bool:
    """Whether a finished run stands in a folder, or would if it were not archived.

    :raises BrokenRunError: an archive above cannot be read
    """
    return has_record(folder) or _archived(folder) is not None


def _archived(folder: Folder) -> ArchivedRun | None:
    archive = archive_files.open_archive(root_of(folder))
    return None if archive is None else archive.runs.get(below_root(folder))


def read_run(folder: Folder) -> RunRecord:
    """The record of a finished run.

    :raises BrokenRunError: it cannot be read
    """
    return find_run(folder).record()


def read_progress(folder: Folder, columns: Iterable[str] | None = None) -> "pd.DataFrame | None":
    """A finished run's training log, as SB3 writes it.

    :param columns: those to read, as far as the log has them; None: all
    :return: None where there is no log; without rows where it is empty, which is how SB3 leaves it
        when a run ends before the first row is due
    :raises BrokenRunError: it cannot be read
    """
    return find_run(folder).progress(columns)


def check_place(folder: Folder, root: Folder, record: OneRunRecord) -> None:
    """Check that a record stands where a sweep would look for it, as far as below a root.

    :param folder: the run's, even if it failed and has none
    :raises BrokenRunError: it does not
    """
    levels = record.key.levels
    parts = folder.absolute().parts[len(root.absolute().parts) :][-len(levels) :]
    if parts != levels[-len(parts) :]:
        raise BrokenRunError(
            f"{folder}: holds the run {'/'.join(levels)}, which its place contradicts"
        )


def check_run(folder: Folder) -> None:
    """Check that a finished run can be read, and is the one that its folder's name says.

    :raises BrokenRunError: it cannot, or is not
    """
    run = find_run(folder)
    check_place(folder, root_of(folder), run.record())
    run.measured()


def read_record(path: Folder, kind: type[AnyRecord]) -> AnyRecord:
    """What a JSON file of this version holds, checked.

    :raises BrokenRunError: it cannot be read
    """
    try:
        fields = json.loads(content(path))
    except (ValueError, RecursionError) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    return validated(fields, kind, path)


def _read_measured(path: Folder) -> np.ndarray:
    """The evaluations of a run, of shape (evaluations, columns)."""
    try:
        header, *rows = list(csv.reader(_text(path).splitlines())) or [[]]
    except csv.Error as error:
        raise BrokenRunError(f"{path}: {error}") from error
    if header != MEASURED:
        raise BrokenRunError(f"{path}: {_wrong_columns(header)}")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(MEASURED):
            raise BrokenRunError(f"{path}: evaluation {number} has {len(row)} cells")
    try:
        # pandas writes NaN as an empty cell.
        values = np.array([[cell or "nan" for cell in row] for row in rows], dtype=float)
    except ValueError as error:
        raise BrokenRunError(f"{path}: has a value that is not a number: {error}") from error
    check_measured(values, path)
    return values


def _wrong_columns(header: list[str]) -> str:
    problems = [f"{name!r} is unknown" for name in header if name not in MEASURED]
    problems += [f"{name!r} is missing" for name in MEASURED if name not in header]
    got = ", ".join(problems if header and problems else header) or "none"
    return f"must have the columns {', '.join(MEASURED)}, in this order; got {got}"


def _read_progress(path: Folder, columns: Iterable[str] | None) -> "pd.DataFrame | None":
    import pandas as pd

    if not path.exists():
        return None
    text = _text(path)
    if not text.strip():
        return pd.DataFrame(columns=list(columns or ()), dtype=float)
    header = _checked_header(path, text)
    wanted = None if columns is None else [name for name in header if name in set(columns)]
    try:
        # The numbers that were written, to the last bit.
        return pd.read_csv(io.StringIO(text), usecols=wanted, float_precision="round_trip")
    except ValueError as error:  # also of pandas' parser
        raise BrokenRunError(f"{path}: {error}") from error


def _checked_header(path: Folder, text: str) -> list[str]:
    """The names of the columns; each row has as many cells.

    pandas would fill a row that is too short, and cut one that is too long.
    """
    lines = text.splitlines()
    commas = lines[0].count(",")
    try:
        unequal = '"' in text or any(line.count(",") != commas for line in lines)
        rows = list(csv.reader(lines if unequal else lines[:1]))
    except csv.Error as error:
        raise BrokenRunError(f"{path}: {error}") from error
    header = rows[0]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise BrokenRunError(
                f"{path}: row {number} has {len(row)} cells, the header has {len(header)}"
            )
    return header


def _text(path: Folder) -> str:
    try:
        return content(path).decode()
    except UnicodeDecodeError as error:
        raise BrokenRunError(f"{path}: {error}") from error


def write_record(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write the record of a finished run, which comes last of its files.

    :param fields: what :class:`RunRecord` has, but for the format and the config
    """
    (folder / RECORD).write_text(_json(fields))


def write_evaluations(folder: Path, rows: Sequence[EvaluationRow]) -> None:
    """Write the evaluations of a run into its folder."""
    with (folder / _EVALUATIONS).open("w", newline="") as file:
        writer = csv.DictWriter(file, MEASURED)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def write_failure(path: Folder, fields: Mapping[str, Any]) -> None:
    """Write the record of a failed run.

    :param fields: what :class:`FailureRecord` has, but for the format
    """
    write_whole(path, _json(fields))


def manifest_path(out: Folder, digest: str) -> Folder:
    """The manifest's file of a sweep.

    :param out: the folder below which all of its runs stand
    :param digest: of what it was asked for
    """
    return out / f"{_MANIFEST_PREFIX}{digest}{_MANIFEST_SUFFIX}"


def _is_manifest(name: str) -> bool:
    return name.startswith(_MANIFEST_PREFIX) and name.endswith(_MANIFEST_SUFFIX)


def write_manifest(path: Folder, fields: Mapping[str, Any]) -> None:
    """Write what a sweep was asked for.

    :param fields: what :class:`ManifestRecord` has, but for the format
    """
    write_whole(path, _json(fields))


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **fields}, indent=2) + "\n"


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
