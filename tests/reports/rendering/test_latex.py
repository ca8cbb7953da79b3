"""Tables as CSV and LaTeX, against results written by hand."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from reports.rendering.exports import to_csv, to_latex
from reports.rendering.tables import Table, estimate_cells, steps_cells


@pytest.fixture
def scores() -> Table:
    """A column of estimates, one of them bold and one of a single seed, and durations."""
    estimates = estimate_cells(
        np.array([4812.4, -9.0, 3.0]),
        np.array([4000.0, -31.0, np.nan]),
        np.array([5100.0, 12.0, np.nan]),
        np.array([True, False, False]),
    )
    rows = [
        ["npg (critic=adam, n=2)", estimates[0], "400,000", "2 min 10 s"],
        ["ppo", estimates[1], "50,000", "9.1 s"],
        ["trpo", estimates[2], "1,024", "1 h 07 min"],
    ]
    return Table(["algorithm", "final return", "steps", "time"], rows, "lrrr")


def test_csv_has_plain_numbers_and_columns_for_the_ends_of_intervals(scores: Table) -> None:
    assert to_csv(scores) == (
        "algorithm,final return,final return low,final return high,steps,time\n"
        '"npg (critic=adam, n=2)",4812,4000,5100,400000,2 min 10 s\n'
        "ppo,-9,-31,12,50000,9.1 s\n"
        "trpo,3,,,1024,1 h 07 min\n"
    )


def test_csv_says_which_steps_are_beyond_the_run() -> None:
    cells = steps_cells(
        np.array([12_000.0, np.inf, np.inf, 500.0]),
        np.array([9_000.0, 400.0, np.inf, 500.0]),
        np.array([21_000.0, np.inf, np.inf, 500.0]),
        np.array([50_000, 50_000, 1_000_000, 50_000]),
        np.array([3, 3, 3, 1]),
    )
    table = Table(["steps"], [[cell] for cell in cells], "r")
    assert to_csv(table) == (
        "steps,steps low,steps high\n"
        "12000,9000,21000\n"
        "> 50000,400,> 50000\n"
        '"not within 1,000,000",,\n'
        "500,,\n"
    )


def test_csv_has_no_marks_and_survives_what_is_in_the_cells() -> None:
    table = Table(
        ["name", "`value`"],
        [['say "a, b"', "`dict(**x)`"], ["x | y\nz", "**bold** `1e-05`"], ["–", "5 of 5"]],
        "ll",
    )
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [
        ["name", "value"],
        ['say "a, b"', "dict(**x)"],
        ["x | y z", "bold 1e-05"],
        ["–", "5 of 5"],
    ]


def test_text_with_brackets_is_no_interval() -> None:
    table = Table(["environment"], [["CartPole-v1 (475)"], ["a [1, 2]"]], "l")
    assert to_csv(table) == 'environment\nCartPole-v1 (475)\n"a [1, 2]"\n'


def test_latex_keeps_bold_and_minus_signs(scores: Table) -> None:
    assert to_latex(scores) == (
        "\\begin{tabular}{lrrr}\n"
        "\\toprule\n"
        "algorithm & final return & steps & time \\\\\n"
        "\\midrule\n"
        "npg (critic=adam, n=2) & \\textbf{4,812} [4,000, 5,100] & 400,000 & 2 min 10 s \\\\\n"
        "ppo & $-$9 [$-$31, 12] & 50,000 & 9.1 s \\\\\n"
        "trpo & 3 (1 seed) & 1,024 & 1 h 07 min \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("100% & $5 #1 a_b {c}", r"100\% \& \$5 \#1 a\_b \{c\}"),
        (r"a\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("> 5 | < 6 –", r"\textgreater{} 5 \textbar{} \textless{} 6 --"),
        ("`n_steps`", r"\texttt{n\_steps}"),
        ("`dict(**x)`", r"\texttt{dict(**x)}"),
        ("**-0.5**", r"\textbf{$-$0.5}"),
        ("1e-05 CartPole-v1 2026-01-02", "1e-05 CartPole-v1 2026-01-02"),
        ("--seeds 3", "-{}-seeds 3"),
        ("[1, 2]", "{[}1, 2]"),
        ("a\nb", "a b"),
    ],
)
def test_latex_is_escaped(cell: str, expected: str) -> None:
    assert to_latex(Table(["a"], [[cell]], "l")).splitlines()[4] == expected + r" \\"
