"""Tables stay aligned in the source, whatever is in them."""

from __future__ import annotations

import numpy as np
import pytest

from reports.tables import Table, decimals, duration, estimate_cells, steps_cells


def test_markdown_is_padded_and_numbers_are_right_aligned() -> None:
    table = Table(["name", "n"], [["npg", "1"], ["a longer one", "1,000"]], "lr")
    assert table.markdown().splitlines() == [
        "| name         |     n |",
        "| ------------ | ----: |",
        "| npg          |     1 |",
        "| a longer one | 1,000 |",
    ]


def test_cells_cannot_break_the_table() -> None:
    lines = Table(["a"], [["x | y\nz"]], "l").markdown().splitlines()
    assert lines[-1] == r"| x \| y z |"
    assert len(lines) == 3


@pytest.mark.parametrize(("rows", "align"), [([["1"]], "lr"), ([["1", "2"]], "l"), ([], "lx")])
def test_ragged_tables_are_refused(rows: list[list[str]], align: str) -> None:
    with pytest.raises(ValueError, match="one length"):
        Table(["a", "b"], rows, align)


def test_estimates_stand_one_below_the_other() -> None:
    cells = estimate_cells(
        np.array([498.24, 20.0, 3.0]),
        np.array([480.0, 9.0, np.nan]),
        np.array([500.0, 31.0, np.nan]),
        np.array([True, False, False]),
    )
    assert cells == [
        "**498.2** [480.0, 500.0]",
        "   20.0   [  9.0,  31.0]",
        "    3.0   (1 seed)      ",
    ]


def test_steps_stand_one_below_the_other_and_what_is_not_reached_is_said() -> None:
    cells = steps_cells(
        np.array([12_000.0, np.inf, np.inf, 500.0]),
        np.array([9_000.0, 400.0, np.inf, 500.0]),
        np.array([21_000.0, np.inf, np.inf, 500.0]),
        np.array([50_000, 50_000, 1_000_000, 50_000]),
        np.array([3, 3, 3, 1]),
    )
    assert cells == [
        "  12,000 (9,000,   21,000)",
        "> 50,000 (  400, > 50,000)",
        "not within 1,000,000",
        "     500 (1 seed)         ",
    ]


def test_steps_that_no_row_has_take_no_width() -> None:
    inf = np.array([np.inf])
    assert steps_cells(inf, inf, inf, np.array([50]), np.array([1])) == ["not within 50"]


@pytest.mark.parametrize(
    ("largest", "expected"), [(4_800.0, 0), (500.0, 1), (-21.0, 1), (9.5, 2), (0.5, 3), (0.0, 3)]
)
def test_decimals_follow_the_largest_value(largest: float, expected: int) -> None:
    assert decimals(np.array([largest, 0.0, np.nan])) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.21, "4.2 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (7_620.0, "2 h 07 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
