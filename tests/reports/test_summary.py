"""The summary says what the data shows, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from reports import aggregates, document, runs, scores
from reports.summary import summary
from tests.reports.conftest import RunFolders


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "REPETITIONS", 200)
    monkeypatch.setattr(aggregates, "REPETITIONS", 200)


def lines(folders: RunFolders, baseline: str | None = None) -> list[str]:
    data = runs.load(folders.root)
    table = scores.score_table(data.runs, data.evaluations)
    return summary(table, aggregates.matrices(data.evaluations), baseline)


def add(
    folders: RunFolders,
    algo: str,
    cartpole: float,
    cheetah: float,
    seeds: int = 5,
    noise: float = 1,
) -> None:
    rng = np.random.default_rng(sum(map(ord, algo)))
    for seed in range(seeds):
        shift = noise * rng.normal()
        folders.add(algo, "CartPole-v1", seed, [20, cartpole + shift])
        folders.add(algo, "HalfCheetah-v5", seed, [0, cheetah + 10 * shift], 400_000)


def test_a_clear_winner_is_called_better(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)

    first, sure, loses, speed = lines(folders)

    assert first.startswith("**Highest over all: npg**, with an interquartile mean of 0.84 over 2")
    assert "then ppo (0.42)" in first
    assert "above one of ppo with probability 1.00 (95% interval 1.00 to 1.00): npg is bet" in sure
    assert loses == "On no environment is another one ahead of npg, beyond the intervals."
    # 50,000 and 400,000 steps in 61 seconds each.
    assert "npg 3,689 and ppo 3,689" in speed
    assert "5 seeds each" in speed


def test_what_may_be_chance_is_called_that(folders: RunFolders) -> None:
    add(folders, "npg", 201, 2010, noise=60)
    add(folders, "ppo", 200, 2000, noise=60)

    sure, *rest = lines(folders)[1:]

    assert sure.endswith("that may be chance.")
    assert any("cannot be told apart from others" in line for line in rest)
    assert not any("better" in line for line in rest)


def test_what_is_level_is_called_level(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        for seed in range(3):
            folders.add(algo, "CartPole-v1", seed, [20, 500])
            folders.add(algo, "HalfCheetah-v5", seed, [0, 4800], 400_000)

    first, sure, *_ = lines(folders)

    assert first.startswith("**Highest over all: npg and ppo**")
    assert "; then" not in first
    assert sure == "The runs of npg and ppo end level."


def test_as_often_ahead_as_behind_is_not_called_level(folders: RunFolders) -> None:
    add(folders, "npg", 480, 1500)
    add(folders, "ppo", 100, 2000)

    assert lines(folders)[1] == (
        "A run of npg ends above one of ppo with probability 0.50: it is ahead on as many "
        "environments as it is behind on."
    )


def test_the_interquartile_mean_is_explained_where_it_is_named(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)

    assert "the mean over the middle half of all runs' final returns" in lines(folders)[0]


def test_where_it_loses_is_said(folders: RunFolders) -> None:
    add(folders, "npg", 480, 1500)
    add(folders, "ppo", 100, 2000)

    assert any(
        line == "npg loses on HalfCheetah-v5 (to ppo): there the intervals do not overlap."
        for line in lines(folders)
    )


def test_the_baseline_is_what_is_compared_with(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 300, 3000)
    add(folders, "a2c", 200, 2000)

    assert "above one of ppo" in lines(folders)[1]
    assert "above one of a2c" in lines(folders, "a2c")[1]
    with pytest.raises(runs.ReportError, match="--baseline: 'trpo' is not one of a2c, npg, ppo"):
        document.build(folders.root, folders.root.parent / "out", baseline="trpo")


def test_one_seed_makes_nothing_sure(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000, seeds=1)
    add(folders, "ppo", 300, 3000, seeds=1)

    assert "nothing is known of how sure that is" in lines(folders)[1]


def test_one_environment_is_summarised_by_itself(folders: RunFolders) -> None:
    for seed in range(2):
        folders.add("npg", seed=seed, returns=[20, 400])
        folders.add("ppo", seed=seed, returns=[20, 300])

    assert lines(folders) == [
        "CartPole-v1, final return: npg 400.0 and ppo 300.0. npg has the highest final return: its "
        "interval lies above every other one."
    ]


def test_of_those_that_end_level_it_is_said_who_learned_sooner(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", "CartPole-v1", seed, [20, 400 + seed, 500])
        folders.add("ppo", "CartPole-v1", seed, [20, 100 + seed, 500])
        folders.add("npg", "HalfCheetah-v5", seed, [0, 1000 + 100 * seed, 4000], 400_000)
        folders.add("ppo", "HalfCheetah-v5", seed, [0, 1050 + 100 * seed, 4000], 400_000)

    assert (
        "Of these learned soonest, by the area under the curve: on CartPole-v1 npg; on "
        "HalfCheetah-v5 ppo (not told apart from npg)."
    ) in lines(folders)
