"""What has no result is said: what others have, and what the commands asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports import document
from reports.data import runs
from reports.data.missing import Missing, all_failed, asked_by, missing_of
from tests.reports.conftest import RunFolders

RUN = "python -m benchmarks run classic"


def missing(folders: RunFolders, **options: bool) -> Missing:
    return missing_of(runs.load(folders.root, **options))


def report(folders: RunFolders) -> str:
    return document.build(folders.root, folders.root.parent / "report", formats=["md"]).read_text()


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
    assert found.lines == [
        "npg on CartPole-v1: no result for seed 5",
        "ppo on CartPole-v1: no result for seed 5",
    ]
    assert (found.is_uneven, found.is_unmet) == (False, True)
    text = report(folders)
    assert "**Incomplete:** not every run that was asked for is there; see [What is" in text
    assert "- npg on CartPole-v1: no result for seed 5" in text
    assert "Nothing: no run failed" not in text


def test_commands_of_several_sweeps_add_up(folders: RunFolders) -> None:
    for seed in range(2):
        folders.add("npg", seed=seed, command=f"{RUN} --algos npg --seeds 2")
    folders.add("npg", seed=3, command=f"{RUN} --algos npg --seeds 2 --first-seed 2")
    assert missing(folders).lines == ["npg on CartPole-v1: no result for seed 2"]


def test_what_a_command_named_and_nothing_has_is_missing(folders: RunFolders) -> None:
    command = f"{RUN} --algos npg,trpo --envs CartPole-v1,Acrobot-v1"
    folders.add("npg", command=command)
    found = missing(folders)
    assert found.lines == [
        "npg on Acrobot-v1: no run",
        "trpo on Acrobot-v1 and CartPole-v1: no run, though a command asked for it",
    ]
    assert (found.is_uneven, found.is_unmet) == (False, True)


def test_a_command_counts_for_the_runs_of_others(folders: RunFolders) -> None:
    """The second command asked for one seed of ppo alone; the first for three of both."""
    for seed in range(3):
        folders.add("npg", seed=seed, command=f"{RUN} --algos npg,ppo --seeds 3")
    folders.add("ppo", seed=0, command=f"{RUN} --algos ppo")
    folders.add("npg", "Hopper-v5", seed=0, command=f"{RUN} --algos npg --envs Hopper-v5")
    folders.add("ppo", "Hopper-v5", seed=0, command=f"{RUN} --algos ppo --envs Hopper-v5")
    assert missing(folders).lines == ["ppo on CartPole-v1: no result for seeds 1, 2"]


def test_of_several_configurations_each_is_what_its_own_commands_asked_for(
    folders: RunFolders,
) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, command=f"{RUN} --algos npg --seeds 3")
    for seed in range(3):
        command = f"{RUN} --algos npg --seeds 4 --set critic=adam"
        folders.add("npg", seed=seed, hyperparams={"critic": "adam"}, command=command)
    (line,) = missing(folders).lines
    assert line == "npg (critic=adam) on CartPole-v1: no result for seed 3"


def test_with_everything_there_that_was_asked_for_nothing_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo, command=f"{RUN} --algos npg,ppo")
    assert missing(folders) == Missing([], False, False, True)
    assert (
        "Nothing: no run failed, and no algorithm lacks a seed or an environment that another has, "
        "nor a seed that the commands asked for."
    ) in report(folders)


def test_where_nobody_knows_what_was_asked_for_no_more_is_said(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo, command="own_script.py")
    assert missing(folders) == Missing([], False, False, False)
    text = report(folders).partition("## What is missing")[2]
    assert text.strip() == (
        "As far as is known nothing: no run failed, and no algorithm lacks a seed or an "
        "environment that another has. What was asked for cannot be read from every command."
    )


def test_an_algorithm_of_which_every_run_failed_is_named_on_top(folders: RunFolders) -> None:
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
        "ppo on Hopper-v5: every run failed (2 runs)",
        "trpo: every run failed (4 runs)",
    ]
    opening, _, rest = report(folders).partition("## Summary")
    assert (
        "**trpo: every run failed (4 runs)**; see [What is missing](#what-is-missing)." in opening
    )
    assert (
        "\n- ppo on Hopper-v5: every run failed (2 runs) and trpo: every run failed (4 runs); see "
        "[What is missing](#what-is-missing).\n"
    ) in rest.partition("## Scores")[0]


def test_the_recorded_runs_of_this_project_are_what_their_commands_asked_for() -> None:
    """Their commands are what the suite writes, which this must be able to read."""
    data = runs.load(Path(__file__).parents[2] / "docs" / "results" / "runs")
    for run in data.runs.to_dict("records"):
        asked = asked_by(run["command"])
        assert asked is not None
        assert run["seed"] in asked.seeds
        assert run["algo"] in asked.algos or not asked.algos
        assert run["env_id"] in asked.env_ids or not asked.env_ids
    assert missing_of(data).is_asked_known


def test_of_many_seeds_the_first_are_listed(folders: RunFolders) -> None:
    folders.add("npg", command="python -m benchmarks run classic --seeds 1000")
    (line,) = missing(folders).lines
    assert line.endswith("49, 50 and 949 more")
