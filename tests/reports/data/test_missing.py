"""What has no result: what others have, and what the commands asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.data import runs
from reports.data.missing import AllFailed, Gap, Missing, all_failed, asked_by, missing_of
from reports.sections.missing import gap_text
from tests.reports.conftest import RunFolders

RUN = "python -m benchmarks run classic"


def missing(folders: RunFolders, **options: bool) -> Missing:
    return missing_of(runs.load(folders.root, **options))


@pytest.mark.parametrize(
    ("options", "algos", "env_ids", "seeds"),
    [
        ("", [], [], [0]),
        ("--seeds 3", [], [], [0, 1, 2]),
        ("--seeds=2 --first-seed=5 --algos=npg,ppo", ["npg", "ppo"], [], [5, 6]),
        ("--jobs 2 --first-seed 1 --envs 'A-v1, B-v0' --track ''", [], ["A-v1", "B-v0"], [1]),
        ("--seeds 3 --seeds 2", [], [], [0, 1]),
    ],
)
def test_what_a_command_asked_for(
    options: str, algos: list[str], env_ids: list[str], seeds: list[int]
) -> None:
    asked = asked_by(f"{RUN} {options}")
    assert asked is not None
    assert (asked.algos, asked.env_ids, list(asked.seeds)) == (algos, env_ids, seeds)


@pytest.mark.parametrize(
    "command",
    ["", "make demo", "python -m studies run", f"{RUN} --seeds many", f"{RUN} 'unclosed"],
)
def test_what_cannot_be_read_from_a_command(command: str) -> None:
    assert asked_by(command) is None


def test_a_seed_that_every_algorithm_lacks_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        for seed in (4, 6):
            command = f"{RUN} --algos npg,ppo --seeds 3 --first-seed 4"
            folders.add(algo, seed=seed, command=command)
    found = missing(folders)
    assert found.gaps == [Gap("npg", ["CartPole-v1"], (5,)), Gap("ppo", ["CartPole-v1"], (5,))]
    assert (found.is_uneven, found.is_unmet) == (False, True)


def test_commands_of_several_sweeps_add_up(folders: RunFolders) -> None:
    for seed in range(2):
        folders.add("npg", seed=seed, command=f"{RUN} --algos npg --seeds 2")
    folders.add("npg", seed=3, command=f"{RUN} --algos npg --seeds 2 --first-seed 2")
    assert missing(folders).gaps == [Gap("npg", ["CartPole-v1"], (2,))]


def test_what_a_command_named_and_nothing_has_is_missing(folders: RunFolders) -> None:
    command = f"{RUN} --algos npg,trpo --envs CartPole-v1,Acrobot-v1"
    folders.add("npg", command=command)
    found = missing(folders)
    assert found.gaps == [
        Gap("npg", ["Acrobot-v1"]),
        Gap("trpo", ["Acrobot-v1", "CartPole-v1"], only_asked=True),
    ]
    assert (found.is_uneven, found.is_unmet) == (False, True)


def test_a_command_counts_for_the_runs_of_others(folders: RunFolders) -> None:
    """The second command asked for one seed of ppo alone; the first for three of both."""
    for seed in range(3):
        folders.add("npg", seed=seed, command=f"{RUN} --algos npg,ppo --seeds 3")
    folders.add("ppo", seed=0, command=f"{RUN} --algos ppo")
    folders.add("npg", "Hopper-v5", seed=0, command=f"{RUN} --algos npg --envs Hopper-v5")
    folders.add("ppo", "Hopper-v5", seed=0, command=f"{RUN} --algos ppo --envs Hopper-v5")
    assert missing(folders).gaps == [Gap("ppo", ["CartPole-v1"], (1, 2))]


def test_of_several_configurations_each_is_what_its_own_commands_asked_for(
    folders: RunFolders,
) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, command=f"{RUN} --algos npg --seeds 3")
    for seed in range(3):
        command = f"{RUN} --algos npg --seeds 4 --set critic=adam"
        folders.add("npg", seed=seed, hyperparams={"critic": "adam"}, command=command)
    assert missing(folders).gaps == [Gap("npg (critic=adam)", ["CartPole-v1"], (3,))]


def test_with_everything_there_that_was_asked_for_nothing_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo, command=f"{RUN} --algos npg,ppo")
    assert missing(folders) == Missing([], False, False, True)


def test_where_nobody_knows_what_was_asked_for_no_more_is_said(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo, command="own_script.py")
    assert missing(folders) == Missing([], False, False, False)


def test_algorithms_of_which_every_run_failed(folders: RunFolders) -> None:
    for env_id in ("CartPole-v1", "HalfCheetah-v5"):
        for algo in ("npg", "ppo"):
            for seed in range(2):
                command = f"{RUN} --algos {algo} --seeds 2"
                folders.add(algo, env_id, seed, [20.0, 100.0 + seed], command=command)
        for seed in range(2):
            folders.add_failure("trpo", env_id, seed)
    folders.add("npg", "Hopper-v5", command=RUN)
    folders.add_failure("ppo", "Hopper-v5")
    folders.add_failure("ppo", "Hopper-v5", seed=1)
    folders.add_failure("ppo", "CartPole-v1", seed=2)
    assert all_failed(runs.load(folders.root)) == [
        AllFailed("ppo", "Hopper-v5", 2),
        AllFailed("trpo", None, 4),
    ]


def test_the_recorded_runs_of_this_project_are_what_their_commands_asked_for() -> None:
    """Their commands are what the suite writes, which this must be able to read."""
    data = runs.load(Path(__file__).parents[3] / "docs" / "results" / "runs")
    for run in data.runs.to_dict("records"):
        asked = asked_by(run["command"])
        assert asked is not None
        assert run["seed"] in asked.seeds
        assert run["algo"] in asked.algos or not asked.algos
        assert run["env_id"] in asked.env_ids or not asked.env_ids
    assert missing_of(data).is_asked_known


def test_of_many_seeds_the_first_are_listed(folders: RunFolders) -> None:
    folders.add("npg", command="python -m benchmarks run classic --seeds 1000")
    (gap,) = missing(folders).gaps
    assert len(gap.seeds) == 999
    assert gap_text(gap).endswith("49, 50 and 949 more")


def test_seeds_are_missed_within_a_budget_alone(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, n_timesteps=50_000)
    folders.add("ppo", seed=0, n_timesteps=100_000, command="python -m benchmarks run classic")
    folders.add("trpo", seed=0, n_timesteps=50_000)
    data = runs.load(folders.root, allow_mixed=True)
    assert missing_of(data).gaps == [Gap("trpo (50,000 steps)", ["CartPole-v1"], (1, 2))]
