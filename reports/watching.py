"""Learning curves while a sweep is running: in the terminal, and as a picture.

A finished run has its evaluations in ``evaluations.csv``. A run in progress stands in a folder
``.tmp-seed-…`` beside its final place, and has its evaluations in its TensorBoard file, at the step
of the next log entry; its training return is in ``progress.csv``. Both are being written: a record
of the one and a line of the other may be there in part, and the folder may be renamed or removed at
any time.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotext  # type: ignore[import-untyped]
from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tensorboard.backend.event_processing.directory_watcher import (  # type: ignore[import-untyped]
    DirectoryDeletedError,
)
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
)
from tensorboard.compat import tf  # type: ignore[import-untyped]

from benchmarks.folder_names import as_file_name
from benchmarks.names import first_line, plain, restored
from benchmarks.numbers import form_of, return_text
from benchmarks.records import BrokenRunError, RunKey, RunSpec, content
from benchmarks.results import read_evaluations
from benchmarks.run_files import PROGRESS, find
from benchmarks.storage import target_of, whole_file
from reports import figures, scores
from reports.recording import read_spec
from reports.runs import ReportError, config_labels

EVERY = 5.0
EVALUATION = "evaluation return"
TRAINING = "training return"

# Characters.
PANEL_WIDTH = 60
PANEL_HEIGHT = 14
SMALLEST_PANEL = 8

# How light red, green and blue are (ITU-R BT.601), and the least that shows on a dark terminal.
_LUMA = np.array([0.299, 0.587, 0.114])
_DARKEST = 0.45

_CURVE_COLUMNS = ["env_id", "label", "timesteps", "mean", "low", "high", "seeds"]


@dataclass(frozen=True)
class Running:
    """A run in progress, as far as it has come.

    ``panel``: the environment, with the suite where several have it. ``measure``: ``EVALUATION`` or
    ``TRAINING``, what ``returns`` are. ``steps`` and ``returns``: of shape (n_points,), maybe
    none yet. ``written``: when its files were last written, in seconds since the epoch.
    """

    panel: str
    env_id: str
    label: str
    seed: int
    measure: str
    steps: np.ndarray
    returns: np.ndarray
    written: float


@dataclass(frozen=True)
class View:
    """All that is shown.

    ``curves``: the finished runs' means over seeds, as :func:`reports.scores.learning_curves` gives
    them, ``env_id`` being the panel. ``left_out``: finished runs that cannot be shown, and why.
    """

    curves: pd.DataFrame
    running: list[Running]
    left_out: list[str]

    @property
    def panels(self) -> list[str]:
        """Those with a run in progress first."""
        active = {run.panel for run in self.running}
        every = active | set(self.curves["env_id"])
        return sorted(every, key=lambda panel: (panel not in active, panel))

    def has(self, env_id: str) -> bool:
        """Whether there is a panel of the environment, of some suite."""
        name = plain(env_id)
        return any(panel == name or panel.startswith(f"{name} (") for panel in self.panels)

    @property
    def labels(self) -> list[str]:
        return sorted({*self.curves["label"], *(run.label for run in self.running)})


class Watcher:
    """Reads the runs below a folder again and again, what is finished only once.

    :param env_ids: environments to show; none: all
    """

    def __init__(self, root: Path, env_ids: Sequence[str] = ()) -> None:
        self._root = root
        self._env_ids = list(env_ids)
        self._finished: dict[Path, tuple[RunSpec, pd.DataFrame]] = {}
        self._events: dict[Path, EventAccumulator] = {}
        self._curves = pd.DataFrame(columns=_CURVE_COLUMNS)
        self._averaged: set[tuple[Any, ...]] = set()

    def look(self) -> View:
        """What there is now."""
        finished, scratch = _find(self._root)
        # What is on its way to another name, or removed, is read the next time.
        read = {folder: self._finished.get(folder) or _read_finished(folder) for folder in finished}
        runs = {folder: run for folder, run in read.items() if not isinstance(run, str)}
        left_out = [run for run in read.values() if isinstance(run, str)]
        self._finished = runs
        specs = [spec for spec, _ in runs.values()]
        named = config_labels(
            pd.DataFrame(
                [(s.algo, s.env_id, s.config, s.hyperparams) for s in specs],
                columns=["algo", "env_id", "config", "hyperparams"],
            )
        )
        labels = {key: restored(label) for key, label in named.items()}
        names = {as_file_name(name): name for s in specs for name in (s.algo, s.env_id)}
        names |= {as_file_name(env_id): env_id for env_id in self._env_ids}
        latest = _latest(scratch, finished)
        suites: dict[str, set[str]] = {}
        for key in (*(spec.key for spec in specs), *latest.values()):
            suites.setdefault(names.get(key.env_id, key.env_id), set()).add(key.suite)

        def panel(suite: str, env_id: str) -> str:
            return plain(f"{env_id} ({suite})" if len(suites[env_id]) > 1 else env_id)

        self._average(
            {
                folder: evaluations.assign(
                    env_id=panel(spec.suite, spec.env_id),
                    label=labels[spec.algo, spec.env_id, spec.config],
                    seed=spec.seed,
                )
                for folder, (spec, evaluations) in runs.items()
                if self._wanted(spec.env_id)
            }
        )
        self._events = {
            folder: accumulator for folder, accumulator in self._events.items() if folder in latest
        }
        running = []
        for folder, key in latest.items():
            algo, env_id = (names.get(name, name) for name in (key.algo, key.env_id))
            if self._wanted(env_id):
                label = _label(algo, env_id, key.config, labels, latest.values())
                run = self._read_running(folder, panel(key.suite, env_id), env_id, label, key.seed)
                running += [] if run is None else [run]
        running.sort(key=lambda run: (run.panel, run.label, run.seed))
        return View(self._curves, running, left_out)

    def _wanted(self, env_id: str) -> bool:
        wanted = {as_file_name(name) for name in self._env_ids}
        return not wanted or as_file_name(env_id) in wanted

    def _average(self, runs: Mapping[Path, pd.DataFrame]) -> None:
        """Means and intervals; anew only when there are other runs, since they take time."""
        now = {(folder, *frame.loc[0, ["env_id", "label"]]) for folder, frame in runs.items()}
        if now == self._averaged:
            return
        self._averaged = now
        self._curves = pd.DataFrame(columns=_CURVE_COLUMNS)
        if runs:
            self._curves = scores.learning_curves(pd.concat(runs.values(), ignore_index=True))

    def _read_running(
        self, folder: Path, panel: str, env_id: str, label: str, seed: int
    ) -> Running | None:
        """None for a run that has ended while it was read."""
        written = _last_written(folder)
        if written is None:
            return None
        accumulator = self._events.setdefault(
            folder, EventAccumulator(str(folder), size_guidance={SCALARS: 0})
        )
        steps, returns = read_events(accumulator, "eval/return_mean")
        measure = EVALUATION
        # One evaluation, of the untrained policy, says nothing about learning.
        if len(steps) < 2:
            training = read_progress(folder / PROGRESS, "rollout/ep_rew_mean")
            if len(training[0]):
                (steps, returns), measure = training, TRAINING
        return Running(panel, env_id, label, seed, measure, steps, returns, written)


def watch(
    root: Path,
    env_ids: Sequence[str] = (),
    out: Path | None = None,
    once: bool = False,
    every: float = EVERY,
    console: Console | None = None,
) -> None:
    """Show the learning curves of the runs below a folder, until interrupted (Ctrl-C).

    :param env_ids: environments to show; none: all
    :param out: a PNG file to write as well, again whenever something has changed
    :param once: draw once; so does an output that is no terminal
    :param every: seconds between two looks
    :raises ReportError: an argument out of range, no such folder, or, where it is drawn once,
        nothing to draw
    """
    if not root.is_dir():
        raise ReportError(f"{root}: there is no such folder")
    if out is not None and (out.suffix != ".png" or out.is_dir()):
        raise ReportError(f"--out: must be a file that ends in .png, got {str(out)!r}")
    if not math.isfinite(every) or every <= 0:
        raise ReportError(f"--every: must be a positive number of seconds, got {every:g}")
    console = console or Console()
    watcher = Watcher(root, env_ids)
    if once or not console.is_terminal:
        view = watcher.look()
        if not view.panels:
            raise ReportError(_nothing(root, env_ids, view))
        if absent := [env_id for env_id in env_ids if not view.has(env_id)]:
            raise ReportError(f"--env: {absent[0]!r}: {_nothing(root, absent[:1], view)}")
        console.print(draw(view, console.width, None, console.color_system is not None))
        if out is not None:
            write_picture(view, out)
        return
    drawn: list[Any] = []
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            view = watcher.look()
            if view.panels:
                size = console.size
                colour = console.color_system is not None
                live.update(draw(view, size.width, size.height - 1, colour), refresh=True)
            else:
                live.update(Text(_nothing(root, env_ids, view)), refresh=True)
            now = _fingerprint(view)
            if out is not None and view.panels and now != drawn:
                write_picture(view, out)
                drawn = now
            time.sleep(every)


def read_events(accumulator: EventAccumulator, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a tag in TensorBoard files, those of the files' whole records.

    What has been read before stays when the files are gone.

    :return: both of shape (n_points,)
    """
    with suppress(OSError, DirectoryDeletedError, tf.errors.OpError):
        accumulator.Reload()
    if tag not in accumulator.Tags()[SCALARS]:
        return np.empty(0), np.empty(0)
    return _finite([(event.step, event.value) for event in accumulator.Scalars(tag)])


