"""Every pair of algorithms on every environment: how far apart, and whether by chance.

The tests stand beside the verdicts of :mod:`reports.data.verdicts` and do not decide them. What is
tested is the final return. All pairs of a report are one family, for which the p-values are
corrected, even if a table shows some of them: which ones those are may depend on the results. Where
a baseline was named, the pairs with it were chosen beforehand, and are the family.

Seeds are not paired unless that is asked for. A seed decides a run's first weights, its
environment's first states and its first exploration, but training is chaotic: after the first
update that differs, two runs of one seed have no more in common than two of different ones, unless
the seed decides what is learned from, such as a level or a data set. With pairs that have nothing
in common a paired analysis is right, too, but has half of the degrees of freedom, so that its
intervals are less reliable and its p-values coarser.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.statistics import FEWEST_SEEDS, Estimate, interval, mean_interval
from reports.data.effect_size import hedges_g, hedges_g_of_pairs
from reports.data.power import power, seeds_needed
from reports.data.significance import ALPHA, fewest_seeds, holm, permutation_p, smallest_p


class Pair(NamedTuple):
    """Two labels on an environment; the former is compared with the latter."""

    env_id: str
    label: str
    other: str


@dataclass(frozen=True)
class PairTest:
    """How far apart the final returns of two labels are, and whether by chance.

    ``seeds``: of each; of pairs, how many there are. ``difference``: of the means. ``effect``:
    Hedges' g. ``p``: of a permutation test. ``corrected``: that by Holm's method. ``power``: the
    chance to find the difference with so many seeds, if it is ``effect``; ``seeds_needed``: for a
    chance of 80%, None if more than 1,000. Both are of one test by itself, uncorrected.
    """

    pair: Pair
    seeds: tuple[int, int]
    is_paired: bool
    difference: Estimate
    effect: Estimate
    p: float
    corrected: float
    power: float
    seeds_needed: int | None

    @property
    def survives(self) -> bool:
        """Whether the difference is more than chance, after the correction."""
        return self.corrected <= ALPHA

    def turned(self) -> PairTest:
        """The same with the labels exchanged."""
        pair = Pair(self.pair.env_id, self.pair.other, self.pair.label)
        return replace(
            self,
            pair=pair,
            seeds=self.seeds[::-1],
            difference=_negative(self.difference),
            effect=_negative(self.effect),
        )


@dataclass(frozen=True)
class PairTests:
    """The tests of a report. ``asked_for_pairs``: whether seeds are paired where they are shared"""

    tests: Sequence[PairTest]
    asked_for_pairs: bool = False

    @property
    def can_survive(self) -> bool:
        """Whether there are enough seeds for any difference, however large, to survive."""
        least = [smallest_p(*test.seeds, test.is_paired) for test in self.tests]
        return bool(least) and min(least) * len(least) <= ALPHA

    @property
    def fewest_seeds(self) -> int:
        """With how many seeds a side that would be so."""
        all_paired = all(test.is_paired for test in self.tests)
        return fewest_seeds(len(self.tests), all_paired)

    def with_other(self, other: str) -> list[PairTest]:
        """Those of every label beside ``other``."""
        return [
            test if test.pair.other == other else test.turned()
            for test in self.tests
            if other in test.pair[1:]
        ]

    def frame(self) -> pd.DataFrame:
        """One row per test, in the order of environments and labels."""
        rows = [
            {
                **test.pair._asdict(),
                "seeds": test.seeds[0],
                "other_seeds": test.seeds[1],
                "is_paired": test.is_paired,
                **_named("difference", test.difference),
                **_named("hedges_g", test.effect),
                "p": test.p,
                "p_holm": test.corrected,
                "survives": test.survives,
                "power": test.power,
                "seeds_for_80_percent": test.seeds_needed,
            }
            for test in self.tests
        ]
        return pd.DataFrame(rows).astype({"seeds_for_80_percent": "Int64"} if rows else {})


def pair_tests(
    of_runs: pd.DataFrame, pairs: Iterable[Pair], baseline: str | None = None, paired: bool = False
) -> PairTests:
    """Test each pair of labels with enough seeds.

    :param of_runs: as :func:`reports.data.scores.run_scores` returns it
    :param pairs: of labels that compare
    :param baseline: only the pairs with it are tested; None: all
    :param paired: pair the runs of those that share :data:`FEWEST_SEEDS` seeds or more, by these
        seeds alone
    """
    finals = {
        (str(env_id), str(label)): rows.set_index("seed")["final"].sort_index()
        for (env_id, label), rows in of_runs.groupby(["env_id", "label"], sort=True)
    }
    wanted = sorted(pair for pair in pairs if baseline is None or baseline in pair[1:])
    groups: dict[tuple[int, int, bool], dict[Pair, tuple[np.ndarray, np.ndarray]]] = {}
    for pair in wanted:
        x, y, is_paired = _sides(finals, pair, paired)
        if min(len(x), len(y)) >= FEWEST_SEEDS:
            groups.setdefault((len(x), len(y), is_paired), {})[pair] = (x, y)
    n_tests = sum(map(len, groups.values()))
    found = [
        test
        for (_, _, is_paired), of_size in groups.items()
        for test in _tests_of_one_size(of_size, is_paired, n_tests)
    ]
    corrected = holm([test.p for test in found])
    tests = [replace(test, corrected=float(p)) for test, p in zip(found, corrected, strict=True)]
    return PairTests(sorted(tests, key=lambda test: test.pair), paired)


def difference_interval(
    x: np.ndarray, y: np.ndarray, is_paired: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The difference of the means of X and Y with its 95% bootstrap interval, column by column.

    :param x: shape ``(n_seeds_of_x, n_columns)``; ``y`` likewise, each of two seeds or more
    :param is_paired: a row of X and of Y is one seed, and is resampled as one
    """
    if is_paired:
        return mean_interval(x - y)
    low, high = interval((x, y), lambda x, y: x.mean(axis=0) - y.mean(axis=0))
    return x.mean(axis=0) - y.mean(axis=0), low, high


