"""Figures of what training logs say of the trust region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from PIL import Image

from reports import figures
from reports.figures import THEME, Look

_LABELS = {
    "kl": "KL per update / delta",
    "truncated": "truncated weights",
    "projected": "projected samples",
}
_GUIDE: dict[str, Any] = {
    "color": "#555555",
    "linewidth": 1.2,
    "linestyle": (0, (1, 1.5)),
    "zorder": 1.5,
}
# Labels that have the same predicted KL all the time stand side by side, this factor apart.
_APART = 1.08
_SMALL_PANEL_SIZE = (3.4, 2.5)  # inches; of many


def over_steps(curves: pd.DataFrame, quantity: str, styles: Mapping[str, Look]) -> Figure:
    """A panel for each environment: a line and a band over the steps for each label.

    :param curves: the rows of ``quantity`` of :attr:`reports.diagnostic_data.Measured.over_steps`
    :param quantity: ``kl``, on a logarithmic axis, or a share, ``truncated`` or ``projected``
    """
    guides = {"kl": [Line2D([], [], label="delta", **_GUIDE)]}.get(quantity, [])
    with mpl.rc_context(THEME):
        figure, axes = _panels(curves, styles, "environment steps", _LABELS[quantity], guides)
        for env_id, ax in axes.items():
            rows = curves[curves["env_id"] == env_id].rename(columns={"middle": "mean"})
            figures.draw_panel(ax, rows, styles)
            if quantity == "kl":
                ax.axhline(1.0, **_GUIDE)
                ax.set_yscale("log")
                ax.set_ylim(*_wide(*ax.get_ylim(), factor=5))
                _number_decades(ax.yaxis)
            else:
                ax.set_ylim(bottom=0)
                ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def predicted(bins: pd.DataFrame, styles: Mapping[str, Look]) -> Figure:
    """A panel for each environment: the measured KL by the predicted one, both logarithmic.

    :param bins: as :attr:`reports.diagnostic_data.Measured.by_predicted`
    """
    guide = Line2D([], [], label="measured = predicted", **_GUIDE)
    with mpl.rc_context(THEME):
        figure, axes = _panels(bins, styles, "predicted KL (nats)", "measured KL (nats)", [guide])
        for env_id, ax in axes.items():
            rows = bins[bins["env_id"] == env_id]
            _draw_predicted(ax, rows, styles)
            ends = _wide(rows["predicted"].min() / 1.6, rows["predicted"].max() * 1.6, factor=9)
            ax.plot(ends, ends, **_GUIDE)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlim(*ends)
            _number_decades(ax.xaxis)
            _number_decades(ax.yaxis)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As :func:`reports.figures.save`, the PNG with a palette of 64 colours.

    These figures have a panel for every environment, and few colours: that makes the file a quarter
    as large.
    """
    figures.save(figure, path)
    png = path.with_name(path.name + ".png")
    with Image.open(png) as image:
        resolution = image.info["dpi"]
        small = image.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    small.save(png, optimize=True, dpi=resolution)


def _draw_predicted(ax: Axes, rows: pd.DataFrame, styles: Mapping[str, Look]) -> None:
    groups = list(rows.groupby("label", sort=True))
    single = [label for label, group in groups if len(group) == 1]
    for label, group in groups:
        look = styles[str(label)]
        style = figures.line_style(look)
        if len(group) > 1:
            ax.plot(group["predicted"], group["middle"], **style)
            figures.draw_band(ax, group["predicted"], group, look)
        else:
            beside = _APART ** (single.index(label) - (len(single) - 1) / 2)
            row = group.iloc[0]
            at = row["predicted"] * beside
            ax.vlines(at, row["low"], row["high"], color=look.colour, linewidth=1.8)
            ax.plot(at, row["middle"], **style)


def _panels(
    curves: pd.DataFrame,
    styles: Mapping[str, Look],
    x: str,
    y: str,
    guides: Sequence[Line2D],
) -> tuple[Figure, dict[str, Axes]]:
    """Empty panels by their environments, and the legend below them."""
    env_ids = sorted(curves["env_id"].unique())
    columns = figures.n_columns(len(env_ids))
    rows = -(-len(env_ids) // columns)
    panel_width, panel_height = figures.PANEL_SIZE if len(env_ids) <= 4 else _SMALL_PANEL_SIZE
    if len(env_ids) == 1:
        panel_width, panel_height = figures.SINGLE_PANEL_SIZE
    handles = [*_handles(curves, styles), *guides]
    names = [str(handle.get_label()) for handle in handles]
    legend_columns = figures.n_legend_columns(names, columns * panel_width)
    legend_rows = -(-len(handles) // legend_columns)
    figure = figures.new_figure(
        columns * panel_width, rows * panel_height + 0.25 * (1 + legend_rows)
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for position, ax in enumerate(axes):
        if position >= len(env_ids):
            ax.set_visible(False)
            continue
        ax.set_title(env_ids[position])
        if position + columns >= len(env_ids):
            ax.set_xlabel(x)
        if position % columns == 0:
            ax.set_ylabel(y)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=legend_columns, handlelength=3.6
    )
    return figure, dict(zip(env_ids, axes, strict=False))


def _handles(curves: pd.DataFrame, styles: Mapping[str, Look]) -> list[Artist]:
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            label=f"{label}, {figures.seeds_text(group['seeds'])}",
            **figures.line_style(styles[str(label)]),
        )
        for label, group in curves.groupby("label", sort=True)
    ]
    # A figure is often shown without its caption.
    band = Patch(facecolor="#dddddd", edgecolor="#aaaaaa", label="5% to 95% of updates")
    return [*handles, band]


def _wide(low: float, high: float, factor: float) -> tuple[float, float]:
    """The ends of a logarithmic axis, ``factor`` apart or more: small changes are to look small."""
    missing = max(1.0, np.sqrt(factor * low / high))
    return low / missing, high * missing


def _number_decades(axis: Axis) -> None:
    """Plain numbers; between the powers of ten, too, where there are few of these."""
    low, high = axis.get_view_interval()
    between = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
