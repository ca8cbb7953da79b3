"""What the figures of claims share."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike

from benchmarks.figure_theme import THEME

__all__ = ["BLUE", "COLOURS", "GREEN", "ORANGE", "logarithmic", "panels", "steps_axis", "with_band"]

# Okabe and Ito's, of different lightness, so that they are different greys as well.
BLUE, ORANGE, GREEN = "#0A4F96", "#E69F00", "#0F8057"
COLOURS = [BLUE, ORANGE, GREEN, "#CC66AA", "#611327", "#56B4E9"]
_PANEL = (4.2, 3.2)  # inches


def panels(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title, side by side."""
    with mpl.rc_context(THEME):
        width, height = _PANEL
        figure = Figure(figsize=(width * len(titles), height), layout="constrained")
        axes = list(figure.subplots(1, len(titles), squeeze=False)[0])
        for each, title in zip(axes, titles, strict=True):
            each.set_title(title)
    return figure, axes


def logarithmic(axis: Axis, form: str = "{x:,g}", ticks: Sequence[float] = ()) -> None:
    """Make an axis logarithmic, with plain numbers.

    :param form: how to write a number
    :param ticks: where to write one, if not at powers of ten
    """
    is_x = axis is axis.axes.xaxis
    (axis.axes.set_xscale if is_x else axis.axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(ticks) if len(ticks) else LogLocator(numticks=6))
    axis.set_major_formatter(StrMethodFormatter(form))
    axis.set_minor_formatter(NullFormatter())


def with_band(
    panel: Axes,
    x: ArrayLike,
    ends: Sequence[ArrayLike],
    look: str,
    colour: str,
    label: str | None = None,
) -> None:
    """A line with its interval as a band.

    :param ends: its values and those of the band's lower and upper edge, each of the shape of ``x``
    :param look: marker and dashes, as matplotlib writes them
    """
    value, low, high = ends
    panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.plot(x, value, look, color=colour, markersize=4, label=label)


def steps_axis(panel: Axes) -> None:
    """Make the x axis one of environment steps."""
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.set_xlabel("steps of the environment")
