"""How large a difference is, in standard deviations: Hedges' g with its 95% interval.

Hedges (1981), "Distribution theory for Glass's estimator of effect size and related estimators":
the difference of the means, divided by the standard deviation within the groups, times a factor
that makes it unbiased, which matters with few seeds. The interval is that of Hedges and Olkin
(1985), which turns Student's t around: the true differences under which the observed t would be at
one of the outer 2.5% of its noncentral distribution. Both are exact for normally distributed
returns with one variance, and rough for others.

What needs no such model is the probability of improvement, which is Vargha and Delaney's (2000) A.
It cannot tell how far two algorithms are apart once all runs of one are above all of the other.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.statistics import CONFIDENCE

# Values whose spread is a smaller share of their size differ by rounding errors alone.
_ROUNDING = 1e-9


def hedges_g(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Hedges' g: the difference of the means of X and Y in standard deviations within them.

    :param x: scores of X, shape ``(n_seeds_of_x, n_columns)``
    :param y: scores of Y, shape ``(n_seeds_of_y, n_columns)``
    :return: g and the ends of its 95% interval, shape ``(3, n_columns)``; NaN where nothing varies,
        so that no difference is small or large
    :raises ValueError: fewer than two seeds on a side
    """
    _refuse_one(x, y)
    n_x, n_y = len(x), len(y)
    freedom = n_x + n_y - 2
    squares = (n_x - 1) * x.var(axis=0, ddof=1) + (n_y - 1) * y.var(axis=0, ddof=1)
    size = np.maximum(np.abs(x).max(axis=0), np.abs(y).max(axis=0))
    spread = _spread(np.sqrt(squares / freedom), size)
    return _estimate((x.mean(axis=0) - y.mean(axis=0)) / spread, freedom, n_x * n_y / (n_x + n_y))


def hedges_g_of_pairs(differences: np.ndarray) -> np.ndarray:
    """Hedges' g of pairs: the mean of the differences within pairs in their standard deviations.

    Where the two of a pair have something in common, this is larger than :func:`hedges_g`.

    :param differences: X's score minus Y's in each pair, shape ``(n_pairs, n_columns)``
    :return: as from :func:`hedges_g`
    :raises ValueError: fewer than two pairs
    """
    _refuse_one(differences)
    n_pairs = len(differences)
    spread = _spread(differences.std(axis=0, ddof=1), np.abs(differences).max(axis=0))
    return _estimate(differences.mean(axis=0) / spread, n_pairs - 1, n_pairs)


def _refuse_one(*samples: np.ndarray) -> None:
    if (fewest := min(map(len, samples))) < 2:
        raise ValueError(f"an effect size needs two seeds or more, got {fewest}")


def _spread(deviation: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A standard deviation; NaN where it is a rounding error."""
    return np.where(deviation > _ROUNDING * size, deviation, np.nan)


def _estimate(d: np.ndarray, freedom: int, information: float) -> np.ndarray:
    """Hedges' g and its interval from the biased difference ``d``.

    :param information: ``d`` times its root is Student's t
    """
    from scipy.special import nctdtrinc

    half = freedom / 2
    unbiased = math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)
    root, tail = math.sqrt(information), (1 - CONFIDENCE) / 2
    low, high = (nctdtrinc(freedom, share, d * root) / root for share in (1 - tail, tail))
    return np.stack([unbiased * d, low, high])
