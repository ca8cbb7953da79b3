"""How far the runs of a folder have come."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from benchmarks import manifests, results
from benchmarks.folder_names import as_file_name
from benchmarks.locks import locked_path
from benchmarks.manifests import Manifest
from benchmarks.records import BrokenRunError, RunKey
from benchmarks.results import Readable, without_return
from benchmarks.run_files import find
from benchmarks.sources import by_module, changed
from benchmarks.storage import Folder, scratch_folders

_PATIENCE = 600.0  # seconds
_COLUMNS = ["suite", "algo", "env_id"]
_COUNTS = ["finished", "in progress", "failed", "missing"]
STATUS_COLUMNS = [*_COLUMNS, *_COUNTS, "steps/s"]


@dataclass(frozen=True)
class Status:
    """How far runs have come.

    ``table`` has one row for each suite, algorithm and environment, with ``STATUS_COLUMNS``.
    ``in progress`` counts the runs that a sweep has locked: training now or, on a Ray cluster,
    waiting for a place. ``missing`` counts the runs of sweeps that did not come to their end which
    nobody is doing; ``unfinished`` has these sweeps, each with the number of its missing runs.
    ``changed`` counts, by module, the finished runs that were made with another source of it.
    ``without_return`` says which finished runs have an evaluation whose return is not finite.
    ``stalled`` has the runs without progress for ten minutes, where that can be seen, each by the
    names of its folders and with the time of the last progress, in seconds since the epoch.
    ``steps/s`` is the median of the finished runs. ``failures`` are as
    :func:`benchmarks.results.load_failures` gives them; ``broken`` says what cannot be read, and
    does not count as finished.
    """

    table: pd.DataFrame
    failures: pd.DataFrame
    unfinished: list[tuple[Manifest, int]]
    changed: dict[str, int]
    without_return: list[str]
    stalled: list[tuple[tuple[str, ...], float]]
    broken: list[BrokenRunError]


def load_status(root: Folder) -> Status:
    """How far the runs below ``root`` have come; what cannot be read is left out, and named."""
    found = find(root)
    readable = results.readable(found, root)
    asked, broken = manifests.readable(found, root)
    unfinished = [manifest for manifest in asked if manifest.finished is None]
    folders = [path for lock in found.locks if (path := locked_path(lock)) and _is_held(lock)]
    claimed = {key for folder in folders if (key := RunKey.of_folder(folder))}
    there = claimed | {_as_named(key) for key in _keys(readable)}
    missing = {key for each in unfinished for key in each.runs if _as_named(key) not in there}
    counts = pd.DataFrame(
        {
            "finished": _count(readable.runs),
            "in progress": _series(_known(claimed, _real_names(readable, unfinished))),
            "failed": _count(readable.failures),
            "missing": _series(key[:3] for key in missing),
            "steps/s": _speed(readable.runs),
        }
    )
    counts.index.names = _COLUMNS
    counts = counts.fillna(dict.fromkeys(_COUNTS, 0)).astype(dict.fromkeys(_COUNTS, int))
    left = [(each, len(missing.intersection(each.runs))) for each in unfinished]
    return Status(
        counts.reset_index(),
        readable.failures,
        [(each, number) for each, number in left if number],
        by_module(changed(readable.runs["sources"])),
        list(without_return(readable.evaluations).values()),
        list(_stalled(folders)),
        [*readable.broken, *broken],
    )


def _count(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby(_COLUMNS).size()


def _series(runs: Iterable[tuple[str, str, str]]) -> pd.Series:
    return pd.Series(Counter(runs), dtype=float)


def _speed(runs: pd.DataFrame) -> pd.Series:
    # The clock is read to the millisecond.
    speed = runs["timesteps"].astype(float) / runs["wall_seconds"].astype(float).clip(lower=1e-3)
    return speed.groupby([runs[column] for column in _COLUMNS]).median()


def _keys(readable: Readable) -> Iterator[RunKey]:
    for frame in (readable.runs, readable.failures):
        for row in frame[list(RunKey._fields)].itertuples(index=False):
            yield RunKey(*row)


def _as_named(key: RunKey) -> RunKey:
    """The same with the names that the folders have."""
    return key._replace(algo=as_file_name(key.algo), env_id=as_file_name(key.env_id))


def _stalled(claimed: Iterable[Path]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Runs whose temporary folders have not been touched for long: running ones touch theirs."""
    for folder in claimed:
        touched = [scratch.stat().st_mtime for scratch in scratch_folders(folder)]
        key = RunKey.of_folder(folder)
        if key and touched and time.time() - max(touched) > _PATIENCE:
            yield key.levels, max(touched)


def _real_names(readable: Readable, asked: Iterable[Manifest]) -> dict[str, str]:
    """Algorithms and environments by the names of their folders."""
    keys = [*_keys(readable), *(key for each in asked for key in each.runs)]
    return {as_file_name(name): name for key in keys for name in (key.algo, key.env_id)}


def _known(claimed: Iterable[RunKey], names: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for key in claimed:
        yield key.suite, names.get(key.algo, key.algo), names.get(key.env_id, key.env_id)


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    with suppress(OSError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
    return False
