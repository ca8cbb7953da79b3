"""Figures of studies: scores over a parameter's range, and how wide its good part is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from reports.rendering.figure_style import themed
from reports.rendering.figures import (
    PANEL_SIZE,
    SINGLE_PANEL_SIZE,
    Look,
    draw_band,
    line_style,
    n_legend_columns,
    new_figure,
)

_COLUMNS = 3
_ROW_HEIGHT = 0.42  # inches
_DEFAULT: dict[str, Any] = {"color": "#777777", "linewidth": 1.3, "linestyle": (0, (4, 2))}
_RANGE: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": "none"}
_GOOD: dict[str, Any] = {"facecolor": "#eef1dc", "edgecolor": "#c8cf9d"}
_INTERVAL: dict[str, Any] = {"facecolor": "#dddddd", "edgecolor": "#aaaaaa"}
_RING: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 12,
    "markerfacecolor": "none",
    "markeredgecolor": "#444444",
    "markeredgewidth": 1.4,
}
# On wider ranges powers of ten are ticks enough.
_FEW_DECADES = 2.5


@dataclass(frozen=True)
class Panel:
    """The scores of one study over the values of one parameter.

    ``parameter`` and ``score`` label the axes. ``algo``: decides the look. ``points``: ``value``
    and ``score``, of a sweep also the ends of intervals, ``low`` and ``high``. ``defaults``: values
    that are marked. ``scale``: panels that share it have the same heights. ``range``: its ends, on
    a logarithmic axis. ``choices``: what stands at the values 0, 1, ... ``good``: the ends of the
    good part of the range. ``best``: the value and score that are ringed.
    """

    title: str
    parameter: str
    score: str
    algo: str
    points: pd.DataFrame
    defaults: Sequence[float]
    scale: Hashable
    range: tuple[float, float] | None = None
    choices: Sequence[str] = ()
    good: tuple[float, float] | None = None
    best: tuple[float, float] | None = None


def sensitivity(panels: Sequence[Panel], styles: Mapping[str, Look]) -> Figure:
    """A panel for each sweep: score over value, with its interval, its good part and the default.

    :param styles: by algorithm
    """
    figure, axes = _panels(panels)
    with themed():
        for ax, panel in zip(axes, panels, strict=True):
            look, points = styles[panel.algo], panel.points
            if panel.good:
                ax.axvspan(*panel.good, zorder=0, **_GOOD)
            ax.plot(points["value"], points["score"], **line_style(look))
            draw_band(ax, points["value"], points, look)
        _finish(axes, panels)
        handles = [
            *_algorithm_handles(panels, styles),
            _default_handle(),
            Patch(label="within 10% of the best", **_GOOD),
        ]
        if any(panel.points["low"].notna().any() for panel in panels):
            handles.append(Patch(label="95% interval", **_INTERVAL))
        _add_legend(figure, handles)
    return figure


def trials(panels: Sequence[Panel], styles: Mapping[str, Look]) -> Figure:
    """A panel for each parameter that was not swept: a point for each completed trial.

    :param styles: by algorithm
    """
    figure, axes = _panels(panels)
    with themed():
        for ax, panel in zip(axes, panels, strict=True):
            style = {**line_style(styles[panel.algo]), "linestyle": "none", "markersize": 6}
            ax.plot(panel.points["value"], panel.points["score"], **style)
            if panel.best:
                ax.plot(*panel.best, **_RING)
        _finish(axes, panels)
        handles = _algorithm_handles(panels, styles, linestyle="none")
        best = Line2D([], [], label="best trial", **_RING)
        _add_legend(figure, [*handles, best, _default_handle()])
    return figure


def widths(rows: pd.DataFrame, styles: Mapping[str, Look]) -> Figure:
    """The widths of all sweeps with their intervals, one below the other.

    :param rows: one per sweep: ``label, algo``; in decades the width, ``decades``, the ends of its
        interval, ``low`` and ``high``, and the ``range`` that was swept; and ``is_open``, whether
        the width is a lower bound
    :param styles: by algorithm
    """
    with themed():
        figure = new_figure(8.0, 1.5 + _ROW_HEIGHT * len(rows))
        ax = figure.subplots()
        for position, row in enumerate(rows.to_dict("records")):
            _draw_width(ax, position, row, styles[row["algo"]])
        ax.set_yticks(range(len(rows)), rows["label"].tolist())
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("decades within 10% of the best score\n(wider: easier to choose)")
        handles: list[Artist] = [Patch(label="the range that was swept", **_RANGE)]
        if rows["low"].notna().any():
            handles.append(Patch(label="95% interval", **_INTERVAL))
        if rows["is_open"].any():
            label = "at least: reaches an end of the range"
            handles.append(
                Line2D([], [], linestyle="none", marker=">", color="#444444", label=label)
            )
        _add_legend(figure, handles)
    return figure


def _draw_width(ax: Axes, position: int, row: Mapping[Any, Any], look: Look) -> None:
    ax.barh(position, row["range"], height=0.5, zorder=1, **_RANGE)
    if np.isfinite(row["low"]):
        ax.barh(
            position,
            row["high"] - row["low"],
            left=row["low"],
            height=0.5,
            color=to_rgba(look.colour, 0.35),
            edgecolor=look.colour,
            linewidth=0.8,
            zorder=2,
        )
    ax.plot(
        row["decades"],
        position,
        ">" if row["is_open"] else look.marker,
        color=look.colour,
        markeredgecolor="white",
        markersize=8,
        zorder=3,
    )


def _panels(panels: Sequence[Panel]) -> tuple[Figure, list[Axes]]:
    """Empty panels with their titles and labels."""
    columns = min(_COLUMNS, len(panels))
    if len(panels) == 4:
        columns = 2  # no panel is left over
    rows = -(-len(panels) // columns)
    width, height = PANEL_SIZE if len(panels) > 1 else SINGLE_PANEL_SIZE
    with themed():
        # A parameter's label takes two lines.
        figure = new_figure(columns * width, rows * (height + 0.2) + 0.5)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, panel in zip(axes, panels, strict=False):
            # A study's name, where it is needed, can be longer than a panel is wide.
            ax.set_title(panel.title.replace(" (", "\n("), fontsize="medium")
            ax.set_xlabel(panel.parameter)
            ax.set_ylabel(panel.score.replace(", normalised", "\n(normalised)"))
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
    return figure, axes[: len(panels)]


def _finish(axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """Mark the defaults, and set the axes."""
    for ax, panel in zip(axes, panels, strict=True):
        for value in panel.defaults:
            ax.axvline(value, zorder=1, **_DEFAULT)
        if panel.choices:
            ax.set_xticks(range(len(panel.choices)), panel.choices)
        elif panel.range:
            _log_axis(ax, *panel.range)
    _share_heights(axes, panels)


def _share_heights(axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    groups: dict[Hashable, list[Axes]] = {}
    for ax, panel in zip(axes, panels, strict=True):
        groups.setdefault(panel.scale, []).append(ax)
    for group in groups.values():
        lows, highs = zip(*(ax.get_ylim() for ax in group), strict=True)
        for ax in group:
            ax.set_ylim(min(lows), max(highs))


def _log_axis(ax: Axes, low: float, high: float) -> None:
    """The whole range, with numbers that can be read off."""
    ax.set_xscale("log")
    ax.set_xlim(low / 1.2, high * 1.2)
    few = np.log10(high / low) < _FEW_DECADES
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _algorithm_handles(
    panels: Sequence[Panel], styles: Mapping[str, Look], **changed: Any
) -> list[Artist]:
    algorithms = sorted({panel.algo for panel in panels})
    return [
        Line2D([], [], label=algo, **{**line_style(styles[algo]), **changed}) for algo in algorithms
    ]


def _default_handle() -> Line2D:
    return Line2D([], [], label="default", **_DEFAULT)


def _add_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Below the panels, in as many columns as fit."""
    names = [str(handle.get_label()) for handle in handles]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=n_legend_columns(names, figure.get_figwidth()),
        handlelength=3.0,
    )
