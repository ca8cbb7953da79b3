"""Tables stay aligned in the source, whatever is in them."""

from __future__ import annotations

import numpy as np
import pytest

from reports.rendering.tables import Table, duration, estimate_cells, steps_cells


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


def test_returns_below_a_thousandth_are_shown_and_told_apart() -> None:
    cells = estimate_cells(
        np.array([4.18e-4, 1.224e-4]),
        np.array([4.1e-4, 1.2e-4]),
        np.array([4.264e-4, 1.248e-4]),
        np.array([True, False]),
    )
    assert cells == [
        "**0.000418** [0.000410, 0.000426]",
        "  0.000122   [0.000120, 0.000125]",
    ]


def test_means_whose_intervals_do_not_overlap_are_told_apart_others_need_not_be() -> None:
    cells = estimate_cells(
        np.array([1_000.04, 1_000.01, 1_000.0]),
        np.array([1_000.03, 1_000.0, 990.0]),
        np.array([1_000.05, 1_000.02, 1_010.0]),
        np.array([False, False, False]),
    )
    assert [cell.split()[0] for cell in cells] == ["1,000.04", "1,000.01", "1,000.00"]
    alike = np.array([1_000.04, 1_000.01]), np.array([990.0, 990.0]), np.array([1_010.0, 1_010.0])
    cells = estimate_cells(*alike, np.array([False, False]))
    assert cells == ["1,000 [990, 1,010]"] * 2


def test_what_is_small_beside_the_others_in_a_column_has_digits_of_its_own() -> None:
    cells = estimate_cells(
        np.array([4_812.0, 0.0004, 3e12, -0.2, 0.0]),
        np.array([4_000.0, 0.0003, 2e12, -0.3, -3.0]),
        np.array([5_100.0, 0.0005, 4e12, 0.1, 3.0]),
        np.zeros(5, dtype=bool),
    )
    assert [" ".join(cell.split()).replace("[ ", "[") for cell in cells] == [
        "4,812 [4,000, 5,100]",
        "0.000400 [0.000300, 0.000500]",
        "3.00e+12 [2.00e+12, 4.00e+12]",
        "-0.200 [-0.300, 0.100]",
        "0.00 [-3.00, 3.00]",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.21, "4.2 s"),
        (0.004, "0.00400 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (7_620.0, "2 h 07 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
