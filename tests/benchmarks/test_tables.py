"""Tables of values: how cells are written side by side, and what each format makes of them."""

from __future__ import annotations

import csv
import io
import math
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pytest
from markdown_it import MarkdownIt

from benchmarks.tables import (
    Code,
    Estimates,
    Fraction,
    Inline,
    Link,
    Number,
    Seconds,
    Steps,
    StepsTaken,
    Strong,
    Table,
    Text,
    duration,
    markdown_of,
    text_of,
    to_csv,
    to_markdown,
    to_text,
)

NAN, INF = math.nan, math.inf


class Estimate(NamedTuple):
    value: float
    low: float = NAN
    high: float = NAN


def cells(table: Table) -> list[str]:
    """The cells of a table's first column in Markdown, without the bars."""
    return [line[2:-2] for line in to_markdown(table).splitlines()[2:]]


def test_markdown_is_padded_and_numbers_are_right_aligned() -> None:
    table = Table([Text("name", ["npg", "a longer one"]), Number("n", [1, 1000])])
    assert to_markdown(table).splitlines() == [
        "| name         |     n |",
        "| ------------ | ----: |",
        "| npg          |     1 |",
        "| a longer one | 1,000 |",
    ]


def test_a_table_without_rows_has_its_headings() -> None:
    table = Table([Text("name", []), Estimates("score", []), Steps("steps", [])])
    assert to_markdown(table).splitlines()[0] == "| name | score | steps |"
    assert to_text(table) == "name  score  steps"
    assert to_csv(table).splitlines()[0].startswith("name,score,score low,score high,steps,")


ODD = ["x | y\nz", "<script>", "*a* _b_ `c`", "[x](https:y)", "a|b_$c$", "\\|", "# T", "\x1b[31m"]


def test_text_is_shown_as_it_is_in_markdown() -> None:
    code = [Strong(Code(name)) if "|" in name else Code(name) for name in ODD]
    text = to_markdown(Table([Text("a|b", ODD), Text("code", code)]))
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    rows = [each.children or [] for each in tokens if each.type == "inline"]
    content = [[child for child in row if child.content] for row in rows]
    assert [[child.type for child in row] for row in content[2:]] == [
        *(["text"], ["code_inline"])
    ] * 8
    shown = [row[0].content for row in content]
    visible = [name.replace("\n", " ").replace("\x1b", "\\x1b") for name in ODD]
    assert shown == ["a|b", "code", *(name for name in visible for _ in range(2))]


@pytest.mark.parametrize(
    "columns",
    [[], [Text("a", ["1"]), Number("b", [1, 2])]],
)
def test_ragged_tables_are_refused(columns: list[Text | Number]) -> None:
    with pytest.raises(ValueError, match="of one length"):
        Table(columns)


def test_estimates_stand_one_below_the_other() -> None:
    values = [Estimate(498.24, 480, 500), Estimate(20, 9, 31), Estimate(3), "not run", None]
    column = Estimates("x", values, bold=[True, False, False, False, False])
    assert cells(Table([column])) == [
        "**498.2** [480.0, 500.0]",
        "   20.0   [  9.0,  31.0]",
        "    3.0   (1 seed)      ",
        "                 not run",
        "                       –",
    ]
    assert to_text(Table([column])).splitlines()[1:3] == [
        "498.2 [480.0, 500.0]",
        " 20.0 [  9.0,  31.0]",
    ]


def test_each_estimate_may_have_digits_of_its_own() -> None:
    values = [Estimate(0.5, 0.25, 0.75), Estimate(1 / 3, 0.1, 0.9)]
    column = Estimates("x", values, write=["{:.1f}".format, "{:.3f}".format], prefixes=["", "≈ "])
    assert cells(Table([column])) == ["    0.5 [  0.2,   0.8]", "≈ 0.333 [0.100, 0.900]"]


def test_each_number_may_have_digits_of_its_own() -> None:
    column = Number("x", [1.5, None, 0.25], write=["{:.1f}".format, str, "{:+.2f}".format])
    assert cells(Table([column])) == ["  1.5", "    –", "+0.25"]


