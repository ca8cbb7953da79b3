"""Permutation tests by enumeration, their smallest p-values, and Holm's correction by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from reports.data.significance import (
    ALPHA,
    attained_level,
    fewest_seeds,
    holm,
    permutation_p,
    smallest_p,
)


def p_by_enumeration(x: np.ndarray, y: np.ndarray) -> float:
    """Over all ways to choose which runs are X's: twice the smaller of the two tails."""
    pooled, chosen = np.concatenate([x, y]), range(len(x) + len(y))
    differences = []
    for of_x in itertools.combinations(chosen, len(x)):
        of_y = [i for i in chosen if i not in of_x]
        differences.append(pooled[list(of_x)].mean() - pooled[of_y].mean())
    return two_sided(np.array(differences), x.mean() - y.mean())


def two_sided(differences: np.ndarray, observed: float) -> float:
    tails = np.mean(differences >= observed - 1e-9), np.mean(differences <= observed + 1e-9)
    return min(1.0, 2 * min(tails))


@pytest.mark.parametrize(("n_x", "n_y"), [(3, 3), (5, 5), (3, 6), (4, 2)])
def test_p_is_that_of_all_arrangements(n_x: int, n_y: int) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(n_x, 6)) + np.linspace(0, 3, 6), rng.normal(size=(n_y, 6))
    x[0, 0] = y[0, 0]  # a tie
    expected = [p_by_enumeration(x[:, i], y[:, i]) for i in range(6)]
    assert permutation_p(x, y).tolist() == pytest.approx(expected)


def test_p_of_pairs_is_that_of_all_signs() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 4)) + np.linspace(0, 2, 4), rng.normal(size=(6, 4))
    signs = np.array(list(itertools.product([1, -1], repeat=6)))
    flipped = signs @ (x - y) / 6
    expected = [two_sided(flipped[:, i], (x - y)[:, i].mean()) for i in range(4)]
    assert permutation_p(x, y, is_paired=True).tolist() == pytest.approx(expected)


def test_with_many_seeds_p_is_drawn_close_to_that_of_students_test_and_is_never_0() -> None:
    rng = np.random.default_rng(3)
    shifts = np.array([0.2, 0.7, 9.0])
    x, y = rng.normal(size=(15, 3)) + shifts, rng.normal(size=(15, 3))
    p_values = permutation_p(x, y)
    expected = scipy.stats.ttest_ind(x, y).pvalue
    assert p_values[:2].tolist() == pytest.approx(expected[:2], abs=0.015)
    assert p_values[2] == pytest.approx(2 / 20_001)
    assert permutation_p(x, y).tolist() == p_values.tolist()  # the same each time
    # A tenth of the corrected level of so many tests can be reached.
    assert permutation_p(x, y, n_tests=1_000)[2] <= ALPHA / 1_000


def test_runs_that_are_all_the_same_do_not_differ() -> None:
    x = np.full((3, 1), 500.0)
    assert permutation_p(x, x).tolist() == [1.0]
    assert permutation_p(x, x, is_paired=True).tolist() == [1.0]


@pytest.mark.parametrize(
    ("sizes", "expected"), [((3, 3, False), 0.1), ((5, 5, False), 2 / 252), ((5, 5, True), 2 / 32)]
)
def test_the_smallest_p_is_that_of_runs_all_above_the_others(
    sizes: tuple[int, int, bool], expected: float
) -> None:
    n_x, n_y, is_paired = sizes
    x, y = np.arange(n_x)[:, None] + 100.0, np.arange(n_y)[:, None] + 0.0
    assert smallest_p(*sizes) == pytest.approx(expected)
    assert permutation_p(x, y, is_paired)[0] == pytest.approx(expected)


@pytest.mark.parametrize("n_seeds", [3, 4, 5])
def test_the_attained_level_is_how_often_equal_runs_are_found_to_differ(n_seeds: int) -> None:
    """Over all rankings of their runs, for evenly spread returns without equal differences."""
    heights = np.sqrt(np.arange(2 * n_seeds) + 2.0)
    chosen = list(itertools.combinations(range(2 * n_seeds), n_seeds))
    x = heights[np.array(chosen)].T
    rest = [[i for i in range(2 * n_seeds) if i not in of_x] for of_x in chosen]
    y = heights[np.array(rest)].T
    found = np.mean(permutation_p(x, y) <= ALPHA)
    assert attained_level(n_seeds, n_seeds) == pytest.approx(found)


def test_the_attained_level_comes_close_to_five_percent_from_below() -> None:
    assert attained_level(3, 3) == 0.0
    assert attained_level(5, 5, is_paired=True) == 0.0
    levels = [attained_level(n, n) for n in range(4, 40)]
    assert all(0 < level <= ALPHA for level in levels)
    assert attained_level(2_000, 2_000) == pytest.approx(ALPHA)


@pytest.mark.parametrize(
    ("n_tests", "is_paired", "expected"),
    [(1, False, 4), (2, False, 5), (12, False, 6), (280, False, 8), (1, True, 6), (12, True, 9)],
)
def test_with_the_fewest_seeds_one_of_many_tests_can_survive(
    n_tests: int, is_paired: bool, expected: int
) -> None:
    assert fewest_seeds(n_tests, is_paired) == expected
    for n_seeds, can_survive in [(expected, True), (expected - 1, False)]:
        least = smallest_p(n_seeds, n_seeds, is_paired)
        corrected = holm([least] + [1.0] * (n_tests - 1))[0]
        assert bool(corrected <= ALPHA) == can_survive


def test_holms_correction_is_his() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    # In order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 no less than the one before.
    assert holm(p_values).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    many = np.random.default_rng(0).beta(0.3, 2, size=200)
    expected = multipletests(many, method="holm")[1]
    assert holm(list(many)).tolist() == pytest.approx(expected)


def test_holms_correction_keeps_false_alarms_below_five_percent() -> None:
    """Of families of ten independent true null hypotheses."""
    families = np.random.default_rng(0).uniform(size=(2_000, 10))
    alarms = np.mean([(holm(list(family)) <= ALPHA).any() for family in families])
    expected = 1 - (1 - ALPHA / 10) ** 10
    assert alarms == pytest.approx(expected, abs=3 * math.sqrt(expected / 2_000))
