"""How figures look on a page of a report, and how in a paper: sizes, fonts and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl

from benchmarks import figure_theme

THEME = figure_theme.THEME | {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "center",
    "axes.labelsize": 10,
    "axes.labelcolor": "#222222",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "figure.dpi": 150,
    "legend.handlelength": 3.6,
}

_PAPER_THEME = THEME | {
    # Matplotlib ships with it, it looks like the Times of most conferences' styles, and it has all
    # letters and signs that reports use; Computer Modern, as it is shipped, lacks dashes and Greek.
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "normal",
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.markersize": 3,
    # TrueType, which publishers ask for: no Type 3 fonts.
    "pdf.fonttype": 42,
}

# Inches; a figure that is wider than one panel on a page takes both columns of a paper.
_COLUMN, _BOTH_COLUMNS = 3.25, 6.75
_WIDEST_SINGLE = 8.0


@dataclass(frozen=True)
class FigureStyle:
    """One of :data:`SCREEN` and :data:`PAPER`.

    ``theme``: for matplotlib. ``text``, ``lines`` and ``heights``: how wide text, how thick lines
    and how high figures are, by those on the screen. ``n_ticks``: at most, on an axis.
    ``most_columns``: of panels, at most.
    """

    theme: Mapping[Any, Any]
    text: float = 1.0
    lines: float = 1.0
    heights: float = 1.0
    n_ticks: int = 6
    most_columns: int = 4

    @property
    def is_for_paper(self) -> bool:
        """Whether a caption stands below the figure, and says what a title would."""
        return self is PAPER

    def width(self, width: float) -> float:
        """The width of a figure, in inches, that has this one on the screen."""
        if not self.is_for_paper:
            return width
        return _COLUMN if width <= _WIDEST_SINGLE else _BOTH_COLUMNS


SCREEN = FigureStyle(THEME)
PAPER = FigureStyle(_PAPER_THEME, 0.6, 0.6, 0.65, n_ticks=4, most_columns=3)

_current: ContextVar[FigureStyle] = ContextVar("figure_style", default=SCREEN)


def style() -> FigureStyle:
    """That of the figures that are being drawn."""
    return _current.get()


def themed() -> AbstractContextManager[None]:
    """Within it, matplotlib draws in the current style."""
    return mpl.rc_context(dict(style().theme))


@contextmanager
def for_paper() -> Iterator[None]:
    """Within it, figures are drawn and saved as they are for a paper."""
    token = _current.set(PAPER)
    try:
        yield
    finally:
        _current.reset(token)
