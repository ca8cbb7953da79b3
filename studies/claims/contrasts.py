"""Differences between the runs of two variants."""

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.statistics import Estimate, interval

__all__ = ["difference", "written"]


def difference(x: ArrayLike, y: ArrayLike) -> Estimate:
    """mean(x) - mean(y) with its 95% interval, the seeds of both being resampled by themselves.

    :param x: a number of each run, shape ``(n_seeds_of_x,)``; ``y`` likewise
    :return: without an interval if either has one seed
    """
    ours, others = (np.asarray(each, dtype=np.float64)[:, None] for each in (x, y))
    fewer = min(len(ours), len(others))
    value = float(ours.mean() - others.mean())
    if fewer < 2:
        return Estimate(value, seeds=fewer)
    low, high = interval((ours, others), lambda x, y: x.mean(axis=0) - y.mean(axis=0))
    return Estimate(value, low.item(), high.item(), seeds=fewer)


def written(estimate: Estimate, form: str = ".3g") -> str:
    """A number with its interval in brackets, if it has one.

    :param form: how to write each number
    """
    value, low, high = (format(each, form) for each in estimate.numbers)
    return f"{value} [{low}, {high}]" if estimate.has_interval else value
