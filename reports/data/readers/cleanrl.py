"""CleanRL's runs: event files in a folder ``ENV__EXP__SEED__TIME``, with a table of arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.names import plain
from reports.data.readers.collected import Collected, Points

_RETURN, _LENGTH = "charts/episodic_return", "charts/episodic_length"
_ARGUMENTS = "hyperparameters/text_summary"
# With more parts, nobody can say which of them are the environment's.
_NAME = re.compile(r"(?P<env_id>(?:(?!__).)+)__(?P<algo>(?:(?!__).)+)__(?P<seed>\d{1,18})__\d+")
_MOST_ARGUMENTS = 1_000
_WORDS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class Arguments:
    """What a run was asked for, as far as its arguments or its name say it."""

    algo: str | None
    env_id: str | None
    seed: int | None
    hyperparams: dict[str, Any]


def is_cleanrl(scalars: Mapping[str, Points]) -> bool:
    """Whether CleanRL has written these."""
    return _RETURN in scalars


def add_charts(collected: Collected, scalars: Mapping[str, Points]) -> None:
    """Add the episodes as :data:`TRAINING`, and every other scalar under its own name."""
    for tag, points in scalars.items():
        if tag == _RETURN:
            lengths = _lengths(points, scalars.get(_LENGTH))
            collected.add_episodes(points.timesteps, points.values, lengths, points.wall_seconds)
        else:
            shown = _last_of_each_step(points) if tag == _LENGTH else points
            collected.add(tag, shown.timesteps, shown.values, wall_seconds=shown.wall_seconds)


def _last_of_each_step(points: Points) -> Points:
    """Of the episodes that end together, in different environments, the last."""
    ends_step = np.append(np.diff(points.timesteps) != 0, True)
    return Points(*(column[ends_step] for column in vars(points).values()))


def _lengths(episodes: Points, lengths: Points | None) -> np.ndarray:
    """The length of each episode; it is logged with its return, or not at all."""
    if lengths is None or not np.array_equal(lengths.timesteps, episodes.timesteps):
        return np.full(len(episodes.timesteps), np.nan)
    return lengths.values


def arguments(folder: Path, texts: Mapping[str, str]) -> Arguments:
    """The arguments that the script has written down, else what the folder's name says."""
    table = _table(texts.get(_ARGUMENTS, ""))
    name = _NAME.fullmatch(folder.name)
    said = {} if name is None else name.groupdict()
    algo, env_id = table.get("exp_name", said.get("algo")), table.get("env_id", said.get("env_id"))
    seed = _value(table.get("seed", said.get("seed", "")))
    return Arguments(
        algo=algo or None,
        env_id=env_id or None,
        seed=seed if type(seed) is int else None,
        hyperparams={key: _value(text) for key, text in table.items()},
    )


def _table(markdown: str) -> dict[str, str]:
    """The rows ``|param|value|`` below the two lines of the head."""
    lines = markdown.split("\n")[2 : 2 + _MOST_ARGUMENTS]
    cells = [line.strip().strip("|").partition("|") for line in lines]
    return {plain(key): plain(value) for key, bar, value in cells if bar}


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
