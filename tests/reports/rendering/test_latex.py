r"""Tables in LaTeX, against results written by hand."""

from __future__ import annotations

import pytest

from benchmarks.statistics import Estimate
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
)
from reports.rendering.latex import to_latex


def test_latex_keeps_bold_and_minus_signs() -> None:
    estimates = [Estimate(4812.4, 4000, 5100), Estimate(-9, -31, 12), Estimate(3), "not run"]
    table = Table(
        [
            Text("algorithm", ["npg (critic=adam, n=2)", "ppo", "trpo", "a2c"]),
            Estimates("final_return", estimates, bold=[True, False, False, False]),
            Number("steps", [400_000, 50_000, 1_024, None], bold=[False, True, False, False]),
            Seconds("time", [130, 9.1, 4020, None]),
        ]
    )
    assert to_latex(table) == (
        "\\begin{tabular}{lr@{\\ }rrr}\n"
        "\\toprule\n"
        "algorithm & \\multicolumn{2}{r}{final\\_return} & steps & time \\\\\n"
        "\\midrule\n"
        "npg (critic=adam, n=2) & \\textbf{4,812} & [4,000, 5,100] & 400,000 & 2 min 10 s "
        "\\\\\n"
        "ppo & $-$9 & [\\phantom{4,}$-$31, \\phantom{5,1}12] & \\textbf{50,000} & 9.1 s \\\\\n"
        "trpo & 3 & (1 seed) & 1,024 & 1 h 07 min \\\\\n"
        "a2c & \\multicolumn{2}{r}{not run} & -- & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_latex_has_steps_and_fractions() -> None:
    steps = [StepsTaken(12_000, 9_000, 21_000, 50_000, 3), StepsTaken(9, 9, 9, 50_000, 1)]
    table = Table([Steps("steps", steps), Fraction("finished", [(4, 5), None])])
    assert to_latex(table).splitlines()[4:6] == [
        r"12,000 & (9,000, 21,000) & 4 of 5 \\",
        r"9 & (1 seed) & -- \\",
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("100% & $5 #1 a_b {c}", r"100\% \& \$5 \#1 a\_b \{c\}"),
        (r"a\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("> 5 | < 6 –", r"\textgreater{} 5 \textbar{} \textless{} 6 --"),
        ("≈ 0.1 (B − A)", r"$\approx$ 0.1 (B $-$ A)"),
        ("``x''", r"\textasciigrave{}\textasciigrave{}x\textquotesingle{}\textquotesingle{}"),
        (Code("n_steps"), r"\texttt{n\_steps}"),
        (Code("dict(**x)"), r"\texttt{dict(**x)}"),
        (Strong("-0.5"), r"\textbf{$-$0.5}"),
        ((Strong("a_"), " ", Link("b_", "https://example.org")), r"\textbf{a\_} b\_"),
        ("1e-05 CartPole-v1 2026-01-02", "1e-05 CartPole-v1 2026-01-02"),
        ("--seeds 3", "-{}-seeds 3"),
        ("---", "-{}-{}-"),
        ("[1, 2]", "{[}1, 2]"),
        ("**x** [1]", "{*}*x** [1]"),
        ("a\nb", "a b"),
        ("a\x1bb", r"a\textbackslash{}x1bb"),
    ],
)
def test_latex_is_escaped(cell: Inline, expected: str) -> None:
    assert to_latex(Table([Text("a", [cell])])).splitlines()[4] == expected + r" \\"
