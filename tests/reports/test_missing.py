"""What has no result is said: what others have, and what sweeps were asked for."""

from __future__ import annotations

from pathlib import Path

from benchmarks.archive import archive
from reports import document, runs
from reports.missing import Missing, all_failed, missing_of
from tests.reports.conftest import RunFolders


def missing(folders: RunFolders, **options: bool) -> Missing:
    return missing_of(runs.load(folders.root, **options))


def report(folders: RunFolders) -> str:
    return document.build(folders.root, folders.root.parent / "report", formats=["md"]).read_text()


def test_a_seed_that_every_algorithm_lacks_is_missing(folders: RunFolders) -> None:
    folders.ask(["npg", "ppo"], [4, 5, 6])
    for algo in ("npg", "ppo"):
        for seed in (4, 6):
            folders.add(algo, seed=seed)
    found = missing(folders)
    assert found.lines == [
        "npg on CartPole-v1: no result for seed 5",
        "ppo on CartPole-v1: no result for seed 5",
    ]
    assert (found.is_uneven, found.is_unmet, found.is_asked_known) == (False, True, True)
    text = report(folders)
    assert "**Incomplete:** not every run that was asked for is there; see [What is" in text
    assert "- npg on CartPole-v1: no result for seed 5" in text
    assert "Nothing: no run failed" not in text


def test_what_several_sweeps_were_asked_for_adds_up(folders: RunFolders) -> None:
    folders.ask(["npg"], [0, 1])
    folders.ask(["npg"], [2, 3])
    for seed in (0, 1, 3):
        folders.add("npg", seed=seed)
    assert missing(folders).lines == ["npg on CartPole-v1: no result for seed 2"]


def test_what_a_sweep_was_asked_for_and_nothing_has_is_missing(folders: RunFolders) -> None:
    folders.ask(["npg", "trpo"], [0], ["CartPole-v1", "Acrobot-v1"])
    folders.add("npg")
    found = missing(folders)
    assert found.lines == [
        "npg on Acrobot-v1: no run",
        "trpo on Acrobot-v1 and CartPole-v1: no run, though a command asked for it",
    ]
    assert (found.is_uneven, found.is_unmet) == (False, True)


def test_of_several_configurations_each_lacks_what_it_was_asked_for(folders: RunFolders) -> None:
    folders.ask(["npg"], range(3))
    folders.ask(["npg"], range(4), hyperparams={"critic": "adam"})
    for seed in range(3):
        folders.add("npg", seed=seed)
        folders.add("npg", seed=seed, hyperparams={"critic": "adam"})
    (line,) = missing(folders).lines
    assert line == "npg (critic=adam) on CartPole-v1: no result for seed 3"


def test_a_configuration_without_a_run_is_missing(folders: RunFolders) -> None:
    folders.ask(["npg"], [0])
    folders.ask(["npg"], [0, 1], hyperparams={"critic": "adam"})
    folders.add("npg")
    (line,) = missing(folders).lines
    assert line.startswith("npg (config=")
    assert line.endswith(") on CartPole-v1: no result for seeds 0, 1")


def test_a_part_of_a_sweep_s_folder_lacks_what_belongs_there(folders: RunFolders) -> None:
    folders.ask(["npg", "ppo"], [0, 1])
    for algo in ("npg", "ppo"):
        folders.add(algo)
    part = missing_of(runs.load(folders.root / "classic" / "npg"))
    assert part.lines == ["npg on CartPole-v1: no result for seed 1"]
    assert part.is_asked_known


def test_an_archive_knows_what_was_asked_for(folders: RunFolders, tmp_path: Path) -> None:
    folders.ask(["npg"], [0, 1])
    folders.add("npg")
    folders.add("ppo", "CartPole-v1", 1)
    archive(folders.root, tmp_path / "archive")
    assert missing_of(runs.load(tmp_path / "archive")) == missing(folders)
    assert missing(folders).lines[0] == "npg on CartPole-v1: no result for seed 1"


def test_with_everything_there_that_was_asked_for_nothing_is_missing(folders: RunFolders) -> None:
    folders.ask(["npg", "ppo"], [0])
    for algo in ("npg", "ppo"):
        folders.add(algo)
    assert missing(folders) == Missing([], False, False, True)
    assert (
        "Nothing: no run failed, and no algorithm lacks a seed or an environment that another has, "
        "nor a seed that the commands asked for."
    ) in report(folders)


def test_where_nobody_knows_what_was_asked_for_no_more_is_said(folders: RunFolders) -> None:
    folders.ask(["npg"], [0])
    for algo in ("npg", "ppo"):
        folders.add(algo)
    assert missing(folders) == Missing([], False, False, False)
    text = report(folders).partition("## What is missing")[2]
    assert text.strip() == (
        "As far as is known nothing: no run failed, and no algorithm lacks a seed or an "
        "environment that another has. Not all that was asked for is known."
    )


def test_a_manifest_that_cannot_be_read_says_nothing(folders: RunFolders) -> None:
    folders.ask(["npg"], [0, 1]).write_text("{")
    folders.add("npg")
    assert missing(folders) == Missing([], False, False, False)


def test_an_algorithm_of_which_every_run_failed_is_named_on_top(folders: RunFolders) -> None:
    for env_id in ("CartPole-v1", "HalfCheetah-v5"):
        for algo in ("npg", "ppo"):
            for seed in range(2):
                folders.add(algo, env_id, seed, [20.0, 100.0 + seed])
        for seed in range(2):
            folders.add_failure("trpo", env_id, seed)
    folders.add("npg", "Hopper-v5")
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


def test_it_is_known_what_the_runs_of_this_project_were_asked_for() -> None:
    data = runs.load(Path(__file__).parents[2] / "docs" / "results" / "runs")
    found = missing_of(data)
    assert (found.is_unmet, found.is_asked_known) == (False, True)


def test_of_many_seeds_the_first_are_listed(folders: RunFolders) -> None:
    folders.ask(["npg"], range(1000))
    folders.add("npg")
    (line,) = missing(folders).lines
    assert line.endswith("49, 50 and 949 more")
