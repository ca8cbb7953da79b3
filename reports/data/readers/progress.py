"""``progress.csv``: what Stable-Baselines3's logger writes as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.names import plain
from reports.data.readers.collected import Collected, Points
from reports.data.readers.logged import BrokenLogError
from reports.data.readers.logger import add_logged
from reports.data.readers.text import MOST_COLUMNS, opened, rows, whole_lines

NAME = "progress.csv"
_TIMESTEPS = "time/total_timesteps"
_SECONDS = "time/time_elapsed"


def read(path: Path) -> Collected:
    """The numeric columns. A cell is empty where nothing was logged under its name.

    :raises BrokenLogError: no such file, or no column with the steps
    """
    collected = Collected(path)
    with opened(path) as file:
        table = rows(whole_lines(file, collected.say), collected.say)
        names = next(table, [])
        _check(path, names)
        read = list(table)
    lines = [row for row in read if len(row) == len(names)]
    if len(lines) < len(read):
        collected.say(f"lines left out without a cell for each column: {len(read) - len(lines):,}")
    columns = dict(zip(names, zip(*lines, strict=True), strict=True)) if lines else {}
    logged = {name: values for name, cells in columns.items() if (values := _numbers(cells))}
    timesteps = np.array(logged.pop(_TIMESTEPS, []), dtype=float)
    unknown = [np.nan] * len(timesteps)
    seconds = np.array(logged.get(_SECONDS, unknown), dtype=float)
    add_logged(
        collected,
        {
            name: _points(timesteps, values, seconds, columns[name])
            for name, values in logged.items()
            if len(timesteps)
        },
    )
    return collected


def _check(path: Path, names: Sequence[str]) -> None:
    if _TIMESTEPS not in names:
        got = plain(", ".join(names[:MOST_COLUMNS])) or "nothing"
        raise BrokenLogError(f"{path}: has no column {_TIMESTEPS}; it has {got}")
    if len(names) > MOST_COLUMNS:
        raise BrokenLogError(f"{path}: has more than {MOST_COLUMNS:,} columns")
    if len(set(names)) < len(names):
        raise BrokenLogError(f"{path}: has two columns of the same name")


def _numbers(cells: Sequence[str]) -> list[float] | None:
    """The numbers of a column, NaN where a cell has none; None for a column of texts."""
    numbers = [_number(cell) for cell in cells]
    if all(number is None for number in numbers):
        return None
    return [np.nan if number is None else number for number in numbers]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _points(
    timesteps: np.ndarray, values: Sequence[float], seconds: np.ndarray, cells: Sequence[str]
) -> Points:
    logged = np.array([cell != "" for cell in cells])
    return Points(timesteps[logged], np.array(values)[logged], seconds[logged])
