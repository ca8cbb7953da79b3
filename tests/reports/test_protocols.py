"""Budgets and evaluation protocols tell runs of one environment apart, where they differ."""

from __future__ import annotations

import pytest

from reports.data import runs
from reports.data.missing import missing_of
from reports.data.protocols import with_protocol
from tests.reports.conftest import EVALUATION, RunFolders


def labels(folders: RunFolders) -> list[tuple[str, str]]:
    frame = runs.load(folders.root, allow_mixed=True).runs
    return sorted(zip(frame["env_id"], frame["label"], strict=True))


def test_labels_say_what_differs_where_it_differs(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    folders.add("ppo", n_timesteps=50_000)
    folders.add("npg", "Hopper-v5", n_timesteps=500_000)
    folders.add("npg", "Acrobot-v1", evaluation={**EVALUATION, "episodes": 5})
    folders.add("ppo", "Acrobot-v1")
    assert labels(folders) == [
        ("Acrobot-v1", "npg (5 episodes per evaluation)"),
        ("Acrobot-v1", "ppo (10 episodes per evaluation)"),
        ("CartPole-v1", "npg (100,000 steps)"),
        ("CartPole-v1", "npg (50,000 steps)"),
        ("CartPole-v1", "ppo (50,000 steps)"),
        ("Hopper-v5", "npg"),
    ]
    data = runs.load(folders.root, allow_mixed=True)
    assert data.mixed == ["Acrobot-v1", "CartPole-v1"]
    by_label = data.evaluations.groupby(["env_id", "label"])["protocol"].first()
    assert by_label["CartPole-v1", "ppo (50,000 steps)"] == "50,000 steps"
    assert by_label["Hopper-v5", "npg"] == ""


def test_variants_are_told_apart_within_a_budget(folders: RunFolders) -> None:
    for critic in ("adam", "gauss_newton"):
        folders.add("npg", n_timesteps=50_000, hyperparams={"critic": critic})
    folders.add("npg", n_timesteps=100_000, hyperparams={"critic": "adam"})
    assert [label for _, label in labels(folders)] == [
        "npg (100,000 steps)",
        "npg (critic=adam, 50,000 steps)",
        "npg (critic=gauss_newton, 50,000 steps)",
    ]


def test_seeds_are_missed_within_a_budget_alone(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, n_timesteps=50_000)
    folders.add("ppo", seed=0, n_timesteps=100_000, command="python -m benchmarks run classic")
    folders.add("trpo", seed=0, n_timesteps=50_000)
    data = runs.load(folders.root, allow_mixed=True)
    assert missing_of(data).lines == [
        "trpo (50,000 steps) on CartPole-v1: no result for seeds 1, 2"
    ]


@pytest.mark.parametrize(
    ("label", "protocol", "expected"),
    [
        ("npg", "", "npg"),
        ("npg", "5 steps", "npg (5 steps)"),
        ("npg (critic=adam)", "5 steps", "npg (critic=adam, 5 steps)"),
    ],
)
def test_a_label_with_its_protocol(label: str, protocol: str, expected: str) -> None:
    assert with_protocol(label, protocol) == expected
