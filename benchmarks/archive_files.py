"""Archives: runs as a few Parquet tables in a folder, instead of a folder for each run.

Whoever reads runs finds those of an archive where their folders would stand below the archive's
folder. ``runs.parquet`` has a row for each finished run, with its whole record and, if it is short,
what was not committed. ``evaluations.parquet`` and ``progress.parquet`` have the rows of the runs'
CSV files. ``failures.parquet`` and ``manifests.parquet`` are there if there is something in them.
The column ``run`` is the path that the run's folder would have.

``runs.parquet`` is written last, and runs that it does not have do not count. So an archive to
which runs are being added has all of them or none.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import parquet
from benchmarks.folder_names import is_level
from benchmarks.parquet import FLAG, INTEGER, JSON, NUMBER, TEXT, Row, fields_of, row_of
from benchmarks.records import (
    FORMAT,
    MEASURED,
    BrokenRunError,
    FailureRecord,
    ManifestRecord,
    OneRunRecord,
    RunKey,
    RunRecord,
    check_measured,
    validated,
)
from benchmarks.storage import Folder, whole_file, whole_folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

RUNS = "runs.parquet"
_EVALUATIONS = "evaluations.parquet"
_PROGRESS = "progress.parquet"
_FAILURES = "failures.parquet"
_MANIFESTS = "manifests.parquet"
_TABLES = (RUNS, _EVALUATIONS, _PROGRESS, _FAILURES, _MANIFESTS)

_SPEC_COLUMNS = {
    "suite": TEXT,
    "algo": TEXT,
    "env_id": TEXT,
    "seed": INTEGER,
    "n_timesteps": INTEGER,
    "hyperparams": JSON,
    "evaluation": JSON,
    "environment": JSON,
}
_ONE_RUN_COLUMNS = {
    "run": TEXT,
    "format": INTEGER,
    **_SPEC_COLUMNS,
    "config": TEXT,
    "command": TEXT,
    "started": TEXT,
}
_RUN_COLUMNS = {
    **_ONE_RUN_COLUMNS,
    "timesteps": INTEGER,
    "wall_seconds": NUMBER,
    "evaluation_seconds": NUMBER,
    "peak_memory_mib": NUMBER,
    "commit": TEXT,
    "dirty": FLAG,
    "uncommitted": TEXT,
    "versions": JSON,
    "packages": JSON,
    "sources": JSON,
    "machine": JSON,
    "diff": TEXT,
}
_EVALUATION_COLUMNS = {
    "run": TEXT,
    **dict.fromkeys(MEASURED, NUMBER),
    "timesteps": INTEGER,
    "episodes": INTEGER,
}
_FAILURE_COLUMNS = {**_ONE_RUN_COLUMNS, "error": TEXT, "traceback": TEXT}
_MANIFEST_COLUMNS = {
    "file": TEXT,
    "format": INTEGER,
    "command": TEXT,
    "started": TEXT,
    "finished": TEXT,
    "runs": JSON,
}


@dataclass(frozen=True)
class ArchivedRun:
    """A finished run in an archive; ``number`` is its row in the table of runs, from 1 on."""

    archive: "Archive"
    number: int
    row: Row

    @property
    def folder(self) -> Folder:
        """Where the run's folder would be."""
        return self.archive.root / self.row["run"]

    def record(self) -> RunRecord:
        """The run's record.

        :raises BrokenRunError: it cannot be read
        """
        where = f"{self.archive.root / RUNS}: row {self.number}"
        record = validated(_fields(self.row, _RUN_COLUMNS, where), RunRecord, where)
        _check_run(self.row, record, where)
        return record

    def measured(self) -> np.ndarray:
        """The run's evaluations, shape ``(n_evaluations, n_columns)``; see ``MEASURED``.

        :raises BrokenRunError: they cannot be read
        """
        run = self.row["run"]
        values = self.archive.evaluations.get(run, np.empty((0, len(MEASURED))))
        check_measured(values, f"{self.archive.root / _EVALUATIONS}: {run}")
        return values

    def progress(self, columns: Iterable[str] | None = None) -> "pd.DataFrame | None":
        """The columns of the run's training log, or those of them that it has; None without one.

        :raises BrokenRunError: the table of logs cannot be read
        """
        return self.archive.progress(self.row["run"], columns)

    def diff(self) -> str | None:
        """What was not committed when the run began, if it is short."""
        return self.row["diff"]


@dataclass(frozen=True)
class ArchivedFailure:
    """The record of a failed run in an archive; ``number`` is its row, from 1 on."""

    root: Folder
    number: int
    row: Row

    @property
    def folder(self) -> Folder:
        """Where the run's folder would be."""
        return self.root / self.row["run"]

    def record(self) -> FailureRecord:
        """What is known of the failure.

        :raises BrokenRunError: it cannot be read
        """
        where = f"{self.root / _FAILURES}: row {self.number}"
        record = validated(_fields(self.row, _FAILURE_COLUMNS, where), FailureRecord, where)
        _check_run(self.row, record, where)
        return record


