"""A :class:`reports.rendering.tables.Table` in the forms that other programs read: CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import pandas as pd

from benchmarks.names import csv_text, restored
from benchmarks.results import for_spreadsheets
from reports.rendering.tables import Table

_NUMBER = r"(?:> )?[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?"

# What reports.rendering.tables.estimate_cells and steps_cells write: a number, perhaps bold, and its spread.
ESTIMATE = re.compile(
    rf"\s*(?P<value>\*\*{_NUMBER}\*\*|{_NUMBER})\s+"
    rf"(?P<spread>[\[(]\s*(?P<low>{_NUMBER}),\s+(?P<high>{_NUMBER})[\])]|\(1 seed\))\s*"
)
_PLAIN_NUMBER = re.compile(_NUMBER)
_MARKED = re.compile(r"(?P<bold>\*\*(?P<strong>.+?)\*\*)|`(?P<code>[^`]*)`")

_LATEX = {
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
    "–": "--",
}


def estimate_columns(table: Table) -> list[bool]:
    """For each column whether it is of estimates, that is, has a cell such as ``9 [8, 10]``."""
    return [
        side == "r" and any(ESTIMATE.fullmatch(row[i]) for row in table.rows)
        for i, side in enumerate(table.align)
    ]


def to_csv(table: Table) -> str:
    """The table as CSV, one line a row and the headings first.

    A column of estimates becomes three: the value, ``… low`` and ``… high``, the last two empty
    where there is one seed. Numbers are without thousands separators; ``> 50000`` is a number that
    lies above, and what is not a number is the cell's text without Markdown's marks.
    """
    estimates = estimate_columns(table)
    lines = [_csv_headers(table, estimates)]
    for row in table.rows:
        line = []
        for cell, is_estimate in zip(row, estimates, strict=True):
            match = ESTIMATE.fullmatch(cell) if is_estimate else None
            if match:
                line += [_csv_text(match[part] or "") for part in ("value", "low", "high")]
            else:
                line += [_csv_text(cell), "", ""] if is_estimate else [_csv_text(cell)]
        lines.append(line)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def frame_csv(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """A frame as CSV, one line a row; its texts are nothing that a spreadsheet would compute."""
    cells = for_spreadsheets(frame)
    return cells.to_csv(index=False, float_format=float_format, lineterminator="\n")


def to_latex(table: Table) -> str:
    r"""The table as a ``tabular`` of LaTeX, which needs ``\usepackage{booktabs}``.

    Bold stays bold and code becomes ``\texttt``; everything else is escaped, so that it is shown
    as it is.
    """
    lines = [
        rf"\begin{{tabular}}{{{table.align}}}",
        r"\toprule",
        _latex_line(table.headers),
        r"\midrule",
        *(_latex_line(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _csv_headers(table: Table, estimates: Sequence[bool]) -> list[str]:
    headers = []
    for header, is_estimate in zip(table.headers, estimates, strict=True):
        name = _csv_text(header)
        headers += [name, f"{name} low", f"{name} high"] if is_estimate else [name]
    return headers


def _csv_text(cell: str) -> str:
    """Without marks and padding, and a number without thousands separators."""
    text = _MARKED.sub(lambda match: match["strong"] or match["code"] or "", cell)
    text = " ".join(text.split())
    return text.replace(",", "") if _PLAIN_NUMBER.fullmatch(text) else csv_text(text)


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(_latex_cell(cell) for cell in cells) + r" \\"


def _latex_cell(cell: str) -> str:
    text = " ".join(cell.split())
    if ESTIMATE.fullmatch(text):
        text = re.sub(r"([\[(]) ", r"\1", text)
    parts = []
    end = 0
    for match in _MARKED.finditer(text):
        parts.append(_latex_text(text[end : match.start()]))
        if match["bold"]:
            parts.append(rf"\textbf{{{_latex_text(match['strong'])}}}")
        else:
            parts.append(rf"\texttt{{{_latex_text(match['code'])}}}")
        end = match.end()
    parts.append(_latex_text(text[end:]))
    latex = "".join(parts)
    # A row that begins with a bracket would be an argument of the line break before it.
    return "{[}" + latex[1:] if latex.startswith("[") else latex


def _latex_text(text: str) -> str:
    """Escaped; a minus sign before a number is one, and two hyphens stay two."""
    escaped = "".join(
        _LATEX.get(character, character) for character in restored(text).replace("--", "-\0-")
    )
    escaped = re.sub(r"(?<![\w.\-\0)])-(?=\.?\d)", "$-$", escaped)
    return escaped.replace("\0", "{}")
