"""Learning curves of a sweep that is running, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.storage import whole_file
from reports.live.runs import EVALUATION, Running, View
from reports.rendering import figures
from reports.rendering.figure_style import themed


def draw_picture(view: View) -> Figure:
    """A panel for each environment: finished runs as in a report, others as thin lines."""
    styles = figures.looks(view.labels)
    panels = sorted(view.panels)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    panel_width, panel_height = figures.PANEL_SIZE if len(panels) > 1 else figures.SINGLE_PANEL_SIZE
    with themed():
        handles = _handles(view, styles)
        legend_columns = max(1, int(columns * panel_width / 3.2))
        height = rows * panel_height + 0.25 * (1 + -(-len(handles) // legend_columns))
        figure = figures.new_figure(columns * panel_width, height)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, panel in zip(axes, panels, strict=False):
            figures.draw_panel(ax, view.curves[view.curves["env_id"] == panel], styles)
            for run in view.running:
                if run.panel == panel and len(run.steps):
                    _draw_running(ax, run, styles[run.label])
            ax.set_title(panel)
            ax.set_xlabel("environment steps")
            ax.set_ylabel("return")
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=legend_columns, handlelength=3.6
        )
    return figure


def write_picture(view: View, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    with whole_file(path) as unfinished, themed():
        draw_picture(view).savefig(unfinished, format="png", metadata={"Software": None})


def _draw_running(ax: Axes, run: Running, look: figures.Look) -> None:
    ax.plot(
        run.steps,
        run.returns,
        marker=look.marker,
        markevery=[len(run.steps) - 1],
        markersize=4,
        color=look.colour,
        **_thin(run.measure),
    )


def _thin(measure: str) -> dict[str, Any]:
    return {"linewidth": 0.9, "linestyle": "-" if measure == EVALUATION else (0, (1, 1.5))}


def _handles(view: View, styles: Mapping[str, figures.Look]) -> list[Artist]:
    handles: list[Artist] = []
    for label in view.labels:
        seeds = view.curves.loc[view.curves["label"] == label, "seeds"]
        text = figures.seeds_text(seeds) if len(seeds) else "in progress"
        style = figures.line_style(styles[label])
        if not len(seeds):
            style |= {"linewidth": 0.9, "linestyle": "-"}
        handles.append(Line2D([], [], label=f"{label}, {text}", **style))
    if (view.curves["seeds"] > 1).any():
        handles.append(Patch(facecolor="#dddddd", edgecolor="#aaaaaa", label="95% interval"))
    for measure in sorted({run.measure for run in view.running if len(run.steps)}):
        handles.append(
            Line2D([], [], color="#222222", label=f"in progress: {measure}", **_thin(measure))
        )
    return handles
