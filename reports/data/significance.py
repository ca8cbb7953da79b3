"""Whether a difference is more than chance: permutation tests, and Holm's correction for many.

If two algorithms end alike, any of their runs could have been a run of the other. The p-value of a
permutation test (Fisher, 1935; Pitman, 1937) is twice the share of all ways to deal the runs out
to the two in which the means differ as far in the same direction. It assumes no distribution, which
the returns of a few seeds could not show anyway. It is exact, and therefore coarse: 3 runs against
3 can be dealt out in 20 ways, so that p is 0.1 or more whatever the returns are.

Runs that are paired are compared by flipping the signs of their differences, which is coarser yet:
with 5 pairs p is 0.0625 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

ALPHA = 0.05
# Where there are more ways to deal out the runs, as many of them are drawn, and more for many
# tests, whose corrected level has to be reached.
_FEWEST_DRAWN = 20_000
_DRAWN_PER_TEST = 50
_AT_ONCE = 500


def permutation_p(
    x: np.ndarray, y: np.ndarray, is_paired: bool = False, n_tests: int = 1
) -> np.ndarray:
    """The two-sided p-value of the difference of the means, column by column.

    :param x: shape ``(n_seeds_of_x, n_columns)``, of two seeds or more; ``y`` likewise, of the same
        ones if paired
    :param n_tests: how many tests the result is to be corrected for
    :return: shape ``(n_columns,)``; exact up to 20,000 arrangements of the runs, above that the
        observed one is counted among those drawn, so that p is never 0 (Phipson and Smyth, 2010)
    """
    from scipy.stats import permutation_test

    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        means: np.ndarray = x.mean(axis=axis) - y.mean(axis=axis)
        return means

    found = permutation_test(
        (x, y),
        difference,
        permutation_type="samples" if is_paired else "independent",
        vectorized=True,
        n_resamples=max(_FEWEST_DRAWN, _DRAWN_PER_TEST * n_tests),
        batch=_AT_ONCE,
        random_state=np.random.default_rng(0),
    )
    p_values: np.ndarray = np.asarray(found.pvalue, dtype=np.float64)
    return p_values


def n_arrangements(n_x: int, n_y: int, is_paired: bool = False) -> int:
    """In how many ways the runs can be dealt out to the two algorithms.

    :param n_x: seeds of the one, ``n_y`` of the other; both the number of pairs if paired
    """
    return 2**n_x if is_paired else comb(n_x + n_y, n_x)


def smallest_p(n_x: int, n_y: int, is_paired: bool = False) -> float:
    """The smallest p-value that there can be, as where all runs of one are above the other's.

    :param n_x: as for :func:`n_arrangements`
    """
    return min(1.0, 2 / n_arrangements(n_x, n_y, is_paired))


def attained_level(n_x: int, n_y: int, is_paired: bool = False) -> float:
    """How often two equal algorithms are found to differ by p ≤ 0.05: seldom more than that.

    The p-values are multiples of the smallest one, few of which are below the level.

    :param n_x: as for :func:`n_arrangements`
    """
    n = n_arrangements(n_x, n_y, is_paired)
    # In integers: the number of arrangements can exceed that of floats.
    return 2 * (n // round(2 / ALPHA)) / n


def fewest_seeds(n_tests: int, is_paired: bool = False) -> int:
    """With how many seeds a side one of so many tests can survive Holm's correction at all."""
    n_seeds = 2
    while smallest_p(n_seeds, n_seeds, is_paired) * n_tests > ALPHA:
        n_seeds += 1
    return n_seeds


def holm(p_values: Sequence[float]) -> np.ndarray:
    """The p-values corrected by Holm's (1979) step-down method.

    Those of at most 0.05 survive: that any of them is a false alarm has a chance of at most 5%,
    however the tests depend on each other.

    :return: in the same order
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return corrected
