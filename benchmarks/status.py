"""How far the runs of a folder have come."""

import glob
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from benchmarks.asked import Asked, Run, load_asked
from benchmarks.folder_names import as_file_name
from benchmarks.locks import LOCK
from benchmarks.results import BrokenRunError, Readable, is_run, load_readable, without_return
from benchmarks.sources import by_module, changed
from benchmarks.storage import TEMPORARY, Folder, walk

_PATIENCE = 600.0  # seconds
_COLUMNS = ["suite", "algo", "env_id"]
_COUNTS = ["finished", "in progress", "failed", "missing"]
STATUS_COLUMNS = [*_COLUMNS, *_COUNTS, "steps/s"]


@dataclass(frozen=True)
class Status:
    """How far runs have come.

    ``table`` has one row for each suite, algorithm and environment, with ``STATUS_COLUMNS``.
    ``in progress`` counts what a sweep has claimed: training now or, on a Ray cluster, waiting for
    a place. ``missing`` counts what a sweep that has not come to its end was asked for, and nobody
    is doing; ``unfinished`` has these sweeps, each with the number of its missing runs.
    ``changed`` counts, by module, the finished runs that were made with another source of it.
    ``without_return`` says which finished runs have an evaluation whose return is no finite number.
    ``stalled`` has the runs that have not come further for ten minutes, where that can be seen,
    each with the time when they last did, in seconds since the epoch. ``steps/s`` is the median of
    the finished runs. ``failures`` are as ``benchmarks.results.load_failures`` gives them;
    ``broken`` says what cannot be read, and does not count as finished.
    """

    table: pd.DataFrame
    failures: pd.DataFrame
    unfinished: list[tuple[Asked, int]]
    changed: dict[str, int]
    without_return: list[str]
    stalled: list[tuple[Run, float]]
    broken: list[BrokenRunError]


def load_status(root: Folder) -> Status:
    """How far the runs below ``root`` have come; what cannot be read is left out, and named."""
    readable = load_readable(root)
    asked, broken = load_asked(root)
    folders = list(_claimed(root))
    claimed = {_as_run(folder) for folder in folders}
    there = claimed | set(_names(readable.runs)) | set(_names(readable.failures))
    missing = {run for each in asked for run in each.runs if _as_names(run) not in there}
    counts = pd.DataFrame(
        {
            "finished": _count(readable.runs),
            "in progress": _series(_known(claimed, _real_names(readable, asked))),
            "failed": _count(readable.failures),
            "missing": _series(run[:3] for run in missing),
            "steps/s": _speed(readable.runs),
        }
    )
    counts.index.names = _COLUMNS
    counts = counts.fillna(dict.fromkeys(_COUNTS, 0)).astype(dict.fromkeys(_COUNTS, int))
    unfinished = [(each, len(missing.intersection(each.runs))) for each in asked]
    return Status(
        counts.reset_index(),
        readable.failures,
        [(each, number) for each, number in unfinished if number],
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


def _names(frame: pd.DataFrame) -> Iterator[Run]:
    columns = [*_COLUMNS, "seed", "config"]
    for suite, algo, env_id, seed, config in frame[columns].itertuples(index=False):
        yield _as_names((suite, algo, env_id, f"seed-{seed}-{config}"))


def _as_names(run: Run) -> Run:
    """The same with the names that the folders have."""
    suite, algo, env_id, name = run
    return suite, as_file_name(algo), as_file_name(env_id), name


def _claimed(root: Folder) -> Iterator[Path]:
    """The folders that claimed runs will have."""
    if not isinstance(root, Path):
        return  # no locks there
    for folder, names, files in walk(root):
        names[:] = [name for name in names if not is_run(name) and not name.startswith(TEMPORARY)]
        for name in files:
            if name.startswith(LOCK) and _is_held(Path(str(folder), name)):
                yield Path(str(folder)).absolute() / name.removeprefix(LOCK)


def _as_run(folder: Path) -> Run:
    suite, algo, env, name = ("", "", "", *folder.parts)[-4:]
    return suite, algo, env, name


def _stalled(claimed: Iterable[Path]) -> Iterator[tuple[Run, float]]:
    """Runs whose unfinished folders have not been touched for long: running ones touch theirs."""
    for folder in claimed:
        unfinished = folder.parent.glob(f"{TEMPORARY}{glob.escape(folder.name)}-*")
        since = max((path.stat().st_mtime for path in unfinished), default=None)
        if since is not None and time.time() - since > _PATIENCE:
            yield _as_run(folder), since


def _real_names(readable: Readable, asked: Iterable[Asked]) -> dict[str, str]:
    """Algorithms and environments by the names of their folders."""
    frames = (readable.runs, readable.failures)
    names = {name for frame in frames for key in ("algo", "env_id") for name in frame[key]}
    names |= {name for each in asked for run in each.runs for name in run[1:3]}
    return {as_file_name(name): name for name in names}


def _known(claimed: Iterable[Run], names: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for suite, algo, env, _ in claimed:
        yield suite, names.get(algo, algo), names.get(env, env)


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    with suppress(OSError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
    return False
