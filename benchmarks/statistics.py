"""The statistics of runs: scores of one run, and estimates over seeds with 95% intervals.

Pure functions on arrays. Every interval is rliable's percentile bootstrap over seeds, with the same
random numbers each time; rliable is imported by the function that calls it, since it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
REPETITIONS = 5_000
# Fewer seeds allow no claim: with two, one of two equal settings is ahead on both of them in half
# of all cases.
FEWEST_SEEDS = 3
_RANDOM_SEED = 0
# As many columns are resampled at once; more would take too much memory.
_COLUMNS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval over seeds.

    :param value: the number
    :param low: lower end of the interval; NaN where there is none, as with one seed
    :param high: upper end of the interval; NaN where there is none
    :param seeds: the number of seeds; None where it is of no interest
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    seeds: int | None = None

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The value and the ends of its interval."""
        return self.value, self.low, self.high

    @property
    def has_interval(self) -> bool:
        """Whether there were enough seeds for an interval."""
        return bool(np.isfinite(self.low))

    @property
    def has_no_width(self) -> bool:
        """Whether every resample gave the same value."""
        return self.has_interval and bool(np.isclose(self.low, self.high))

    @property
    def decides(self) -> bool:
        """Whether there are enough seeds for a claim."""
        return self.seeds is not None and self.seeds >= FEWEST_SEEDS

    @property
    def is_positive(self) -> bool:
        """Whether the number is positive beyond chance: its interval lies above 0."""
        return self.decides and self.low > 0

    @property
    def is_negative(self) -> bool:
        """Whether the number is negative beyond chance: its interval lies below 0."""
        return self.decides and self.high < 0


def final_window(n_evaluations: int) -> int:
    """How many of a run's last evaluations count as final: a tenth, rounded down, at least one."""
    return max(1, n_evaluations // 10)


def final_return(returns: ArrayLike) -> float:
    """The mean over the last tenth of a run's evaluations, rounded down, but at least one of them.

    :param returns: mean returns of the evaluations in the order of their steps, shape
        ``(n_evaluations,)``
    """
    values = np.asarray(returns, dtype=np.float64)
    return float(values[-final_window(len(values)) :].mean())


def best_evaluation(steps: np.ndarray, returns: np.ndarray) -> float:
    """The highest of a run's evaluations, without the one before training.

    The latter says nothing of the algorithm, and it would be the best one where training makes a
    policy worse. As a maximum of noisy values, the best evaluation lies above what its policy
    returns on average.

    :param steps: steps of training before each evaluation, shape ``(n_evaluations,)``
    :param returns: mean return of each evaluation, shape ``(n_evaluations,)``
    :return: the highest return; if there is no evaluation after training, that before it
    """
    trained = returns[steps > 0]
    return float(np.max(trained if len(trained) else returns))


def area_under_curve(steps: np.ndarray, returns: np.ndarray) -> float:
    """The mean return over the training: the area under a run's curve, divided by its length.

    The curve is straight between evaluations.

    :param steps: steps of training before each evaluation, increasing, shape ``(n_evaluations,)``
    :param returns: mean return of each evaluation, shape ``(n_evaluations,)``
    """
    if len(steps) == 1:
        return float(returns[0])
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def interquartile_mean(values: ArrayLike, axis: int | None = 0) -> np.ndarray:
    """The mean without the lowest and the highest quarter, each rounded down.

    What ``scipy.stats.trim_mean(values, 0.25, axis)`` gives, without the second that importing
    scipy.stats takes.

    :param values: an array of any shape
    :param axis: the axis along which to take the mean; None: over all values
    :return: of the shape of ``values`` without ``axis``
    """
    array = np.asarray(values, dtype=np.float64)
    if axis is None:
        array, axis = array.ravel(), 0
    n_values = array.shape[axis]
    cut = n_values // 4
    # Values side by side in memory are sorted eight times as fast as they are partitioned.
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(array, axis, -1)), axis=-1)
    means: np.ndarray = ordered[..., cut : n_values - cut].mean(axis=-1)
    return means


