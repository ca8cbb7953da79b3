"""The statistics against values computed by hand, and against SciPy and rliable."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from rliable import library, metrics

from benchmarks import statistics
from benchmarks.statistics import Estimate, area_under_curve, interquartile_mean


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, benchmarks.statistics; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "scipy", "pandas", "rliable"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("n_evaluations", "window"), [(1, 1), (9, 1), (19, 1), (20, 2), (21, 2), (30, 3), (100, 10)]
)
def test_final_window_is_a_tenth_and_at_least_one(n_evaluations: int, window: int) -> None:
    assert statistics.final_window(n_evaluations) == window


def test_scores_of_one_run_by_hand() -> None:
    returns = np.arange(20.0)
    returns[5] = 100.0
    assert statistics.final_return(returns) == (18 + 19) / 2
    assert statistics.best_evaluation(np.arange(20.0), returns) == 100.0


def test_the_evaluation_before_training_is_not_the_best() -> None:
    steps = np.array([0.0, 100.0, 200.0])
    assert statistics.best_evaluation(steps, np.array([50.0, 20.0, 30.0])) == 30.0
    # The steps decide which one that is, not the position.
    assert statistics.best_evaluation(steps + 100, np.array([50.0, 20.0, 30.0])) == 50.0
    assert statistics.best_evaluation(np.array([0.0]), np.array([7.0])) == 7.0  # there is no other


@pytest.mark.parametrize(
    ("n_evaluations", "n_final"), [(1, 1), (9, 1), (19, 1), (20, 2), (21, 2), (41, 4)]
)
def test_the_final_return_is_the_mean_of_the_last_tenth(n_evaluations: int, n_final: int) -> None:
    returns = pd.Series(range(n_evaluations), dtype=float)
    expected = returns.tolist()[-n_final:][0] + (n_final - 1) / 2
    assert statistics.final_return(returns) == statistics.final_return(returns.tolist()) == expected


def test_area_counts_steps_and_not_evaluations() -> None:
    steps = np.array([0.0, 100.0, 400.0])
    returns = np.array([0.0, 10.0, 40.0])
    # (100 x 5 + 300 x 25) / 400
    assert statistics.area_under_curve(steps, returns) == 20.0
    assert statistics.area_under_curve(10 * steps, returns) == 20.0
    assert statistics.area_under_curve(steps, np.full(3, 7.0)) == 7.0
    assert statistics.area_under_curve(np.array([0.0]), np.array([7.0])) == 7.0


def test_the_area_of_evenly_spaced_points_is_their_mean_height() -> None:
    # Two trapezoids of one step each: (1 + 3) / 2 and (3 + 8) / 2.
    assert area_under_curve(np.arange(3), np.array([1.0, 3.0, 8.0])) == (2.0 + 5.5) / 2
    assert area_under_curve(np.arange(2), np.array([4.0, 4.0])) == 4.0
    assert area_under_curve(np.arange(1), np.array([7.5])) == 7.5


@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 3), (3, 2), (4, 5), (7, 4), (8, 1), (30, 9), (5, 6, 7)]
)
def test_the_interquartile_mean_is_scipys(shape: tuple[int, ...], axis: int | None) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    found = interquartile_mean(values, axis)
    expected = scipy.stats.trim_mean(values, 0.25, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert np.shape(found) == np.shape(expected)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 10, 30])
def test_the_interquartile_mean_is_rliables(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    mean = interquartile_mean(values.tolist())
    assert mean == pytest.approx(metrics.aggregate_iqm(values.reshape(n, 1)), rel=1e-12)


def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side() -> None:
    assert interquartile_mean([7.0, -1000.0, 3.0, 1000.0, 5.0]) == 5.0
    assert interquartile_mean([4.0, 1000.0, 2.0, -1000.0]) == 3.0
    # A quarter of three is less than one.
    assert interquartile_mean([1.0, 2.0, 9.0]) == 4.0


def test_interval_equals_a_direct_call_of_rliable() -> None:
    values = np.random.default_rng(3).normal(size=(5, 1))
    mean, low, high = statistics.mean_interval(values)
    np.random.seed(0)  # noqa: NPY002 - where rliable draws from
    points, intervals = library.get_interval_estimates(
        {"a": values}, lambda sample: sample.mean(axis=0), reps=statistics.REPETITIONS
    )
    np.testing.assert_array_equal(mean, points["a"])
    np.testing.assert_allclose(np.stack([low, high]), intervals["a"], rtol=1e-12)


def test_intervals_of_many_columns_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_COLUMNS_AT_ONCE", 3)
    values = np.random.default_rng(3).normal(size=(5, 7))
    together = np.stack(statistics.mean_interval(values))
    each = [np.stack(statistics.mean_interval(values[:, [i]])) for i in range(7)]
    np.testing.assert_allclose(together, np.concatenate(each, axis=1), rtol=1e-12)


def test_intervals_of_groups_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=shape) for shape in [(4, 2), (3, 1), (1, 2), (4, 3), (3, 4)]]
    for values, found in zip(groups, statistics.mean_intervals(groups), strict=True):
        np.testing.assert_allclose(found, np.stack(statistics.mean_interval(values)), rtol=1e-12)
    assert statistics.mean_intervals([]) == []


def test_interval_neither_depends_on_numpys_global_state_nor_changes_it() -> None:
    values = np.random.default_rng(3).normal(size=(7, 2))
    np.random.seed(5)  # noqa: NPY002
    first = statistics.mean_interval(values)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert after == np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(first, statistics.mean_interval(values))


def test_one_seed_has_no_interval() -> None:
    mean, low, high = statistics.mean_interval(np.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(mean, [3.0, 4.0])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 2)), np.array([[1.0], [np.nan]])])
def test_values_that_have_no_mean_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values must"):
        statistics.mean_interval(values)


def test_improvement_is_the_share_of_pairs_and_rliables() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 5, size=(5, 6)), rng.integers(0, 4, size=(4, 6))  # ties are many
    shares = statistics.improvement(x, y)
    for i in range(6):
        pairs = [(a > b) + 0.5 * (a == b) for a in x[:, i] for b in y[:, i]]
        assert shares[i] == sum(pairs) / len(pairs)
        assert shares[i] == pytest.approx(
            metrics.probability_of_improvement(x[:, [i]], y[:, [i]]), abs=1e-12
        )


def test_intervals_of_improvement_are_those_of_an_independent_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.5, 3, size=(12, 2)), rng.normal(0, 1, size=(8, 2))
    probability, low, high = statistics.improvement_interval(x, y)
    np.testing.assert_array_equal(probability, statistics.improvement(x, y))
    for i in range(2):
        expected = scipy.stats.bootstrap(
            (x[:, i], y[:, i]),
            lambda x, y, axis: np.mean(x[..., :, None] > y[..., None, :], axis=(-2, -1)),
            method="percentile",
            n_resamples=20_000,
            random_state=3,
        ).confidence_interval
        np.testing.assert_allclose([low[i], high[i]], expected, atol=0.04 * np.ptp(expected))


def test_intervals_of_improvement_are_rliables() -> None:
    """With ties, and one column as rliable resamples it."""
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 4, size=(5, 1)), rng.integers(0, 4, size=(7, 1))
    np.random.seed(0)  # noqa: NPY002 - where rliable draws from
    _, expected = library.get_interval_estimates(
        {"xy": [x, y]},
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        reps=500,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPETITIONS", 500)
        _, low, high = statistics.improvement_interval(x, y)
    np.testing.assert_allclose(np.stack([low, high]), expected["xy"], atol=1e-12)


def test_intervals_of_many_pairs_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)
    monkeypatch.setattr(statistics, "_COLUMNS_AT_ONCE", 3)
    rng = np.random.default_rng(3)
    sizes = [(4, 3), (2, 5), (4, 3), (1, 3), (3, 4), (4, 3)]
    pairs = [(rng.normal(size=(n, 2)), rng.normal(size=(m, 2))) for n, m in sizes]
    for (x, y), found in zip(pairs, statistics.improvement_intervals(pairs), strict=True):
        np.testing.assert_array_equal(found, np.stack(statistics.improvement_interval(x, y)))
    assert np.isnan(statistics.improvement_intervals(pairs)[3][1:]).all()
    assert statistics.improvement_intervals([]) == []


def test_an_estimate_decides_with_three_seeds_or_more() -> None:
    few, enough = Estimate(1.0, 0.5, 2.0, 2), Estimate(1.0, 0.5, 2.0, 3)
    assert (few.decides, few.is_positive) == (False, False)
    assert (enough.decides, enough.is_positive, enough.is_negative) == (True, True, False)
    assert Estimate(-1.0, -2.0, -0.5, 3).is_negative
    assert not Estimate(1.0, 0.0, 2.0, 3).is_positive
    assert not Estimate(1.0, 0.5, 2.0).decides  # of an unknown number of seeds


def test_an_estimate_of_one_seed_has_no_interval() -> None:
    single = Estimate(1.0, seeds=1)
    assert np.isnan([single.low, single.high]).all()
    assert not single.has_interval
    assert not single.has_no_width
    assert Estimate(0.5, 0.5, 0.5).has_no_width
    assert not Estimate(0.5, 0.4, 0.5).has_no_width
