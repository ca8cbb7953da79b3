"""The names under which Stable-Baselines3's logger writes, as CSV and for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reports.data.readers.collected import Collected, Points
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING

_METRICS = {
    "rollout/ep_rew_mean": TRAINING,
    "eval/mean_reward": EVALUATION,
    "eval/success_rate": SUCCESS_RATE,
}
_LENGTHS = {TRAINING: "rollout/ep_len_mean", EVALUATION: "eval/mean_ep_length"}


def add_logged(collected: Collected, logged: Mapping[str, Points]) -> None:
    """Add everything that was logged; what is not known by another name has its own."""
    for name, points in logged.items():
        metric = _METRICS.get(name, name)
        lengths = logged.get(_LENGTHS.get(metric, ""))
        collected.add(
            metric,
            points.timesteps,
            points.values,
            wall_seconds=points.wall_seconds,
            lengths=None if lengths is None else _at(points.timesteps, lengths),
        )


def _at(timesteps: np.ndarray, points: Points) -> np.ndarray:
    """The values at some steps, NaN where there is none."""
    values = dict(zip(points.timesteps.tolist(), points.values.tolist(), strict=True))
    return np.array([values.get(step, np.nan) for step in timesteps.tolist()])
