"""Scores of runs and their intervals: pure functions on arrays and tidy frames.

Intervals are rliable's percentile bootstrap over seeds; nothing here resamples by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.intervals import REPETITIONS, interval
from benchmarks.results import final_return

_GROUP = ["env_id", "label"]
_STEPS_COLUMNS = [*_GROUP, "threshold", "seeds", "reached", "median", "lowest", "highest"]
_STEPS_COLUMNS += ["budget", "spacing"]


def best_evaluation(returns: np.ndarray) -> float:
    """The highest of a run's evaluations, shape ``(n_evaluations,)``.

    A maximum of noisy values: it lies above what the policy that reached it returns on average.
    """
    return float(np.max(returns))


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds with its 95% interval, column by column.

    :param values: shape ``(n_seeds, n_columns)``, a column being a score or a point of a curve
    :return: mean, lower and upper end, each of shape ``(n_columns,)``; both ends are NaN with one
        seed, which has no interval
    :raises ValueError: ``values`` is not two-dimensional, or has no seed or a non-finite value
    """
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"values must have the shape (n_seeds, n_columns), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    mean = values.mean(axis=0)
    if len(values) == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    low, high = interval(values, lambda sample: sample.mean(axis=0), REPETITIONS)
    return mean, low, high


def run_scores(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Final return and best evaluation of each run.

    :param evaluations: tidy, with ``env_id, label, seed, timesteps, return_mean``
    :return: one row a run: ``env_id, label, seed, final, best``
    """
    ordered = evaluations.sort_values([*_GROUP, "seed", "timesteps"], kind="stable")
    rows = [
        (*key, final_return(returns), best_evaluation(returns.to_numpy()))
        for key, returns in ordered.groupby([*_GROUP, "seed"], sort=True)["return_mean"]
    ]
    return pd.DataFrame(rows, columns=[*_GROUP, "seed", "final", "best"])


def score_table(runs: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Scores over seeds, one row per environment and label.

    :param runs: one row a run, with ``env_id, label, algo, config, seed, timesteps, wall_seconds``
        (training alone) and ``evaluation_seconds``
    :param evaluations: as for :func:`run_scores`
    :return: ``env_id, label, algo, config, seeds`` (how many), ``timesteps`` (mean),
        ``final_mean, final_low, final_high, best_mean, best_low, best_high,
        wall_seconds`` (training and evaluations, mean over runs) and ``steps_per_second``
        (environment steps per second of training alone, mean over runs)
    """
    scores = dict(iter(run_scores(evaluations).groupby(_GROUP, sort=True)))
    rows = []
    for key, group in runs.groupby(_GROUP, sort=True):
        wall_seconds = group["wall_seconds"] + group["evaluation_seconds"]
        mean, low, high = mean_interval(scores[key][["final", "best"]].to_numpy(dtype=np.float64))
        rows.append(
            {
                "env_id": key[0],
                "label": key[1],
                "algo": group["algo"].iloc[0],
                "config": group["config"].iloc[0],
                "seeds": len(group),
                "timesteps": group["timesteps"].mean(),
                "final_mean": mean[0],
                "final_low": low[0],
                "final_high": high[0],
                "best_mean": mean[1],
                "best_low": low[1],
                "best_high": high[1],
                "wall_seconds": wall_seconds.mean(),
                "steps_per_second": (group["timesteps"] / group["wall_seconds"]).mean(),
            }
        )
    return pd.DataFrame(rows)


def learning_curves(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its interval at each evaluation.

    :param evaluations: as for :func:`run_scores`; the seeds of a label share their ``timesteps``
    :return: one row a point: ``env_id, label, timesteps, mean, low, high, seeds``; ``low`` and
        ``high`` are NaN with one seed
    """
    curves = []
    for key, group in evaluations.groupby(_GROUP, sort=True):
        returns = group.pivot(index="seed", columns="timesteps", values="return_mean")
        mean, low, high = mean_interval(returns.to_numpy(dtype=np.float64))
        curve = {
            "timesteps": returns.columns.to_numpy(),
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": len(returns),
        }
        curves.append(pd.DataFrame({"env_id": key[0], "label": key[1], **curve}))
    return pd.concat(curves, ignore_index=True)


def steps_to_threshold(evaluations: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Environment steps at the first evaluation whose mean return is at or above a threshold.

    A seed without such an evaluation counts as infinitely many steps, so that the median is
    infinite where half of the seeds or more have none.

    :param evaluations: as for :func:`run_scores`, in any order
    :param thresholds: environment to return; what has none is left out
    :return: one row per environment and label: ``env_id, label, threshold, seeds`` (how many),
        ``reached`` (how many of them did), ``median, lowest, highest`` (over seeds, in environment
        steps, ``inf`` for not reached), ``budget`` (environment steps up to which every seed was
        evaluated) and ``spacing`` (most environment steps without an evaluation)
    """
    rows = []
    for (env_id, label), group in evaluations.groupby(_GROUP, sort=True):
        threshold = thresholds.get(str(env_id))
        if threshold is not None:
            rows.append((env_id, label, threshold, *_steps_of(group, threshold)))
    return pd.DataFrame(rows, columns=_STEPS_COLUMNS)


def not_told_apart(mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which entries are the best or cannot be told apart from it, higher being better.

    Among the entries that have an interval: the highest mean, and each whose interval overlaps
    with that one's. Intervals that touch overlap. With fewer than two entries nothing is compared
    and none is marked.

    :param mean: shape ``(n_entries,)``, as are ``low`` and ``high``, NaN where there is no interval
    :return: booleans, shape ``(n_entries,)``
    """
    has_interval = np.isfinite(low) & np.isfinite(high)
    if has_interval.sum() < 2:
        return np.zeros(len(mean), dtype=bool)
    best = int(np.argmax(np.where(has_interval, mean, -np.inf)))
    return has_interval & (high >= low[best]) & (low <= high[best])


def _steps_of(evaluations: pd.DataFrame, threshold: float) -> tuple[float, ...]:
    """What :func:`steps_to_threshold` says of one label, from ``seeds`` on."""
    by_seed = evaluations.groupby("seed")["timesteps"]
    budgets = by_seed.max()
    above = evaluations[evaluations["return_mean"] >= threshold]
    first = above.groupby("seed")["timesteps"].min()
    steps = first.astype(np.float64).reindex(budgets.index, fill_value=np.inf).to_numpy()
    spacing = max(int(np.diff(np.sort(grid), prepend=0).max()) for _, grid in by_seed)
    extent = (float(np.median(steps)), float(steps.min()), float(steps.max()))
    return len(steps), len(first), *extent, int(budgets.min()), spacing