def read_progress(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a column of SB3's ``progress.csv`` while it is being written.

    A line without its end is not read yet. Now and then SB3 writes the whole file anew, with more
    columns: what does not fit the header is left out too.

    :return: both of shape (n_points,)
    """
    try:
        text = content(path).decode()
        header, *rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))) or [[]]
    except (BrokenRunError, UnicodeDecodeError, csv.Error):
        return np.empty(0), np.empty(0)
    points = []
    for row in rows:
        if len(row) == len(header):
            cells = dict(zip(header, row, strict=True))
            with suppress(KeyError, ValueError):
                points.append((float(cells["time/total_timesteps"]), float(cells[column])))
    return _finite(points)


def draw(view: View, width: int, height: int | None, colour: bool) -> Group:
    """A plot for each panel, with what its lines are below it.

    :param width: characters of the screen
    :param height: lines of the screen, which as many panels are drawn on as it holds; None: all,
        each ``PANEL_HEIGHT`` lines high
    :param colour: whether there are colours to tell the lines apart; letters do it otherwise
    """
    styles = figures.looks(view.labels)
    columns = max(1, min(len(view.panels), width // PANEL_WIDTH))
    keys = [_key(view, panel, styles, colour) for panel in view.panels]
    notes = [Text(f"left out: {text}", style="yellow") for text in view.left_out]
    rows = [range(i, min(i + columns, len(keys))) for i in range(0, len(keys), columns)]
    lines = PANEL_HEIGHT
    if height is not None:
        # Notes take a line each, but for long ones; one more says what is not shown.
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


def draw_picture(view: View) -> Figure:
    """The same as a figure: finished runs as in a report, those in progress as thin lines."""
    styles = figures.looks(view.labels)
    panels = sorted(view.panels)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    panel_width, panel_height = figures.PANEL_SIZE if len(panels) > 1 else figures.SINGLE_PANEL_SIZE
    with mpl.rc_context(figures.THEME):
        handles = _handles(view, styles)
        legend_columns = max(1, int(columns * panel_width / 3.2))
        height = rows * panel_height + 0.25 * (1 + -(-len(handles) // legend_columns))
        figure = figures.new_figure(columns * panel_width, height)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, panel in zip(axes, panels, strict=False):
            figures.draw_panel(ax, view.curves[view.curves["env_id"] == panel], styles)
            for run in view.running:
                if run.panel == panel and len(run.steps):
                    look = styles[run.label]
                    ax.plot(
                        run.steps,
                        run.returns,
                        marker=look.marker,
                        markevery=[len(run.steps) - 1],
                        markersize=4,
                        color=look.colour,
                        **_thin(run.measure),
                    )
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
    with whole_file(path) as unfinished, mpl.rc_context(figures.THEME):
        draw_picture(view).savefig(unfinished, format="png", metadata={"Software": None})


def _find(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders of the finished runs, and those of runs in progress."""
    found = find(root)
    return [Path(str(run.folder)) for run in found.runs], sorted(found.scratch)


def _latest(scratch: Sequence[Path], finished: Sequence[Path]) -> dict[Path, RunKey]:
    """The runs in progress.

    A process that was killed may have left a folder of a run that another has begun again, or even
    finished.
    """
    newest: dict[Path, tuple[float, Path, RunKey]] = {}
    for folder in scratch:
        final, written = target_of(folder), _last_written(folder)
        key = None if final is None else RunKey.of_folder(final)
        if final is None or key is None or written is None:
            continue
        if final not in finished and written >= newest.get(final, (0.0,))[0]:
            newest[final] = (written, folder, key)
    return {folder: key for _, folder, key in newest.values()}


def _last_written(folder: Path) -> float | None:
    """Seconds since the epoch; None if the folder is gone."""
    try:
        times = [folder.stat().st_mtime]
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max(times)


def _read_finished(folder: Path) -> tuple[RunSpec, pd.DataFrame] | str:
    """The run and its evaluations, or why it cannot be shown."""
    try:
        spec, evaluations = read_spec(folder), read_evaluations(folder)
    except (ReportError, BrokenRunError) as error:
        return first_line(str(error))
    if not np.isfinite(evaluations["return_mean"]).all():
        return f"{plain(str(folder))}: has an evaluation without a return"
    # The seeds of a configuration are averaged step by step.
    points = spec.evaluation.points
    expected = [round(spec.n_timesteps * i / points) for i in range(points + 1)]
    if evaluations["timesteps"].to_list() != expected:
        where = plain(str(folder))
        return f"{where}: has {len(evaluations)} evaluations, not those of its protocol"
    return spec, evaluations


def _label(
    algo: str,
    env_id: str,
    config: str,
    labels: Mapping[tuple[str, str, str], str],
    latest: Iterable[RunKey],
) -> str:
    """That of the finished runs of the configuration; else the algorithm's name, if no other
    configuration could be meant."""
    if (algo, env_id, config) in labels:
        return labels[algo, env_id, config]
    configs = {key[2] for key in labels if key[:2] == (algo, env_id)} | {
        key.config
        for key in latest
        if (key.algo, key.env_id) == (as_file_name(algo), as_file_name(env_id))
    }
    return plain(algo if configs == {config} else f"{algo} (config={config})")


def _finite(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Points with finite numbers, in the order of their steps."""
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    array = array[np.argsort(array[:, 0], kind="stable")]
    return array[:, 0], array[:, 1]


def _nothing(root: Path, env_ids: Sequence[str], view: View) -> str:
    which = f" of {', '.join(env_ids)}" if env_ids else ""
    why = f"; left out: {'; '.join(view.left_out)}" if view.left_out else ""
    return f"{root}: no run{which} in it, neither finished nor in progress{why}"


def _fingerprint(view: View) -> list[Any]:
    """What makes one picture differ from another."""
    running = [
        (run.panel, run.label, run.seed, run.measure, *run.steps[-1:], len(run.steps))
        for run in view.running
    ]
    return [json.loads(view.curves.to_json(orient="values")), running]


def _letter(position: int) -> str:
    return chr(ord("A") + position % 26)


def _panel_labels(view: View, panel: str) -> list[str]:
    finished = view.curves.loc[view.curves["env_id"] == panel, "label"]
    return sorted({*finished, *(run.label for run in view.running if run.panel == panel)})


def _key(view: View, panel: str, styles: Mapping[str, figures.Look], colour: bool) -> list[Text]:
    """What the lines of a panel are, and how far they have come; a line of text each."""
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
    """When something was written last: a run that stands still may have been killed."""
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
    """``#0A4F96`` as three numbers up to 255, with white where it is dark: a terminal may be."""
    channels = np.array(to_rgb(colour))
    lightness = channels @ _LUMA
    white = max(0.0, (_DARKEST - lightness) / (1 - lightness))
    red, green, blue = np.rint(255 * (channels + white * (1 - channels))).astype(int).tolist()
    return red, green, blue


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
