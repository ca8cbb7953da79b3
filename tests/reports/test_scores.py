"""Scores against values computed by hand, intervals against rliable itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from rliable import library, metrics

from benchmarks import results
from reports.data import scores


def evaluations(returns: dict[tuple[str, str, int], list[float]]) -> pd.DataFrame:
    """A tidy frame from ``(env_id, label, seed)`` to the returns at steps 0, 100, 200, …"""
    return pd.DataFrame(
        [
            (*key, 100 * i, value)
            for key, values in returns.items()
            for i, value in enumerate(values)
        ],
        columns=["env_id", "label", "seed", "timesteps", "return_mean"],
    )


def runs_of(frame: pd.DataFrame) -> pd.DataFrame:
    last = frame.groupby(["env_id", "label", "seed"], as_index=False)["timesteps"].max()
    return last.assign(
        algo="npg",
        config="1a2b3c4d",
        protocol="",
        wall_seconds=50.0,
        evaluation_seconds=10.0,
        peak_memory_mib=np.nan,
    )


@pytest.mark.parametrize(
    ("n_evaluations", "window"), [(1, 1), (9, 1), (19, 1), (20, 2), (21, 2), (30, 3), (100, 10)]
)
def test_final_window_is_a_tenth_and_at_least_one(n_evaluations: int, window: int) -> None:
    assert results.final_window(n_evaluations) == window


def test_scores_of_one_run_by_hand() -> None:
    returns = np.arange(20.0)
    returns[5] = 100.0
    assert results.final_return(pd.Series(returns)) == (18 + 19) / 2
    assert scores.best_evaluation(np.arange(20.0), returns) == 100.0


def test_the_evaluation_before_training_is_not_the_best() -> None:
    steps = np.array([0.0, 100.0, 200.0])
    assert scores.best_evaluation(steps, np.array([50.0, 20.0, 30.0])) == 30.0
    # Steps say which one that is, and not the place.
    assert scores.best_evaluation(steps + 100, np.array([50.0, 20.0, 30.0])) == 50.0
    assert scores.best_evaluation(np.array([0.0]), np.array([7.0])) == 7.0  # there is no other
    frame = evaluations(
        {
            ("Ant-v5", "npg", 0): [900.0, 100.0, 300.0],
            ("Ant-v5", "npg", 1): [10.0, 500.0, 200.0],
        }
    )
    assert scores.run_scores(frame)["best"].tolist() == [300.0, 500.0]
    assert scores.score_table(runs_of(frame), frame)["best_mean"].tolist() == [400.0]


def test_score_table_by_hand() -> None:
    frame = evaluations(
        {
            ("CartPole-v1", "npg", 0): [10.0, 50.0, 30.0],
            ("CartPole-v1", "npg", 1): [20.0, 40.0, 60.0],
        }
    )
    row = scores.score_table(runs_of(frame), frame).iloc[0]
    assert (row["final_mean"], row["best_mean"]) == (45.0, 55.0)  # (30+60)/2 and (50+60)/2
    # Two seeds: a resample is (30, 30) or (60, 60) a quarter of the time each.
    assert (row["final_low"], row["final_high"]) == (30.0, 60.0)
    assert (row["best_low"], row["best_high"]) == (50.0, 60.0)
    assert (row["seeds"], row["timesteps"], row["wall_seconds"]) == (2, 200, 60.0)
    # The trapezoids 100 x 30 + 100 x 40 and 100 x 30 + 100 x 50, over 200 steps; 35 and 40.
    assert (row["area_mean"], row["area_low"], row["area_high"]) == (37.5, 35.0, 40.0)
    assert np.isnan(row["peak_memory_mib"])
    assert row["steps_per_second"] == 200 / 50  # of training, without the evaluations' 10 s


def test_evaluations_need_not_come_in_order() -> None:
    frame = evaluations({("CartPole-v1", "npg", 0): [1.0, 2.0, 3.0]})
    shuffled = frame.iloc[[2, 0, 1]]
    assert scores.run_scores(shuffled)["final"].tolist() == [3.0]


def test_peak_memory_is_the_median_of_those_that_are_known() -> None:
    frame = evaluations({("CartPole-v1", "npg", seed): [10.0, 50.0] for seed in range(4)})
    runs = runs_of(frame).assign(peak_memory_mib=[300.0, 900.0, np.nan, 310.0])
    assert scores.score_table(runs, frame)["peak_memory_mib"].tolist() == [310.0]


def test_area_counts_steps_and_not_evaluations() -> None:
    steps = np.array([0.0, 100.0, 400.0])
    returns = np.array([0.0, 10.0, 40.0])
    # (100 x 5 + 300 x 25) / 400
    assert scores.area_under_curve(steps, returns) == 20.0
    assert scores.area_under_curve(10 * steps, returns) == 20.0
    assert scores.area_under_curve(steps, np.full(3, 7.0)) == 7.0
    assert scores.area_under_curve(np.array([0.0]), np.array([7.0])) == 7.0


def test_interval_equals_a_direct_call_of_rliable() -> None:
    values = np.random.default_rng(3).normal(size=(5, 1))
    mean, low, high = scores.mean_interval(values)
    np.random.seed(0)  # noqa: NPY002 - where rliable draws from
    points, intervals = library.get_interval_estimates(
        {"a": values}, lambda sample: sample.mean(axis=0), reps=scores.REPETITIONS
    )
    np.testing.assert_array_equal(mean, points["a"])
    np.testing.assert_allclose(np.stack([low, high]), intervals["a"], rtol=1e-12)


def test_intervals_of_many_columns_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_COLUMNS_AT_ONCE", 3)
    values = np.random.default_rng(3).normal(size=(5, 7))
    together = np.stack(scores.mean_interval(values))
    each = [np.stack(scores.mean_interval(values[:, [i]])) for i in range(7)]
    np.testing.assert_allclose(together, np.concatenate(each, axis=1), rtol=1e-12)


def test_intervals_of_groups_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=shape) for shape in [(4, 2), (3, 1), (1, 2), (4, 3), (3, 4)]]
    for values, found in zip(groups, scores.mean_intervals(groups), strict=True):
        np.testing.assert_allclose(found, np.stack(scores.mean_interval(values)), rtol=1e-12)
    assert scores.mean_intervals([]) == []


def test_interval_neither_depends_on_numpys_global_state_nor_changes_it() -> None:
    values = np.random.default_rng(3).normal(size=(7, 2))
    np.random.seed(5)  # noqa: NPY002
    first = scores.mean_interval(values)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert after == np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(first, scores.mean_interval(values))


def test_one_seed_has_no_interval() -> None:
    mean, low, high = scores.mean_interval(np.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(mean, [3.0, 4.0])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 2)), np.array([[1.0], [np.nan]])])
def test_values_that_have_no_mean_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values must"):
        scores.mean_interval(values)


def test_learning_curve_is_the_mean_at_each_step() -> None:
    frame = evaluations(
        {
            ("CartPole-v1", "npg", 0): [10.0, 50.0],
            ("CartPole-v1", "npg", 1): [20.0, 40.0],
            ("CartPole-v1", "ppo", 0): [5.0, 6.0],
        }
    )
    curves = scores.learning_curves(frame).set_index(["label", "timesteps"])
    assert curves.loc["npg", "mean"].tolist() == [15.0, 45.0]
    assert curves.loc["npg", "low"].tolist() == [10.0, 40.0]
    assert curves.loc["npg", "high"].tolist() == [20.0, 50.0]
    assert curves.loc["ppo", "low"].isna().all()
    assert curves.groupby("label")["seeds"].first().to_dict() == {"npg": 2, "ppo": 1}


def with_seconds(seconds: dict[int, list[float]]) -> pd.DataFrame:
    """Seeds of one label with the returns 0, 10, 20, ... at these seconds."""
    frame = evaluations(
        {("CartPole-v1", "npg", s): [10.0 * i for i in range(len(t))] for s, t in seconds.items()}
    )
    return frame.assign(wall_seconds=np.concatenate([seconds[s] for s in seconds]))


def test_curves_against_time_are_interpolated_up_to_the_first_seeds_end() -> None:
    frame = with_seconds({0: [0.0, 2.0, 4.0], 1: [0.0, 1.0, 8.0]})
    curve = scores.wall_time_curves(frame.sample(frac=1, random_state=0))
    assert curve["seconds"].tolist() == [0.0, 2.0, 4.0]
    # Seed 0: 0, 10, 20; seed 1 goes from 10 to 20 between seconds 1 and 8.
    other = [0.0, 10 + 10 / 7, 10 + 30 / 7]
    np.testing.assert_allclose(curve["mean"], [0, (10 + other[1]) / 2, (20 + other[2]) / 2])
    np.testing.assert_allclose(curve["low"], [0, 10, other[2]])
    np.testing.assert_allclose(curve["high"], [0, other[1], 20])
    assert set(curve["seeds"]) == {2}


def test_without_its_seconds_a_label_has_no_curve_against_time() -> None:
    curve = scores.wall_time_curves(with_seconds({0: [0.0, 2.0, 4.0], 1: [0.0, np.nan, 8.0]}))
    assert curve.empty
    assert "seconds" in curve.columns


def test_improvement_is_the_share_of_pairs_and_rliables() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 5, size=(5, 6)), rng.integers(0, 4, size=(4, 6))  # ties are many
    shares = scores.improvement(x, y)
    for i in range(6):
        pairs = [(a > b) + 0.5 * (a == b) for a in x[:, i] for b in y[:, i]]
        assert shares[i] == sum(pairs) / len(pairs)
        assert shares[i] == pytest.approx(
            metrics.probability_of_improvement(x[:, [i]], y[:, [i]]), abs=1e-12
        )


def test_intervals_of_improvement_are_those_of_an_independent_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.5, 3, size=(12, 2)), rng.normal(0, 1, size=(8, 2))
    probability, low, high = scores.improvement_interval(x, y)
    np.testing.assert_array_equal(probability, scores.improvement(x, y))
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
        patch.setattr(scores, "REPETITIONS", 500)
        _, low, high = scores.improvement_interval(x, y)
    np.testing.assert_allclose(np.stack([low, high]), expected["xy"], atol=1e-12)


def test_intervals_of_many_pairs_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "REPETITIONS", 200)
    monkeypatch.setattr(scores, "_COLUMNS_AT_ONCE", 3)
    rng = np.random.default_rng(3)
    sizes = [(4, 3), (2, 5), (4, 3), (1, 3), (3, 4), (4, 3)]
    pairs = [(rng.normal(size=(n, 2)), rng.normal(size=(m, 2))) for n, m in sizes]
    for (x, y), found in zip(pairs, scores.improvement_intervals(pairs), strict=True):
        np.testing.assert_array_equal(found, np.stack(scores.improvement_interval(x, y)))
    assert np.isnan(scores.improvement_intervals(pairs)[3][1:]).all()
    assert scores.improvement_intervals([]) == []


def steps_of(returns: dict[int, list[float]], threshold: float) -> dict[str, float]:
    """The only row for seeds of one label, evaluated every 100 steps."""
    frame = evaluations({("CartPole-v1", "npg", seed): row for seed, row in returns.items()})
    (row,) = scores.steps_to_threshold(frame, {"CartPole-v1": threshold}).to_dict("records")
    assert (row["env_id"], row["label"], row["threshold"]) == ("CartPole-v1", "npg", threshold)
    return row


def test_steps_to_a_threshold_that_all_seeds_reach() -> None:
    # Seeds 0, 1 and 2 first reach 10 at steps 100, 300 and 200; seed 0 falls below it again.
    returns = {0: [0.0, 11.0, 9.0, 9.0], 1: [0.0, 1.0, 2.0, 12.0], 2: [0.0, 1.0, 10.5, 11.0]}
    row = steps_of(returns, 10.0)
    assert (row["seeds"], row["reached"]) == (3, 3)
    assert (row["median"], row["lowest"], row["highest"]) == (200, 100, 300)
    assert (row["budget"], row["spacing"]) == (300, 100)


def test_seeds_that_never_reach_a_threshold_count_as_infinitely_many_steps() -> None:
    reached, never = [0.0, 20.0, 20.0], [0.0, 5.0, 5.0]
    row = steps_of({0: reached, 1: never, 2: reached}, 10.0)
    assert (row["seeds"], row["reached"]) == (3, 2)
    assert (row["median"], row["lowest"], row["highest"]) == (100, 100, np.inf)
    row = steps_of({0: reached, 1: never}, 10.0)  # the mean of 100 and infinity
    assert (row["median"], row["lowest"], row["highest"]) == (np.inf, 100, np.inf)


def test_steps_to_a_threshold_that_no_seed_reaches() -> None:
    row = steps_of({0: [0.0, 5.0, 5.0], 1: [0.0, 9.9, 9.0]}, 10.0)
    assert (row["seeds"], row["reached"], row["budget"]) == (2, 0, 200)
    assert row["median"] == row["lowest"] == row["highest"] == np.inf


@pytest.mark.parametrize("threshold", [475.0, -85.0, 0.0])
def test_a_threshold_that_is_exactly_met_is_reached(threshold: float) -> None:
    below = np.nextafter(threshold, -np.inf)
    row = steps_of({0: [below, below, threshold]}, threshold)
    assert (row["median"], row["reached"]) == (200, 1)


def test_a_threshold_that_is_met_before_training_takes_no_steps() -> None:
    assert steps_of({0: [10.0, 0.0]}, 10.0)["median"] == 0


def test_seeds_may_be_evaluated_at_different_steps_and_in_any_order() -> None:
    frame = pd.DataFrame(
        [
            ("CartPole-v1", "npg", 0, 300, 12.0),
            ("CartPole-v1", "npg", 0, 0, 0.0),
            ("CartPole-v1", "npg", 0, 130, 11.0),
            ("CartPole-v1", "npg", 1, 250, 10.0),
            ("CartPole-v1", "npg", 1, 0, 0.0),
            ("CartPole-v1", "npg", 1, 50, 9.0),
        ],
        columns=["env_id", "label", "seed", "timesteps", "return_mean"],
    )
    row = scores.steps_to_threshold(frame, {"CartPole-v1": 10.0}).iloc[0]
    assert (row["median"], row["lowest"], row["highest"]) == (190, 130, 250)  # (130 + 250) / 2
    # Seed 1 was evaluated up to step 250 only, and not between 50 and 250.
    assert (row["budget"], row["spacing"]) == (250, 200)


def test_steps_to_a_threshold_are_apart_for_environments_and_labels() -> None:
    frame = evaluations(
        {
            ("Acrobot-v1", "npg", 0): [-500.0, -85.0],
            ("CartPole-v1", "npg", 0): [0.0, 500.0],
            ("CartPole-v1", "ppo", 0): [500.0, 0.0],
            ("Hopper-v5", "ppo", 0): [0.0, 5_000.0],
        }
    )
    table = scores.steps_to_threshold(frame, {"Acrobot-v1": -85.0, "CartPole-v1": 475.0})
    assert table[["env_id", "label", "median"]].to_numpy().tolist() == [
        ["Acrobot-v1", "npg", 100],
        ["CartPole-v1", "npg", 100],
        ["CartPole-v1", "ppo", 0],
    ]
    assert scores.steps_to_threshold(frame, {}).empty


@pytest.mark.parametrize(
    ("mean", "low", "high", "expected"),
    [
        ([9, 5, 1], [8, 4, 0], [10, 6, 2], [True, False, False]),
        ([9, 5, 1], [8, 4, 0], [10, 8, 2], [True, True, False]),  # touching is overlapping
        ([5, 5], [5, 5], [5, 5], [True, True]),
        ([9, 5, 4], [np.nan, 4, 3], [np.nan, 6, 3.5], [False, True, False]),
        ([9, 5], [np.nan, 4], [np.nan, 6], [False, False]),
        ([9], [8], [10], [False]),
    ],
)
def test_what_cannot_be_told_apart_from_the_best(
    mean: list[float], low: list[float], high: list[float], expected: list[bool]
) -> None:
    marked = scores.not_told_apart(np.array(mean), np.array(low), np.array(high))
    assert marked.tolist() == expected