@dataclass(frozen=True)
class ArchivedManifest:
    """What a sweep was asked for, in an archive; ``number`` is its row, from 1 on."""

    root: Folder
    number: int
    row: Row

    @property
    def path(self) -> Folder:
        """Where the manifest's file would be."""
        return self.root / self.row["file"]

    def record(self) -> ManifestRecord:
        """The manifest.

        :raises BrokenRunError: it cannot be read
        """
        where = f"{self.root / _MANIFESTS}: row {self.number}"
        if not is_level(self.row["file"]):
            raise BrokenRunError(f"{where}: file: must be a file's name, got {self.row['file']!r}")
        return validated(fields_of(self.row, _MANIFEST_COLUMNS, where), ManifestRecord, where)


def _fields(row: Row, columns: parquet.Columns, where: str) -> dict[str, Any]:
    """What the record of a run would hold."""
    fields = fields_of(row, columns, where)
    spec = {name: fields.pop(name) for name in _SPEC_COLUMNS if name in fields}
    return {**fields, "spec": spec}


def _check_run(row: Row, record: OneRunRecord, where: str) -> None:
    if row["run"] != _path(record.key):
        raise BrokenRunError(f"{where}: holds the run {_path(record.key)}, not {row['run']}")


def _path(key: RunKey) -> str:
    """What the column ``run`` has."""
    return "/".join(key.levels)


class Archive:
    """The tables of a folder; each is read when it is needed.

    :raises BrokenRunError: the table of runs cannot be read, or has a run twice
    """

    def __init__(self, root: Folder) -> None:
        self.root = root
        self.runs: dict[str, ArchivedRun] = {}
        self._decoded: dict[str, np.ndarray] = {}
        for number, row in parquet.read_rows(root / RUNS, _RUN_COLUMNS, "run"):
            if row["run"] in self.runs:
                raise BrokenRunError(f"{root / RUNS}: row {number}: has the run {row['run']} again")
            self.runs[row["run"]] = ArchivedRun(self, number, row)

    @cached_property
    def evaluations(self) -> dict[str, np.ndarray]:
        """The evaluations of each run, unchecked, shape ``(n_evaluations, n_columns)``.

        :raises BrokenRunError: the table cannot be read
        """
        path = self.root / _EVALUATIONS
        table = parquet.read(path, _EVALUATION_COLUMNS)
        values = np.stack([table.column(name).to_numpy().astype(float) for name in MEASURED], 1)
        return {run: values[rows] for run, rows in parquet.rows_by(table["run"], path).items()}

    def progress(self, run: str, columns: Iterable[str] | None = None) -> "pd.DataFrame | None":
        """A run's training log without empty columns; None where there is none.

        :param columns: the columns that are wanted; None: all
        :raises BrokenRunError: the table cannot be read
        """
        import pandas as pd

        table, rows_of_runs = self._logs
        if run not in rows_of_runs:
            return None
        wanted = set(table.column_names if columns is None else columns) - {"run"}
        names = [name for name in table.column_names if name in wanted]
        log = pd.DataFrame({name: self._column(name)[rows_of_runs[run]] for name in names})
        return log.dropna(axis=1, how="all")

    def _column(self, name: str) -> np.ndarray:
        if name not in self._decoded:
            self._decoded[name] = parquet.decoded(self._logs[0].column(name))
        return self._decoded[name]

    @cached_property
    def _logs(self) -> "tuple[pa.Table, dict[str, np.ndarray]]":
        """The table of logs, and the indices of each run's rows."""
        path = self.root / _PROGRESS
        if not path.exists():
            return None, {}
        table = parquet.read(path, {"run": TEXT}, has_others=True)
        return table, parquet.rows_by(table["run"], path)

    @cached_property
    def failures(self) -> list[ArchivedFailure]:
        """The failed runs, also those that have finished since.

        :raises BrokenRunError: the table cannot be read
        """
        rows = self._optional(_FAILURES, _FAILURE_COLUMNS, "run")
        return [ArchivedFailure(self.root, number, row) for number, row in rows]

    @cached_property
    def manifests(self) -> list[ArchivedManifest]:
        """What the sweeps were asked for.

        :raises BrokenRunError: the table cannot be read
        """
        rows = self._optional(_MANIFESTS, _MANIFEST_COLUMNS, "file")
        return [ArchivedManifest(self.root, number, row) for number, row in rows]

    def _optional(self, name: str, columns: parquet.Columns, key: str) -> list[tuple[int, Row]]:
        path = self.root / name
        return parquet.read_rows(path, columns, key) if path.exists() else []


def folder_of(path: Folder) -> Folder:
    """The folder of an archive that is given by its folder, or by one of its tables."""
    return path.parent if path.name in _TABLES else path


