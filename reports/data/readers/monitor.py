"""``monitor.csv``, ``0.monitor.csv``, ...: the episodes that Stable-Baselines3's Monitor writes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.names import plain
from reports.data.readers.collected import Collected
from reports.data.readers.logged import BrokenLogError
from reports.data.readers.text import opened, rows, whole_lines

EXTENSION = "monitor.csv"
_COLUMNS = ("r", "l", "t")  # the return, the length, and the seconds since the file was opened
_LATEST = 1e12  # Unix time
_NUMBERED = re.compile(r"(\d{1,6})\.monitor\.csv")


@dataclass(frozen=True)
class MonitorLog:
    """What the files of a run say: its episodes as :data:`TRAINING`, and its environment."""

    collected: Collected
    env_id: str | None


@dataclass(frozen=True)
class _EpisodesOfOne:
    """The episodes in one file; arrays of shape ``(n_episodes,)``."""

    env_id: str | None
    opened_at: float  # Unix time, NaN where it is not known
    returns: np.ndarray
    lengths: np.ndarray
    seconds: np.ndarray


def number(name: str) -> int | None:
    """Which of a run's environments a file is of, if its name says it."""
    match = _NUMBERED.fullmatch(name)
    return None if match is None else int(match[1])


def read(paths: Sequence[Path]) -> MonitorLog:
    """The training's episodes, of all environments of a run.

    Stable-Baselines3 steps them in lockstep: when one has made k steps, the run has made k times
    the number of environments.

    :param paths: a file for each environment, or one for all
    :raises BrokenLogError: the only file is none of a Monitor, or the files are of several runs
    """
    collected = Collected(paths[0] if len(paths) == 1 else paths[0].parent)
    numbers = _numbers(paths)
    n_envs = max(numbers) - min(numbers) + 1
    if n_envs > len(paths):
        collected.say(
            f"the files of {n_envs - len(paths):,} of {n_envs:,} environments are missing"
        )
    logs = []
    for _, path in sorted(zip(numbers, paths, strict=True)):
        try:
            logs.append(_read_one(path, collected.say))
        except (BrokenLogError, OSError) as error:
            if len(paths) == 1:
                raise
            collected.say(f"{path.name} left out: {error}")
    _add_episodes(collected, logs, n_envs)
    return MonitorLog(collected, _env_id(collected, logs))


def _numbers(paths: Sequence[Path]) -> list[int]:
    found = [number(path.name) for path in paths]
    return [i if each is None else each for i, each in enumerate(found)]


def _add_episodes(collected: Collected, logs: Sequence[_EpisodesOfOne], n_envs: int) -> None:
    if not logs:
        return
    began = np.array([log.opened_at for log in logs])
    ended = began + [np.max(log.seconds, initial=0.0) or np.nan for log in logs]
    if np.fmax.reduce(began) > np.fmin.reduce(ended):
        raise BrokenLogError(
            f"{collected.source}: the Monitors did not run at the same time, so that they are not "
            "the environments of one run; put each run into a folder of its own"
        )
    offsets = np.nan_to_num(began - np.fmin.reduce(began), nan=0.0)
    seconds = [_running(log.seconds) + at for log, at in zip(logs, offsets, strict=True)]
    timesteps = np.concatenate([n_envs * np.cumsum(log.lengths) for log in logs])
    # At each step the environments are gone through in their order.
    order = np.argsort(timesteps, kind="stable")
    collected.add_episodes(
        timesteps[order],
        np.concatenate([log.returns for log in logs])[order],
        np.concatenate([log.lengths for log in logs])[order],
        np.concatenate(seconds)[order],
    )


def _running(seconds: np.ndarray) -> np.ndarray:
    """The clock of a run: a file that is opened again starts its own at zero again."""
    restarts = np.diff(seconds, prepend=0.0) < 0
    before = np.where(restarts, np.append(0.0, seconds[:-1]), 0.0)
    return seconds + np.cumsum(before)


def _env_id(collected: Collected, logs: Sequence[_EpisodesOfOne]) -> str | None:
    names = sorted({log.env_id for log in logs if log.env_id is not None})
    if len(names) > 1:
        collected.say(f"the environment is not known, for the files name {', '.join(names)}")
    return names[0] if len(names) == 1 else None


def _read_one(path: Path, say: Callable[[str], None]) -> _EpisodesOfOne:
    """:raises BrokenLogError: no file of a Monitor"""
    with opened(path) as file:
        lines = whole_lines(file, lambda problem: say(f"{path.name}: {problem}"))
        first = next(lines, "")
        env_id, opened_at = _header(first) if first.startswith("#") else (None, np.nan)
        table = rows(lines, lambda problem: say(f"{path.name}: {problem}"))
        names = next(table, []) if first.startswith("#") else first.strip().split(",")
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            got = plain(", ".join(names)) or "nothing"
            raise BrokenLogError(f"{path}: has no column {', '.join(missing)}; it has {got}")
        places = [names.index(name) for name in _COLUMNS]
        read = [_episode(row, places, len(names)) for row in table]
    episodes = [each for each in read if each is not None]
    if len(episodes) < len(read):
        say(f"{path.name}: lines left out that are no episode's: {len(read) - len(episodes):,}")
    returns, lengths, seconds = np.array(episodes).reshape(-1, len(_COLUMNS)).T
    return _EpisodesOfOne(env_id, opened_at, returns, lengths, seconds)


def _episode(row: Sequence[str], places: Sequence[int], n_columns: int) -> list[float] | None:
    if len(row) != n_columns:
        return None
    try:
        episode = [float(row[place]) for place in places]
    except ValueError:
        return None
    return episode if 1 <= episode[1] < math.inf else None


def _header(line: str) -> tuple[str | None, float]:
    """The environment and when the file was opened, where the first line says it."""
    try:
        header = json.loads(line.lstrip("# "))
    except (ValueError, RecursionError):
        return None, np.nan
    if not isinstance(header, dict):
        return None, np.nan
    env_id, opened_at = header.get("env_id"), header.get("t_start")
    if not isinstance(env_id, str) or env_id == "None":  # of an environment without a name
        env_id = None
    if not isinstance(opened_at, float | int) or not 0 <= opened_at < _LATEST:
        opened_at = np.nan
    return plain(env_id or "") or None, float(opened_at)
