"""How labels stand over several environments: who is best, and who is compared with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.statistics import FEWEST_SEEDS, Estimate, interquartile_mean
from reports.data import aggregates
from reports.data.aggregates import FEWEST_ENVIRONMENTS, Finals, NormalizedScores
from reports.data.verdicts import Comparisons, Verdict, overall_verdict


@dataclass(frozen=True)
class Standings:
    """The labels over several environments.

    ``ranking``: all labels, the best first: before all others those of the group, and among these
    those with seeds enough for a claim. Normalised scores are ranked by their interquartile mean,
    the others by the probability of improvement, averaged over environments and over the labels
    that they are compared with.

    ``group``: label to the scores that are aggregated, shape ``(n_seeds, n_environments)``, and
    ``env_ids``: over which environments (see :func:`reports.data.aggregates.group_of`); both empty
    where there is nothing to aggregate. ``is_normalised``: the scores are normalised; otherwise
    they are returns, of which only the probability of improvement means something.

    ``finals``: the final returns on all environments with one budget and protocol.
    """

    ranking: Sequence[str]
    group: Mapping[str, np.ndarray]
    env_ids: Sequence[str]
    is_normalised: bool
    finals: Finals
    _improvements: dict[tuple[str, str], Estimate] = field(default_factory=dict, repr=False)

    def shared(self, label: str, other: str) -> list[str]:
        """The environments that both have run on."""
        known = {label, other} <= set(self.finals)
        return aggregates.shared(self.finals, [label, other]) if known else []

    def improvement(self, label: str, other: str) -> Estimate:
        """The probability of improvement of two labels of the group, averaged over it."""
        if (label, other) not in self._improvements:
            found = aggregates.improvement(self.group[label], self.group[other])
            self._improvements[label, other] = found
        return self._improvements[label, other]

    def overall(self, label: str, other: str) -> Verdict | None:
        """What the group's environments say of two labels; None: not both are in it."""
        if not {label, other} <= set(self.group):
            return None
        return overall_verdict(self.improvement(label, other))

    def pairwise(self, label: str, other: str) -> Verdict | None:
        """What the environments that the two share say; None: they share fewer than two."""
        env_ids = self.shared(label, other)
        if len(env_ids) < FEWEST_ENVIRONMENTS:
            return None
        ours, theirs = (aggregates.matrix(self.finals[x], env_ids) for x in (label, other))
        return overall_verdict(aggregates.improvement(ours, theirs))

    @property
    def closest(self) -> tuple[str, str] | None:
        """The two labels that share the most environments, if those are more than the group's.

        Of several such pairs the one whose labels come first in the ranking.
        """
        pairs = [(x, y) for i, x in enumerate(self.ranking) for y in self.ranking[i + 1 :]]
        most = max((len(self.shared(*pair)) for pair in pairs), default=0)
        if most <= max(len(self.env_ids), FEWEST_ENVIRONMENTS - 1):
            return None
        return next(pair for pair in pairs if len(self.shared(*pair)) == most)


def second_best(standings: Standings, comparisons: Comparisons) -> str | None:
    """The best of the labels that are compared with the best one on some environment."""
    best, *others = standings.ranking
    return next((label for label in others if comparisons.env_ids_of(label, best)), None)


def standings_of(
    of_runs: pd.DataFrame, comparisons: Comparisons, normalized: NormalizedScores | None
) -> Standings:
    """The standings of all labels.

    :param of_runs: as :func:`reports.data.scores.run_scores` returns it, with ``protocol``
    :param comparisons: of the same runs
    :param normalized: of the same runs
    """
    finals = aggregates.finals_of(of_runs[of_runs["protocol"] == ""])
    if normalized is None:
        labels, env_ids = aggregates.group_of(finals)
        group = {label: aggregates.matrix(finals[label], env_ids) for label in labels}
    else:
        env_ids, group = list(normalized.env_ids), dict(normalized.finals)
    is_normalised = normalized is not None
    ranking = _ranking(comparisons, group, is_normalised)
    return Standings(ranking, group, env_ids, is_normalised, finals)


def _ranking(
    comparisons: Comparisons, group: Mapping[str, np.ndarray], is_normalised: bool
) -> list[str]:
    """All labels, the best first, as :class:`Standings` has them."""
    chances: dict[str, list[float]] = {}
    seeds: dict[str, int] = {}
    means: dict[str, list[float]] = {}
    for (score, _, label), mean in comparisons.means.items():
        if score == "final":
            means.setdefault(label, []).append(mean.value)
        seeds[label] = max(seeds.get(label, 0), mean.seeds or 0)
    for (score, _, label, _), improvement in comparisons.improvements.items():
        if score == "final":
            chances.setdefault(label, []).append(improvement.value)
    seeds |= {label: len(scores) for label, scores in group.items()}

    def order(label: str) -> tuple[bool, bool, float, float, str]:
        """What a label is sorted by: the best comes first."""
        # As probable as each other, they are ranked by their mean returns.
        sign = 1 if comparisons.lower_is_better else -1
        first = -float(np.mean(chances.get(label, -1.0)))
        second = sign * float(np.mean(means[label]))
        if is_normalised and label in group:
            iqm = float(interquartile_mean(group[label], axis=None))
            # Where two have the same interquartile mean, by all runs.
            first, second = -round(iqm, 9), -float(group[label].mean())
        return label not in group, seeds[label] < FEWEST_SEEDS, first, second, label

    return sorted(seeds, key=order)
