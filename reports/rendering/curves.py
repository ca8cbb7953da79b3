"""Learning curves as the HTML page has them: drawn in it, with the numbers that its script shows.

One drawing serves readers with and without scripts. Matplotlib's files would make a page of many
environments several times as large.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from benchmarks.names import in_natural_order, visible
from reports.rendering import figures
from reports.rendering.figures import STEPS, Axis, Look

# Of a panel, in the units of its drawing: tenths of a pixel where it is 330 pixels wide, so that
# all of its numbers are whole and short.
WIDTH, HEIGHT = 3300, 2400
_TOP, _RIGHT, _BOTTOM = 80, 100, 360
_CHARACTER = 70  # the width of a digit
_LINE_WIDTH = 18
_MARKERS = {
    "o": "m-23 0a23 23 0 1 0 46 0 23 23 0 1 0-46 0z",
    "s": "m-22-22h44v44h-44z",
    "^": "m0-28 27 50h-54z",
    "D": "m0-31 31 31-31 31-31-31z",
    "v": "m0 28-27-50h54z",
}

_DIGITS = 5  # significant, of the numbers that the script shows
_DRAWN_DIGITS = 4  # of those that it draws alone


@dataclass(frozen=True)
class Curves:
    """What a figure of learning curves shows.

    ``means``: as :func:`reports.data.scores.learning_curves` returns them. ``styles``: as
    :func:`reports.rendering.figures.looks` does. ``runs``: the curves of the seeds, with ``env_id,
    label, seed``, the column of ``axis`` and ``return_mean``; None: they cannot be shown.
    ``x_labels``: of the environments whose x axis is not labelled as ``axis`` says. ``show_runs``:
    from the start, and not only when the reader asks for them.
    """

    means: pd.DataFrame
    styles: Mapping[str, Look]
    runs: pd.DataFrame | None = None
    axis: Axis = STEPS
    x_labels: Mapping[str, str] = field(default_factory=dict)
    show_runs: bool = False


class Drawings:
    """The drawings of a page. A panel that several figures have is drawn once and shown by each."""

    def __init__(self) -> None:
        self._labels: dict[str, int] = {}
        self._colours: dict[int, str] = {}
        self._grids: dict[tuple[float | None, ...], int] = {}
        self._panels: dict[tuple[Markup, str], int] = {}
        self._show_runs = False

    def figure(self, title: str, curves: Curves) -> Markup:
        """The panels of a figure with their legend, as an element that holds them."""
        self._show_runs |= curves.show_runs
        panels = Markup("").join(
            self._panel(str(env_id), means, curves)
            for env_id, means in curves.means.groupby("env_id", sort=True)
        )
        return Markup(
            '<div class="card curves" role="group" aria-label="{}">\n<div class="panels">\n{}'
            '</div>\n<ul class="legend">\n{}</ul>\n</div>'
        ).format(visible(title), panels, self._legend(curves))

    def json(self) -> Markup:
        """The numbers of all panels for the page's script, as the text of a script element."""
        labels = _json([[name, self._colours[number]] for name, number in self._labels.items()])
        grids = _json(list(self._grids))
        panels = ",".join(numbers for _, numbers in self._panels)
        shown = _json(self._show_runs)
        text = f'{{"labels":{labels},"grids":{grids},"panels":[{panels}],"seeds":{shown}}}'
        # A name must end neither the element nor, with "<!--", what ends it.
        return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))

    def __bool__(self) -> bool:
        return bool(self._panels)

    def _panel(self, env_id: str, means: pd.DataFrame, curves: Curves) -> Markup:
        runs = None if curves.runs is None else curves.runs[curves.runs["env_id"] == env_id]
        panel = _Panel(means, curves, runs, curves.x_labels.get(env_id, curves.axis.label))
        groups = {each: means[means["label"] == each] for each in in_natural_order(means["label"])}
        drawn = panel.axes()
        for position, (label, curve) in enumerate(groups.items()):
            look = curves.styles[label]
            drawn += Markup('<g data-label="{}" color="{}">{}</g>\n').format(
                self._label(label), look.colour, panel.curve(curve, look, position, len(groups))
            )
        key = drawn, _json(self._numbers(panel, groups, runs))
        is_new = key not in self._panels
        number = self._panels.setdefault(key, len(self._panels))
        # No heading's anchor has a colon.
        content = Markup('<g id="panel:{}">\n{}</g>' if is_new else '<use href="#panel:{}"/>')
        return Markup(
            '<div class="panel">\n<p>{}</p>\n'
            '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" data-panel="{}">{}</svg>\n</div>\n'
        ).format(
            visible(env_id), WIDTH, HEIGHT, visible(env_id), number, content.format(number, drawn)
        )

    def _numbers(
        self, panel: _Panel, groups: Mapping[str, pd.DataFrame], runs: pd.DataFrame | None
    ) -> dict[str, Any]:
        """What the script has to know of a panel: where its axes are, and its curves."""
        column = panel.column
        found = []
        for label, curve in groups.items():
            seeds = curve["seeds"].tolist()
            numbers: dict[str, Any] = {
                "label": self._label(label),
                "x": self._grid(curve[column]),
                # One number where it is the same all along.
                "seeds": seeds[0] if len(set(seeds)) == 1 else seeds,
            }
            numbers |= {name: _rounded(curve[name]) for name in ("mean", "low", "high")}
            if runs is not None:
                of_label = runs[runs["label"] == label].sort_values(column, kind="stable")
                numbers["runs"] = [
                    [self._grid(run[column]), _rounded(run["return_mean"], _DRAWN_DIGITS)]
                    for _, run in of_label.groupby("seed", sort=True)
                ]
            found.append(numbers)
        return {
            "unit": panel.x_label,
            "box": panel.box,
            "x": panel.x,
            "y": panel.y,
            "curves": found,
        }

    def _legend(self, curves: Curves) -> Markup:
        seeds = dict(iter(curves.means.groupby("label")["seeds"]))
        items = [
            Markup('<li data-label="{}">{}{}</li>\n').format(
                self._label(label),
                self._swatch(label, curves.styles[label]),
                visible(f"{label}, {figures.seeds_text(seeds[label])}"),
            )
            for label in in_natural_order(curves.means["label"])
        ]
        if (curves.means["seeds"] > 1).any():
            items.append(Markup('<li><span class="interval"></span>95% interval</li>\n'))
        return Markup("").join(items)

    def _swatch(self, label: str, look: Look) -> Markup:
        """The line of a label, to stand beside its name; drawn once, too."""
        number = self._label(label)
        if number in self._colours:
            content = Markup('<use href="#label:{}"/>').format(number)
        else:
            self._colours[number] = look.colour
            line = _line("M20 70H360", f"M190 70{_MARKERS[look.marker]}", look)
            content = Markup('<g id="label:{}" color="{}">{}</g>').format(number, look.colour, line)
        return Markup('<svg viewBox="0 0 380 140" aria-hidden="true">{}</svg>').format(content)

    def _label(self, label: str) -> int:
        return self._labels.setdefault(visible(label), len(self._labels))

    def _grid(self, where: pd.Series[Any]) -> int:
        """Points on the x axis, which many curves share."""
        is_whole = (where % 1 == 0).all()
        points = where.astype(int).tolist() if is_whole else _rounded(where)
        return self._grids.setdefault(tuple(points), len(self._grids))


