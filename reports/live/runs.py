"""The runs below a folder while a sweep goes on: finished ones, and those in progress.

A finished run has its evaluations in ``evaluations.csv``. A run in progress stands in a folder
``.tmp-seed-…`` beside its final place. Its evaluations are in its TensorBoard file, at the step of
the next log entry, and its training return is in ``progress.csv``. Both are being written: the last
record of the one and the last line of the other may be incomplete, and the folder may be renamed or
removed at any time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tensorboard.backend.event_processing.directory_watcher import (  # type: ignore[import-untyped]
    DirectoryDeletedError,
)
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
)
from tensorboard.compat import tf  # type: ignore[import-untyped]

from benchmarks.folder_names import as_file_name
from benchmarks.names import first_line, plain
from benchmarks.records import BrokenRunError, RunKey, RunSpec, content
from benchmarks.results import read_evaluations
from benchmarks.run_files import PROGRESS, find, read_run
from benchmarks.storage import target_of
from reports.data import scores
from reports.data.runs import config_labels

EVALUATION = "evaluation return"
TRAINING = "training return"

_CURVE_COLUMNS = ["env_id", "label", "timesteps", "mean", "low", "high", "seeds"]


@dataclass(frozen=True)
class Running:
    """A run in progress, as far as it has come.

    ``panel``: the environment, with the suite where several have it. ``measure``: what ``returns``
    are, ``EVALUATION`` or ``TRAINING``. ``steps`` and ``returns``: of shape ``(n_points,)``, which
    may be none yet. ``written``: when its files were last written, in seconds since the epoch.
    """

    panel: str
    label: str
    seed: int
    measure: str
    steps: np.ndarray
    returns: np.ndarray
    written: float


@dataclass(frozen=True)
class View:
    """Everything to show.

    ``curves``: the means over seeds of the finished runs, as
    :func:`reports.data.scores.learning_curves` returns them, with the panel as ``env_id``.
    ``left_out``: for each finished run that cannot be shown, a line that says why.
    """

    curves: pd.DataFrame
    running: list[Running]
    left_out: list[str]

    @property
    def panels(self) -> list[str]:
        """The panels, those with a run in progress first."""
        active = {run.panel for run in self.running}
        every = active | set(self.curves["env_id"])
        return sorted(every, key=lambda panel: (panel not in active, panel))

    def has(self, env_id: str) -> bool:
        """Whether there is a panel of the environment, of some suite."""
        name = plain(env_id)
        return any(panel == name or panel.startswith(f"{name} (") for panel in self.panels)

    @property
    def labels(self) -> list[str]:
        """The labels of all runs, sorted."""
        return sorted({*self.curves["label"], *(run.label for run in self.running)})


@dataclass(frozen=True)
class Unfinished:
    """The folder of a run in progress, where it will stand, and what its path says of it."""

    folder: Path
    final: Path
    suite: str
    algo: str
    env_id: str
    seed: int
    config: str


class Watcher:
    """Reads the runs below a folder again and again; a finished run is read only once.

    :param env_ids: environments to show; none: all
    """

    def __init__(self, root: Path, env_ids: Sequence[str] = ()) -> None:
        self._root = root
        self._names = {as_file_name(env_id): env_id for env_id in env_ids}
        self._finished: dict[Path, tuple[RunSpec, pd.DataFrame]] = {}
        self._events: dict[Path, EventAccumulator] = {}
        self._curves = pd.DataFrame(columns=_CURVE_COLUMNS)
        self._averaged: set[tuple[Any, ...]] = set()

    def look(self) -> View:
        """What there is now."""
        folders, found = _find(self._root)
        # What is being renamed or removed is read the next time.
        read = {folder: self._finished.get(folder) or _read_finished(folder) for folder in folders}
        self._finished = {folder: run for folder, run in read.items() if not isinstance(run, str)}
        left_out = [run for run in read.values() if isinstance(run, str)]
        specs = [spec for spec, _ in self._finished.values()]
        unfinished = _named(_newest(found, folders), self._known_names(specs))
        labels, panels = _labels(specs, unfinished), _panels([*specs, *unfinished])
        self._average(labels, panels)
        return View(self._curves, self._running(unfinished, labels, panels), left_out)

    def _known_names(self, specs: Iterable[RunSpec]) -> dict[str, str]:
        """Names of folders to the names of algorithms and environments that they stand for."""
        of_runs = {as_file_name(name): name for spec in specs for name in (spec.algo, spec.env_id)}
        return of_runs | self._names

    def _is_wanted(self, env_id: str) -> bool:
        return not self._names or as_file_name(env_id) in self._names

    def _average(
        self,
        labels: Mapping[tuple[str, str, str], str],
        panels: Mapping[tuple[str, str], str],
    ) -> None:
        """Compute means and intervals; only when the runs have changed, since that takes time."""
        runs = {
            folder: evaluations.assign(
                env_id=panels[spec.suite, spec.env_id],
                label=labels[spec.algo, spec.env_id, spec.config],
                protocol="",
                seed=spec.seed,
            )
            for folder, (spec, evaluations) in self._finished.items()
            if self._is_wanted(spec.env_id)
        }
        now = {(folder, *frame.loc[0, ["env_id", "label"]]) for folder, frame in runs.items()}
        if now == self._averaged:
            return
        self._averaged = now
        self._curves = pd.DataFrame(columns=_CURVE_COLUMNS)
        if runs:
            self._curves = scores.learning_curves(pd.concat(runs.values(), ignore_index=True))

    def _running(
        self,
        unfinished: Sequence[Unfinished],
        labels: Mapping[tuple[str, str, str], str],
        panels: Mapping[tuple[str, str], str],
    ) -> list[Running]:
        """The runs in progress, sorted."""
        folders = {run.folder for run in unfinished}
        self._events = {folder: read for folder, read in self._events.items() if folder in folders}
        found = [
            self._read_running(
                run, panels[run.suite, run.env_id], labels[run.algo, run.env_id, run.config]
            )
            for run in unfinished
            if self._is_wanted(run.env_id)
        ]
        running = [run for run in found if run is not None]
        return sorted(running, key=lambda run: (run.panel, run.label, run.seed))

    def _read_running(self, run: Unfinished, panel: str, label: str) -> Running | None:
        """None for a run that has ended while it was read."""
        written = _last_written(run.folder)
        if written is None:
            return None
        accumulator = self._events.setdefault(
            run.folder, EventAccumulator(str(run.folder), size_guidance={SCALARS: 0})
        )
        steps, returns = read_events(accumulator, "eval/return_mean")
        measure = EVALUATION
        # One evaluation, of the untrained policy, says nothing about learning.
        if len(steps) < 2:
            training = read_progress(run.folder / PROGRESS, "rollout/ep_rew_mean")
            if len(training[0]):
                (steps, returns), measure = training, TRAINING
        return Running(panel, label, run.seed, measure, steps, returns, written)


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


def _find(root: Path) -> tuple[list[Path], list[Unfinished]]:
    """The folders of the finished runs, and the runs in progress."""
    found = find(root)
    unfinished = [unfinished_run(folder) for folder in sorted(found.scratch)]
    return (
        [Path(str(run.folder)) for run in found.runs],
        [run for run in unfinished if run is not None],
    )


def unfinished_run(folder: Path) -> Unfinished | None:
    """What the path of a folder says of a run in progress; None for any other folder.

    Such a path ends in ``SUITE/ALGO/ENV/.tmp-seed-SEED-CONFIG-PROCESS``; names of algorithms and
    environments are as folders have them.
    """
    final = target_of(folder)
    key = None if final is None else RunKey.of_folder(final)
    return None if final is None or key is None else Unfinished(folder, final, *key)


def _newest(found: Sequence[Unfinished], finished: Sequence[Path]) -> list[Unfinished]:
    """The runs that are in progress, each once.

    A process that was killed may have left the folder of a run that another process has begun
    again, or even finished.
    """
    newest: dict[Path, tuple[float, Unfinished]] = {}
    for run in found:
        written = _last_written(run.folder)
        if written is None or run.final in finished:
            continue
        if run.final not in newest or written >= newest[run.final][0]:
            newest[run.final] = written, run
    return [run for _, run in newest.values()]


def _named(runs: Iterable[Unfinished], names: Mapping[str, str]) -> list[Unfinished]:
    """The runs with the names that their folders stand for, where those are known."""
    return [
        replace(run, algo=names.get(run.algo, run.algo), env_id=names.get(run.env_id, run.env_id))
        for run in runs
    ]


def _labels(
    specs: Sequence[RunSpec], unfinished: Sequence[Unfinished]
) -> dict[tuple[str, str, str], str]:
    """The label of each algorithm, environment and configuration.

    A configuration without a finished run has the algorithm's name if no other one could be meant.
    """
    columns = ["algo", "env_id", "config", "hyperparams"]
    rows = [(spec.algo, spec.env_id, spec.config, spec.hyperparams) for spec in specs]
    labels = config_labels(pd.DataFrame(rows, columns=columns))
    keys = {*labels, *((run.algo, run.env_id, run.config) for run in unfinished)}
    for algo, env_id, config in keys - {*labels}:
        is_only = not any(key[:2] == (algo, env_id) for key in keys - {(algo, env_id, config)})
        labels[algo, env_id, config] = algo if is_only else f"{algo} (config={config})"
    return {key: plain(label) for key, label in labels.items()}


def _panels(runs: Sequence[RunSpec | Unfinished]) -> dict[tuple[str, str], str]:
    """The panel of each suite and environment: the environment, with the suite where needed."""
    keys = {(run.suite, run.env_id) for run in runs}
    return {
        (suite, env_id): plain(
            f"{env_id} ({suite})" if any(s != suite and e == env_id for s, e in keys) else env_id
        )
        for suite, env_id in keys
    }


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
        spec, evaluations = read_run(folder).spec, read_evaluations(folder)
    except BrokenRunError as error:
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


def _finite(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Points with finite numbers, in the order of their steps."""
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    array = array[np.argsort(array[:, 0], kind="stable")]
    return array[:, 0], array[:, 1]