def interval(
    values: np.ndarray | tuple[np.ndarray, ...],
    statistic: Callable[..., np.ndarray],
    repetitions: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of a statistic; each column is resampled by itself.

    :param values: shape ``(n_seeds, n_columns, ...)``; or several such arrays, which may differ in
        their numbers of seeds, each resampled by itself
    :param statistic: takes such an array, or as many as there are, and returns a vector
    :param repetitions: the number of resamples; None: 5,000
    :return: lower and upper ends, of the statistic's length
    """
    from rliable import library

    given = values if isinstance(values, np.ndarray) else list(values)
    with _seeded_numpy():
        _, intervals = library.get_interval_estimates(
            {"values": given},
            statistic,
            method="percentile",
            reps=repetitions or REPETITIONS,
            confidence_interval_size=CONFIDENCE,
        )
    low, high = intervals["values"]
    return low, high


@contextmanager
def _seeded_numpy() -> Iterator[None]:
    """Seed NumPy's global generator, and restore its state afterwards.

    rliable draws its resamples from the global generator whatever ``random_state`` it is given, so
    this is the only way to get the same interval twice.
    """
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(_RANDOM_SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over seeds with its 95% interval, column by column.

    A resample takes the same seeds in every column, which changes no column's interval.

    :param values: shape ``(n_seeds, n_columns)``, a column being a score or a point of a curve
    :return: mean, lower and upper end, each of shape ``(n_columns,)``; both ends are NaN with one
        seed, which has no interval
    :raises ValueError: ``values`` is not two-dimensional, or has no seed or a non-finite value
    """
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"values must have the shape (n_seeds, n_columns), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    mean = values.mean(axis=0)
    if len(values) == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    seeds = np.arange(len(values))[:, None]
    ends = []
    for first in range(0, values.shape[1], _COLUMNS_AT_ONCE):
        columns = values[:, first : first + _COLUMNS_AT_ONCE]
        ends.append(interval(seeds, _mean_of(columns)))
    low, high = np.concatenate(ends, axis=1)
    return mean, low, high


def _mean_of(columns: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean of the columns over seeds that are given by their indices."""
    return lambda seeds: columns[seeds[:, 0]].mean(axis=0)


def mean_intervals(groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """:func:`mean_interval` of each group; groups with as many seeds are resampled at once.

    :param groups: each of shape ``(n_seeds, n_columns)``
    :return: for each group mean, lower and upper end, shape ``(3, n_columns)``
    """
    found: dict[int, np.ndarray] = {}
    for n_seeds in {len(values) for values in groups}:
        where = [i for i, values in enumerate(groups) if len(values) == n_seeds]
        ends = np.stack(mean_interval(np.concatenate([groups[i] for i in where], axis=1)))
        widths = [groups[i].shape[1] for i in where]
        found |= dict(zip(where, np.split(ends, np.cumsum(widths)[:-1], axis=1), strict=True))
    return [found[i] for i in range(len(groups))]


def improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The probability P(X > Y) that a run of X scores higher than a run of Y.

    It is the share of all pairs of a run of X and one of Y in which X's score is higher; a tie
    counts half. This is what :func:`rliable.metrics.probability_of_improvement` gives for one
    column, without its test, which takes a hundred times as long.

    :param x: scores of X, shape ``(n_seeds_of_x, n_columns)``
    :param y: scores of Y, shape ``(n_seeds_of_y, n_columns)``
    :return: shape ``(n_columns,)``
    """
    difference = x[:, None] - y
    higher, level = (difference > 0).sum(axis=(0, 1)), (difference == 0).sum(axis=(0, 1))
    shares: np.ndarray = (higher + 0.5 * level) / (len(x) * len(y))
    return shares


def improvement_interval(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`improvement` with its 95% interval, column by column.

    The seeds of X and of Y are resampled independently of each other. A resample takes the same
    seeds in every column, which changes no column's interval.

    :param x: scores of X, shape ``(n_seeds_of_x, n_columns)``
    :param y: scores of Y, shape ``(n_seeds_of_y, n_columns)``
    :return: probability, lower and upper end, each of shape ``(n_columns,)``; both ends are NaN
        where X or Y has one seed
    """
    probability = improvement(x, y)
    if min(len(x), len(y)) < 2:
        return probability, np.full_like(probability, np.nan), np.full_like(probability, np.nan)
    seeds = np.arange(len(x))[:, None], np.arange(len(y))[:, None]
    ends = []
    for first in range(0, x.shape[1], _COLUMNS_AT_ONCE):
        columns = slice(first, first + _COLUMNS_AT_ONCE)
        ends.append(interval(seeds, _improvement_of(x[:, columns], y[:, columns])))
    low, high = np.concatenate(ends, axis=1)
    return probability, low, high


def _improvement_of(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """:func:`improvement` of seeds that are given by their indices.

    Every pair is compared only once; a resample says how often each pair counts.
    """
    # 1 where X's run is higher, 0 where Y's is, and one half for a tie.
    won = (np.sign(x[:, None] - y) + 1) / 2

    def share(of_x: np.ndarray, of_y: np.ndarray) -> np.ndarray:
        times_x, times_y = (
            np.bincount(seeds[:, 0], minlength=n).astype(float)
            for seeds, n in ((of_x, len(x)), (of_y, len(y)))
        )
        shares: np.ndarray = times_y @ np.tensordot(times_x, won, axes=1)
        return shares / (len(x) * len(y))

    return share


def improvement_intervals(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """:func:`improvement_interval` of each pair; pairs with as many seeds are resampled at once.

    :param pairs: X and Y as for :func:`improvement`
    :return: for each pair probability, lower and upper end, shape ``(3, n_columns)``
    """
    found: dict[int, np.ndarray] = {}
    sizes = [(len(x), len(y)) for x, y in pairs]
    for size in set(sizes):
        where = [i for i, of_pair in enumerate(sizes) if of_pair == size]
        x, y = (np.concatenate([pairs[i][side] for i in where], axis=1) for side in (0, 1))
        ends = np.stack(improvement_interval(x, y))
        widths = [pairs[i][0].shape[1] for i in where]
        found |= dict(zip(where, np.split(ends, np.cumsum(widths)[:-1], axis=1), strict=True))
    return [found[i] for i in range(len(pairs))]
