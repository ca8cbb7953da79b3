"""Figures of what is aggregated over environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter

from benchmarks.statistics import Estimate
from reports.rendering.figure_style import style, themed
from reports.rendering.figures import (
    Look,
    count_text,
    draw_band,
    line_style,
    n_legend_columns,
    new_figure,
    steps_text,
    time_unit,
)

_PANEL_WIDTH = 2.6  # inches
_ROW_HEIGHT = 0.42
_BARS = "bars: 95% intervals over seeds"
_SCORE = "normalised score\n(higher is better)"
_AXES = {"optimality gap": "shortfall below 1\n(lower is better)"}


def aggregates(table: pd.DataFrame, styles: Mapping[str, Look]) -> Figure:
    """A panel for each aggregate: a mark and its 95% interval for each label.

    A label with one seed says so, since a mark without a bar would look exact.

    :param table: as :func:`reports.data.aggregates.aggregate_table` returns it
    """
    names = list(table["aggregate"].unique())
    first = table[table["aggregate"] == names[0]].sort_values("value", ascending=False)
    labels = list(map(str, first["label"]))
    seeds = dict(zip(table["label"], table["seeds"], strict=True))
    with themed():
        height = 1.1 + _ROW_HEIGHT * len(labels)
        figure = new_figure(_PANEL_WIDTH * len(names) + 1.0, height)
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for ax, name in zip(panels, names, strict=True):
            rows = table[table["aggregate"] == name].set_index("label").loc[labels]
            _draw_intervals(ax, rows, labels, styles, seeds)
            ax.set_title(name)
            ax.set_xlabel(_AXES.get(name, _SCORE))
        _explain_bars(figure, table)
    return figure


def _explain_bars(figure: Figure, table: pd.DataFrame) -> None:
    """Say what bars are, if there are any, since a page is often shown without its captions."""
    if table["low"].notna().any() and not style().is_for_paper:
        figure.suptitle(_BARS, x=0.99, ha="right", fontsize=9)


def _draw_intervals(
    ax: Axes,
    rows: pd.DataFrame,
    labels: Sequence[str],
    styles: Mapping[str, Look],
    seeds: Mapping[str, int],
) -> None:
    for position, label in enumerate(labels):
        look, row = styles[label], rows.loc[label]
        if np.isfinite(row["low"]):
            ax.barh(
                position,
                row["high"] - row["low"],
                left=row["low"],
                height=0.5,
                color=to_rgba(look.colour, 0.35),
                edgecolor=look.colour,
                linewidth=0.8,
            )
        ax.plot(row["value"], position, look.marker, color=look.colour, markeredgecolor="white")
    without_interval = set(rows.index[rows["low"].isna()])
    names = [_named(label, label not in without_interval, seeds) for label in labels]
    ax.set_yticks(range(len(labels)), names)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.grid(axis="y", visible=False)
    ax.use_sticky_edges = False  # a bar at the edge would look cut
    ax.margins(x=0.06)


def _named(label: str, has_interval: bool, seeds: Mapping[str, int]) -> str:
    """``ppo (1 seed, no interval)``, or the label alone where a bar is drawn."""
    if has_interval:
        return label
    one_seed = "1 seed, " if seeds.get(label) == 1 else ""
    return f"{label}\n({one_seed}no interval)"


def profiles(
    table: pd.DataFrame, styles: Mapping[str, Look], seeds: Mapping[str, int] | None = None
) -> Figure:
    """Which share of runs is above a score, with bands.

    :param table: as :func:`reports.data.aggregates.profiles` returns it
    :param seeds: label to the number of its seeds, for the legend; None: not said
    """
    figure, ax = _curves(table, "score", styles, seeds or {})
    ax.axvline(1.0, color="#999999", linewidth=1.0, linestyle=":")
    ax.set_xlabel("normalised score τ (0: random policy, 1: reference)")
    ax.set_ylabel("share of runs above τ")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def efficiency(
    table: pd.DataFrame,
    styles: Mapping[str, Look],
    seeds: Mapping[str, int] | None = None,
    budget: int | None = None,
) -> Figure:
    """Interquartile mean of the scores against steps, or the share of the budget, with bands.

    :param table: as :func:`reports.data.aggregates.efficiency` returns it
    :param seeds: as for :func:`profiles`
    :param budget: the steps of every environment; None: they differ
    """
    scaled = table.assign(steps=table["share"] * (budget or 1.0))
    figure, ax = _curves(scaled, "steps", styles, seeds or {})
    ax.axhline(1.0, color="#999999", linewidth=1.0, linestyle=":")
    ax.set_xlabel("environment steps" if budget else "share of each environment's budget")
    ax.set_ylabel("interquartile mean of\nnormalised scores")
    steps = FuncFormatter(lambda value, _: steps_text(value))
    ax.xaxis.set_major_formatter(steps if budget else PercentFormatter(1.0))
    return figure


def over_time(
    table: pd.DataFrame, styles: Mapping[str, Look], seeds: Mapping[str, int] | None = None
) -> Figure:
    """Interquartile mean of the scores against the time of training, with bands.

    :param table: as :func:`reports.data.over_time.over_time` returns it
    :param seeds: as for :func:`profiles`
    """
    size, name = time_unit(float(table["seconds"].max()))
    scaled = table.assign(time=table["seconds"] / size)
    figure, ax = _curves(scaled, "time", styles, seeds or {})
    ax.axhline(1.0, color="#999999", linewidth=1.0, linestyle=":")
    ax.set_xlabel(f"training time ({name})")
    ax.set_ylabel("interquartile mean of\nnormalised scores")
    return figure


def _curves(
    table: pd.DataFrame, x: str, styles: Mapping[str, Look], seeds: Mapping[str, int]
) -> tuple[Figure, Axes]:
    """A figure with a line and a band for each label, and a legend."""
    with themed():
        figure = new_figure(8.0, 3.9)
        ax = figure.subplots()
        _draw_curves(ax, table, x, styles, seeds)
        _add_legend(figure, ax, table)
    return figure, ax


def _draw_curves(
    ax: Axes,
    table: pd.DataFrame,
    x: str,
    styles: Mapping[str, Look],
    seeds: Mapping[str, int],
) -> None:
    labels = sorted(table["label"].unique())
    for position, label in enumerate(labels):
        rows = table[table["label"] == label]
        look, spacing = styles[label], max(1, len(rows) // 7)
        style: dict[str, Any] = line_style(look)
        offset = position * spacing // len(labels)
        name = f"{label}, {count_text(seeds[label])}" if label in seeds else label
        ax.plot(rows[x], rows["value"], label=name, markevery=(offset, spacing), **style)
        draw_band(ax, rows[x], rows, look)
    ax.margins(x=0.02)


def _add_legend(figure: Figure, ax: Axes, table: pd.DataFrame) -> None:
    handles, _ = ax.get_legend_handles_labels()
    if table["low"].notna().any():
        handles.append(Patch(facecolor="#dddddd", edgecolor="#aaaaaa", label="95% interval"))
    if not style().is_for_paper:
        ax.legend(handles=handles, loc="best")
        return
    # A narrow panel has no room for it.
    columns = n_legend_columns([str(x.get_label()) for x in handles], figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def improvements(
    chances: Mapping[str, Estimate],
    baseline: str,
    styles: Mapping[str, Look],
    seeds: Mapping[str, int] | None = None,
) -> Figure:
    """The probability that a run of each label is better than one of the baseline.

    :param chances: label to that probability
    :param seeds: label to the number of its seeds, to say why there is no interval; None: not said
    """
    seeds = seeds or {}
    labels = sorted(chances, key=lambda label: -chances[label].value)
    rows = pd.DataFrame(
        [chances[label].numbers for label in labels], labels, columns=["value", "low", "high"]
    )
    with themed():
        figure = new_figure(8.0, 1.2 + _ROW_HEIGHT * len(labels))
        ax = figure.subplots()
        _draw_intervals(ax, rows, labels, styles, seeds)
        _mark_half(ax)
        ax.set_xlim(-0.02, 1.02)
        ax.xaxis.set_major_locator(MultipleLocator(0.25))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        against = f"{baseline} (1 seed)" if seeds.get(baseline) == 1 else baseline
        ax.set_xlabel(f"probability that a run is better than one of {against}")
        _explain_bars(figure, rows)
    return figure


def _mark_half(ax: Axes) -> None:
    """Draw a line where neither is better."""
    ax.axvline(0.5, color="#777777", linewidth=1.2, linestyle=(0, (1, 1.5)))
    ax.text(
        0.5,
        1.02,
        "no difference",
        transform=ax.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize=0.9 * mpl.rcParams["font.size"],
        color="#444444",
    )
