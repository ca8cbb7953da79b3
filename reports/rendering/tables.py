"""Tables that read well in Markdown source as well as rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmarks.names import markdown, plain, restored
from benchmarks.numbers import form_with, forms_of

_LONGEST_LINE = 20_000  # characters of a command, which one may want to give again


@dataclass(frozen=True)
class Table:
    """Cells as text. ``align`` has one letter a column: ``l`` or ``r``.

    :raises ValueError: a row, or ``align``, whose length is not that of ``headers``
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str

    def __post_init__(self) -> None:
        widths = {len(self.headers), len(self.align), *(len(row) for row in self.rows)}
        if len(widths) > 1 or set(self.align) - {"l", "r"}:
            raise ValueError(
                f"headers, align (of 'l' and 'r') and every row must have one length, got "
                f"{len(self.headers)} headers, align={self.align!r} and rows of "
                f"{sorted({len(row) for row in self.rows})} cells"
            )

    def markdown(self) -> str:
        """The table with its columns padded to one width, numbers to the right."""
        lines = [[_escaped(cell) for cell in line] for line in (self.headers, *self.rows)]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.headers))]
        rule = [
            "-" * (width - 1) + ":" if side == "r" else "-" * width
            for width, side in zip(widths, self.align, strict=True)
        ]
        header, *rows = [self._padded(line, widths) for line in lines]
        return "\n".join(_line(cells) for cells in (header, rule, *rows))

    def _padded(self, line: Sequence[str], widths: Sequence[int]) -> list[str]:
        return [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(line, widths, self.align, strict=True)
        ]


def estimate_cells(
    mean: np.ndarray, low: np.ndarray, high: np.ndarray, bold: np.ndarray
) -> list[str]:
    """A column of ``mean [low, high]``, its numbers and brackets one below the other.

    All arrays have the shape ``(n_rows,)``; where ``low`` is NaN the cell says ``(1 seed)``, and
    where ``bold`` is true the mean is bold. Means whose intervals do not overlap are told apart.
    """
    estimates = list(zip(mean, low, high, strict=True))
    forms = forms_of(estimates, separate(estimates))
    means, lows, highs = (
        _column(["" if np.isnan(x) else form.text(x) for x, form in zip(ends, forms, strict=True)])
        for ends in (mean, low, high)
    )
    mark = "  " if bold.any() else ""
    cells = []
    for i in range(len(mean)):
        value = means[i].strip()
        shown = f"**{value}**" if bold[i] else f"{mark}{value}{mark}"
        interval = "(1 seed)" if np.isnan(low[i]) else f"[{lows[i]}, {highs[i]}]"
        cells.append((shown.rjust(len(means[i]) + 2 * len(mark)), interval))
    width = max(len(interval) for _, interval in cells)
    return [f"{shown} {interval.ljust(width)}" for shown, interval in cells]


def steps_cells(
    median: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    budget: np.ndarray,
    seeds: np.ndarray,
) -> list[str]:
    """A column of ``median (lowest, highest)`` in steps, its numbers one below the other.

    All arrays have the shape ``(n_rows,)``. Infinitely many steps are ``> budget``; where all three
    are infinite the cell says ``not within budget``, and where ``seeds`` is 1 ``(1 seed)``.
    """
    never = np.isinf(lowest)
    medians, lows, highs = (
        _column([_steps_text(*row) for row in zip(steps, budget, never, strict=True)])
        for steps in (median, lowest, highest)
    )
    width = len(f"({lows[0]}, {highs[0]})")
    cells = []
    for i in range(len(median)):
        if never[i]:
            cells.append(f"not within {budget[i]:,.0f}")
        else:
            spread = "(1 seed)" if seeds[i] == 1 else f"({lows[i]}, {highs[i]})"
            cells.append(f"{medians[i]} {spread.ljust(width)}")
    return cells


def separate(estimates: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The places of each two estimates whose intervals do not overlap.

    :param estimates: of each value, lower and upper end, NaN where there is no interval
    """
    return [
        (i, j)
        for (i, (_, low_i, high_i)), (j, (_, low_j, high_j)) in combinations(
            enumerate(estimates), 2
        )
        if low_i > high_j or low_j > high_i
    ]


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if seconds < 10:
        return f"{form_with(1, seconds).text(seconds)} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def code(text: str) -> str:
    """``text`` verbatim, on one line; a backtick in it would end the verbatim part."""
    return f"`{restored(plain(text)).replace('`', chr(39))}`"


def code_block(lines: Sequence[str]) -> str:
    """Lines verbatim, one below the other."""
    shown = [restored(plain(line, _LONGEST_LINE)) for line in lines]
    # Longer than any run of backticks in them, which would end it.
    longest = max([2, *map(len, re.findall("`+", "\n".join(shown)))])
    fence = "`" * (longest + 1)
    return "\n".join([fence, *shown, fence])


def _steps_text(steps: float, budget: float, never: bool) -> str:
    """Empty in a row that shows no number, so that it takes no width."""
    if never:
        return ""
    return f"> {budget:,.0f}" if np.isinf(steps) else f"{steps:,.0f}"


def _column(texts: Sequence[str]) -> list[str]:
    width = max(len(text) for text in texts)
    return [text.rjust(width) for text in texts]


def _escaped(cell: str) -> str:
    return markdown(cell.replace("|", r"\|").replace("\n", " "))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
