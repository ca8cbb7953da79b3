"""Learning curves in a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import plotext  # type: ignore[import-untyped]
from matplotlib.colors import to_rgb
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.numbers import form_of, return_text
from reports.live.runs import EVALUATION, Running, View
from reports.rendering import figures

# Characters.
PANEL_WIDTH = 60
PANEL_HEIGHT = 14
SMALLEST_PANEL = 8

# How light red, green and blue are (ITU-R BT.601), and the least that shows on a dark terminal.
_LUMA = np.array([0.299, 0.587, 0.114])
_DARKEST = 0.45


def draw(view: View, width: int, height: int | None, colour: bool) -> Group:
    """A plot for each panel, and below it what its lines are.

    :param width: of the screen, in characters
    :param height: of the screen, in lines: as many panels are drawn as fit on it; None: all are,
        each ``PANEL_HEIGHT`` lines high
    :param colour: whether colours tell the lines apart; else letters do
    """
    styles = figures.looks(view.labels)
    columns = max(1, min(len(view.panels), width // PANEL_WIDTH))
    keys = [_key(view, panel, styles, colour) for panel in view.panels]
    notes = [Text(f"left out: {text}", style="yellow") for text in view.left_out]
    rows = [range(i, min(i + columns, len(keys))) for i in range(0, len(keys), columns)]
    lines = PANEL_HEIGHT
    if height is not None:
        # A line for each note, unless it is long; one more for what is not shown.
        room = height - len(notes) - 1
        needs = np.cumsum([1 + max(len(keys[i]) for i in row) + SMALLEST_PANEL for row in rows])
        rows = rows[: max(1, int((needs <= room).sum()))]
        spare = room - int(needs[len(rows) - 1])
        lines = min(2 * PANEL_HEIGHT, SMALLEST_PANEL + max(0, spare) // len(rows))
    table = Table.grid(expand=False, padding=(0, 1))
    for _ in range(columns):
        table.add_column(width=width // columns - 1, no_wrap=True)
    for row in rows:
        table.add_row(
            *(
                Group(
                    Text(view.panels[i], style="bold"),
                    _plot(view, view.panels[i], styles, width // columns - 2, lines, colour),
                    *keys[i],
                )
                for i in row
            )
        )
    n_shown = sum(map(len, rows))
    if n_shown < len(view.panels):
        hidden = ", ".join(view.panels[n_shown:])
        notes.append(Text(f"not shown: {hidden} (choose with --env)", style="dim", no_wrap=True))
    return Group(table, *notes)


def _letter(position: int) -> str:
    return chr(ord("A") + position % 26)


def _panel_labels(view: View, panel: str) -> list[str]:
    finished = view.curves.loc[view.curves["env_id"] == panel, "label"]
    return sorted({*finished, *(run.label for run in view.running if run.panel == panel)})


def _key(view: View, panel: str, styles: Mapping[str, figures.Look], colour: bool) -> list[Text]:
    """For each line of a panel, a text that says what it is and how far it has come."""
    texts = []
    for position, label in enumerate(_panel_labels(view, panel)):
        letter = _letter(position)
        style = "rgb({},{},{})".format(*_rgb(styles[label].colour))
        curve = view.curves[(view.curves["env_id"] == panel) & (view.curves["label"] == label)]
        if len(curve):
            last = curve.iloc[-1]
            texts.append(
                Text.assemble(
                    ("⠤⠤" if colour else letter, style),
                    f" {label}, {figures.seeds_text(curve['seeds'])}: {EVALUATION} "
                    f"{return_text(last['mean'])} at {_rounded_steps(last['timesteps'])}",
                )
            )
        for run in view.running:
            if (run.panel, run.label) == (panel, label):
                texts.append(
                    Text.assemble(("··" if colour else letter.lower(), style), f" {_state(run)}")
                )
    return texts


def _state(run: Running) -> str:
    name = f"{run.label} seed {run.seed} in progress"
    ago = _ago(time.time() - run.written)
    if not len(run.steps):
        return f"{name}: nothing to show yet, {ago}"
    steps = _rounded_steps(run.steps[-1])
    return f"{name}: {run.measure} {return_text(run.returns[-1])} at {steps}, {ago}"


def _ago(seconds: float) -> str:
    """How long ago something was written; a run that stands still may have been killed."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _rounded_steps(steps: float) -> str:
    return figures.steps_text(float(f"{steps:.3g}"))


def _plot(
    view: View,
    panel: str,
    styles: Mapping[str, figures.Look],
    width: int,
    height: int,
    colour: bool,
) -> Text:
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    reached, values = [0.0], []
    for position, label in enumerate(_panel_labels(view, panel)):
        letter = _letter(position)
        curve = view.curves[(view.curves["env_id"] == panel) & (view.curves["label"] == label)]
        lines = [(curve["timesteps"].tolist(), curve["mean"].tolist(), "braille", letter)]
        lines += [
            (run.steps.tolist(), run.returns.tolist(), "·", letter.lower())
            for run in view.running
            if (run.panel, run.label) == (panel, label)
        ]
        for steps, returns, coloured, letters in lines:
            if steps:
                reached += steps
                values += returns
                pixel = plotext.pixel(_rgb(styles[label].colour)) if colour else None
                marker = plotext.marker(coloured if colour else letters, pixel)
                figure.draw(figure.signal(steps, returns, marker=marker).lines())
    along = np.linspace(0, max(*reached, 1), 5).tolist()
    figure.ruler("x").lim(along[0], along[-1])
    figure.ruler("x").ticks(along, [_rounded_steps(tick) for tick in along])
    if values:
        up = np.linspace(min(values), max(values), 4).tolist()
        form = form_of(up).apart(pairwise(up))
        figure.ruler("y").ticks(up, [form.text(tick) for tick in up])
    text = Text.from_ansi(figure.build().string(colorless=not colour), no_wrap=True)
    text.rstrip()  # ends with an empty line
    return text


def _rgb(colour: str) -> tuple[int, int, int]:
    """``#0A4F96`` as three numbers up to 255, lightened if it is dark, as a terminal may be."""
    channels = np.array(to_rgb(colour))
    lightness = channels @ _LUMA
    white = max(0.0, (_DARKEST - lightness) / (1 - lightness))
    red, green, blue = np.rint(255 * (channels + white * (1 - channels))).astype(int).tolist()
    return red, green, blue
