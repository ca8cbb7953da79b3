"""The logs of one run, of which some may be broken, as a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.names import message
from reports.data.readers import cleanrl, evaluations, events, monitor, progress, zoo
from reports.data.readers.collected import Collected, with_wall_seconds
from reports.data.readers.layout import Logs
from reports.data.readers.logged import TRAINING, BrokenLogError, LoggedRun, Series
from reports.data.readers.logger import add_logged

T = TypeVar("T")


def read(logs: Logs, form: str | None) -> LoggedRun:
    """A run with what its logs give, which may be nothing.

    :param form: ``sb3``, ``zoo`` or ``cleanrl``; None: the one that it looks like
    """
    problems: list[str] = []
    evaluated = _each(evaluations.read, logs.evaluations, problems)
    trained, env_id = _episodes(logs, problems)
    logged = _each(progress.read, logs.progress, problems)
    charts, texts, form = _charts(logs, form, problems)
    _check_steps(trained, [*evaluated, *logged, charts])
    names: dict[str, Any] = {"algo": None, "env_id": None, "seed": None}
    if form == "zoo":
        names = vars(zoo.settings(logs.path, lambda line: problems.append(message(line))))
    elif form == "cleanrl":
        names = vars(cleanrl.arguments(charts.source, texts))
    names = {**names, "env_id": names["env_id"] or env_id}
    exact_first = [*evaluated, trained, *logged, charts]
    problems.extend(line for source in exact_first for line in source.problems)
    not_finite = {name: line for log in exact_first[::-1] for name, line in log.not_finite.items()}
    metrics = _merged(exact_first)
    return LoggedRun(
        form, logs.path, metrics=metrics, problems=problems, not_finite=not_finite, **names
    )


def attempt(problems: list[str], path: Path, read: Callable[[], T]) -> T | None:
    """What a log gives; None, and a line, if it is broken."""
    try:
        return read()
    except BrokenLogError as error:
        problems.append(message(error))
    except Exception as error:  # whatever the bytes of a file make its parser raise
        problems.append(message(f"{path}: {type(error).__name__}: {error}"))
    return None


def _each(
    read: Callable[[Path], Collected], paths: Sequence[Path], problems: list[str]
) -> list[Collected]:
    found = (attempt(problems, path, partial(read, path)) for path in paths)
    return [collected for collected in found if collected is not None]


def _episodes(logs: Logs, problems: list[str]) -> tuple[Collected, str | None]:
    """What the Monitors' files give, and the environment that they name."""
    read = partial(monitor.read, logs.monitors)
    found = attempt(problems, logs.path, read) if logs.monitors else None
    return (Collected(logs.path), None) if found is None else (found.collected, found.env_id)


def _charts(
    logs: Logs, form: str | None, problems: list[str]
) -> tuple[Collected, Mapping[str, str], str]:
    """What event files give, the texts in them, and the form of the run."""
    charts = Collected(logs.events[0].parent if logs.events else logs.path)
    read = partial(events.read, logs.events, charts.say)
    written = attempt(problems, charts.source, read) if logs.events else None
    scalars = {} if written is None else written.scalars
    if form is None and zoo.settings_folder(logs.path) is not None:
        form = "zoo"
    elif form is None:
        form = "cleanrl" if cleanrl.is_cleanrl(scalars) else "sb3"
    add = cleanrl.add_charts if form == "cleanrl" else add_logged
    attempt(problems, charts.source, partial(add, charts, scalars))
    return charts, {} if written is None else written.texts, form


def _check_steps(trained: Collected, others: Sequence[Collected]) -> None:
    """Leave out a Monitor's episodes whose steps are not those of the training.

    A Monitor below a wrapper that skips frames, as in Stable-Baselines3's ``make_atari_env``,
    counts the frames. No other log ends before half of a training, since evaluations and rows are
    written at equal intervals.
    """
    if TRAINING not in trained.metrics:
        return
    counted = int(trained.metrics[TRAINING].timesteps[-1])
    ends = [each.timesteps[-1] for other in others for each in other.metrics.values()]
    if ends and counted > 2 * max(ends):
        del trained.metrics[TRAINING]
        trained.say(
            f"the episodes end at step {counted:,}, all other logs at {max(ends):,}, as if the "
            "environment skipped frames of which the Monitor knows; the episodes are left out"
        )


def _merged(collected: Sequence[Collected]) -> dict[str, Series]:
    """The metrics of all logs; if several have one, that of the first."""
    merged: dict[str, Series] = {}
    for source in collected:
        for name, series in source.metrics.items():
            ours = merged.get(name)
            merged[name] = series if ours is None else with_wall_seconds(ours, series)
    return merged