@pytest.mark.parametrize("target", ["a b.csv", "x>y", "a(b)", "#é", "https://x.org/?a=1&b=(2)"])
def test_an_address_leads_where_it_says_in_markdown(target: str) -> None:
    (paragraph,) = (
        each for each in MarkdownIt().parse(markdown_of(Link("x", target))) if each.children
    )
    (link, *_) = paragraph.children or []
    assert unquote(str(link.attrs["href"])) == target


STEPS = [
    StepsTaken(12_000, 9_000, 21_000, 50_000, 3),
    StepsTaken(INF, 400, INF, 50_000, 3),
    StepsTaken(INF, INF, INF, 1_000_000, 3),
    StepsTaken(500, 500, 500, 50_000, 1),
]


def test_steps_stand_one_below_the_other_and_what_is_not_reached_is_said() -> None:
    assert [cell.strip() for cell in cells(Table([Steps("steps", STEPS)]))] == [
        "12,000 (9,000,   21,000)",
        "> 50,000 (  400, > 50,000)".replace("> ", r"\> ", 1),
        "not within 1,000,000",
        "500 (1 seed)",
    ]
    assert to_text(Table([Steps("steps", STEPS)])).splitlines()[1:] == [
        "  12,000 (9,000,   21,000)",
        "> 50,000 (  400, > 50,000)",
        "      not within 1,000,000",
        "     500 (1 seed)",
    ]


def test_steps_that_no_row_has_take_no_width() -> None:
    assert cells(Table([Steps("s", [StepsTaken(INF, INF, INF, 50, 1)])])) == ["not within 50"]


def test_returns_below_a_thousandth_are_shown_and_told_apart() -> None:
    values = [Estimate(4.18e-4, 4.1e-4, 4.264e-4), Estimate(1.224e-4, 1.2e-4, 1.248e-4)]
    assert cells(Table([Estimates("x", values, bold=[True, False])])) == [
        "**0.000418** [0.000410, 0.000426]",
        "  0.000122   [0.000120, 0.000125]",
    ]


def test_means_whose_intervals_do_not_overlap_are_told_apart_others_need_not_be() -> None:
    values = [(1_000.04, 1_000.03, 1_000.05), (1_000.01, 1_000.0, 1_000.02), (1_000.0, 990, 1_010)]
    shown = cells(Table([Estimates("x", [Estimate(*value) for value in values])]))
    assert [cell.split()[0] for cell in shown] == ["1,000.04", "1,000.01", "1,000.00"]
    alike = [Estimate(1_000.04, 990, 1_010), Estimate(1_000.01, 990, 1_010)]
    assert cells(Table([Estimates("x", alike)])) == ["1,000 [990, 1,010]"] * 2


