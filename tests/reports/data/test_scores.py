"""Scores of runs, curves and thresholds against values computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.data import scores


def evaluations(returns: dict[tuple[str, str, int], list[float]]) -> pd.DataFrame:
    """A tidy frame from ``(env_id, label, seed)`` to the returns at steps 0, 100, 200, …"""
    frame = pd.DataFrame(
        [
            (*key, 100 * i, value)
            for key, values in returns.items()
            for i, value in enumerate(values)
        ],
        columns=["env_id", "label", "seed", "timesteps", "return_mean"],
    )
    return frame.assign(protocol="")


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


def test_the_evaluation_before_training_is_not_the_best() -> None:
    frame = evaluations(
        {
            ("Ant-v5", "npg", 0): [900.0, 100.0, 300.0],
            ("Ant-v5", "npg", 1): [10.0, 500.0, 200.0],
        }
    )
    assert scores.run_scores(frame)["best"].tolist() == [300.0, 500.0]
    assert scores.score_table(runs_of(frame), scores.run_scores(frame))["best_mean"].tolist() == [
        400.0
    ]


def test_score_table_by_hand() -> None:
    frame = evaluations(
        {
            ("CartPole-v1", "npg", 0): [10.0, 50.0, 30.0],
            ("CartPole-v1", "npg", 1): [20.0, 40.0, 60.0],
        }
    )
    row = scores.score_table(runs_of(frame), scores.run_scores(frame)).iloc[0]
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
    assert scores.score_table(runs, scores.run_scores(frame))["peak_memory_mib"].tolist() == [310.0]


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


def test_smoothed_curves_are_centred_means_and_their_ends_stay() -> None:
    returns = [0.0, 10.0, 50.0, 20.0, 30.0, 100.0]
    frame = evaluations(
        {("CartPole-v1", "npg", seed): [seed + x for x in returns] for seed in (0, 1_000)}
    )
    smooth = scores.smoothed(frame.sample(frac=1, random_state=0), 5)
    for seed, run in smooth.groupby("seed"):
        expected = [seed + value for value in (0.0, 20.0, 22.0, 42.0, 50.0, 100.0)]
        assert run["return_mean"].tolist() == pytest.approx(expected)
    assert scores.smoothed(frame, 1) is frame
    straight = evaluations({("CartPole-v1", "npg", 0): list(map(float, range(9)))})
    assert scores.smoothed(straight, 7)["return_mean"].tolist() == pytest.approx(range(9))
