"""Tables in LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

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
    # Otherwise a closing quotation mark.
    '"': r"\texttt{\char34}",
    "–": "--",
    # Not known to pdfLaTeX.
    "≈": r"$\approx$",
    "−": "$-$",
}
# Grave, acute, circumflex, tilde, diaeresis, ring and cedilla: what every font of LaTeX has.
_ACCENTS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0327"


def to_latex(table: Table) -> str:
    r"""The table as a ``tabular`` of LaTeX, which needs ``\usepackage{booktabs}``.

    Values are aligned, and so are the brackets beside them, which have a column of their own.
    """
    columns = [_column(column) for column in table.columns]
    rows = zip(*(cells for _, _, cells in columns), strict=True)
    lines = [
        rf"\begin{{tabular}}{{{''.join(align for align, _, _ in columns)}}}",
        r"\toprule",
        _line([header for _, header, _ in columns]),
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


def _column(column: Column) -> tuple[str, str, list[str]]:
    """How a column is aligned, its heading and its cells.

    With intervals it is two columns for LaTeX below one heading, as close as words are.
    """
    shown, header = column.shown(), latex_of(column.header)
    values = [latex_of(Strong(cell.value) if cell.bold else cell.value) for cell in shown]
    if not any(cell.low for cell in shown):
        notes = [f" {_escaped(cell.note)}" if cell.note else "" for cell in shown]
        return column.align, header, [v + note for v, note in zip(values, notes, strict=True)]
    beside = _beside(shown, column.brackets)
    cells = [
        f"{value} & {spread}" if spread else _over_both(value)
        for value, spread in zip(values, beside, strict=True)
    ]
    return r"r@{\ }r", _over_both(header), cells


def _beside(shown: Sequence[Shown], brackets: tuple[str, str]) -> list[str]:
    """The intervals, or what stands in their place; empty without one."""
    opening, closing = map(_escaped, brackets)
    lows, highs = (
        _right_aligned([getattr(cell, end) for cell in shown]) for end in ("low", "high")
    )
    return [
        f"{opening}{low}, {high}{closing}" if cell.low else _escaped(cell.note)
        for cell, low, high in zip(shown, lows, highs, strict=True)
    ]


def _right_aligned(numbers: Sequence[str]) -> list[str]:
    """Numbers after as much empty space as the longest of them is longer."""
    longest = max(numbers, key=len)
    padding = [_escaped(longest[: len(longest) - len(number)]) for number in numbers]
    return [
        (rf"\phantom{{{space}}}" if space else "") + _escaped(number)
        for space, number in zip(padding, numbers, strict=True)
    ]


def _over_both(text: str) -> str:
    return rf"\multicolumn{{2}}{{r}}{{{text}}}"


def _line(cells: Iterable[str]) -> str:
    # The line break before it would take a star or a bracket at the beginning for its own.
    return re.sub(r"^[*[]", r"{\g<0>}", " & ".join(cells)) + r" \\"


def _escaped(text: str) -> str:
    """Text that LaTeX shows as it is: hyphens stay hyphens, and a minus is a minus sign."""
    shown = re.sub("-(?=-)", "-\0", visible(text))
    escaped = "".join(_ESCAPES.get(character) or _known(character) for character in shown)
    escaped = re.sub(r"(?<![\w.\-\0)])-(?=\.?\d)", "$-$", escaped)
    return escaped.replace("\0", "{}")


def _known(character: str) -> str:
    """A character as it is, if pdfLaTeX knows it; else also what it shows for it, its number."""
    if character.isascii() or _is_accented(character):
        return character
    return rf"\ifdefined\Umathchar {character}\else\texttt{{U+{ord(character):04X}}}\fi{{}}"


def _is_accented(character: str) -> bool:
    """Whether it is a letter of English below an accent of :data:`_ACCENTS`."""
    parts = unicodedata.normalize("NFD", character)
    return len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS and character <= "ž"
