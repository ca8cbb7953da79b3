"""How a comparison is shown: as text, Markdown and CSV."""

from __future__ import annotations

import math

import pytest

from benchmarks import statistics
from benchmarks.statistics import Estimate
from benchmarks.tables import Table
from reports.data import comparison
from reports.rendering.blocks import tables_of, walk
from reports.sections.comparison import (
    TITLES,
    blocks_of,
    quantity_table,
    remarks,
    render,
    summary,
)
from tests.reports.conftest import RunFolders
from tests.reports.data.test_comparison import HIGH, LOW, add, several_kinds

NAN = math.nan


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)


def compare(sides: tuple[RunFolders, RunFolders]) -> comparison.Comparison:
    return comparison.compare(sides[0].root, sides[1].root)


@pytest.fixture
def several(sides: tuple[RunFolders, RunFolders]) -> comparison.Comparison:
    return compare(several_kinds(sides))


def test_tables_have_the_values(several: comparison.Comparison) -> None:
    columns = {column.header: column for column in quantity_table(several, "final").columns}
    assert {name: list(column.values) for name, column in columns.items() if "(" not in name} == {
        "environment": ["CartPole-v1"] * 4 + ["Hopper-v5"],
        "algorithm": ["acer", "npg", "ppo", "trpo", "npg"],
        "seeds A": [0, 5, 5, 1, 5],
        "seeds B": [5, 5, 5, 5, 5],
        "mean A": [pytest.approx(value, nan_ok=True) for value in (NAN, 202, 102, 100, 4_040)],
        "mean B": [202, 102, 102, 202, 2_040],
        "B − A": list(columns["B − A"].values),
        "verdict": ["only in B", "worse", "identical", "too few seeds", "worse"],
    }
    missing, worse, same, single, _ = columns["B − A"].values
    assert missing is None
    assert isinstance(worse, Estimate)
    assert worse.value == -100
    assert -105 < worse.low < -100 < worse.high < -95
    assert same.value == 0
    assert same.low < 0 < same.high
    assert single.value == 102
    assert not single.has_interval
    assert columns["P(B > A)"].values[1].numbers == (0, 0, 0)
    assert "verdict" not in [each.header for each in quantity_table(several, "best").columns]


def test_text_is_aligned_with_one_summarising_line(several: comparison.Comparison) -> None:
    blocks = render(several, "text").rstrip("\n").split("\n\n")
    assert [block.splitlines()[0] for block in blocks[1:4]] == list(TITLES.values())
    header, *rows = blocks[1].splitlines()[1:]
    assert len(rows) == 5
    for name in ("algorithm", "verdict"):
        start = header.index(name)
        assert all(row[start - 1] == " " and row[start] != " " for row in rows)
    end = header.index("P(B > A)") + len("P(B > A)")
    assert [row[end - 1] for row in rows] == ["–", "]", "]", " ", "]"]
    assert "202.0" in blocks[1]
    assert "4,040" in blocks[1]  # each environment in digits of its own
    assert "-100.0 [-1" in blocks[1]
    assert "+102.0 (1 seed)" in blocks[1]
    assert blocks[-1] == summary(several)
    assert max(len(line) for line in blocks[-2].splitlines()) <= 100


def test_the_summary_counts_and_names(several: comparison.Comparison) -> None:
    assert summary(several) == (
        "By final return: 2 worse; 1 identical; 1 too few seeds; 1 only in B. "
        "Worse: npg on CartPole-v1 and npg on Hopper-v5."
    )


def test_markdown_has_the_same_tables(several: comparison.Comparison) -> None:
    parts = render(several, "md").rstrip("\n").split("\n\n")
    tables = [part for part in parts if part.startswith("|")]
    assert len(tables) == len([b for b in walk(blocks_of(several)) if isinstance(b, Table)]) == 3
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1
        assert len(table.splitlines()) == 2 + 5
    assert parts[0] == "# Comparison"
    assert parts[-1] == summary(several)
    assert not tables_of(blocks_of(several))  # none is exported by itself


def test_three_seeds_all_higher_are_said_to_be_weak_evidence(
    sides: tuple[RunFolders, RunFolders],
) -> None:
    add(sides[0], LOW[:3])
    add(sides[1], HIGH[:3])
    compared = compare(sides)
    assert compared.table.loc[0, "verdict"] == "better"
    assert compared.table.loc[0, "final_improvement_low"] == 1.0
    shown = remarks(compared)
    assert any("3 seeds against 3" in text and "once in 20" in text for text in shown)
    assert any("10% with 3 seeds and 5% with 5 seeds" in text for text in shown)


def test_different_settings_and_failures_are_said(sides: tuple[RunFolders, RunFolders]) -> None:
    add(sides[0], LOW, hyperparams={"gamma": 0.99})
    add(sides[1], LOW, hyperparams={"critic": "adam", "gamma": 0.99})
    add(sides[0], LOW, "ppo", config="aaaaaaaa")
    add(sides[1], LOW, "ppo", config="bbbbbbbb")
    sides[1].add_failure("trpo", seed=4)
    assert remarks(compare(sides))[:3] == [
        "npg on CartPole-v1 was not run with the same settings: critic is not set in A, adam in B.",
        "ppo on CartPole-v1 was not run with the same settings: configuration aaaaaaaa in A, "
        "bbbbbbbb in B, which have the same hyperparameters.",
        "B: 1 run of trpo on CartPole-v1 failed.",
    ]
