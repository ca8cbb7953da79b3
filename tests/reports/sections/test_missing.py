"""The section on what is missing."""

from __future__ import annotations

from benchmarks.tables import Code
from reports.data.context import load
from reports.data.missing import Gap
from reports.rendering.blocks import Section
from reports.sections import missing, summary
from reports.sections.missing import gap_text
from tests.reports.conftest import RunFolders
from tests.reports.values import column, tables, texts


def section(folders: RunFolders) -> Section:
    built = missing.build(load(folders.root))
    assert built is not None
    return built


def test_a_gap_is_a_line() -> None:
    assert gap_text(Gap("ppo", ["A-v1"], (1, 2), (2,))) == (
        "ppo on A-v1: no result for seeds 1, 2 (failed)"
    )
    assert gap_text(Gap("ppo", ["A-v1"], (3,))) == "ppo on A-v1: no result for seed 3"
    assert gap_text(Gap("npg", ["A-v1", "B-v0"])) == "npg on A-v1 and B-v0: no run"


def test_unequal_seeds_and_failed_runs_are_said(folders: RunFolders) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, returns=[0.0, 10.0 + seed])
    folders.add("ppo", seed=0)
    folders.add("ppo", "Hopper-v5", seed=0)
    folders.add_failure("ppo", seed=2, error="ValueError: nan\nsecond line")
    folders.add_failure("acer", seed=0, error="RuntimeError: no")
    built = section(folders)
    lines = texts(built.blocks)
    assert "ppo on CartPole-v1: no result for seeds 1, 2 (failed)" in lines
    assert "acer on CartPole-v1: no result for seeds 0 (failed), 1, 2" in lines
    assert "npg on Hopper-v5: no run" in lines
    (failures,) = tables(built.blocks)
    assert column(failures, "algorithm") == ["acer", "ppo"]
    assert column(failures, "seed") == [0, 2]
    assert column(failures, "error") == [Code("RuntimeError: no"), Code("ValueError: nan")]
    (said,) = [text for text in texts([summary.build(load(folders.root))]) if "missing" in text]
    assert said == (
        "Incomplete: every run of acer failed, 2 runs failed and not every algorithm has the same "
        "seeds and environments; see What is missing."
    )


def test_where_nothing_is_missing_the_section_says_what_is_known(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo)
        folders.ask([algo], [0])
    assert texts(section(folders).blocks) == [
        "Nothing: no run failed, and no algorithm lacks a seed or an environment that another has, "
        "nor a run that a sweep was asked for."
    ]
    folders.add("npg", "Hopper-v5")
    folders.add("ppo", "Hopper-v5")
    (text,) = texts(section(folders).blocks)
    assert text.startswith("Nothing, as far as is known: ")


def test_a_seed_that_was_asked_for_is_missing(folders: RunFolders) -> None:
    for algo in ("npg", "ppo"):
        folders.add(algo)
        folders.ask([algo], range(2))
    assert texts(section(folders).blocks) == [
        "npg on CartPole-v1: no result for seed 1",
        "ppo on CartPole-v1: no result for seed 1",
    ]
    assert "Incomplete: not every run that was asked for is there; see What is missing." in texts(
        [summary.build(load(folders.root))]
    )
