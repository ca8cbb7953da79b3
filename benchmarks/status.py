"""How far the runs of a folder have come."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from benchmarks.locks import LOCK
from benchmarks.results import load_failures, load_runs
from benchmarks.specs import as_file_name
from benchmarks.storage import Folder

_COLUMNS = ["suite", "algo", "env_id"]
STATUS_COLUMNS = [*_COLUMNS, "finished", "in progress", "failed", "steps/s"]


def load_status(root: Folder) -> pd.DataFrame:
    """One row for each suite, algorithm and environment below ``root``, with ``STATUS_COLUMNS``.

    ``in progress`` counts what a sweep has claimed: training now or, on a Ray cluster, waiting for
    a place. ``steps/s`` is the median of the finished runs.

    :raises BrokenRunError: a run folder that cannot be read
    """
    runs, failures = load_runs(root), load_failures(root)
    counts = pd.DataFrame(
        {
            "finished": _count(runs),
            "in progress": pd.Series(
                _claimed(root, {*runs["env_id"], *failures["env_id"]}), dtype=float
            ),
            "failed": _count(failures),
            "steps/s": _speed(runs),
        }
    )
    counts.index.names = _COLUMNS
    whole = ["finished", "in progress", "failed"]
    return counts.fillna(dict.fromkeys(whole, 0)).astype(dict.fromkeys(whole, int)).reset_index()


def _count(frame: pd.DataFrame) -> pd.Series:
    return frame.groupby(_COLUMNS).size()


def _speed(runs: pd.DataFrame) -> pd.Series:
    # The clock is read to the millisecond.
    speed = runs["timesteps"].astype(float) / runs["wall_seconds"].astype(float).clip(lower=1e-3)
    return speed.groupby([runs[column] for column in _COLUMNS]).median()


def _claimed(root: Folder, env_ids: set[str]) -> Counter[tuple[str, str, str]]:
    names = {as_file_name(env_id): env_id for env_id in env_ids}
    claimed: Counter[tuple[str, str, str]] = Counter()
    if not isinstance(root, Path):
        return claimed  # no locks there
    for path in root.rglob(f"{LOCK}*"):
        suite, algo, env = path.absolute().parts[-4:-1]
        if _is_held(path):
            claimed[suite, algo, names.get(env, env)] += 1
    return claimed


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    with suppress(OSError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
    return False
