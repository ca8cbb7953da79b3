"""Published results beside ours: the values in each table of the section."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from benchmarks.tables import Link, Strong, Table, to_markdown
from reports.data import published, runs
from reports.data.context import Context
from reports.data.published import BEST, FINAL, TRAINING
from reports.rendering.blocks import Section, tables_of
from reports.sections import literature
from tests.reports.conftest import RunFolders
from tests.reports.published_rows import compared, four_kinds, results, shortfalls
from tests.reports.values import column, headers, rows, shown, texts

PACKAGED = published.load()


def made(folders: RunFolders, *theirs: dict[str, Any]) -> Section | None:
    return literature.build(Context(runs.load(folders.root), published=results(*theirs)))


def tables(frame: pd.DataFrame) -> list[Table]:
    """The tables of the environments."""
    names = literature.short_names(frame)
    groups = frame.groupby("env_id", sort=True)
    return [literature.environment_table(group, names) for _, group in groups]


def same(frame: pd.DataFrame) -> Table:
    rows = published.same_algorithm(frame)
    return literature.same_algorithm_table(rows, frame, literature.short_names(frame))


def highest(frame: pd.DataFrame) -> Table:
    return literature.highest_table(frame, literature.short_names(frame))


def measures(frame: pd.DataFrame) -> Table:
    return literature.measures_table(frame, literature.short_names(frame))


def test_the_table_of_an_environment(folders: RunFolders) -> None:
    (table,) = tables(four_kinds(folders))
    assert table.name == "literature-CartPole-v1"
    assert headers(table) == [
        "metric",
        "algorithm",
        "mean",
        "±",
        "runs",
        "steps",
        "source",
        "what differs from ours",
    ]
    here, lab, own = "this report", "first-lab", "repository"
    assert shown(table) == [
        [BEST, "a2c", "**700.0**", "12.5", "5", "9,000", lab, "budget ×9"],
        [BEST, "npg", "**610.0**", "14.1", "2", "1,000", here, ""],
        [BEST, "trpo", "580.2", "12.5", "5", "1,000", lab, ""],
        [BEST, "ppo", "400.0", "(1 seed)", "1", "1,000", here, ""],
        [
            *(FINAL, "npg", "**520.0**", "12.5", "1", "–", own),
            "budget not said; 100 episodes; ± over episodes",
        ],
        [FINAL, "npg", "**520.0**", "28.3", "2", "1,000", here, ""],
        [FINAL, "ppo", "300.0", "(1 seed)", "1", "1,000", here, ""],
        [
            *(TRAINING, "npg", "**510.0**", "–", "5", "50,000", "A paper, 2017"),
            "budget ×50; none of ours",
        ],
    ]
    assert column(table, "mean")[2] == 580.25


def test_one_run_of_ours_is_never_bold(folders: RunFolders) -> None:
    folders.add("npg", seed=0, returns=[0.0, 300.0])
    folders.add("npg", seed=1, returns=[0.0, 320.0])
    folders.add("ppo", seed=0, returns=[0.0, 400.0])  # the highest
    (table,) = tables(compared(folders, {"metric": "p", "mean": 200.0}))
    assert [row[1:4] for row in shown(table)] == [
        ["ppo", "400.0", "(1 seed)"],
        ["npg", "**310.0**", "14.1"],
        ["npg", "**200.0**", "12.5"],
    ]


def test_where_all_of_ours_are_single_runs_none_is_bold(folders: RunFolders) -> None:
    folders.add("npg", returns=[0.0, 300.0])
    (table,) = tables(compared(folders, {"metric": "p", "n_seeds": 1}))
    assert [(row[2], row[6]) for row in shown(table)] == [
        ("**480.5**", "repository"),
        ("300.0", "this report"),
    ]


def test_what_differs_is_said_for_each_budget_of_ours(folders: RunFolders) -> None:
    folders.add("npg", n_timesteps=50_000)
    folders.add("npg", n_timesteps=100_000)
    data = runs.load(folders.root, allow_mixed=True)
    frame = published.for_runs(data, results({"metric": "p", "timesteps": 50_000.0}))
    (table,) = tables(frame)
    (theirs,) = [row for row in rows(table) if row[6] == "repository"]
    assert theirs[-1] == "budget ×0.5 or nothing"


def test_tables_are_aligned_in_the_source(study: RunFolders) -> None:
    frame = published.for_runs(runs.load(study.root), PACKAGED)
    environments = tables(frame)
    names = [table.name for table in environments]
    assert names == ["literature-CartPole-v1", "literature-HalfCheetah-v5"]
    for table in (measures(frame), *environments):
        assert len({len(line) for line in to_markdown(table).splitlines()}) == 1


def test_the_tables_of_environments_have_few_columns_and_short_cells(study: RunFolders) -> None:
    for table in tables(published.for_runs(runs.load(study.root), PACKAGED)):
        assert len(table.columns) == 8
        assert max(len(row[-1]) for row in shown(table)) <= 70


def test_ours_against_the_same_algorithm_the_furthest_shortfall_first(
    folders: RunFolders,
) -> None:
    frame = shortfalls(folders)
    table = same(frame)
    assert headers(table) == [
        "environment",
        "algorithm",
        "metric",
        "ours",
        "seeds",
        "theirs",
        "source",
        "difference",
        "what differs from ours",
    ]
    cart, pendulum, own = "CartPole-v1", "Pendulum-v1", "repository"
    assert rows(table) == [
        [cart, "ppo", FINAL, 50.0, 1, 200.0, own, -0.75, "10 runs"],
        [pendulum, "ppo", FINAL, -300.0, 1, -200.0, own, -0.5, "Pendulum-v0; 10 runs"],
        [cart, "npg", FINAL, 400.0, 2, 500.0, own, -0.2, "10 runs"],
        [cart, "npg", BEST, 450.0, 2, 450.0, own, 0.0, "10 runs"],
        [pendulum, "ppo", FINAL, -300.0, 1, -600.0, own, 0.5, "Pendulum-v0"],
    ]
    found = published.same_algorithm(frame)
    assert " 3 of 5 comparisons " in literature.how_many_are_lower(found)


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        (99.0, 100.0, "-1.0%"),
        (99.99, 100.0, "0%"),
        (100.0, 100.0, "0%"),
        (90.0, 100.0, "-10%"),
        (1_000.0, 100.0, "+900%"),
        (500.0, 500.01, "0%"),
        (4e-4, 5e-4, "-20%"),
        (-5.0, 0.0, "–"),
        (0.0, 0.0, "0%"),
    ],
)
def test_differences_are_relative_to_theirs(
    folders: RunFolders, ours: float, theirs: float, difference: str
) -> None:
    folders.add("npg", returns=[-9.0, ours])
    frame = compared(folders, {"metric": "p", "mean": theirs})
    assert shown(same(frame))[0][7] == shown(highest(frame))[0][8] == difference


@pytest.mark.parametrize(("ours", "lower"), [(500.0, 0), (480.4, 0), (480.0, 1)])
def test_what_rounds_to_no_difference_is_not_lower(
    folders: RunFolders, ours: float, lower: int
) -> None:
    folders.add("npg", returns=[0.0, ours])
    found = published.same_algorithm(compared(folders, {"metric": "p"}))
    assert f" {lower} of 1 comparison " in literature.how_many_are_lower(found)


def test_where_nothing_is_of_the_same_algorithm_there_is_no_such_table(
    folders: RunFolders,
) -> None:
    folders.add("npg", returns=[0.0, 500.0])
    section = made(folders, {"algo": "ppo"})
    assert section is not None
    assert "literature-same-algorithm" not in tables_of([section])


def test_our_highest_beside_the_highest_published(folders: RunFolders) -> None:
    assert rows(highest(four_kinds(folders))) == [
        [
            *("CartPole-v1", BEST, 610.0, "npg", 2, 580.25, "trpo", "first-lab"),
            *(pytest.approx(610 / 580.25 - 1), "5 runs"),
        ],
        [
            *("CartPole-v1", FINAL, 520.0, "npg", 2, 520.0, "npg", "repository"),
            *(0.0, "1 run; budget not said; 100 episodes"),
        ],
    ]


def test_several_that_share_the_highest_are_all_named(folders: RunFolders) -> None:
    for algo, n_seeds in (("npg", 2), ("ppo", 3)):
        for seed in range(n_seeds):
            folders.add(algo, seed=seed, returns=[0.0, 500.0])
    far = {"mean": 500.0, "timesteps": 500_000.0, "metric": "p", "algo": "a2c"}
    table = highest(compared(folders, far, {**far, "timesteps": 100_000.0, "algo": "trpo"}))
    (row,) = rows(table)
    assert row[2:9] == [500.0, "npg and ppo", "2–3", 500.0, "trpo and 1 more", "repository", 0.0]
    assert row[9] == "5 runs; budget ×2"


def test_where_there_are_training_returns_alone_nothing_of_ours_is_shown(
    folders: RunFolders,
) -> None:
    folders.add("npg", "Humanoid-v5")
    theirs = {"env_id": "Humanoid-v5", "kind": TRAINING}
    table = highest(compared(folders, {**theirs, "mean": 1.0}, {**theirs, "mean": 2_661.0}))
    assert [row[1:9] for row in shown(table)] == [
        [TRAINING, "–", "–", "–", "2,661", "npg", "repository", "–"]
    ]


def test_how_each_source_measures_is_said_once(folders: RunFolders) -> None:
    table = measures(four_kinds(folders))
    assert headers(table) == [
        "source",
        "metric",
        "how it is measured",
        "versions",
        "runs",
        "note",
    ]
    evaluations = "of a run's 3 evaluations of 10 episodes"
    found = rows(table)
    assert found[0] == [
        *("this report", BEST),
        f"the highest {evaluations}, without the one before training, mean over runs",
        *("v1", "1 to 2", None),
    ]
    assert found[1] == [
        *("this report", FINAL),
        f"the last {evaluations}, mean over runs",
        *("v1", "1 to 2", None),
    ]
    assert found[2] == ["this report", TRAINING, literature.NO_MATCH, None, None, None]
    assert "the nearest is the final return" in literature.NO_MATCH
    assert found[3:] == [
        ["A paper, 2017", TRAINING, "last policy, 100 episodes", "v1", "5", None],
        ["first-lab", BEST, "highest, 10 seeds", "v1", "5", None],
        ["repository", FINAL, "last policy, 100 episodes", "v1", "1", "a | b"],
    ]


def test_versions_and_numbers_of_runs_of_a_source_are_all_named(folders: RunFolders) -> None:
    folders.add("npg")
    folders.add("npg", "Pendulum-v1")
    frame = compared(
        folders,
        {"env_id": "CartPole-v0", "n_seeds": 3},
        {"env_id": "Pendulum-v1", "n_seeds": 4},
        {"env_id": "Pendulum", "n_seeds": 10},
    )
    table = measures(frame)
    assert "note" not in headers(table)
    assert rows(table)[-1][3:] == ["not said, v0, v1", "3 to 10"]


def test_sources_have_short_names_and_addresses(folders: RunFolders) -> None:
    folders.add("npg")
    one, two = "owner/name a.md", "owner/name b.md"
    others = ["https://example.org/x.html", "doi 10.1000/182", "10.1000/182", "DLR-RM/zoo"]
    theirs = [{"source": source} for source in (one, two, *others)]
    names = literature.short_names(compared(folders, *theirs))
    assert names == {**{source: source for source in (one, two, *others)}, "DLR-RM/zoo": "zoo"}

    def line(source: str) -> object:
        return literature.source_line(source, names[source])

    repository = Link("owner/name", "https://github.com/owner/name")
    assert line(one) == (Strong(one), ": ", repository, " a.md")
    address = "https://example.org/x.html"
    assert line(address) == (Strong(address), ": ", Link(address, address))
    assert line("10.1000/182") == (Strong("10.1000/182"), ": ", "10.1000/182")
    zoo = Link("DLR-RM/zoo", "https://github.com/DLR-RM/zoo")
    assert line("DLR-RM/zoo") == (Strong("zoo"), ": ", zoo, "")
    # The list is in the order of the table that it follows.
    section = made(folders, *theirs)
    assert section is not None
    measured = tables_of([section])["literature-sources"]
    assert {tuple(row[1:3]) for row in rows(measured)[1:]} == {(FINAL, "last policy, 100 episodes")}
    listed = [text.partition(": ")[0] for text in texts([section])[1:]]
    assert [row[0] for row in rows(measured)[1:]] == listed


def test_every_packaged_source_has_a_repository() -> None:
    sources = PACKAGED["source"].unique()
    assert len(sources) == 5
    for source in sources:
        _, _, link, _ = literature.source_line(source, "x")
        assert isinstance(link, Link)
        assert link.target.startswith("https://github.com/")


def test_the_section_has_the_shortfalls_first_and_sources_before_the_tables(
    folders: RunFolders,
) -> None:
    shortfalls(folders)
    other = {"mean": 700.0, "timesteps": 2e6, "source": "a/b c.md"}
    section = made(folders, {"n_seeds": 10}, other)
    assert section is not None
    assert list(tables_of([section])) == [
        "literature-same-algorithm",
        "literature-highest",
        "literature-sources",
        "literature-CartPole-v1",
    ]
    assert texts([section])[-2:] == [
        "b: a/b c.md",
        "repository: own/repository results.md",
    ]


def test_there_is_no_section_where_nothing_is_published_or_wanted(folders: RunFolders) -> None:
    folders.add("npg", "MountainCarContinuous-v0")
    data = runs.load(folders.root)
    said: list[str] = []
    assert literature.build(Context(data, published=PACKAGED, warn=said.append)) is None
    assert len(said) == 1
    assert literature.build(Context(data)) is None
    assert literature.build(Context(published=PACKAGED)) is None
