"""Learning curves as figures: one look for the same label everywhere, in colour and in grey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from benchmarks import figure_files
from benchmarks.names import in_natural_order
from benchmarks.storage import naming
from reports.rendering.figure_style import for_paper, style, themed

# Hues of Okabe and Ito's (safe for the common colour-vision deficiencies), the five of RESERVED at
# lightnesses far apart, so that they are different greys as well; dashes and markers tell lines
# apart without any colour.
COLOURS = ["#0A4F96", "#E69F00", "#0F8057", "#CC66AA", "#611327", "#56B4E9", "#444444"]
DASHES: list[tuple[float, tuple[float, ...]]] = [
    (0, ()),
    (0, (5, 1.6)),
    (0, (1.3, 1.3)),
    (0, (6, 1.6, 1.3, 1.6)),
    (0, (6, 1.6, 1.3, 1.3, 1.3, 1.6)),
]
MARKERS = ["o", "s", "^", "D", "v"]

# These keep their look from one report to the next.
RESERVED = ["npg", "ppo", "trpo", "acer", "a2c"]

# Inches; a panel that stands alone is larger.
PANEL_SIZE = (4.4, 3.2)
SINGLE_PANEL_SIZE = (8.0, 3.9)
MARKERS_PER_LINE = 7

# From how many seconds on an axis is in which unit, and that unit in seconds.
_UNITS = [(7_200.0, 3_600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds")]


@dataclass(frozen=True)
class Look:
    """How one label is drawn, in every figure of a report."""

    colour: str
    dashes: tuple[float, tuple[float, ...]]
    marker: str


def steps_text(steps: float) -> str:
    """``250k`` or ``1.5M``; below a thousand the number itself."""
    if abs(steps) >= 1e6:
        return f"{steps / 1e6:g}M"
    return f"{steps / 1e3:g}k" if abs(steps) >= 1e3 else f"{steps:g}"


def time_unit(seconds: float) -> tuple[float, str]:
    """A unit in which so long a time is a short number: in seconds, and its name."""
    return next((size, name) for least, size, name in _UNITS if seconds >= least)


def value_text(value: float) -> str:
    """A return at an axis: ``1,500``."""
    return f"{value:,.10g}"


@dataclass(frozen=True)
class Axis:
    """The x axis of learning curves: a column of theirs, its label, and how it is written.

    ``values``: the label of the y axis.
    """

    column: str
    label: str
    text: Callable[[float], str]
    values: str = "evaluation return"


STEPS = Axis("timesteps", "environment steps", steps_text)


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """A look for each label; the well-known algorithms have the same one in every report."""
    unique = in_natural_order(labels)
    slots = {label: RESERVED.index(label) for label in unique if label in RESERVED}
    free = (slot for slot in range(len(unique) + len(RESERVED)) if slot not in slots.values())
    # A variant such as "npg (critic=adam)" takes what is free, from the front.
    slots.update((label, next(free)) for label in unique if label not in slots)
    return {label: _look(slots[label]) for label in unique}


def learning_curves(
    curves: pd.DataFrame,
    styles: Mapping[str, Look],
    axis: Axis = STEPS,
    runs: pd.DataFrame | None = None,
) -> Figure:
    """A panel for each environment and one legend, with the number of seeds, below them.

    :param curves: as :func:`reports.data.scores.learning_curves` returns them
    :param styles: as :func:`looks` returns them, for all labels of the report
    :param runs: evaluations with the axis's column, to draw each run as a thin line, too; None: the
        means alone
    """
    env_ids = sorted(curves["env_id"].unique())
    columns = n_columns(len(env_ids))
    rows = -(-len(env_ids) // columns)
    panel_width, panel_height = PANEL_SIZE if len(env_ids) > 1 else SINGLE_PANEL_SIZE
    width = columns * panel_width
    with themed():
        handles = _legend_handles(curves, styles)
        names = [str(handle.get_label()) for handle in handles]
        legend_columns = n_legend_columns(names, style().width(width))
        legend_rows = -(-len(handles) // legend_columns)
        figure = new_figure(width, rows * panel_height + 0.25 * (1 + legend_rows))
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, env_id in zip(axes, env_ids, strict=False):
            if runs is not None:
                _draw_runs(ax, runs[runs["env_id"] == env_id], styles, axis)
            draw_panel(ax, curves[curves["env_id"] == env_id], styles, axis)
            if len(env_ids) > 1 or not style().is_for_paper:
                ax.set_title(env_id)
        for ax in axes[len(env_ids) :]:
            ax.set_visible(False)
        _label_outer_axes(axes[: len(env_ids)], columns, axis)
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns)
    return figure


def _draw_runs(ax: Axes, runs: pd.DataFrame, styles: Mapping[str, Look], axis: Axis) -> None:
    """A thin line for each run of one environment."""
    for (label, _), run in runs.groupby(["label", "seed"], sort=True):
        ordered = run.sort_values(axis.column)
        ax.plot(
            ordered[axis.column],
            ordered["return_mean"],
            color=styles[str(label)].colour,
            linewidth=0.8 * style().lines,
            alpha=0.5,
        )


def draw_panel(
    ax: Axes, curves: pd.DataFrame, styles: Mapping[str, Look], axis: Axis = STEPS
) -> None:
    """Mean line and band of every label of one environment."""
    labels = in_natural_order(curves["label"])
    for position, label in enumerate(labels):
        look, curve = styles[label], curves[curves["label"] == label]
        where = curve[axis.column].to_numpy(dtype=np.float64)
        ax.plot(
            where,
            curve["mean"].to_numpy(),
            markevery=marked(len(where), position, len(labels)),
            label=label,
            **line_style(look),
        )
        draw_band(ax, where, curve, look)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=style().n_ticks, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: axis.text(value)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: value_text(value)))
    ax.margins(x=0.02)


def marked(n_points: int, position: int, n_curves: int) -> slice:
    """Which points of a curve have a marker, by its position among the curves of a panel."""
    spacing = max(1, round(n_points / MARKERS_PER_LINE))
    # Shifted from line to line, so that markers of close curves do not cover each other.
    return slice(position * spacing // n_curves, None, spacing)


def save_for_paper(draw: Callable[[], Figure], path: Path) -> None:
    """``path`` with the ending ``.pdf``, as a paper has it, free of dates.

    :param draw: draws the figure
    """
    file = path.with_name(path.name + ".pdf")
    with for_paper(), themed(), naming(file):
        draw().savefig(file, metadata={"CreationDate": None})


def save(figure: Figure, path: Path, colours: int | None = None) -> None:
    """``path`` with the endings ``.png`` and ``.svg``, free of dates.

    :param colours: in the palette of the PNG, which makes the file of a figure with many panels
        and few colours a quarter as large; None: any number
    """
    with themed():
        files = {".png": figure_files.png(figure, colours), ".svg": figure_files.svg(figure)}
    for ending, content in files.items():
        file = path.with_name(path.name + ending)
        with naming(file):
            file.write_bytes(content)


def seeds_text(seeds: pd.Series[int]) -> str:
    """``1 seed``, ``3 seeds``, or ``2–3 seeds`` where the number is not the same everywhere."""
    fewest, most = int(seeds.min()), int(seeds.max())
    return f"{fewest}–{most} seeds" if fewest < most else count_text(most)


def count_text(seeds: int) -> str:
    """``1 seed``, ``3 seeds``."""
    return "1 seed" if seeds == 1 else f"{seeds:,} seeds"


def _look(slot: int) -> Look:
    return Look(
        COLOURS[slot % len(COLOURS)],
        # In the next round each marker has other dashes.
        DASHES[(slot + slot // len(MARKERS)) % len(DASHES)],
        MARKERS[slot % len(MARKERS)],
    )


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches on the screen, to be filled within :func:`themed`."""
    size = style().width(width), style().heights * height
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def n_columns(panels: int) -> int:
    """Wide rather than tall, and no row with a single panel left over where it can be helped."""
    if panels <= 3:
        return panels
    most = style().most_columns
    return 2 if panels == 4 else min(most, -(-panels // -(-panels // most)))


def _label_outer_axes(axes: Sequence[Axes], columns: int, axis: Axis) -> None:
    for position, ax in enumerate(axes):
        if position + columns >= len(axes):
            ax.set_xlabel(axis.label)
        if position % columns == 0:
            ax.set_ylabel(axis.values)


def _legend_handles(curves: pd.DataFrame, styles: Mapping[str, Look]) -> list[Artist]:
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            label=f"{label}, {seeds_text(curves.loc[curves['label'] == label, 'seeds'])}",
            **line_style(styles[label]),
        )
        for label in in_natural_order(curves["label"])
    ]
    if (curves["seeds"] > 1).any():
        # A figure is often shown without its caption.
        handles.append(Patch(facecolor="#dddddd", edgecolor="#aaaaaa", label="95% interval"))
    return handles


def n_legend_columns(labels: Sequence[str], width: float) -> int:
    """As many as fit into ``width`` inches, the longest label deciding."""
    column = style().text * (0.95 + 0.085 * max(len(label) for label in labels))
    return min(len(labels), max(1, int(width / column)))


def draw_band(ax: Axes, where: ArrayLike, interval: pd.DataFrame, look: Look) -> None:
    """Fill the interval around a line.

    :param where: positions on the x axis
    :param interval: with the columns ``low`` and ``high``
    """
    ax.fill_between(
        np.asarray(where),
        interval["low"].to_numpy(),
        interval["high"].to_numpy(),
        facecolor=to_rgba(look.colour, 0.14),
        # An edge, since overlapping bands blend into one.
        edgecolor=to_rgba(look.colour, 0.45),
        linewidth=0.7,
    )


def line_style(look: Look) -> dict[str, Any]:
    """How matplotlib draws a line of that look."""
    return {
        "color": look.colour,
        "linestyle": look.dashes,
        "linewidth": 1.8 * style().lines,
        "marker": look.marker,
        "markersize": 4.5 * style().lines,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6 * style().lines,
    }
