"""How likely a test is to find a difference, and how many seeds it would take.

The model: returns are normally distributed with one variance, and the true difference of the means
is so many standard deviations. Then Student's t has a noncentral distribution, and the power is the
chance that it exceeds its critical value. It is computed at the level that the permutation test of
:mod:`reports.data.significance` attains, whose power is about the same; with 3 seeds that level is
0, and so is the power.

The power at the observed difference says the same as the p-value in other words (Hoenig and Heisey,
2001), so it does not show that a level pair is equal. It is of use for planning, and too
optimistic as far as the observed difference was the larger for chance.
"""

from __future__ import annotations

import math

from reports.data.significance import attained_level

TARGET = 0.8
MOST_SEEDS = 1_000


def power(effect: float, n_x: int, n_y: int, is_paired: bool = False) -> float:
    """The chance that a true difference gives p ≤ 0.05 in a permutation test.

    :param effect: the true difference in standard deviations of the returns; of pairs, in standard
        deviations of the differences within pairs. Its sign does not matter
    :param n_x: number of seeds of the one; of pairs, the number of pairs
    :param n_y: number of seeds of the other; of pairs, the number of pairs
    :param is_paired: whether the test compares pairs, of equal seeds say
    :return: from 0 to 1; NaN where the effect is NaN
    """
    from scipy.stats import ncf, t

    level = attained_level(n_x, n_y, is_paired)
    if math.isnan(effect):
        return math.nan
    if level == 0.0 or effect == 0.0:
        return level
    freedom = n_x - 1 if is_paired else n_x + n_y - 2
    information = n_x if is_paired else n_x * n_y / (n_x + n_y)
    # The square of a noncentral t has a noncentral F distribution, which holds both of its sides,
    # and whose values SciPy has for large effects as well.
    critical = t.isf(level / 2, freedom) ** 2
    return float(ncf.sf(critical, 1, freedom, effect**2 * information))


def seeds_needed(effect: float, is_paired: bool = False) -> int | None:
    """How many seeds on each side give a power of 80%.

    :param effect: as for :func:`power`
    :param is_paired: as for :func:`power`
    :return: the smallest such number; None: it is more than 1,000, or the effect is NaN
    """

    def is_enough(n_seeds: int) -> bool:
        return power(effect, n_seeds, n_seeds, is_paired) >= TARGET

    if not is_enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # too few, and enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
