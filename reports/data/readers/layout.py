"""Which log files below a folder belong to one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.archive_files import RUNS
from benchmarks.records import RunKey
from benchmarks.storage import RECORD, TEMPORARY, walk
from reports.data.readers import evaluations, events, monitor, progress, table


@dataclass
class Logs:
    """The log files of one run.

    ``path``: its folder, or the file that it is. ``place``: what of this path may name the run.
    """

    path: Path
    place: Path
    evaluations: list[Path] = field(default_factory=list)
    monitors: list[Path] = field(default_factory=list)
    progress: list[Path] = field(default_factory=list)
    events: list[Path] = field(default_factory=list)

    def kinds(self) -> dict[str, list[Path]]:
        """The files of each kind of log, of which there may be none."""
        return {
            "evaluations": self.evaluations,
            "monitors": self.monitors,
            "progress": self.progress,
            "events": self.events,
        }

    def add(self, file: Path) -> bool:
        """Add a file if its name is that of a log."""
        name = file.name
        if name == evaluations.NAME:
            self.evaluations.append(file)
        elif name == progress.NAME:
            self.progress.append(file)
        elif name.endswith(monitor.EXTENSION):
            self.monitors.append(file)
        elif events.IN_NAME in name:
            self.events.append(file)
        else:
            return False
        return True


def folders_below(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """The folders with their regular files, but for those of this suite's own runs."""
    for folder, names, files in walk(root):
        # Such a folder is one of this suite's, even if its record is missing.
        if RECORD in files or RunKey.of_folder(Path(str(folder))) is not None:
            names.clear()
            continue
        names[:] = sorted(name for name in names if not name.startswith(TEMPORARY))
        paths = (Path(str(folder), name) for name in sorted(files))
        # Parquet beside the table of an archive's runs is the archive's.
        are_own = RUNS in files
        yield (
            Path(str(folder)),
            [p for p in paths if p.is_file() and not (are_own and p.suffix == ".parquet")],
        )


def tables(root: Path) -> list[Path]:
    """The CSV and Parquet files below a folder, or the one file."""
    if root.is_file():
        return [root]
    return [p for _, files in folders_below(root) for p in files if p.suffix in table.EXTENSIONS]


def find(root: Path) -> list[Logs]:
    """The runs whose logs are below a folder, or in one file.

    The logs in a folder are those of one run, except those of several Monitors with names of their
    own (``a.monitor.csv``), which are a run each. The logs in folders below it belong to the same
    run if no kind of log is in two of these folders.
    """
    if root.is_file():
        logs = Logs(root, _named(root) if root.name.endswith(monitor.EXTENSION) else root.parent)
        return [logs] if logs.add(root) else []
    found: list[Logs] = []
    for folder, files in folders_below(root):
        logs = Logs(folder, folder)
        for file in files:
            logs.add(file)
        found.extend(_split(logs))
    return _joined(found)


def _split(logs: Logs) -> list[Logs]:
    """A run for each Monitor that is not one of several environments of the same run."""
    named = [path for path in logs.monitors if monitor.number(path.name) is None]
    if len(named) == len(logs.monitors) == 1:
        named = []
    for path in named:
        logs.monitors.remove(path)
    alone = [Logs(path, _named(path), monitors=[path]) for path in named]
    return [*([logs] if any(logs.kinds().values()) else []), *alone]


def _named(path: Path) -> Path:
    """What names the run of a Monitor's file: the beginning of its name, or else its folder."""
    name = path.name.removesuffix(monitor.EXTENSION).rstrip(".")
    return path.with_name(name) if name and monitor.number(path.name) is None else path.parent


def _joined(found: Sequence[Logs]) -> list[Logs]:
    """Runs of which those parts that lie in folders below one another are joined.

    :param found: each one directly before those of the folders below its own
    """
    joined = []
    start = 0
    while start < len(found):
        top, end = found[start], start + 1
        while end < len(found) and top.path in found[end].path.parents:
            end += 1
        if _is_one_run(found[start:end]):
            for part in found[start + 1 : end]:
                for kind, files in part.kinds().items():
                    top.kinds()[kind].extend(files)
            start = end
        else:
            start += 1
        joined.append(top)
    return joined


def _is_one_run(parts: Sequence[Logs]) -> bool:
    kinds = [kind for part in parts for kind, files in part.kinds().items() if files]
    return len(kinds) == len(set(kinds))
