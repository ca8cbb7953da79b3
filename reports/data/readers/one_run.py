"""The logs of one run, of which some may be broken, as a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.names import message
from reports.data.readers import cleanrl, evaluations, events, monitor, progress, zoo
from reports.data.readers.collected import Collected, with_wall_seconds
from reports.data.readers.events import Events
from reports.data.readers.layout import Logs
from reports.data.readers.logged import BrokenLogError, LoggedRun, Series
from reports.data.readers.logger import add_logged

T = TypeVar("T")


def read(logs: Logs, form: str | None) -> LoggedRun:
    """A run with what its logs give, which may be nothing.

    :param form: ``sb3``, ``zoo`` or ``cleanrl``; None: the one that it looks like
    """
    parts = _Parts()
    charts, written = _events(parts, logs)
    form = form or _recognised(logs.path, written)
    # The most exact come first.
    for path in logs.evaluations:
        parts.add(attempt(parts.problems, path, partial(evaluations.read, path)))
    env_id = _add_monitors(parts, logs)
    for path in logs.progress:
        parts.add(attempt(parts.problems, path, partial(progress.read, path)))
    if written is not None:
        add = cleanrl.add_charts if form == "cleanrl" else add_logged
        attempt(parts.problems, charts.source, partial(add, charts, written.scalars))
    parts.add(charts)
    names: dict[str, Any] = {"algo": None, "env_id": None, "seed": None}
    if form == "zoo":
        names = vars(zoo.settings(logs.path, parts.say))
    elif form == "cleanrl":
        names = vars(cleanrl.arguments(charts.source, {} if written is None else written.texts))
    names = {**names, "env_id": names["env_id"] or env_id}
    return LoggedRun(form, logs.path, metrics=parts.metrics, problems=parts.problems, **names)


def attempt(problems: list[str], path: Path, read: Callable[[], T]) -> T | None:
    """What a log gives; None, and a line, if it is broken."""
    try:
        return read()
    except BrokenLogError as error:
        problems.append(message(error))
    except Exception as error:  # whatever the bytes of a file make its parser raise
        problems.append(message(f"{path}: {type(error).__name__}: {error}"))
    return None


class _Parts:
    """What the logs of a run have given so far."""

    def __init__(self) -> None:
        self.metrics: dict[str, Series] = {}
        self.problems: list[str] = []

    def say(self, problem: str) -> None:
        self.problems.append(message(problem))

    def add(self, collected: Collected | None) -> None:
        """Add what a log gives; the metrics that there are stay."""
        if collected is None:
            return
        self.problems.extend(collected.problems)
        for name, series in collected.metrics.items():
            ours = self.metrics.get(name)
            self.metrics[name] = series if ours is None else with_wall_seconds(ours, series)


def _events(parts: _Parts, logs: Logs) -> tuple[Collected, Events | None]:
    charts = Collected(logs.events[0].parent if logs.events else logs.path)
    if not logs.events:
        return charts, None
    read = partial(events.read, logs.events, charts.say)
    return charts, attempt(parts.problems, charts.source, read)


def _recognised(folder: Path, written: Events | None) -> str:
    if zoo.settings_folder(folder) is not None:
        return "zoo"
    return "cleanrl" if written is not None and cleanrl.is_cleanrl(written.scalars) else "sb3"


def _add_monitors(parts: _Parts, logs: Logs) -> str | None:
    """Add the episodes of the Monitors; the environment that they name."""
    if not logs.monitors:
        return None
    found = attempt(parts.problems, logs.path, partial(monitor.read, logs.monitors))
    parts.add(None if found is None else found.collected)
    return None if found is None else found.env_id
