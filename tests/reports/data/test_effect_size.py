"""Hedges' g against its definition, and its interval against the noncentral t and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from reports.data.effect_size import hedges_g, hedges_g_of_pairs


def test_g_is_the_difference_in_standard_deviations_made_unbiased() -> None:
    x, y = np.array([[5.0], [7.0], [9.0]]), np.array([[1.0], [2.0], [6.0], [3.0]])
    pooled = math.sqrt((2 * np.var(x, ddof=1) + 3 * np.var(y, ddof=1)) / 5)
    factor = math.gamma(2.5) / (math.sqrt(2.5) * math.gamma(2.0))
    assert hedges_g(x, y)[0, 0] == pytest.approx(factor * (7 - 3) / pooled)
    assert factor == pytest.approx(1 - 3 / (4 * 5 - 1), abs=2e-3)  # Hedges' own approximation
    assert hedges_g(y, x)[:, 0] == pytest.approx(-hedges_g(x, y)[[0, 2, 1], 0])


@pytest.mark.parametrize("distance", [0.0, 0.7, 3.0, 12.0])
def test_the_ends_are_where_the_observed_t_is_at_the_edge(distance: float) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(4, 1)) + distance, rng.normal(size=(5, 1))
    t = scipy.stats.ttest_ind(x, y).statistic[0]
    _, low, high = hedges_g(x, y)[:, 0]
    root = math.sqrt(4 * 5 / 9)
    assert scipy.stats.nct.sf(t, 7, low * root) == pytest.approx(0.025, abs=1e-4)
    assert scipy.stats.nct.cdf(t, 7, high * root) == pytest.approx(0.025, abs=1e-4)


@pytest.mark.parametrize("true", [0.0, 1.5])
def test_g_is_right_on_average_and_its_interval_covers_the_truth(true: float) -> None:
    rng = np.random.default_rng(5)
    n = 4_000
    x, y = 10 * rng.normal(size=(3, n)) + 10 * true, 10 * rng.normal(size=(3, n))
    g, low, high = hedges_g(x, y)
    assert g.mean() == pytest.approx(true, abs=4 * g.std() / math.sqrt(n))
    covered = np.mean((low <= true) & (true <= high))
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / n))


def test_of_pairs_it_is_the_mean_of_the_differences_by_their_deviation() -> None:
    rng = np.random.default_rng(6)
    n, true = 4_000, 1.0
    differences = 3 * rng.normal(size=(5, n)) + 3 * true
    g, low, high = hedges_g_of_pairs(differences)
    factor = math.gamma(2.0) / (math.sqrt(2.0) * math.gamma(1.5))
    deviations = differences.std(axis=0, ddof=1)
    assert g == pytest.approx(factor * differences.mean(axis=0) / deviations)
    covered = np.mean((low <= true) & (true <= high))
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / n))


def test_without_any_variation_there_is_no_effect_size() -> None:
    high, low = np.full((3, 1), 500.0), np.full((3, 1), 0.1 + 0.2)
    assert np.isnan(hedges_g(high, low)).all()
    assert np.isnan(hedges_g(high * (1 + 1e-15 * np.arange(3)[:, None]), low)).all()
    assert np.isnan(hedges_g_of_pairs(high)).all()


def test_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="two seeds or more, got 1"):
        hedges_g(np.zeros((1, 1)), np.zeros((3, 1)))
