"""The section on steps to a threshold."""

from __future__ import annotations

from benchmarks.tables import Table, text_of
from reports.data.context import load
from reports.rendering.blocks import Paragraph, Section
from reports.sections import steps_to_threshold
from tests.reports.conftest import RunFolders
from tests.reports.values import headers, shown


def section(folders: RunFolders, *thresholds: str, **options: bool) -> Section | None:
    return steps_to_threshold.build(load(folders.root, thresholds=thresholds, **options))


def test_the_section_has_the_table_its_sources_and_the_resolution(folders: RunFolders) -> None:
    for seed, returns in enumerate([[0, 475, 9, 9, 9], [0, 9, 9, 9, 500], [0, 9, 9, 9, 9]]):
        folders.add("acer", seed=seed, returns=returns, hyperparams={"replay_ratio": 4})
        folders.add("acer", seed=seed, returns=[0] * 5, hyperparams={"replay_ratio": 0})
    folders.add("npg", returns=[0, 0, 480, 0, 0])
    folders.add("npg", "Acrobot-v1", returns=[-500, -85], n_timesteps=1_000)
    folders.add("npg", "Pendulum-v1")
    built = section(folders, "Acrobot-v1=-85")
    assert built is not None
    sources, table, resolution = built.blocks
    assert isinstance(sources, Paragraph)
    assert text_of(sources.text) == (
        "Thresholds: Gymnasium's registered reward_threshold for CartPole-v1 (475); given with "
        "--threshold for Acrobot-v1 (-85)."
    )
    assert isinstance(table, Table)
    assert table.name == "steps-to-threshold"
    assert headers(table) == [
        "environment (threshold)",
        "algorithm",
        "seeds that reached it",
        "steps: median (lowest, highest)",
    ]
    assert shown(table) == [
        ["Acrobot-v1 (-85)", "npg", "1 of 1", "1,000 (1 seed)"],
        ["CartPole-v1 (475)", "acer (replay_ratio=0)", "0 of 3", "not within 50,000"],
        ["CartPole-v1 (475)", "acer (replay_ratio=4)", "2 of 3", "50,000 [12,500, > 50,000]"],
        ["CartPole-v1 (475)", "npg", "1 of 1", "25,000 (1 seed)"],
    ]
    assert isinstance(resolution, Paragraph)
    assert (
        "every 1,000 steps on Acrobot-v1 and every 12,500 steps on CartPole-v1"
    ) in resolution.text


def test_no_section_without_a_threshold(folders: RunFolders) -> None:
    folders.add("npg", "Pendulum-v1")
    assert section(folders) is None


def test_a_given_threshold_is_enough_for_a_section(folders: RunFolders) -> None:
    folders.add("npg", "Pendulum-v1", returns=[-1_500.0, -149.5, -150.0])
    built = section(folders, "Pendulum-v1=-149.5")
    assert built is not None
    _, table, _ = built.blocks
    assert isinstance(table, Table)
    assert shown(table) == [["Pendulum-v1 (-149.5)", "npg", "1 of 1", "25,000 (1 seed)"]]


def test_mixed_budgets_are_said(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    built = section(folders, allow_mixed=True)
    assert built is not None
    *_, mixed = built.blocks
    assert isinstance(mixed, Paragraph)
    assert text_of(mixed.text).startswith("Mixed: on CartPole-v1 the runs have different budgets")
