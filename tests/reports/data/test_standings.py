"""How labels stand over several environments."""

from __future__ import annotations

import numpy as np
import pytest

from reports.data import aggregates
from reports.data.aggregates import improvement
from reports.data.context import Context, load
from reports.data.verdicts import AHEAD, LEVEL, TOO_FEW
from tests.reports.conftest import RunFolders


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "REPETITIONS", 200)


def add(folders: RunFolders, algo: str, finals: dict[str, float], seeds: int = 3) -> None:
    """Runs that end a little apart from each other."""
    for env_id, final in finals.items():
        for seed in range(seeds):
            folders.add(algo, env_id, seed, [0.0, final + seed / 10])


def context(folders: RunFolders, **options: str) -> Context:
    return load(folders.root, **options)  # type: ignore[arg-type]


def test_normalised_scores_are_ranked_by_their_interquartile_mean(folders: RunFolders) -> None:
    add(folders, "npg", {"CartPole-v1": 300, "HalfCheetah-v5": 3000})
    add(folders, "ppo", {"CartPole-v1": 400, "HalfCheetah-v5": 2000})
    add(folders, "trpo", {"CartPole-v1": 470, "HalfCheetah-v5": 4700}, seeds=2)
    add(folders, "acer", {"CartPole-v1": 480})
    found = context(folders).standings
    assert found.is_normalised
    assert found.env_ids == ["CartPole-v1", "HalfCheetah-v5"]
    iqms = {label: aggregates.iqm(scores).value for label, scores in found.group.items()}
    assert list(iqms) == ["npg", "ppo", "trpo"]
    first, second = sorted(["npg", "ppo"], key=lambda label: -iqms[label])
    # Two seeds allow no claim, and acer is not among those of the aggregates.
    assert found.ranking == [first, second, "trpo", "acer"]


def test_without_scales_labels_are_ranked_by_the_probability_of_improvement(
    folders: RunFolders,
) -> None:
    add(folders, "npg", {"Mine-v0": 3, "Yours-v0": 9_000})
    add(folders, "ppo", {"Mine-v0": 2, "Yours-v0": 8_000})
    add(folders, "trpo", {"Mine-v0": 1, "Yours-v0": 10_000})
    found = context(folders).standings
    assert not found.is_normalised
    assert found.env_ids == ["Mine-v0", "Yours-v0"]
    # Of its four comparisons npg wins three, trpo two and ppo one.
    assert found.ranking == ["npg", "trpo", "ppo"]
    verdict = found.overall("npg", "ppo")
    assert verdict is not None
    assert (verdict.word, verdict.improvement.value) == (AHEAD, 1.0)
    verdict = found.overall("npg", "trpo")
    assert verdict is not None
    # Always on the one and never on the other.
    assert (verdict.word, verdict.improvement.value) == (LEVEL, 0.5)


def test_a_pair_is_compared_where_both_have_run(folders: RunFolders) -> None:
    rng = np.random.default_rng(0)
    every = ["CartPole-v1", "HalfCheetah-v5", "Hopper-v5", "Mine-v0"]
    finals = {}
    for algo, env_ids in {"acer": every[:2], "npg": every, "ppo": every}.items():
        for env_id in env_ids:
            finals[algo, env_id] = rng.normal(100, 20, size=4)
            for seed, final in enumerate(finals[algo, env_id]):
                folders.add(algo, env_id, seed, [0.0, final])
    found = context(folders).standings
    assert found.env_ids == every[:2]
    assert found.shared("npg", "ppo") == every
    assert found.shared("npg", "acer") == every[:2]
    assert found.closest == ("npg", "ppo") or found.closest == ("ppo", "npg")
    ours, theirs = (
        np.column_stack([finals[algo, env_id] for env_id in every]) for algo in ("npg", "ppo")
    )
    pairwise = found.pairwise("npg", "ppo")
    assert pairwise is not None
    assert pairwise.improvement == improvement(ours, theirs)
    overall = found.overall("npg", "ppo")
    assert overall is not None
    assert overall.improvement == improvement(ours[:, :2], theirs[:, :2])
    assert overall.improvement != pairwise.improvement


def test_labels_that_share_one_environment_or_none_are_no_pair(folders: RunFolders) -> None:
    add(folders, "npg", {"Mine-v0": 3, "Yours-v0": 3})
    add(folders, "ppo", {"Yours-v0": 2, "Theirs-v0": 2})
    add(folders, "trpo", {"Other-v0": 1})
    made = context(folders)
    found = made.standings
    assert (found.group, found.env_ids, found.closest) == ({}, [], None)
    assert found.overall("npg", "ppo") is None
    assert found.pairwise("npg", "ppo") is None
    assert found.pairwise("npg", "trpo") is None
    assert found.ranking == ["npg", "ppo", "trpo"]
    assert made.compared_with == "ppo"


def test_the_others_are_compared_with_the_second_best_or_the_baseline(folders: RunFolders) -> None:
    add(folders, "npg", {"CartPole-v1": 400, "HalfCheetah-v5": 4000})
    add(folders, "ppo", {"CartPole-v1": 200, "HalfCheetah-v5": 2000})
    add(folders, "trpo", {"CartPole-v1": 300, "HalfCheetah-v5": 3000})
    assert context(folders).compared_with == "trpo"
    assert context(folders, baseline="ppo").compared_with == "ppo"


def test_two_seeds_are_too_few_over_several_environments_too(folders: RunFolders) -> None:
    add(folders, "npg", {"CartPole-v1": 400, "HalfCheetah-v5": 4000})
    add(folders, "ppo", {"CartPole-v1": 200, "HalfCheetah-v5": 2000}, seeds=2)
    verdict = context(folders).standings.overall("npg", "ppo")
    assert verdict is not None
    assert (verdict.word, verdict.improvement.value) == (TOO_FEW, 1.0)


def test_one_algorithm_is_compared_with_none(folders: RunFolders) -> None:
    add(folders, "npg", {"CartPole-v1": 400, "HalfCheetah-v5": 4000})
    made = context(folders)
    assert made.standings.ranking == ["npg"]
    assert made.compared_with is None
