"""The figure: gain on independent samples, by iterations or by the size of the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.figure_theme import THEME
from benchmarks.signal.report import Row, data_of
from benchmarks.signal.settings import PLAIN, as_dict
from benchmarks.storage import whole_file

# Okabe and Ito's colours; markers and dashes tell the lines apart without any colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "^", "s", "D", "P", "X")
_DASHES: tuple[Any, ...] = ((0, (5, 1.6)), (0, (1.3, 1.3)), (0, (6, 1.6, 1.3, 1.6)))
_PLAIN_COLOUR = "#444444"
_INCHES_PER_LETTER, _INCHES_PER_HANDLE, _INCHES_PER_ROW = 0.085, 0.7, 0.2  # of the legend
_NAMES = {"gae_lambda": "λ", "average": "batches averaged"}
_MOST_PANELS = 6


def save(rows: list[Row], title: str, path: Path) -> None:
    """Write the figure as PNG."""
    with mpl.rc_context(THEME), whole_file(path) as unfinished:
        draw(rows, title).savefig(unfinished, metadata={"Software": None})


def draw(rows: list[Row], title: str) -> Figure:
    """Gains with their intervals as bands.

    By iterations where there are several, a panel for each size of batch; else by batch size.
    """
    by_iterations = len({row.setting.solve.iterations for row in rows} - {None}) > 1
    panels = [[row for row in rows if row.setting.data == data] for data in data_of(rows)]
    panels = panels[:_MOST_PANELS] if by_iterations else [rows]
    width = 2.0 + 3.2 * max(len(panels), 2)
    figure = Figure(figsize=(width, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    varying = _varying(rows) - ({"iterations", "batch"} if by_iterations else {"batch"})
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, by_iterations, varying)
        if by_iterations:
            data = panel[0].setting.data
            times = f" × {data.average}" if data.average > 1 else ""
            ax.set_title(f"{data.batch:,}{times} samples")
            ax.set_xlabel("conjugate gradient iterations")
        else:
            ax.set_xlabel("samples in the batch")
    axes[0].set_ylabel("gain (1: the best direction)")
    figure.suptitle(f"{title}: gain on independent samples; bands: 95% intervals", fontsize=10.5)
    handles, labels = axes[0].get_legend_handles_labels()
    letters = max(map(len, labels))
    ncols = max(1, int(width / (_INCHES_PER_HANDLE + _INCHES_PER_LETTER * letters)))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(ncols, len(labels)))
    figure.set_figheight(3.6 + _INCHES_PER_ROW * math.ceil(len(labels) / ncols))
    return figure


def _varying(rows: list[Row]) -> set[str]:
    """The names of what differs between the rows, apart from the plain gradient."""
    settings = [as_dict(row.setting) for row in rows if row.setting.solve.solver != PLAIN]
    settings = settings or [as_dict(row.setting) for row in rows]
    return {name for name in settings[0] if len({each[name] for each in settings} - {None}) > 1}


def _draw_panel(ax: Axes, rows: list[Row], by_iterations: bool, varying: set[str]) -> None:
    lines: dict[tuple[bool, str], list[Row]] = {}
    for row in rows:
        is_plain = row.setting.solve.solver == PLAIN
        lines.setdefault((is_plain, _label(row, varying)), []).append(row)
    ticks = sorted({_x(row, by_iterations) for row in rows} - {0})
    looks, dashes = _looks(), cycle(_DASHES)
    for (is_plain, label), found in lines.items():
        look: dict[str, Any]
        if is_plain:
            look = {"color": _PLAIN_COLOUR, "linestyle": next(dashes)}
        else:
            colour, marker = next(looks)
            look = {"color": colour, "marker": marker, "markeredgecolor": "white"}
        found = sorted(found, key=lambda row: _x(row, by_iterations))
        x = [_x(row, by_iterations) for row in found]
        numbers = np.array([row.gain.numbers for row in found])
        if by_iterations and x == [0]:  # without iterations: the same everywhere
            x, numbers = [ticks[0], ticks[-1]], np.repeat(numbers, 2, axis=0)
        ax.plot(x, numbers[:, 0], label=label, **look)
        ax.fill_between(x, numbers[:, 1], numbers[:, 2], color=look["color"], alpha=0.15, lw=0)
    ax.axhline(0, color="#666666", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xticks(ticks)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _looks() -> Iterator[tuple[str, str]]:
    """Colours with markers: different ones for as many lines as there are pairs of them."""
    for shift in cycle(range(len(_MARKERS))):
        for i, colour in enumerate(_COLOURS):
            yield colour, _MARKERS[(i + shift) % len(_MARKERS)]


def _x(row: Row, by_iterations: bool) -> int:
    """The place of a row on the x axis; 0 where it has none."""
    return (row.setting.solve.iterations or 0) if by_iterations else row.setting.data.batch


def _label(row: Row, varying: set[str]) -> str:
    values = as_dict(row.setting)
    solver = values.pop("solver")
    parts = ["plain gradient" if solver == PLAIN else solver]
    parts += [
        f"{_NAMES.get(name, name)} {value if isinstance(value, str) else f'{value:,g}'}"
        for name, value in values.items()
        if name in varying and value is not None
    ]
    return ", ".join(parts)
