"""What is read out of logs, whatever their format: runs, each with its metrics over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

EVALUATION = "evaluation"
"""Mean return of the episodes of an evaluation, as EvalCallback makes them."""
TRAINING = "training"
"""Mean return of the last :data:`TRAINING_WINDOW` episodes that the exploring policy has ended."""
SUCCESS_RATE = "success_rate"
"""Share of an evaluation's episodes that were successful."""
TRAINING_WINDOW = 100  # Stable-Baselines3's ``stats_window_size``, and so its ``ep_rew_mean``'s


@dataclass(frozen=True)
class Series:
    """One metric of a run over its training; all arrays have the shape ``(n_points,)``.

    ``timesteps``: environment steps so far, strictly increasing. ``values``: finite.
    ``wall_seconds``: since the run began, NaN where it is not known. ``spread``: the standard
    deviation over the episodes behind a value, and ``lengths`` their mean length, NaN where they
    are not known. ``episodes``: how many these are, 0 where it is not known.
    """

    timesteps: np.ndarray
    values: np.ndarray
    wall_seconds: np.ndarray
    spread: np.ndarray
    lengths: np.ndarray
    episodes: np.ndarray


@dataclass(frozen=True)
class LoggedRun:
    """One training.

    ``format``: the name of the reader. ``path``: the run's folder, or the file that it is a part
    of. ``algo``, ``env_id``, ``seed``: None where neither the logs nor their place say it.
    ``metrics``: by :data:`EVALUATION`, :data:`TRAINING`, :data:`SUCCESS_RATE`, or the name that a
    column or tag has in the logs, such as ``train/approx_kl``. ``hyperparams``: what the logs say
    of them. ``problems``: a line for each part of the logs that was left out, and why.
    ``not_finite``: by a metric's name a line, where some of its values were infinite or NaN; the
    others are in ``metrics``, but not the whole training.
    """

    format: str
    path: Path
    algo: str | None
    env_id: str | None
    seed: int | None
    metrics: Mapping[str, Series]
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()
    not_finite: Mapping[str, str] = field(default_factory=dict)


class BrokenLogError(Exception):
    """A log that cannot be read; the message names the file and says what is wrong."""
