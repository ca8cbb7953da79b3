"""Metrics as they are taken out of one log: what cannot be used is left out, and said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.names import message, plain
from reports.data.readers.logged import TRAINING, TRAINING_WINDOW, Series

_LARGEST_STEP = 2**53  # up to here a float has every integer
_BLOCK = 4_096  # windows at a time: a standard deviation copies them
_MOST_SHOWN = 3  # steps named in a line


@dataclass(frozen=True)
class Points:
    """What was logged under one name, as it was written; arrays of shape ``(n_points,)``."""

    timesteps: np.ndarray
    values: np.ndarray
    wall_seconds: np.ndarray


class Collected:
    """The metrics that one log gives, and a line for each part of it that was left out.

    Steps that do not increase tell of a run that went back to a checkpoint: what it writes from
    there on stands for everything that was written before at these steps or later ones.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.metrics: dict[str, Series] = {}
        self.not_finite: dict[str, str] = {}
        self._problems: list[str] = []
        self._n_rewritten = 0

    def say(self, problem: str) -> None:
        """Add a line on what was left out."""
        self._problems.append(message(f"{self.source}: {problem}"))

    @property
    def problems(self) -> list[str]:
        """A line for each part that was left out, and why."""
        if not self._n_rewritten:
            return self._problems
        rewritten = (
            f"{self.source}: {self._n_rewritten:,} values at steps that the log goes back to, as "
            "of a run that was resumed; the later ones are kept"
        )
        return [*self._problems, message(rewritten)]

    def add(
        self,
        name: str,
        timesteps: np.ndarray,
        values: np.ndarray,
        *,
        wall_seconds: np.ndarray | None = None,
        spread: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        episodes: np.ndarray | None = None,
    ) -> None:
        """Add a metric by its points in the order in which they were written.

        :param wall_seconds: and the others, where they are known: as in :class:`Series`, whose
            shape all arrays have
        """
        unknown = np.full(len(timesteps), np.nan)
        columns = Series(
            timesteps=np.asarray(timesteps, dtype=float),
            values=np.asarray(values, dtype=float),
            wall_seconds=unknown if wall_seconds is None else wall_seconds,
            spread=unknown if spread is None else spread,
            lengths=unknown if lengths is None else lengths,
            episodes=np.zeros(len(timesteps), dtype=int) if episodes is None else episodes,
        )
        columns = self._without_unusable_steps(name, columns)
        columns = self._without_rewritten(columns, columns.timesteps < _later(columns.timesteps))
        columns = self._without_unusable_values(name, columns)
        if len(columns.timesteps):
            self.metrics[plain(name)] = replace(
                columns, timesteps=columns.timesteps.astype(np.int64)
            )

    def add_episodes(
        self,
        timesteps: np.ndarray,
        returns: np.ndarray,
        lengths: np.ndarray,
        wall_seconds: np.ndarray,
    ) -> None:
        """Add :data:`TRAINING` by the training's episodes, in the order in which they ended.

        Several episodes may end at a step, in different environments.

        :param timesteps: at which they ended, shape ``(n_episodes,)`` as the others
        """
        columns = Series(
            timesteps=np.asarray(timesteps, dtype=float),
            values=np.asarray(returns, dtype=float),
            wall_seconds=np.asarray(wall_seconds, dtype=float),
            spread=np.full(len(timesteps), np.nan),
            lengths=np.asarray(lengths, dtype=float),
            episodes=np.zeros(len(timesteps), dtype=int),
        )
        columns = self._without_unusable_steps("the return", columns)
        columns = self._without_rewritten(columns, columns.timesteps <= _later(columns.timesteps))
        columns = self._without_unusable_values(TRAINING, columns, "the return")
        if not len(columns.timesteps):
            return
        with np.errstate(over="ignore", invalid="ignore"):  # a huge return, which is left out
            windows = Series(
                timesteps=columns.timesteps.astype(np.int64),
                values=_over_windows(np.mean, columns.values),
                wall_seconds=columns.wall_seconds,
                spread=_over_windows(np.std, columns.values),
                lengths=_over_windows(np.mean, columns.lengths),
                episodes=np.minimum(1 + np.arange(len(columns.timesteps)), TRAINING_WINDOW),
            )
        ends_step = np.append(np.diff(windows.timesteps) > 0, True)
        windows = _chosen(windows, ends_step)
        windows = self._without_unusable_values(TRAINING, windows, "the mean return")
        if len(windows.timesteps):
            self.metrics[TRAINING] = windows

    def _without_unusable_steps(self, name: str, columns: Series) -> Series:
        with np.errstate(invalid="ignore"):
            usable = (columns.timesteps >= 0) & (columns.timesteps < _LARGEST_STEP)
        if not usable.all():
            self.say(f"{plain(name)}: {np.sum(~usable):,} values without a usable step left out")
        return _chosen(columns, usable)

    def _without_rewritten(self, columns: Series, stands: np.ndarray) -> Series:
        self._n_rewritten += int(np.sum(~stands))
        return _chosen(columns, stands)

    def _without_unusable_values(self, name: str, columns: Series, what: str = "") -> Series:
        finite = np.isfinite(columns.values)
        if not finite.all():
            steps = columns.timesteps[~finite]
            named = ", ".join(f"{step:,.0f}" for step in steps[:_MOST_SHOWN])
            more = ", ..." if len(steps) > _MOST_SHOWN else ""
            self.say(
                f"{what or plain(name)}: {len(steps):,} values left out that are not finite, "
                f"at step {named}{more}"
            )
            self.not_finite[plain(name)] = self._problems[-1]
        return _chosen(columns, finite)


def with_wall_seconds(series: Series, other: Series) -> Series:
    """A series with the wall time that another one has of the same steps, where it has none."""
    _, ours, theirs = np.intersect1d(series.timesteps, other.timesteps, return_indices=True)
    known = np.full(len(series.timesteps), np.nan)
    known[ours] = other.wall_seconds[theirs]
    wall_seconds = np.where(np.isnan(series.wall_seconds), known, series.wall_seconds)
    return replace(series, wall_seconds=wall_seconds)


def _chosen(columns: Series, rows: np.ndarray) -> Series:
    return Series(**{name: column[rows] for name, column in vars(columns).items()})


def _later(timesteps: np.ndarray) -> np.ndarray:
    """The smallest of the steps that were written after each one."""
    return np.append(np.minimum.accumulate(timesteps[::-1])[::-1][1:], np.inf)


def _over_windows(statistic: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """A statistic of the last ``TRAINING_WINDOW`` values up to each, or of all that there are."""
    n_shorter = min(len(values), TRAINING_WINDOW - 1)
    shorter = [statistic(values[:n]) for n in range(1, n_shorter + 1)]
    if n_shorter == len(values):
        return np.array(shorter)
    # Sums over each window of its own: in running sums, one huge return would spoil all later ones.
    windows = sliding_window_view(values, TRAINING_WINDOW)
    starts = range(0, len(windows), _BLOCK)
    return np.concatenate(
        [shorter, *(statistic(windows[start : start + _BLOCK], axis=-1) for start in starts)]
    )
