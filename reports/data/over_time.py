"""Scores over several environments against the time of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.data.aggregates import NormalizedScores, efficiency

_POINTS = 101


def over_time(evaluations: pd.DataFrame, scores: NormalizedScores) -> pd.DataFrame | None:
    """The interquartile mean of the scores that a label's runs had at a time.

    A run has the score of its last evaluation by then. Curves begin when the last of a label's runs
    has been evaluated for the first time, and end when the first of them is done.

    :param evaluations: those that ``scores`` were made from, with ``wall_seconds``
    :return: one row per label and time: ``label, seconds, value, low, high``, the interval NaN with
        one seed; without the labels of which the seconds of an evaluation are not known, and None
        if there are no others
    """
    runs = {
        (str(label), str(env_id)): [run for _, run in rows.groupby("seed", sort=True)]
        for (label, env_id), rows in evaluations.groupby(["label", "env_id"], sort=True)
    }
    frames = []
    for label, finals in scores.finals.items():
        of_label = [runs[label, env_id][: len(finals)] for env_id in scores.env_ids]
        if all(np.isfinite(run["wall_seconds"]).all() for of_env in of_label for run in of_env):
            seconds, curves = _curves(of_label, scores)
            frame = efficiency({label: curves}, seconds)
            frames.append(frame.rename(columns={"share": "seconds"}))
    return pd.concat(frames, ignore_index=True) if frames else None


def _curves(
    runs: Sequence[Sequence[pd.DataFrame]], scores: NormalizedScores
) -> tuple[np.ndarray, np.ndarray]:
    """Times, and the scores by then, of shape ``(n_seeds, n_environments, n_points)``.

    :param runs: of one label, by environment and seed
    """
    ordered = [[run.sort_values("wall_seconds") for run in of_env] for of_env in runs]
    times = [run["wall_seconds"].to_numpy(np.float64) for of_env in ordered for run in of_env]
    start, end = max(each[0] for each in times), min(each[-1] for each in times)
    seconds = np.linspace(min(start, end), end, _POINTS)
    curves = [
        [scores.scales[env_id].normalise(_by_then(run, seconds)) for run in of_env]
        for env_id, of_env in zip(scores.env_ids, ordered, strict=True)
    ]
    return seconds, np.swapaxes(np.array(curves), 0, 1)


def _by_then(run: pd.DataFrame, seconds: np.ndarray) -> np.ndarray:
    """The return of the last evaluation at or before each time."""
    last = np.searchsorted(run["wall_seconds"].to_numpy(np.float64), seconds, side="right") - 1
    returns: np.ndarray = run["return_mean"].to_numpy(np.float64)[np.maximum(last, 0)]
    return returns