def open_archive(root: Folder) -> Archive | None:
    """The archive in a folder; None if there is none.

    :raises BrokenRunError: its table of runs cannot be read
    """
    if not (root / RUNS).exists():
        return None
    return _opened(root, tuple(_stamp(root / name) for name in _TABLES))


@lru_cache(maxsize=8)
def _opened(root: Folder, stamps: tuple[object, ...]) -> Archive:
    """An archive; as long as its stamps are the same, its tables are read once."""
    return Archive(root)


def _stamp(path: Folder) -> object:
    """What changes when a file does."""
    with suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime
    return None


@dataclass
class Tables:
    """What an archive is to hold: rows and logs by the run's path, and manifests by their file."""

    runs: dict[str, Row] = field(default_factory=dict)
    evaluations: dict[str, np.ndarray] = field(default_factory=dict)
    progress: "dict[str, pd.DataFrame]" = field(default_factory=dict)
    failures: dict[str, Row] = field(default_factory=dict)
    manifests: dict[str, Row] = field(default_factory=dict)

    def has(self, key: RunKey) -> bool:
        """Whether they have a finished run."""
        return _path(key) in self.runs

    def add_run(
        self,
        record: RunRecord,
        diff: str | None,
        measured: np.ndarray,
        progress: "pd.DataFrame | None",
    ) -> None:
        """Add a finished run, of what :class:`ArchivedRun` will return."""
        fields = {**_fields_of(record), "machine": record.machine.model_dump(), "diff": diff}
        run = fields["run"]
        self.runs[run] = row_of(fields, _RUN_COLUMNS)
        self.evaluations[run] = measured
        if progress is not None:
            self.progress[run] = progress

    def add_failure(self, record: FailureRecord) -> None:
        """Add the record of a failed run; it replaces an older one of the same run."""
        fields = _fields_of(record)
        self.failures[fields["run"]] = row_of(fields, _FAILURE_COLUMNS)

    def add_manifest(self, file: str, fields: Mapping[str, Any]) -> None:
        """Add what a sweep was asked for; it replaces an older manifest of the same sweep."""
        self.manifests[file] = row_of({"file": file, "format": FORMAT, **fields}, _MANIFEST_COLUMNS)


def _fields_of(record: OneRunRecord) -> dict[str, Any]:
    return {
        "run": _path(record.key),
        "format": FORMAT,
        **vars(record),
        **record.spec.to_dict(),
    }


def tables_of(archive: Archive | None) -> Tables:
    """What an archive holds; nothing if there is none.

    :raises BrokenRunError: it cannot be read
    """
    if archive is None:
        return Tables()
    logs = {run: archive.progress(run) for run in archive.runs}
    return Tables(
        {run: each.row for run, each in archive.runs.items()},
        {run: each.measured() for run, each in archive.runs.items()},
        {run: log for run, log in logs.items() if log is not None},
        {each.row["run"]: each.row for each in archive.failures},
        {each.row["file"]: each.row for each in archive.manifests},
    )


def write(out: Folder, tables: Tables) -> None:
    """Write an archive; the tables must hold all runs of one that is there already.

    :raises OSError: naming the file that cannot be written
    """
    files = {_EVALUATIONS: _evaluations_table(tables.evaluations)}
    if tables.progress:
        files[_PROGRESS] = _progress_table(tables.progress)
    if tables.failures:
        files[_FAILURES] = parquet.from_rows(tables.failures.values(), _FAILURE_COLUMNS)
    if tables.manifests:
        files[_MANIFESTS] = parquet.from_rows(tables.manifests.values(), _MANIFEST_COLUMNS)
    files[RUNS] = parquet.from_rows(tables.runs.values(), _RUN_COLUMNS)
    if (out / RUNS).exists():
        for name, table in files.items():  # the last of which makes the new runs count
            with whole_file(out / name) as unfinished:
                parquet.write(table, unfinished)
    else:
        with whole_folder(out, last=RUNS) as folder:
            for name, table in files.items():
                parquet.write(table, folder / name)


def _evaluations_table(evaluations: Mapping[str, np.ndarray]) -> "pa.Table":
    runs = np.repeat(np.array(list(evaluations), object), [len(x) for x in evaluations.values()])
    values = np.concatenate([np.empty((0, len(MEASURED))), *evaluations.values()])
    columns = dict(zip(MEASURED, values.T, strict=True))
    return parquet.from_arrays({"run": runs, **columns}, _EVALUATION_COLUMNS)


def _progress_table(progress: "Mapping[str, pd.DataFrame]") -> "pa.Table":
    """The logs one below the other; a column that a log calls ``run`` is left out."""
    import pandas as pd
    import pyarrow as pa

    runs = np.repeat(np.array(list(progress), object), [len(log) for log in progress.values()])
    logs = pd.concat(progress.values(), ignore_index=True).drop(columns="run", errors="ignore")
    columns = {name: parquet.encoded(column) for name, column in logs.items()}
    return pa.table({"run": pa.array(runs, pa.string()), **columns})
