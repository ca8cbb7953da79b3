"""What this suite's own runs have logged, by the names that logs of other programs have."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.run_files import read_progress
from benchmarks.storage import Folder
from reports.data.readers.logged import TRAINING, Series

_STEPS = "time/total_timesteps"
_NAMES = {"rollout/ep_rew_mean": TRAINING}


def evaluations_of(rows: pd.DataFrame) -> Series:
    """The evaluations of one run as a series.

    :param rows: of :attr:`reports.data.runs.RunData.evaluations`
    """
    ordered = rows.sort_values("timesteps")
    columns = ("timesteps", "wall_seconds", "return_mean", "return_std", "length_mean", "episodes")
    return Series(*(ordered[name].to_numpy() for name in columns))


def logged_by(folder: Folder) -> dict[str, Series]:
    """Every column of numbers in a run's ``progress.csv`` but the times, as a series.

    :return: by the column's name, the mean return of the last episodes by :data:`TRAINING`; empty
        where there is no log
    :raises benchmarks.records.BrokenRunError: a log that cannot be read
    """
    log = read_progress(folder)
    if log is None or _STEPS not in log:
        return {}
    steps = pd.to_numeric(log[_STEPS], errors="coerce").to_numpy(float)
    found = {}
    for name in log.columns:
        if name.startswith("time/"):
            continue
        series = series_of(steps, pd.to_numeric(log[name], errors="coerce").to_numpy(float))
        if len(series.timesteps):
            found[_NAMES.get(name, name)] = series
    return found


def series_of(steps: np.ndarray, values: np.ndarray) -> Series:
    """The finite values as a series, of several at one step the last.

    :param steps: shape ``(n_rows,)``, as is ``values``
    """
    known = pd.Series(values, steps)[np.isfinite(steps) & np.isfinite(values)]
    known = known[~known.index.duplicated(keep="last")].sort_index()
    unknown = np.full(len(known), np.nan)
    timesteps = known.index.to_numpy().astype(int)
    return Series(
        timesteps, known.to_numpy(), unknown, unknown, unknown, np.zeros(len(known), dtype=int)
    )
