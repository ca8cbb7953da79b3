"""Tables in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

from benchmarks.names import visible
from benchmarks.tables import Code, Column, Inline, Link, Shown, Strong, Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "–": "--",
    # Not known to pdfLaTeX.
    "≈": r"$\approx$",
    "−": "$-$",
}


def to_latex(table: Table) -> str:
    r"""The table as a ``tabular`` of LaTeX, which needs ``\usepackage{booktabs}``."""
    rows = zip(*(_cells(column) for column in table.columns), strict=True)
    lines = [
        rf"\begin{{tabular}}{{{''.join(column.align for column in table.columns)}}}",
        r"\toprule",
        _line([latex_of(column.header) for column in table.columns]),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def latex_of(text: Inline) -> str:
    """Text within a line, in LaTeX."""
    if isinstance(text, str):
        return _escaped(text)
    if isinstance(text, Strong):
        return rf"\textbf{{{latex_of(text.text)}}}"
    if isinstance(text, Code):
        return rf"\texttt{{{_escaped(text.text)}}}"
    if isinstance(text, Link):
        return latex_of(text.text)
    return "".join(map(latex_of, text))


def _cells(column: Column) -> list[str]:
    return [_cell(shown, column.brackets) for shown in column.shown()]


def _cell(shown: Shown, brackets: tuple[str, str]) -> str:
    value = latex_of(Strong(shown.value) if shown.bold else shown.value)
    opening, closing = brackets
    beside = f"{opening}{shown.low}, {shown.high}{closing}" if shown.low else shown.note
    return f"{value} {_escaped(beside)}" if beside else value


def _line(cells: Iterable[str]) -> str:
    # The line break before it would take a star or a bracket at the beginning for its own.
    return re.sub(r"^[*[]", r"{\g<0>}", " & ".join(cells)) + r" \\"


def _escaped(text: str) -> str:
    """Text that LaTeX shows as it is: hyphens stay hyphens, and a minus is a minus sign."""
    shown = re.sub("-(?=-)", "-\0", visible(text))
    escaped = "".join(_ESCAPES.get(character, character) for character in shown)
    escaped = re.sub(r"(?<![\w.\-\0)])-(?=\.?\d)", "$-$", escaped)
    return escaped.replace("\0", "{}")
