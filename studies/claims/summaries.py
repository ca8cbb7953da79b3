"""What claims about several tasks say: means with their intervals, and for which tasks it holds."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.statistics import Estimate, mean_interval
from studies.claims.claim import Verdict
from studies.claims.contrasts import written

__all__ = ["as_return", "by_task", "mean"]


def mean(values: ArrayLike) -> Estimate:
    """The mean over seeds, with its 95% interval.

    :param values: shape ``(n_seeds,)``
    """
    column = np.asarray(values, dtype=np.float64)[:, None]
    value, low, high = (end.item() for end in mean_interval(column))
    return Estimate(value, low, high, len(column))


def as_return(estimate: Estimate) -> str:
    """A return, or a difference between two, without decimals, with its interval if it has one."""
    return written(estimate, ",.0f")


def by_task(holds: Mapping[str, bool]) -> tuple[Verdict, str]:
    """Verdict and condition of a claim that holds on some tasks."""
    tasks = [env_id for env_id, is_so in holds.items() if is_so]
    if not tasks:
        return Verdict.FAILS, ""
    if len(tasks) == len(holds):
        return Verdict.HOLDS, ""
    return Verdict.CONDITIONAL, f"the task is {' or '.join(tasks)}"