class _Panel:
    """The axes of one panel.

    ``box``: the left, top, right and bottom ends of the axes in the drawing. ``x, y``: the numbers
    at the ends of each axis.
    """

    def __init__(
        self, means: pd.DataFrame, curves: Curves, runs: pd.DataFrame | None, x_label: str
    ) -> None:
        self.column, self.x_label, self._y_label = curves.axis.column, x_label, curves.axis.values
        ends = [means[["mean", "low", "high"]].to_numpy(np.float64).ravel()]
        if runs is not None:
            ends.append(runs["return_mean"].to_numpy(np.float64))
        self.x = _ends(means[self.column].to_numpy(np.float64), 0.02)
        self.y = _ends(np.concatenate(ends), 0.05)
        self._x_ticks = {tick: curves.axis.text(tick) for tick in _ticks(*self.x)}
        self._y_ticks = {tick: figures.value_text(tick) for tick in _ticks(*self.y)}
        left = 220 + _CHARACTER * max(map(len, self._y_ticks.values()))
        self.box = (left, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)

    def axes(self) -> Markup:
        """The grid, the ticks and the labels."""
        left, top, right, bottom = self.box
        xs, ys = self._xs(self._x_ticks), self._ys(self._y_ticks)
        x_ticks = dict(zip(xs, self._x_ticks.values(), strict=True))
        y_ticks = dict(zip(ys, self._y_ticks.values(), strict=True))
        grid = "".join(f"M{x} {top}V{bottom}" for x in x_ticks)
        grid += "".join(f"M{left} {y}H{right}" for y in y_ticks)
        texts = [_text(x, bottom + 140, text) for x, text in x_ticks.items()]
        texts += [_text(left - 50, y + 38, text, ' class="y"') for y, text in y_ticks.items()]
        texts.append(_text((left + right) // 2, HEIGHT - 50, self.x_label))
        turned = ' transform="rotate(-90)"'
        texts.append(_text(-(top + bottom) // 2, 110, self._y_label, turned))
        return Markup(
            '<path class="grid" d="{}"/><path class="axes" d="M{} {}V{}H{}"/>\n{}\n'
        ).format(grid, left, top, bottom, right, Markup("").join(texts))

    def curve(self, curve: pd.DataFrame, look: Look, position: int, n_curves: int) -> Markup:
        """The mean line of one label, its markers and its band."""
        curve = curve[np.isfinite(curve["mean"])]
        if curve.empty:
            return Markup("")
        line = np.column_stack([self._xs(curve[self.column]), self._ys(curve["mean"])])
        marks = "".join(
            f"M{x} {y}{_MARKERS[look.marker]}"
            for x, y in line[figures.marked(len(curve), position, n_curves)]
        )
        return self._band(curve.dropna(subset=["low", "high"])) + _line(_path(line), marks, look)

    def _band(self, curve: pd.DataFrame) -> Markup:
        if curve.empty:
            return Markup("")
        xs = self._xs(curve[self.column])
        low, high = (np.column_stack([xs, self._ys(curve[name])]) for name in ("low", "high"))
        return Markup('<path class="band" d="{}z"/>').format(
            _path(np.concatenate([high, low[::-1]]))
        )

    def _xs(self, values: Iterable[float]) -> np.ndarray:
        return _scaled(values, self.x, (self.box[0], self.box[2]))

    def _ys(self, values: Iterable[float]) -> np.ndarray:
        return _scaled(values, self.y, (self.box[3], self.box[1]))


def _line(path: str, marks: str, look: Look) -> Markup:
    dashes = " ".join(f"{_LINE_WIDTH * length:g}" for length in look.dashes[1])
    dashed = Markup(' stroke-dasharray="{}"').format(dashes) if dashes else ""
    return Markup('<path class="line" d="{}"{}/><path class="mark" d="{}"/>').format(
        path, dashed, marks
    )


def _text(x: float, y: float, text: str, attributes: str = "") -> Markup:
    return Markup('<text x="{}" y="{}"{}>{}</text>').format(x, y, Markup(attributes), visible(text))


def _ends(values: np.ndarray, margin: float) -> tuple[float, float]:
    """The ends of an axis on which all finite values lie, with a margin at both."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    room = margin * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in found if low <= tick <= high]


def _scaled(
    values: Iterable[float], ends: tuple[float, float], to: tuple[float, float]
) -> np.ndarray:
    share = (np.fromiter(values, np.float64) - ends[0]) / (ends[1] - ends[0])
    return np.rint(to[0] + share * (to[1] - to[0])).astype(int)


def _path(points: np.ndarray) -> str:
    """A path whose points lie each relative to the one before, which is shorter.

    :param points: whole numbers, of shape ``(n_points, 2)``
    """
    (x, y), steps = points[0], np.diff(points, axis=0)
    return f"M{x} {y}l" + " ".join(f"{dx} {dy}" for dx, dy in steps).replace(" -", "-")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _rounded(values: Iterable[float], digits: int = _DIGITS) -> list[float | None]:
    """The numbers as JSON has them, whole ones without a point; None for what is not finite."""
    found: list[float | None] = []
    for value in values:
        rounded = float(f"{value:.{digits}g}")
        is_short = rounded.is_integer() and abs(rounded) < 1e15
        found.append(int(rounded) if is_short else rounded if math.isfinite(rounded) else None)
    return found
