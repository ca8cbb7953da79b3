"""Intervals of what is measured over seeds: rliable's percentile bootstrap, always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rliable import library

CONFIDENCE = 0.95
REPETITIONS = 5_000
_SEED = 0


def interval(
    values: np.ndarray | tuple[np.ndarray, ...],
    statistic: Callable[..., np.ndarray],
    repetitions: int = REPETITIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of a statistic; each column is resampled by itself.

    :param values: shape ``(n_seeds, n_columns, ...)``; or several such arrays, not necessarily of
        as many seeds, each of which is resampled by itself
    :param statistic: of such an array, or of as many, an array of one dimension
    :return: lower and upper ends, of the statistic's length
    """
    given = values if isinstance(values, np.ndarray) else list(values)
    with _seeded_numpy():
        _, intervals = library.get_interval_estimates(
            {"values": given},
            statistic,
            method="percentile",
            reps=repetitions,
            confidence_interval_size=CONFIDENCE,
        )
    low, high = intervals["values"]
    return low, high


@contextmanager
def _seeded_numpy() -> Iterator[None]:
    """NumPy's global generator seeded, and put back afterwards.

    rliable draws its resamples from the global generator whatever ``random_state`` it is given,
    so this is the only way to the same interval twice.
    """
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(_SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
