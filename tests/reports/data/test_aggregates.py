"""Scores over all environments: by hand, and beside rliable's own functions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from rliable import library, metrics

from benchmarks.normalisation import load_scales
from benchmarks.statistics import Estimate
from reports.data import aggregates, runs, scores
from reports.data.aggregates import (
    REPETITIONS,
    NormalizedScores,
    aggregate_table,
    aggregate_values,
    group_of,
    improvement,
    iqm_difference,
    mean_difference,
    normalized_scores,
)
from tests.reports.conftest import RunFolders

Difference = Callable[[np.ndarray, np.ndarray], Estimate]

# Of benchmarks/normalisation.csv: random policy and reference.
CARTPOLE = (23.14, 475.0)
CHEETAH = (-272.20, 4800.0)


def normalised(value: float, scale: tuple[float, float]) -> float:
    return (value - scale[0]) / (scale[1] - scale[0])


def normalized(folders: RunFolders, allow_mixed: bool = False) -> NormalizedScores | None:
    evaluations = runs.load(folders.root, allow_mixed).evaluations
    return normalized_scores(evaluations, scores.run_scores(evaluations), load_scales())


@pytest.fixture
def two_tasks(folders: RunFolders) -> RunFolders:
    """npg with two seeds on both, ppo with a third one on CartPole-v1, trpo on one task alone."""
    for seed in range(2):
        folders.add("npg", "CartPole-v1", seed, [20, 100 * seed + 100])
        folders.add("npg", "HalfCheetah-v5", seed, [0, 1000 * seed + 1000], 400_000)
        folders.add("ppo", "CartPole-v1", seed, [20, 50 * seed + 50])
        folders.add("ppo", "HalfCheetah-v5", seed, [0, 500 * seed + 2000], 400_000)
        folders.add("trpo", "CartPole-v1", seed, [20, 300])
        folders.add("npg", "Own-v0", seed, [0, 1])
    folders.add("ppo", "CartPole-v1", 2, [20, 500])
    return folders


def test_matrices_hold_normalised_final_returns(two_tasks: RunFolders) -> None:
    found = normalized(two_tasks)

    assert found is not None
    assert found.env_ids == ["CartPole-v1", "HalfCheetah-v5"]
    np.testing.assert_allclose(
        found.finals["npg"],
        [
            [normalised(100, CARTPOLE), normalised(1000, CHEETAH)],
            [normalised(200, CARTPOLE), normalised(2000, CHEETAH)],
        ],
    )
    # The third seed has no counterpart on the other task.
    assert found.finals["ppo"][:, 0].tolist() == pytest.approx(
        [normalised(50, CARTPOLE), normalised(100, CARTPOLE)]
    )
    assert found.surplus == {"ppo": 1}
    assert found.partial == ["trpo"]
    assert found.unshared == []
    assert found.without_scale == ["Own-v0"]


def test_curves_are_at_common_shares_of_the_budgets(two_tasks: RunFolders) -> None:
    found = normalized(two_tasks)

    assert found is not None
    assert found.shares.tolist() == [0.0, 1.0]
    assert found.curves["npg"].shape == (2, 2, 2)
    np.testing.assert_allclose(found.curves["npg"][..., -1], found.finals["npg"])
    np.testing.assert_allclose(
        found.curves["npg"][0, :, 0], [normalised(20, CARTPOLE), normalised(0, CHEETAH)]
    )


def test_whole_steps_make_shares_differ_in_the_last_digits_alone(folders: RunFolders) -> None:
    folders.add("npg", "CartPole-v1", 0, [1, 2, 3, 4], 50_000)  # steps 16,666 and 33,333
    folders.add("npg", "HalfCheetah-v5", 0, [1, 2, 3, 4], 10_000)

    found = normalized(folders)

    assert found is not None
    assert len(found.shares) == 4


def test_without_common_shares_there_are_no_curves(folders: RunFolders) -> None:
    folders.add("npg", "CartPole-v1", 0, [1, 2, 3])
    folders.add("npg", "HalfCheetah-v5", 0, [1, 2], 400_000)

    found = normalized(folders)

    assert found is not None
    assert found.curves == {}
    assert len(found.shares) == 0


@pytest.mark.parametrize(
    ("env_ids", "expected"),
    [
        ({"npg": "AB", "ppo": "AB"}, (["npg", "ppo"], ["A", "B"])),
        ({"npg": "ABCD", "ppo": "ABC", "trpo": "BCD"}, (["npg", "ppo", "trpo"], ["B", "C"])),
        # The one with the fewest environments is left out until two are shared.
        ({"npg": "ABC", "ppo": "ABC", "trpo": "A"}, (["npg", "ppo"], ["A", "B", "C"])),
        ({"npg": "ABC", "ppo": "BC", "trpo": "AD", "acer": "E"}, (["npg", "ppo"], ["B", "C"])),
        ({"npg": "AB", "ppo": "BC", "trpo": "CA"}, ([], [])),
        ({"npg": "A", "ppo": "A"}, ([], [])),
        ({"npg": "AB", "ppo": "CD"}, ([], [])),
        ({"npg": "AB"}, (["npg"], ["A", "B"])),
        ({"npg": "A"}, ([], [])),
        ({}, ([], [])),
    ],
)
def test_which_labels_are_aggregated_over_which_environments(
    env_ids: dict[str, str], expected: tuple[list[str], list[str]]
) -> None:
    one = np.ones(1)
    finals = {label: dict.fromkeys(of_label, one) for label, of_label in env_ids.items()}

    assert group_of(finals) == expected


def test_environments_that_not_all_share_are_left_out(folders: RunFolders) -> None:
    for env_id in ("CartPole-v1", "HalfCheetah-v5"):
        for algo in ("npg", "ppo"):
            folders.add(algo, env_id)
    folders.add("npg", "Hopper-v5")

    found = normalized(folders)

    assert found is not None
    assert found.env_ids == ["CartPole-v1", "HalfCheetah-v5"]
    assert (found.unshared, found.partial) == (["Hopper-v5"], [])
    assert list(found.scales) == found.env_ids


def test_one_environment_is_not_aggregated(folders: RunFolders) -> None:
    folders.add("npg", "CartPole-v1")
    folders.add("npg", "Own-v0")

    assert normalized(folders) is None


def test_aggregates_by_hand() -> None:
    """Eight scores: the interquartile mean is that of the middle four."""
    scores = np.array([[0.0, 0.4], [0.1, 0.5], [0.2, 0.6], [0.3, 1.5]])

    table = aggregate_table({"npg": scores}).set_index("aggregate")["value"]

    assert table["interquartile mean"] == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4)
    assert table["median"] == pytest.approx((0.15 + 0.75) / 2)
    assert table["mean"] == pytest.approx((0.15 + 0.75) / 2)
    # What is missing to 1, the score above it counting as 1.
    assert table["optimality gap"] == pytest.approx(1 - (0.6 + 0.4 + 0.5 + 0.6 + 1.0) / 8)


# The two matrices of rliable's own tests (tests/rliable/metrics_test.py of google-research/rliable)
# and what is stated there of them; the Atari scores of its README come with no package.
RLIABLES_X = np.array([[1.0, 2.0], [2.0, 2.0], [1.0, 1.0], [2.0, 1.0]])
RLIABLES_Y = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])


def test_aggregates_are_those_that_rliables_own_tests_state() -> None:
    found = aggregate_table({"x": RLIABLES_X, "y": RLIABLES_Y}).set_index(["label", "aggregate"])

    for aggregate in ("median", "mean", "interquartile mean"):
        assert found.loc[("x", aggregate), "value"] == 1.5
        assert found.loc[("y", aggregate), "value"] == 2.0
    assert improvement(RLIABLES_X, RLIABLES_Y).value == pytest.approx(1 / 3)


@pytest.mark.parametrize("shape", [(1, 2), (3, 1), (3, 3), (5, 10)])
def test_the_interquartile_mean_is_rliables(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).normal(size=shape)

    found = aggregates.iqm(scores)

    assert aggregate_values(scores)[0] == found.value
    assert found.value == pytest.approx(float(metrics.aggregate_iqm(scores)), rel=1e-12)


def test_an_environment_of_several_budgets_is_left_out(folders: RunFolders) -> None:
    for env_id in ("CartPole-v1", "HalfCheetah-v5", "Hopper-v5"):
        for algo in ("npg", "ppo"):
            folders.add(algo, env_id, n_timesteps=50_000)
    folders.add("npg", "Hopper-v5", n_timesteps=100_000)

    found = normalized(folders, allow_mixed=True)

    assert found is not None
    assert found.env_ids == ["CartPole-v1", "HalfCheetah-v5"]
    assert found.mixed == ["Hopper-v5"]
    assert found.partial == []
    assert list(found.finals) == ["npg", "ppo"]


def test_intervals_are_rliables() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))

    found = aggregate_table({"npg": scores}).set_index("aggregate")

    np.random.seed(0)  # noqa: NPY002
    _, expected = library.get_interval_estimates(
        {"npg": scores},
        aggregate_values,
        reps=REPETITIONS,
    )
    np.testing.assert_allclose(found[["low", "high"]].to_numpy().T, expected["npg"])


def test_one_seed_has_no_interval() -> None:
    scores = {"npg": np.array([[0.5, 0.7]]), "ppo": np.array([[0.1, 0.2]])}

    assert aggregate_table(scores)[["low", "high"]].isna().all(axis=None)
    assert aggregates.profiles(scores)[["low", "high"]].isna().all(axis=None)
    assert not improvement(scores["npg"], scores["ppo"]).has_interval
    curves = {label: values[..., None] for label, values in scores.items()}
    assert aggregates.efficiency(curves, np.array([1.0]))["low"].isna().all()


def test_the_probability_of_improvement_is_rliables() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, size=(5, 3)) / 4, rng.integers(0, 4, size=(4, 3)) / 4

    value, low, high = improvement(x, y).numbers

    assert value == pytest.approx(float(metrics.probability_of_improvement(x, y)))
    assert low < value < high


def test_the_probability_of_improvement_by_hand() -> None:
    """One environment, 2 x 2 pairs: two wins, one tie."""
    x, y = np.array([[2.0], [1.0]]), np.array([[1.0], [1.5]])

    assert improvement(x, y).value == pytest.approx(2.5 / 4)


def test_improvements_of_a_pair_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 2))

    assert improvement(a, b).value + improvement(b, a).value == pytest.approx(1.0)
    assert improvement(a, b).seeds == 4


@pytest.mark.parametrize("difference", [mean_difference, iqm_difference])
def test_differences_are_those_of_all_resamples(difference: Difference) -> None:
    """Two seeds and three have 4 x 27 resamples, which are enumerated; rliable draws 5,000."""
    ours, theirs = np.array([[1.0], [4.0]]), np.array([[0.0], [2.0], [9.0]])
    of_one = metrics.aggregate_iqm if difference is iqm_difference else np.mean
    values = [
        of_one(ours[list(a)]) - of_one(theirs[list(b)])
        for a in product(range(2), repeat=2)
        for b in product(range(3), repeat=3)
    ]

    found = difference(ours, theirs)

    assert found.value == pytest.approx(of_one(ours) - of_one(theirs))
    assert found.seeds == 2
    low, just_above, just_below, high = np.quantile(values, [0.02, 0.03, 0.97, 0.98])
    assert low <= found.low <= just_above
    assert just_below <= found.high <= high
    assert np.isnan(difference(ours[:1], theirs).low)


def test_profiles_count_runs_above_a_score() -> None:
    scores = np.array([[0.25, 0.75], [0.5, 2.0]])

    table = aggregates.profiles({"npg": scores})

    expected = library.create_performance_profile(
        {"npg": scores}, table["score"].to_numpy(), reps=10
    )[0]["npg"]
    np.testing.assert_allclose(table["value"], expected)
    assert table["score"].iloc[[0, -1]].tolist() == [0.0, 2.0]
    assert table["value"].iloc[[0, -1]].tolist() == [1.0, 0.0]
    assert (table["low"] <= table["value"]).all()


def test_efficiency_is_the_interquartile_mean_at_each_point() -> None:
    curves = np.random.default_rng(0).normal(size=(4, 3, 5))

    table = aggregates.efficiency({"npg": curves}, np.linspace(0, 1, 5))

    expected = [metrics.aggregate_iqm(curves[..., i]) for i in range(5)]
    np.testing.assert_allclose(table["value"], expected)
    assert (table["low"] < table["value"]).all()
    assert (table["high"] > table["value"]).all()
