"""What sweeps were asked for: noted while they go on, so that it is known what has not begun."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import SpecError
from benchmarks.folder_names import as_file_name
from benchmarks.records import FORMAT, AskedRecord, RunSpec
from benchmarks.results import BrokenRunError, is_run, read_record
from benchmarks.run import now
from benchmarks.storage import (
    TEMPORARY,
    Folder,
    claimed,
    remove_abandoned,
    walk,
    write_whole,
)

_PREFIX = "sweep-"
_SUFFIX = ".json"
Run = tuple[str, str, str, str]
"""Suite, algorithm and environment of a run, and its folder's name."""

# Suite, algorithm and environment stand between the folder of a sweep and its runs.
_LEVELS = 3


@dataclass(frozen=True)
class Asked:
    """The runs that a sweep was asked for; ``path`` is where this is noted."""

    command: str
    runs: list[Run]
    path: Folder


@contextmanager
def noted(specs: Sequence[RunSpec], out: Folder, command: str) -> Iterator[None]:
    """Note what a sweep is asked for, while it goes on and when it is cut short.

    :param out: the folder below which all runs stand
    :raises OSError: that cannot be written there
    """
    path = _note(specs, out, command)
    try:
        yield
    except SpecError:  # it could not even begin
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def _note(specs: Sequence[RunSpec], out: Folder, command: str) -> Folder:
    """Write the note, the same file for the same runs."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for spec in specs:
        groups.setdefault((spec.suite, spec.algo, spec.env_id, spec.config), []).append(spec.seed)
    runs = [
        {"suite": suite, "algo": algo, "env_id": env_id, "config": config, "seeds": seeds}
        for (suite, algo, env_id, config), seeds in groups.items()
    ]
    digest = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:8]
    record = {"format": FORMAT, "command": command, "started": now(), "runs": runs}
    path = out / f"{_PREFIX}{digest}{_SUFFIX}"
    remove_abandoned([out], path.name)
    with claimed(path):  # the same sweep may begin on another machine
        write_whole(path, json.dumps(record, indent=2) + "\n")
    return path


def load_asked(root: Folder) -> tuple[list[Asked], list[BrokenRunError]]:
    """What is noted of the runs below ``root``, and the notes that cannot be read."""
    found, broken = [], []
    for path in sorted(_notes(root)):
        try:
            record = read_record(path, AskedRecord)
            found.append(Asked(record.command, list(_runs(record, path, root)), path))
        except BrokenRunError as error:
            broken.append(error)
    return found, broken


def _notes(root: Folder) -> Iterator[Folder]:
    for folder, names, files in walk(root):
        yield from (folder / name for name in files if _is_note(name))
        names[:] = [name for name in names if not is_run(name) and not name.startswith(TEMPORARY)]
    if isinstance(root, Path):  # which may be a part of what a sweep writes
        for parent in root.absolute().parents[:_LEVELS]:
            yield from (path for path in parent.glob(f"{_PREFIX}*{_SUFFIX}") if path.is_file())


def _is_note(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def _runs(record: AskedRecord, path: Folder, root: Folder) -> Iterator[Run]:
    """Those below a root."""
    for group in record.runs:
        suite, algo, env_id = group.suite, group.algo, group.env_id
        folder = path.parent / suite / as_file_name(algo) / as_file_name(env_id)
        if isinstance(root, Path) and root.absolute() not in (
            folder.absolute(),
            *folder.absolute().parents,
        ):
            continue
        for seed in group.seeds:
            yield suite, algo, env_id, f"seed-{seed}-{group.config}"
