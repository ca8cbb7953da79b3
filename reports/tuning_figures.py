"""Figures of studies: scores over a parameter's range, and how wide its good part is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from optuna.trial import FrozenTrial

from benchmarks.names import restored
from reports.figures import (
    PANEL_SIZE,
    SINGLE_PANEL_SIZE,
    THEME,
    Look,
    draw_band,
    line_style,
    new_figure,
)
from reports.tuning_data import StudyResult, Sweep
from reports.tuning_wording import measure, not_swept
from studies.parameters import Parameter, Scalar
from studies.plots import parameter_label
from studies.wording import few_seeds, shown

_COLUMNS = 3
_ROW_HEIGHT = 0.42  # inches
_DEFAULT: dict[str, Any] = {"color": "#777777", "linewidth": 1.3, "linestyle": (0, (4, 2))}
_RANGE: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": "none"}
_GOOD: dict[str, Any] = {"facecolor": "#eef1dc", "edgecolor": "#c8cf9d"}
# On wider ranges powers of ten are ticks enough.
_FEW_DECADES = 2.5

Panel = tuple[StudyResult, Parameter]


def sensitivity(
    studies: Sequence[StudyResult], titles: Mapping[str, str], styles: Mapping[str, Look]
) -> Figure:
    """A panel for each sweep: score over value, with its interval, its good part and the default.

    :param titles: of the studies by their names
    :param styles: by algorithm
    """
    panels = [(study, each.parameter) for study in studies for each in study.sweeps.values()]
    figure, axes = _panels(panels, titles)
    with mpl.rc_context(THEME):
        for ax, (study, parameter) in zip(axes, panels, strict=True):
            sweep = study.sweeps[parameter.name]
            _draw_sweep(ax, sweep, styles[study.problem.algo])
            _mark_defaults(ax, study, parameter)
            _log_axis(ax, parameter)
        _share_heights(axes, panels)
        handles = [
            *_algorithm_handles(panels, styles),
            _default_handle(),
            Patch(label="within 10% of the best", **_GOOD),
        ]
        if any(len(study.problem.seeds) > 1 for study, _ in panels):
            handles.append(Patch(facecolor="#dddddd", edgecolor="#aaaaaa", label="95% interval"))
        _add_legend(figure, handles)
    return figure


def _draw_sweep(ax: Axes, sweep: Sweep, look: Look) -> None:
    points = sweep.points
    ax.axvspan(sweep.width.low, sweep.width.high, zorder=0, **_GOOD)
    ax.plot(points["value"], points["score"], **line_style(look))
    draw_band(ax, points["value"], points, look)


def _mark_defaults(ax: Axes, study: StudyResult, parameter: Parameter) -> None:
    for value in sorted(
        {_position(parameter, v) for v in study.default_values(parameter).values()}
    ):
        ax.axvline(value, zorder=1, **_DEFAULT)


def _position(parameter: Parameter, value: Scalar) -> float:
    if parameter.choices:
        return float(parameter.choices.index(value))
    assert isinstance(value, float | int)
    return float(value)


def widths(
    studies: Sequence[StudyResult], titles: Mapping[str, str], styles: Mapping[str, Look]
) -> Figure:
    """The widths of all sweeps with their intervals, one below the other.

    :param titles: of the studies by their names
    :param styles: by algorithm
    """
    rows = [(study, sweep) for study in studies for sweep in study.sweeps.values()]
    with mpl.rc_context(THEME):
        figure = new_figure(8.0, 1.5 + _ROW_HEIGHT * len(rows))
        ax = figure.subplots()
        for position, (study, sweep) in enumerate(rows):
            _draw_width(ax, position, sweep, styles[study.problem.algo])
        labels = [
            f"{restored(titles[study.name])}: {sweep.parameter.name}{few_seeds(sweep.width.seeds)}"
            for study, sweep in rows
        ]
        ax.set_yticks(range(len(rows)), labels)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("decades within 10% of the best score\n(wider: easier to choose)")
        handles: list[Artist] = [Patch(label="the range that was swept", **_RANGE)]
        if any(len(study.problem.seeds) > 1 for study, _ in rows):
            handles.append(Patch(facecolor="#dddddd", edgecolor="#aaaaaa", label="95% interval"))
        if any(sweep.width.is_open for _, sweep in rows):
            label = "at least: reaches an end of the range"
            handles.append(
                Line2D([], [], linestyle="none", marker=">", color="#444444", label=label)
            )
        _add_legend(figure, handles)
    return figure


def _draw_width(ax: Axes, position: int, sweep: Sweep, look: Look) -> None:
    good = sweep.width
    values = sweep.points["value"]
    ax.barh(position, np.log10(values.max() / values.min()), height=0.5, zorder=1, **_RANGE)
    if np.isfinite(good.decades_low):
        ax.barh(
            position,
            good.decades_high - good.decades_low,
            left=good.decades_low,
            height=0.5,
            color=to_rgba(look.colour, 0.35),
            edgecolor=look.colour,
            linewidth=0.8,
            zorder=2,
        )
    marker = ">" if sweep.width.is_open else look.marker
    ax.plot(
        good.decades,
        position,
        marker,
        color=look.colour,
        markeredgecolor="white",
        markersize=8,
        zorder=3,
    )


def trials(
    studies: Sequence[StudyResult], titles: Mapping[str, str], styles: Mapping[str, Look]
) -> Figure:
    """A panel for each parameter that was not swept: a point for each completed trial.

    :param titles: of the studies by their names
    :param styles: by algorithm
    """
    panels = [(study, parameter) for study in studies for parameter in not_swept(study)]
    figure, axes = _panels(panels, titles)
    with mpl.rc_context(THEME):
        for ax, (study, parameter) in zip(axes, panels, strict=True):
            _draw_trials(ax, study, parameter, styles[study.problem.algo])
            _mark_defaults(ax, study, parameter)
            if parameter.choices:
                ax.set_xticks(range(len(parameter.choices)), map(shown, parameter.choices))
            elif parameter.log:
                _log_axis(ax, parameter)
        _share_heights(axes, panels)
        handles = _algorithm_handles(panels, styles, linestyle="none")
        best = Line2D([], [], label="best trial", **_ringed("#444444"))
        _add_legend(figure, [*handles, best, _default_handle()])
    return figure


def _draw_trials(ax: Axes, study: StudyResult, parameter: Parameter, look: Look) -> None:
    def points(having: Iterable[FrozenTrial]) -> list[tuple[float, float]]:
        return [
            (_position(parameter, trial.params[parameter.name]), trial.values[0])
            for trial in having
        ]

    tried = study.tried(parameter)
    style = {**line_style(look), "linestyle": "none", "markersize": 6}
    ax.plot(*zip(*points(tried), strict=True), **style)
    if study.best in tried:
        assert study.best is not None
        ax.plot(*zip(*points([study.best]), strict=True), **_ringed("#444444"))


def _ringed(colour: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": "o",
        "markersize": 12,
        "markerfacecolor": "none",
        "markeredgecolor": colour,
        "markeredgewidth": 1.4,
    }


def _panels(panels: Sequence[Panel], titles: Mapping[str, str]) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, len(panels))
    if len(panels) == 4:
        columns = 2  # no panel is left over
    rows = -(-len(panels) // columns)
    width, height = PANEL_SIZE if len(panels) > 1 else SINGLE_PANEL_SIZE
    with mpl.rc_context(THEME):
        # A parameter's label takes two lines.
        figure = new_figure(columns * width, rows * (height + 0.2) + 0.5)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, (study, parameter) in zip(axes, panels, strict=False):
            # A study's name, where it is needed, can be longer than a panel is wide.
            ax.set_title(titles[study.name].replace(" (", "\n("), fontsize="medium")
            ax.set_xlabel(parameter_label(study.problem, parameter))
            ax.set_ylabel(measure(study.problem).replace(", normalised", "\n(normalised)"))
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
    return figure, axes[: len(panels)]


def _share_heights(axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """What measures the same on the same environments has the same scale."""
    groups: dict[tuple[object, ...], list[Axes]] = {}
    for ax, (study, _) in zip(axes, panels, strict=True):
        key = (study.problem.env_ids, study.problem.objective, study.problem.is_normalised)
        groups.setdefault(key, []).append(ax)
    for group in groups.values():
        lows, highs = zip(*(ax.get_ylim() for ax in group), strict=True)
        for ax in group:
            ax.set_ylim(min(lows), max(highs))


def _log_axis(ax: Axes, parameter: Parameter) -> None:
    """The whole range, with numbers that can be read off."""
    ax.set_xscale("log")
    ax.set_xlim(parameter.low / 1.2, parameter.high * 1.2)
    few = np.log10(parameter.high / parameter.low) < _FEW_DECADES
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _algorithm_handles(
    panels: Sequence[Panel], styles: Mapping[str, Look], **changed: Any
) -> list[Artist]:
    algorithms = sorted({study.problem.algo for study, _ in panels})
    return [
        Line2D([], [], label=algo, **{**line_style(styles[algo]), **changed}) for algo in algorithms
    ]


def _default_handle() -> Line2D:
    return Line2D([], [], label="default", **_DEFAULT)


def _add_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Below the panels, in as many columns as fit."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(figure.get_figwidth() / (0.95 + 0.085 * longest))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(len(handles), columns)),
        handlelength=3.0,
    )
