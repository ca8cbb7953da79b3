"""Figures of what training logs say of the trust region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from reports.rendering import figures
from reports.rendering.figure_style import style, themed
from reports.rendering.figures import Look

_LABELS = {
    "kl": "KL per update / delta",
    "predicted": "measured / predicted KL",
    "truncated": "truncated weights",
    "projected": "projected samples",
}
# Of the ratios: the meaning of 1, and the powers of two that the axis reaches at least.
_ONE = {"kl": "delta", "predicted": "as predicted"}
_REACH = {"kl": (-2, 1), "predicted": (-1, 1)}
_MAX_TICKS = 6
_GUIDE: dict[str, Any] = {
    "color": "#555555",
    "linewidth": 1.2,
    "linestyle": (0, (1, 1.5)),
    "zorder": 1.5,
}
_SMALL_PANEL_SIZE = (3.4, 2.5)  # inches; of many


def over_steps(curves: pd.DataFrame, quantity: str, styles: Mapping[str, Look]) -> Figure:
    """A panel for each environment: a line and a band over the steps for each label.

    Ratios share one logarithmic axis over all panels, with powers of two as its ticks.

    :param curves: the rows of ``quantity`` of :attr:`reports.data.diagnostics.Measured.over_steps`
    :param quantity: a ratio, ``kl`` or ``predicted``, or a share, ``truncated`` or ``projected``
    :param styles: as :func:`reports.rendering.figures.looks` gives them
    """
    is_ratio = quantity in _ONE
    guides = [Line2D([], [], label=_ONE[quantity], **_GUIDE)] if is_ratio else []
    with themed():
        figure, axes = _panels(curves, styles, _LABELS[quantity], guides, share_y=is_ratio)
        for env_id, ax in axes.items():
            rows = curves[curves["env_id"] == env_id].rename(columns={"value": "mean"})
            figures.draw_panel(ax, rows, styles)
            if is_ratio:
                ax.axhline(1.0, **_GUIDE)
                _ratio_axis(ax, curves, *_REACH[quantity])
            else:
                ax.set_ylim(bottom=0)
                ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def _panels(
    curves: pd.DataFrame,
    styles: Mapping[str, Look],
    y: str,
    guides: Sequence[Line2D],
    share_y: bool,
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
    legend_columns = figures.n_legend_columns(names, style().width(columns * panel_width))
    legend_rows = -(-len(handles) // legend_columns)
    figure = figures.new_figure(
        columns * panel_width, rows * panel_height + 0.25 * (1 + legend_rows)
    )
    axes = list(figure.subplots(rows, columns, sharey=share_y, squeeze=False).flat)
    for position, ax in enumerate(axes):
        if position >= len(env_ids):
            ax.set_visible(False)
            continue
        if len(env_ids) > 1 or not style().is_for_paper:
            ax.set_title(env_ids[position])
        if position + columns >= len(env_ids):
            ax.set_xlabel("environment steps")
        if position % columns == 0:
            ax.set_ylabel(y)
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns)
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


def _ratio_axis(ax: Axes, curves: pd.DataFrame, lowest: int, highest: int) -> None:
    """Logarithmic, from ``2**lowest`` to ``2**highest`` or as far as any of the panels needs.

    :param curves: of all panels
    """
    values = curves[["low", "value", "high"]].to_numpy(dtype=np.float64)
    exponents = np.log2(values[values > 0])
    low = min([lowest, *exponents]) - 0.15
    high = max([highest, *exponents]) + 0.15
    # Where powers of two, or of four, are too many, those of ten are easier to read.
    ranges = {base: np.array([low, high]) / math.log2(base) for base in (2.0, 4.0, 10.0)}
    powers = {base: range(math.ceil(a), math.floor(b) + 1) for base, (a, b) in ranges.items()}
    base = next((base for base in (2.0, 4.0) if len(powers[base]) <= _MAX_TICKS), 10.0)
    ticks = [base**power for power in powers[base]]
    ax.set_yscale("log")
    ax.set_ylim(2.0**low, 2.0**high)
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