def _sides(
    finals: Mapping[tuple[str, str], pd.Series[float]], pair: Pair, paired: bool
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The final returns of both, and whether they are paired."""
    x, y = finals[pair.env_id, pair.label], finals[pair.env_id, pair.other]
    shared = x.index.intersection(y.index)
    is_paired = paired and len(shared) >= FEWEST_SEEDS
    if is_paired:
        x, y = x[shared], y[shared]
    return x.to_numpy(np.float64), y.to_numpy(np.float64), is_paired


def _tests_of_one_size(
    of_pairs: Mapping[Pair, tuple[np.ndarray, np.ndarray]], is_paired: bool, n_tests: int
) -> list[PairTest]:
    """The tests of pairs with as many seeds, not yet corrected."""
    x, y = (np.column_stack([sides[i] for sides in of_pairs.values()]) for i in (0, 1))
    seeds = len(x), len(y)
    columns = zip(
        of_pairs,
        np.stack(difference_interval(x, y, is_paired)).T.tolist(),
        (hedges_g_of_pairs(x - y) if is_paired else hedges_g(x, y)).T.tolist(),
        permutation_p(x, y, is_paired, n_tests).tolist(),
        strict=True,
    )
    return [
        PairTest(
            pair,
            seeds,
            is_paired,
            _estimate(difference, min(seeds)),
            _estimate(effect, min(seeds)),
            p,
            math.nan,
            power(effect[0], *seeds, is_paired),
            seeds_needed(effect[0], is_paired),
        )
        for pair, difference, effect, p in columns
    ]


def _estimate(numbers: Sequence[float], seeds: int) -> Estimate:
    value, low, high = numbers
    return Estimate(value, low, high, seeds)


def _negative(estimate: Estimate) -> Estimate:
    return replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
