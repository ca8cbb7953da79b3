"""Tests of pairs: which ones, with which numbers, and when pairing by seed is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from benchmarks import statistics
from reports.data.effect_size import hedges_g, hedges_g_of_pairs
from reports.data.pair_tests import Pair, PairTests, difference_interval, pair_tests
from reports.data.power import power, seeds_needed
from reports.data.significance import ALPHA, holm, permutation_p
from reports.sections.how_to_read import MEASURED_COVERAGE

ENV = "CartPole-v1"


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 1_000)


def runs(finals: dict[str, Sequence[float]], first_seeds: dict[str, int] | None = None):
    """Scores of runs on one environment whose seeds count up from 0, or from others."""
    firsts = first_seeds or {}
    rows = [
        (ENV, label, firsts.get(label, 0) + i, final)
        for label, values in finals.items()
        for i, final in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["env_id", "label", "seed", "final"])


def every_pair(labels: str) -> list[Pair]:
    return [Pair(ENV, x, y) for x in labels for y in labels if x < y]


def family_of(finals: dict[str, Sequence[float]], **options) -> PairTests:
    return pair_tests(runs(finals), every_pair("".join(finals)), **options)


FINALS = {
    "a": [10.0, 12.0, 11.0, 15.0, 9.0],
    "b": [30.0, 33.0, 31.5, 36.0, 29.0],
    "c": [11.0, 10.5, 14.0, 13.0, 12.5, 9.5],
}


def test_each_pair_has_the_numbers_of_its_runs() -> None:
    found = family_of(FINALS)
    assert [test.pair for test in found.tests] == every_pair("abc")
    p_values = []
    for test in found.tests:
        x, y = (np.array(FINALS[label])[:, None] for label in test.pair[1:])
        assert test.seeds == (len(x), len(y))
        assert not test.is_paired
        assert test.difference.value == pytest.approx(x.mean() - y.mean())
        assert test.difference.low < test.difference.value < test.difference.high
        assert test.effect.numbers == pytest.approx(tuple(hedges_g(x, y)[:, 0]))
        assert test.p == pytest.approx(permutation_p(x, y)[0])
        assert test.power == pytest.approx(power(test.effect.value, *test.seeds))
        assert test.seeds_needed == seeds_needed(test.effect.value)
        p_values.append(test.p)
    assert [test.corrected for test in found.tests] == pytest.approx(list(holm(p_values)))
    assert [test.survives for test in found.tests] == [True, False, True]


def test_turned_around_it_is_the_same_test() -> None:
    found = family_of(FINALS)
    ours, theirs = found.with_other("c")
    assert [ours.pair, theirs.pair] == [Pair(ENV, "a", "c"), Pair(ENV, "b", "c")]
    (turned,) = [test for test in found.with_other("b") if test.pair.label == "c"]
    assert turned.seeds == (6, 5)
    value, low, high = theirs.difference.numbers
    assert turned.difference.numbers == (-value, -high, -low)
    assert turned.effect.value == -theirs.effect.value
    assert (turned.p, turned.corrected, turned.power) == (theirs.p, theirs.corrected, theirs.power)
    assert turned.turned() == theirs


def test_with_a_baseline_the_family_are_the_pairs_with_it() -> None:
    everything, some = family_of(FINALS), family_of(FINALS, baseline="b")
    assert [test.pair for test in some.tests] == [Pair(ENV, "a", "b"), Pair(ENV, "b", "c")]
    alike = {test.pair: test for test in everything.tests}
    for test in some.tests:
        assert test.p == alike[test.pair].p
        assert test.corrected < alike[test.pair].corrected


def test_too_few_seeds_are_not_tested_and_do_not_count() -> None:
    found = family_of({**FINALS, "d": [1.0, 2.0]})
    assert found == family_of(FINALS)
    assert family_of({"a": [1.0, 2.0], "b": [3.0, 4.0]}).tests == []
    assert family_of({"a": [1.0, 2.0], "b": [3.0, 4.0]}).frame().empty


@pytest.mark.parametrize(("n_seeds", "can_survive"), [(3, False), (4, False), (5, True)])
def test_whether_anything_can_survive_is_what_the_largest_difference_shows(
    n_seeds: int, can_survive: bool
) -> None:
    heights = {"a": 0.0, "b": 1_000.0, "c": 2_000.0}
    found = family_of({x: list(h + np.arange(n_seeds) ** 1.5) for x, h in heights.items()})
    assert found.can_survive is can_survive
    assert all(test.survives is can_survive for test in found.tests)
    assert found.fewest_seeds == 5


def test_pairs_are_the_runs_of_shared_seeds_alone() -> None:
    of_runs = runs({"a": [1.0, 2.0, 4.0, 8.0], "b": [7.0, 1.5, 2.5, 4.0]}, {"b": 1})
    (alone,) = pair_tests(of_runs, every_pair("ab")).tests
    (paired,) = pair_tests(of_runs, every_pair("ab"), paired=True).tests
    assert (alone.seeds, alone.is_paired) == ((4, 4), False)
    assert (paired.seeds, paired.is_paired) == ((3, 3), True)
    differences = np.array([[2.0 - 7.0], [4.0 - 1.5], [8.0 - 2.5]])
    assert paired.difference.value == pytest.approx(differences.mean())
    assert paired.effect.numbers == pytest.approx(tuple(hedges_g_of_pairs(differences)[:, 0]))
    assert paired.power == power(paired.effect.value, 3, 3, is_paired=True)
    assert paired.p == pytest.approx(permutation_p(differences, 0 * differences, True)[0])


def test_where_too_few_seeds_are_shared_runs_are_not_paired() -> None:
    of_runs = runs({"a": [1.0, 2.0, 4.0, 8.0], "b": [7.0, 1.5, 2.5, 4.0]}, {"b": 2})
    assert pair_tests(of_runs, every_pair("ab"), paired=True).tests == (
        pair_tests(of_runs, every_pair("ab")).tests
    )


def correlated(correlation: float, n_seeds: int, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal returns of two algorithms on the same seeds, 3 apart, of variance 4."""
    rng = np.random.default_rng(8)
    common, ours, theirs = rng.normal(size=(3, n_seeds, n_samples))
    share, rest = math.sqrt(correlation), math.sqrt(1 - correlation)
    return 2 * (share * common + rest * ours) + 3, 2 * (share * common + rest * theirs)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_pairing_is_right_with_and_without_a_correlation_and_gains_by_one(
    correlation: float,
) -> None:
    """Its intervals cover the truth as often as bootstrap intervals of so many seeds do at all."""
    n_seeds, n_samples = 10, 2_000
    x, y = correlated(correlation, n_seeds, n_samples)
    covered, width = {}, {}
    for is_paired in (False, True):
        _, low, high = difference_interval(x, y, is_paired)
        covered[is_paired] = np.mean((low <= 3) & (high >= 3))
        width[is_paired] = np.mean(high - low)
    stated = MEASURED_COVERAGE[n_seeds]
    error = 3 * math.sqrt(stated * (1 - stated) / n_samples)
    assert covered[True] == pytest.approx(stated, abs=error)
    assert width[True] / width[False] == pytest.approx(math.sqrt(1 - correlation), abs=0.05)
    if correlation:
        assert covered[False] > 0.99  # far wider than need be
    else:
        assert covered[False] > covered[True] - 0.01


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_of_equal_algorithms_a_paired_test_finds_five_percent(correlation: float) -> None:
    n_seeds, n_samples = 7, 2_000
    x, y = correlated(correlation, n_seeds, n_samples)
    level = 2 * (2**n_seeds // 40) / 2**n_seeds
    error = 3 * math.sqrt(level / n_samples)
    found = np.mean(permutation_p(x - 3, y, is_paired=True) <= ALPHA)
    assert found == pytest.approx(level, abs=error)
    # And a true difference more often than the test of all runs does, if there is a correlation.
    gains = [np.mean(permutation_p(x - 1, y, is_paired) <= ALPHA) for is_paired in (True, False)]
    assert bool(gains[0] > gains[1] + 0.3) == bool(correlation)


def test_the_interval_of_a_difference_is_that_of_students_test_where_seeds_are_many() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(200, 1)) + 1, 2 * rng.normal(size=(150, 1))
    value, low, high = difference_interval(x, y, is_paired=False)
    expected = scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert (low[0], high[0]) == pytest.approx((expected.low[0], expected.high[0]), abs=0.05)
    assert value[0] == x.mean() - y.mean()
