"""Who is ahead of whom: the one rule by which a report says so, and makes numbers bold.

On one environment a label is ahead of another one where both of these hold: the 95% intervals of
their means do not overlap, and the probability that a run of it is higher than a run of the other
has a 95% interval above one half. The first alone may rest on a few runs that are far off, the
second alone on many differences that are small. Means that differ by rounding errors alone are the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from benchmarks.numbers import differ
from benchmarks.statistics import Estimate, improvement_intervals
from reports.scores import SCORES

# How often of two samples of one distribution the first has a probability of improvement whose
# interval lies below one half (and as often above it), by the seeds of each; 2.5% is what 95%
# intervals aim at. That depends on nothing but how the runs rank among each other, so this is a
# count over all rankings, which tests/reports/test_comparison.py repeats.
FALSE_ALARMS = {2: 1 / 6, 3: 2 / 20, 5: 12 / 252}


def excludes_half(improvement: Estimate) -> bool:
    """Whether a probability of improvement is a verdict: its 95% interval excludes one half.

    An interval without width around a probability other than 0 and 1 is none. On each environment
    every pair of runs was then decided alike, on some for the one label and on others for the
    other: no resample changes that, so that the interval says nothing of how sure it is.
    """
    if not improvement.has_interval:
        return False
    certain = np.isclose(improvement.value, 0.0) or np.isclose(improvement.value, 1.0)
    if improvement.has_no_width and not certain:
        return False
    return improvement.low > 0.5 or improvement.high < 0.5


@dataclass(frozen=True)
class Comparisons:
    """What is known of the labels of each environment, and of each pair that compares.

    ``means``: score, environment and label to the mean; ``improvements``: score, environment, label
    and another label to the probability that a run of the former is higher than one of the latter.
    Labels of different protocols do not compare, and are no pair.
    """

    means: Mapping[tuple[str, str, str], Estimate]
    improvements: Mapping[tuple[str, str, str, str], Estimate]

    def is_ahead(self, score: str, env_id: str, label: str, other: str) -> bool:
        """Whether ``label`` may be called better than ``other`` on ``env_id``: the rule."""
        ours, theirs = self.means[score, env_id, label], self.means[score, env_id, other]
        improvement = self.improvements.get((score, env_id, label, other))
        if improvement is None or not (ours.has_interval and theirs.has_interval):
            return False
        apart = ours.low > theirs.high and differ(ours.value, theirs.value)
        return apart and improvement.low > 0.5 and excludes_half(improvement)

    def highest(self, score: str, env_id: str, labels: Sequence[str]) -> str:
        """The label with the highest mean, the first of several; none is said to be better."""
        return max(labels, key=lambda label: self.means[score, env_id, label].value)

    def not_behind(self, score: str, env_id: str, labels: Sequence[str]) -> list[str]:
        """The label with the highest mean and all that cannot be told apart from it.

        Labels of one protocol; those without an interval take no part. With fewer than two others
        nothing is compared, and the list is empty.
        """
        compared = [label for label in labels if self.means[score, env_id, label].has_interval]
        if len(compared) < 2:
            return []
        best = self.highest(score, env_id, compared)
        return [label for label in compared if not self.is_ahead(score, env_id, best, label)]

    def bold(self, score: str, table: pd.DataFrame) -> np.ndarray:
        """Which rows are :meth:`not_behind` among those of their protocol.

        :param table: rows of :func:`reports.scores.score_table`, all of one environment
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


def comparisons_of(table: pd.DataFrame, of_runs: pd.DataFrame) -> Comparisons:
    """Every pair of labels that share an environment and a protocol, compared by every score.

    :param table: as :func:`reports.scores.score_table` gives it
    :param of_runs: as :func:`reports.scores.run_scores` gives it, of the same runs
    """
    values = {
        (str(env_id), str(label)): group[list(SCORES)].to_numpy(dtype=np.float64)
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
        for score, (value, low, high) in zip(SCORES, found.T.tolist(), strict=True):
            improvements[score, env_id, label, other] = Estimate(value, low, high)
            improvements[score, env_id, other, label] = Estimate(1 - value, 1 - high, 1 - low)
    means = {
        (score, row["env_id"], row["label"]): Estimate(
            row[f"{score}_mean"], row[f"{score}_low"], row[f"{score}_high"]
        )
        for row in table.to_dict("records")
        for score in SCORES
    }
    return Comparisons(means, improvements)
