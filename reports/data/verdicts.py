"""Who is ahead of whom: the one rule by which a report says so, and makes numbers bold.

On one environment a label is ahead of another one where all of these hold: both have at least
:data:`benchmarks.statistics.FEWEST_SEEDS` seeds, the 95% intervals of their means do not overlap,
and the probability that a run of it is higher than a run of the other has a 95% interval above one
half. Means alone may be apart because of a few runs that are far off, the probability alone may
come from many small differences. Means that differ by rounding errors are the same.

Over several environments, whose returns do not average, a label is ahead where both have enough
seeds and the probability, averaged over the environments, has an interval above one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from benchmarks.numbers import differ
from benchmarks.statistics import Estimate, improvement_intervals
from reports.data.scores import SCORES

AHEAD, LEVEL, BEHIND, TOO_FEW = "ahead", "level", "behind", "too few seeds"

# How often of two samples of one distribution the first has a probability of improvement whose
# interval lies below one half (and as often above it), by the seeds of each; 2.5% is what 95%
# intervals aim at. It depends only on how the runs rank among each other, so this is a count over
# all rankings, which tests/reports/data/test_verdicts.py repeats.
FALSE_ALARMS = {2: 1 / 6, 3: 2 / 20, 5: 12 / 252}


@dataclass(frozen=True)
class Verdict:
    """What is said of one label beside another.

    ``word``: ``AHEAD``, ``LEVEL``, ``BEHIND`` or ``TOO_FEW``. ``improvement``: the probability that
    a run of the first is higher than a run of the second.
    """

    word: str
    improvement: Estimate


def excludes_half(improvement: Estimate) -> bool:
    """Whether a probability of improvement decides: its 95% interval excludes one half.

    With too few seeds it never does. Nor does an interval without width around a probability other
    than 0 and 1: on each environment every pair of runs was then decided alike, on some for the one
    label and on others for the other. No resample changes that, so the interval says nothing of how
    sure it is.
    """
    if not (improvement.decides and improvement.has_interval):
        return False
    certain = np.isclose(improvement.value, 0.0) or np.isclose(improvement.value, 1.0)
    if improvement.has_no_width and not certain:
        return False
    return improvement.low > 0.5 or improvement.high < 0.5


def overall_verdict(improvement: Estimate) -> Verdict:
    """What a probability of improvement that is averaged over environments says."""
    if not improvement.decides:
        return Verdict(TOO_FEW, improvement)
    if not excludes_half(improvement):
        return Verdict(LEVEL, improvement)
    return Verdict(AHEAD if improvement.value > 0.5 else BEHIND, improvement)


@dataclass(frozen=True)
class Comparisons:
    """The labels of each environment, and each pair of them that compares.

    ``means``: score, environment and label to the mean; ``improvements``: score, environment, label
    and another label to the probability that a run of the former is higher than one of the latter.
    Labels of different protocols do not compare, and are no pair. ``lower_is_better``: the
    probability is that of being lower, and a label is ahead by a lower mean.
    """

    means: Mapping[tuple[str, str, str], Estimate]
    improvements: Mapping[tuple[str, str, str, str], Estimate]
    lower_is_better: bool = False

    @property
    def env_ids(self) -> list[str]:
        """The environments on which labels are compared, sorted."""
        return sorted({env_id for _, env_id, _, _ in self.improvements})

    def env_ids_of(self, label: str, other: str) -> list[str]:
        """The environments on which the two are compared, sorted."""
        return [x for x in self.env_ids if ("final", x, label, other) in self.improvements]

    def is_ahead(self, score: str, env_id: str, label: str, other: str) -> bool:
        """Whether ``label`` may be called better than ``other`` on ``env_id``: the rule."""
        ours, theirs = self.means[score, env_id, label], self.means[score, env_id, other]
        improvement = self.improvements.get((score, env_id, label, other))
        if improvement is None or not improvement.decides:
            return False
        better, worse = (theirs, ours) if self.lower_is_better else (ours, theirs)
        apart = better.low > worse.high and differ(ours.value, theirs.value)
        return apart and improvement.low > 0.5 and excludes_half(improvement)

    def verdict(self, env_id: str, label: str, other: str) -> Verdict | None:
        """What the final returns say of ``label`` beside ``other``; None: they do not compare."""
        improvement = self.improvements.get(("final", env_id, label, other))
        if improvement is None:
            return None
        if not improvement.decides:
            return Verdict(TOO_FEW, improvement)
        if self.is_ahead("final", env_id, label, other):
            return Verdict(AHEAD, improvement)
        is_behind = self.is_ahead("final", env_id, other, label)
        return Verdict(BEHIND if is_behind else LEVEL, improvement)

    def not_behind(self, score: str, env_id: str, labels: Sequence[str]) -> list[str]:
        """The label with the best mean and all that cannot be told apart from it.

        :param labels: of one protocol; those with too few seeds take no part
        :return: empty with fewer than two others, since nothing is compared
        """
        compared = [label for label in labels if self.means[score, env_id, label].decides]
        if len(compared) < 2:
            return []
        first = min if self.lower_is_better else max
        best = first(compared, key=lambda label: self.means[score, env_id, label].value)
        return [label for label in compared if not self.is_ahead(score, env_id, best, label)]

    def bold(self, score: str, table: pd.DataFrame) -> np.ndarray:
        """Which rows are :meth:`not_behind` among those of their protocol.

        :param table: rows of :func:`reports.data.scores.score_table`, all of one environment
        :return: booleans, shape ``(n_rows,)``
        """
        marked: set[str] = set()
        for _, rows in table.groupby("protocol", sort=True):
            env_id = str(rows["env_id"].iloc[0])
            marked |= set(self.not_behind(score, env_id, list(rows["label"])))
        return table["label"].isin(marked).to_numpy()

    def frame(self) -> pd.DataFrame:
        """Every pair: ``env_id, score, label, other, probability, low, high, is_ahead``."""
        rows = [
            (
                *(env_id, score, label, other),
                *improvement.numbers,
                self.is_ahead(score, env_id, label, other),
            )
            for (score, env_id, label, other), improvement in self.improvements.items()
        ]
        columns = ["env_id", "score", "label", "other", "probability", "low", "high", "is_ahead"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.sort_values(columns[:4], kind="stable", ignore_index=True)


def comparisons_of(
    table: pd.DataFrame, of_runs: pd.DataFrame, lower_is_better: bool = False
) -> Comparisons:
    """Every pair of labels that share an environment and a protocol, compared by every score.

    :param table: as :func:`reports.data.scores.score_table` returns it
    :param of_runs: as :func:`reports.data.scores.run_scores` returns it, of the same runs
    """
    sign = -1 if lower_is_better else 1
    values = {
        (str(env_id), str(label)): sign * group[list(SCORES)].to_numpy(dtype=np.float64)
        for (env_id, label), group in of_runs.groupby(["env_id", "label"], sort=True)
    }
    pairs = [
        (str(env_id), label, other)
        for (env_id, _), rows in table.groupby(["env_id", "protocol"], sort=True)
        for label, other in combinations(map(str, rows["label"]), 2)
    ]
    estimates = improvement_intervals([(values[e, x], values[e, y]) for e, x, y in pairs])
    improvements = {}
    for (env_id, label, other), found in zip(pairs, estimates, strict=True):
        seeds = min(len(values[env_id, label]), len(values[env_id, other]))
        for score, (value, low, high) in zip(SCORES, found.T.tolist(), strict=True):
            improvements[score, env_id, label, other] = Estimate(value, low, high, seeds)
            turned = Estimate(1 - value, 1 - high, 1 - low, seeds)
            improvements[score, env_id, other, label] = turned
    means = {
        (score, row["env_id"], row["label"]): Estimate(
            float(row[f"{score}_mean"]),
            float(row[f"{score}_low"]),
            float(row[f"{score}_high"]),
            int(row["seeds"]),
        )
        for row in table.to_dict("records")
        for score in SCORES
    }
    return Comparisons(means, improvements, lower_is_better)


def not_told_apart(estimates: Sequence[Estimate], lower_is_better: bool = False) -> list[bool]:
    """Which aggregates over environments are the best, or have an interval that overlaps with it.

    Those with too few seeds take no part. Intervals that touch overlap. With fewer than two others
    nothing is compared, and none is marked.
    """
    sign = -1 if lower_is_better else 1
    compared = [each for each in estimates if each.decides]
    if len(compared) < 2:
        return [False] * len(estimates)
    best = max(compared, key=lambda each: sign * each.value)
    return [each.decides and each.high >= best.low and each.low <= best.high for each in estimates]