def test_what_is_small_beside_the_others_in_a_column_has_digits_of_its_own() -> None:
    values = [(4_812, 4_000, 5_100), (4e-4, 3e-4, 5e-4), (3e12, 2e12, 4e12)]
    values += [(-0.2, -0.3, 0.1), (0, -3, 3)]
    shown = cells(Table([Estimates("x", [Estimate(*value) for value in values])]))
    assert [" ".join(cell.split()).replace("[ ", "[") for cell in shown] == [
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


def test_csv_has_the_values_and_columns_for_the_ends_of_intervals() -> None:
    estimates = [Estimate(4812.4, 4000, 5100), Estimate(-9, -31, 12), Estimate(3), "not run"]
    table = Table(
        [
            Text("algorithm", ["npg (critic=adam, n=2)", "ppo", "trpo", "=cmd()"]),
            Estimates("final return", estimates, bold=[True, False, False, False]),
            Number("steps", [400_000, 50_000, None, NAN]),
            Seconds("time", [130.25, 9.1, 4_020, None]),
        ]
    )
    assert to_csv(table) == (
        "algorithm,final return,final return low,final return high,steps,time (s)\n"
        '"npg (critic=adam, n=2)",4812.4,4000,5100,400000,130.25\n'
        "ppo,-9,-31,12,50000,9.1\n"
        "trpo,3,,,,4020\n"
        "'=cmd(),not run,,,,\n"
    )


def test_csv_says_which_steps_are_beyond_the_run() -> None:
    assert to_csv(Table([Steps("steps", STEPS)])) == (
        "steps,steps low,steps high\n"
        "12000,9000,21000\n"
        "> 50000,400,> 50000\n"
        "not within 1000000,,\n"
        "500,,\n"
    )


def test_csv_has_no_marks_and_survives_what_is_in_the_cells() -> None:
    names: list[Inline] = ['say "a, b"', "x | y\nz", "–"]
    values: list[Inline] = [Code("dict(**x)"), (Strong("bold"), " ", Code("1e-05")), "5 of 5"]
    table = Table([Text("name", names), Text("value", values)])
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [
        ["name", "value"],
        ['say "a, b"', "dict(**x)"],
        ["x | y z", "bold 1e-05"],
        ["–", "5 of 5"],
    ]


def test_marks_are_a_renderers() -> None:
    text = ("a*b ", Strong("c_"), " ", Code("x`y"), " ", Link("d]", "#e"))
    assert markdown_of(text) == r"a\*b **c\_** ``x`y`` [d\]](#e)"
    assert text_of(text) == "a*b c_ x`y d]"


def test_sort_keys_are_the_numbers() -> None:
    columns = [
        Number("a", [np.int64(3), 0.5, None, NAN, INF, "not run"]),
        Estimates("b", [Estimate(5, 4, 6), Estimate(2), None, "failed", Estimate(NAN), None]),
        Text("c", ["9", "x", None, "–", "", "1"]),
        Seconds("d", [60.0, None, 3.0, 0.0, NAN, 1e9]),
        Steps("e", [*STEPS, STEPS[0], STEPS[0]]),
        Fraction("f", [(4, 5), (10, 10), None, (0, 5), (4, 10), None]),
    ]
    keys = {column.header: column.sort_keys() for column in Table(columns).columns}
    assert keys == {
        "a": [[0, 3], [0, 0.5], None, None, [0, INF], None],
        "b": [[0, 5, 4, 6], [0, 2], None, None, None, None],
        "c": [None] * 6,
        "d": [[0, 60], None, [0, 3], [0, 0], None, [0, 1e9]],
        "e": [
            [0, 12_000, 9_000, 21_000],
            [1, 50_000, 400, 50_000],
            [2, 1_000_000],
            [0, 500, 500, 500],
            *[[0, 12_000, 9_000, 21_000]] * 2,
        ],
        "f": [[0, 4, 5], [0, 10, 10], None, [0, 0, 5], [0, 4, 10], None],
    }


def test_fractions_are_two_numbers_in_csv() -> None:
    table = Table([Fraction("finished", [(4, 5), None, (1_000, 2_000)])])
    assert cells(table) == ["        4 of 5", "             –", "1,000 of 2,000"]
    assert to_csv(table) == "finished,finished: of\n4,5\n,\n1000,2000\n"


def test_numbers_share_their_decimals_unless_they_show_nothing_of_one() -> None:
    column = Number("x", [4_812.4, 0.00042, NAN, "none", -12.5])
    assert [cell.strip() for cell in cells(Table([column]))] == [
        "4,812",
        "0.000420",
        "–",
        "none",
        "-12",
    ]
    assert [cell.strip() for cell in cells(Table([Number("x", [3, 1_000, 0])]))] == [
        "3",
        "1,000",
        "0",
    ]


def test_csv_has_what_stands_before_an_estimate() -> None:
    column = Estimates("x", [Estimate(1, 0, 2), Estimate(3, 2, 4)], prefixes=["", "at least "])
    assert to_csv(Table([column])) == "x,x low,x high,x prefix\n1,0,2,\n3,2,4,at least\n"


def test_columns_without_a_value_can_be_left_out() -> None:
    columns = [Text("a", ["x"]), Number("b", [NAN]), Estimates("c", [None]), Text("d", [None])]
    assert [each.header for each in Table(columns).without_empty().columns] == ["a"]
