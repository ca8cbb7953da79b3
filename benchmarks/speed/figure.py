"""The figure: where the time goes, and how it grows. Readable in grey."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.figure_theme import THEME
from benchmarks.speed.plan import (
    ACER,
    ACER_N_ENVS,
    ACER_N_STEPS,
    NPG,
    PFRL_ACER,
    POOL,
    POOL_NPG,
    SIMULATOR,
    TIANSHOU,
    TRPO,
    TRPO_LIMIT,
)
from benchmarks.speed.results import Results, Spread, phase_rows, update_rows
from benchmarks.speed.stopwatch import PHASES
from benchmarks.storage import whole_file

# Okabe and Ito's colours, which the common colour-vision deficiencies tell apart; markers, dashes
# and hatches do the same without any colour.
_PHASE_LOOKS = {
    "simulator": ("#444444", ""),
    "acting": ("#56B4E9", ""),
    "bookkeeping": ("#f2f2f2", "...."),
    "policy update": ("#0072B2", "////"),
    "critic update": ("#E69F00", "\\\\\\\\"),
    "joint update": ("#CC79A7", "xxxx"),
}
_LINES: dict[str, dict[str, Any]] = {
    NPG: {"color": "#0072B2", "marker": "o"},
    TRPO: {"color": "#009E73", "marker": "^", "linestyle": (0, (1.3, 1.3))},
    TIANSHOU: {"color": "#D55E00", "marker": "D", "linestyle": (0, (5, 1.6))},
    POOL_NPG: {"color": "#0072B2", "marker": "*", "markersize": 11, "linestyle": "none"},
    POOL: {"color": "#444444", "marker": "P", "markersize": 8, "linestyle": "none"},
    SIMULATOR: {"color": "#444444", "linestyle": (0, (6, 1.6, 1.3, 1.6))},
    ACER: {"color": "#CC79A7", "marker": "s"},
    PFRL_ACER: {"color": "#D55E00", "marker": "X", "markersize": 8, "linestyle": "none"},
}
_THEME = THEME | {"lines.markeredgecolor": "white", "hatch.linewidth": 0.6}


def save(results: Results, out: Path) -> None:
    """Write ``speed.png`` and ``speed.svg``."""
    with mpl.rc_context(_THEME):
        figure = draw(results)
        for name, metadata in (("speed.png", {"Software": None}), ("speed.svg", {"Date": None})):
            with whole_file(out / name) as unfinished:
                figure.savefig(unfinished, metadata=metadata)


def draw(results: Results) -> Figure:
    """Six panels.

    Phases of a step and rate by environments; updates by batch and by parameters; ACER's rate by
    environments and by the length of its segments.
    """
    figure = Figure(figsize=(11.5, 12.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    phases, rates, batches, widths, acer_envs, acer_lengths = figure.subplots(3, 2).flat
    _draw_phases(phases, results)
    _draw_rates(rates, results)
    rows = update_rows(results)
    by_batch = [row for row in rows if row["width"] == 64]
    _draw_growth(batches, by_batch, "samples", "Policy update by batch size (64-64)")
    usual = {row["samples"] for row in rows if row["width"] != 64}
    by_width = [row for row in rows if row["samples"] in usual]
    size = f"{max(usual, default=0):,}"
    _draw_growth(widths, by_width, "parameters", f"Policy update by parameters ({size} samples)")
    _draw_acer(acer_envs, results, "n_envs")
    _draw_acer(acer_lengths, results, "n_steps")
    return figure


def _draw_phases(ax: Axes, results: Results) -> None:
    rows = phase_rows(results)[::-1]
    labels = [f"{name}, {n} env{'s' if n > 1 else ''}" for n, name, _ in rows]
    left = np.zeros(len(rows))
    for phase in PHASES:
        widths = np.array([median[phase] for _, _, median in rows])
        colour, hatch = _PHASE_LOOKS[phase]
        ax.barh(
            labels,
            widths,
            left=left,
            label=phase,
            color=colour,
            hatch=hatch,
            edgecolor="#333333",
            linewidth=0.6,
            height=0.72,
        )
        left += widths
    for position, total in enumerate(left):
        ax.text(total, position, f" {total:,.0f}", va="center", fontsize=8.5)
    ax.set_title("Where the time of a step goes")
    ax.set_xlabel("microseconds per environment step")
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.09)
    _legend_below(ax, x=0.3, ncols=3)


def _draw_rates(ax: Axes, results: Results) -> None:
    points: dict[str, list[tuple[int, Spread]]] = {name: [] for name in _LINES}
    for block in results.trainings():
        if results.is_normalized(block):
            continue
        n_envs = results.settings(block, NPG)["n_envs"]
        for name, found in points.items():
            rate = results.rate(block, name) if name in results.contenders(block) else None
            if rate is not None:
                found.append((n_envs, rate))
    for name, found in points.items():
        _line(ax, found, name, lambda rate: rate)
    ax.set_title("Whole training by number of environments")
    ax.set_xlabel("environments")
    ax.set_ylabel("environment steps per second")
    ax.set_ylim(bottom=0)
    ax.set_xscale("log", base=2)
    _plain_ticks(ax, sorted({n for found in points.values() for n, _ in found}))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    # Below, since nobody knows beforehand where the lines leave room.
    _legend_below(ax, x=0.5, ncols=2, handlelength=3.2)


def _legend_below(ax: Axes, x: float, ncols: int, **options: float) -> None:
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(x, -0.14),
        ncols=ncols,
        fontsize=8.5,
        columnspacing=1.2,
        **options,
    )


def _draw_growth(ax: Axes, rows: Sequence[dict[str, Any]], by: str, title: str) -> None:
    rows = sorted(rows, key=lambda row: row[by])
    for name, key in ((TRPO, "trpo"), (NPG, "npg")):
        found = [(row[by], row[key]) for row in rows if row[key] is not None]
        _line(ax, found, name, lambda seconds: 1e3 * seconds)
    ax.set_title(title)
    ax.set_xlabel(f"{by} in the batch" if by == "samples" else f"{by} of the policy")
    ax.set_ylabel("milliseconds per update")
    _log_scales(ax, [row[by] for row in rows])
    if any(row["trpo"] is None for row in rows):
        note = f"TRPO left out above {TRPO_LIMIT:.0f} s"
        ax.text(0.98, 0.03, note, transform=ax.transAxes, ha="right", fontsize=8.5)
    if rows:
        ax.legend(loc="upper left", fontsize=8.5, handlelength=3.2)


def _draw_acer(ax: Axes, results: Results, by: str) -> None:
    other, usual, title, label = {
        "n_envs": (
            "n_steps",
            ACER_N_STEPS,
            f"ACER by environments (segments of {ACER_N_STEPS} steps)",
            "environments",
        ),
        "n_steps": (
            "n_envs",
            ACER_N_ENVS,
            f"ACER by length of segments ({ACER_N_ENVS} environments)",
            "steps of a segment",
        ),
    }[by]
    points: dict[str, list[tuple[int, Spread]]] = {}
    for block in results.blocks("train_acer"):
        for name in results.contenders(block):
            settings, rate = results.settings(block, name), results.rate(block, name)
            if settings[other] == usual and rate is not None:
                points.setdefault(name, []).append((settings[by], rate))
    for name, found in points.items():
        _line(ax, sorted(found, key=lambda point: point[0]), name, lambda rate: rate)
    ax.set_title(title)
    ax.set_xlabel(label)
    ax.set_ylabel("environment steps per second")
    _log_scales(ax, sorted({x for found in points.values() for x, _ in found}))
    if points:
        ax.legend(loc="upper left", fontsize=8.5, handlelength=3.2)


def _line(
    ax: Axes,
    points: Sequence[tuple[int, Spread]],
    name: str,
    scale: Callable[[float], float],
) -> None:
    """Medians, with bars from the lowest to the highest."""
    if not points:
        return
    middle = np.array([scale(spread.median) for _, spread in points])
    low = np.array([scale(spread.low) for _, spread in points])
    high = np.array([scale(spread.high) for _, spread in points])
    ax.errorbar(
        [x for x, _ in points],
        middle,
        yerr=[middle - low, high - middle],
        label=name,
        elinewidth=1.0,
        capsize=2.0,
        **{"markersize": 6, **_LINES[name]},
    )


def _log_scales(ax: Axes, values: Sequence[int]) -> None:
    """Both axes logarithmic.

    :param values: those of the x axis
    """
    ax.set_xscale("log")
    ax.set_yscale("log")
    _plain_ticks(ax, values)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=20))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _plain_ticks(ax: Axes, values: Sequence[int]) -> None:
    """Ticks at the measured values, without those that are too close to be read."""
    kept: list[int] = []
    for value in values:
        if not kept or value > 1.6 * kept[-1]:
            kept.append(value)
    ax.set_xticks(kept)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    """``512``, ``2k``, ``5.7k``, ``5M``: thousands as powers of two where they are."""
    if value >= 1e6:
        return f"{value / 1e6:.2g}M"
    if value >= 1_024 and value % 1_024 == 0:
        return f"{value / 1_024:g}k"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k"
    return f"{value / 1e3:.2g}k" if value >= 1e3 else f"{value:g}"
