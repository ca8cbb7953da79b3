"""Scores of runs and their intervals as tidy frames, computed by :mod:`benchmarks.statistics`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.names import in_natural_order
from benchmarks.statistics import (
    area_under_curve,
    best_evaluation,
    final_return,
    mean_intervals,
)

SCORES = ("final", "best", "area")
_GROUP = ["env_id", "label"]
_RUN = [*_GROUP, "protocol", "seed"]
_STEPS_COLUMNS = [*_GROUP, "threshold", "seeds", "reached", "median", "lowest", "highest"]
_STEPS_COLUMNS += ["budget", "spacing"]


def by_label(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each environment and label, numbers in labels sorted by their value."""
    groups = {
        (str(env_id), str(label)): rows
        for (env_id, label), rows in frame.groupby(_GROUP, sort=False)
    }
    places = {label: i for i, label in enumerate(in_natural_order(frame["label"]))}
    return {key: groups[key] for key in sorted(groups, key=lambda key: (key[0], places[key[1]]))}


def run_scores(evaluations: pd.DataFrame, lower_is_better: bool = False) -> pd.DataFrame:
    """Final return, best evaluation and area under the curve of each run.

    :param evaluations: tidy, with ``env_id, label, protocol, seed, timesteps, return_mean``
    :param lower_is_better: the best evaluation is the lowest
    :return: one row per run: ``env_id, label, protocol, seed, final, best, area``
    """
    ordered = evaluations.sort_values([*_RUN, "timesteps"], kind="stable")
    rows = []
    for key, run in ordered.groupby(_RUN, sort=True):
        steps, returns = run["timesteps"].to_numpy(float), run["return_mean"].to_numpy(float)
        sign = -1 if lower_is_better else 1
        best, area = sign * best_evaluation(steps, sign * returns), area_under_curve(steps, returns)
        rows.append((*key, final_return(returns), best, area))
    return pd.DataFrame(rows, columns=[*_RUN, *SCORES])


def score_table(runs: pd.DataFrame, of_runs: pd.DataFrame) -> pd.DataFrame:
    """Scores over seeds, one row per environment and label.

    :param runs: one row per run, with ``env_id, label, algo, config, protocol, seed, timesteps,
        wall_seconds`` (training alone), ``evaluation_seconds`` and ``peak_memory_mib``
    :param of_runs: as :func:`run_scores` returns it, of the same runs
    :return: ``env_id, label, algo, config, protocol, seeds`` (how many), ``timesteps`` (mean);
        each of ``SCORES`` with ``_mean, _low, _high``; ``wall_seconds`` (training and evaluations,
        mean over runs), ``steps_per_second`` (environment steps per second of training alone, mean
        over runs) and ``peak_memory_mib`` (median over runs, NaN where it is not known of any)
    """
    scores = dict(iter(of_runs.groupby(_GROUP, sort=True)))
    groups = by_label(runs)
    values = [scores[key][list(SCORES)].to_numpy(dtype=np.float64) for key in groups]
    rows = []
    for (key, group), estimates in zip(groups.items(), mean_intervals(values), strict=True):
        first = group.iloc[0]
        row: dict[str, Any] = {"env_id": key[0], "label": key[1]}
        row |= {name: first[name] for name in ("algo", "config", "protocol")}
        row |= {"seeds": len(group), "timesteps": group["timesteps"].mean()}
        for i, score in enumerate(SCORES):
            ends = zip(("mean", "low", "high"), estimates[:, i], strict=True)
            row |= {f"{score}_{part}": value for part, value in ends}
        row["wall_seconds"] = (group["wall_seconds"] + group["evaluation_seconds"]).mean()
        row["steps_per_second"] = speeds(group).mean()
        row["peak_memory_mib"] = group["peak_memory_mib"].dropna().median()
        rows.append(row)
    return pd.DataFrame(rows)


def speeds(runs: pd.DataFrame) -> pd.Series[float]:
    """Environment steps per second of each run's training."""
    # The clock is read to the millisecond.
    return runs["timesteps"] / runs["wall_seconds"].clip(lower=1e-3)


def smoothed(evaluations: pd.DataFrame, window: int) -> pd.DataFrame:
    """The evaluations of each run as centred moving means, for curves alone.

    Near the ends of a run the window is as wide as it can be around its middle, so that a curve is
    not shifted; the first and the last evaluation stay as they are.

    :param evaluations: as for :func:`run_scores`
    :param window: how many evaluations; odd, with 1 for none
    """
    if window == 1:
        return evaluations
    ordered = evaluations.sort_values([*_RUN, "timesteps"], kind="stable", ignore_index=True)
    returns = ordered.groupby(_RUN, sort=False)["return_mean"]
    return ordered.assign(return_mean=returns.transform(_moving_mean, window=window))


def _moving_mean(values: pd.Series[float], window: int) -> np.ndarray:
    n = len(values)
    middle = np.arange(n)
    reach = np.minimum(window // 2, np.minimum(middle, n - 1 - middle))
    sums = np.concatenate([[0.0], np.cumsum(values.to_numpy(np.float64))])
    means: np.ndarray = (sums[middle + reach + 1] - sums[middle - reach]) / (2 * reach + 1)
    return means


def learning_curves(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its interval at each evaluation.

    Where the seeds of a label were not evaluated at the same steps, their curves, straight between
    evaluations, are averaged at as many evenly spread steps as the seed with the fewest evaluations
    has, between the first and the last step that all of them cover.

    :param evaluations: as for :func:`run_scores`
    :return: one row per point: ``env_id, label, timesteps, mean, low, high, seeds``; ``low`` and
        ``high`` are NaN with one seed
    """
    curves = {}
    for key, group in by_label(evaluations).items():
        seeds = [run.sort_values("timesteps") for _, run in group.groupby("seed", sort=True)]
        steps = [run["timesteps"].to_numpy(float) for run in seeds]
        if all(np.array_equal(grid, steps[0]) for grid in steps):
            returns = [run["return_mean"].to_numpy(float) for run in seeds]
            curves[key] = (steps[0], np.stack(returns))
            continue
        first, last = max(grid[0] for grid in steps), min(grid[-1] for grid in steps)
        common = np.linspace(first, last, min(map(len, steps)))
        returns = [np.interp(common, run["timesteps"], run["return_mean"]) for run in seeds]
        curves[key] = (common, np.stack(returns))
    return _averaged(curves, "timesteps")


def wall_time_curves(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its interval against the seconds of training, without evaluations.

    Each seed's curve is straight between its evaluations, and averaged with the others at as many
    evenly spread times as it has evaluations, up to the time at which the first seed was done.

    :param evaluations: as for :func:`run_scores`, with ``wall_seconds``
    :return: as :func:`learning_curves` gives it, with ``seconds`` for ``timesteps``; without the
        labels of which the seconds of an evaluation are not known
    """
    curves = {}
    for key, group in by_label(evaluations).items():
        if not np.isfinite(group["wall_seconds"]).all():
            continue
        seeds = [run.sort_values("timesteps") for _, run in group.groupby("seed", sort=True)]
        seconds = np.linspace(0, min(run["wall_seconds"].max() for run in seeds), len(seeds[0]))
        returns = [np.interp(seconds, run["wall_seconds"], run["return_mean"]) for run in seeds]
        curves[key] = (seconds, np.stack(returns))
    return _averaged(curves, "seconds")


def _averaged(
    curves: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]], x: str
) -> pd.DataFrame:
    """The means over seeds of curves, each of x, shape ``(n_points,)``, and returns by seed."""
    estimates = mean_intervals([returns for _, returns in curves.values()])
    frames = [pd.DataFrame(columns=[*_GROUP, x, "mean", "low", "high", "seeds"])]
    for (key, (where, returns)), (mean, low, high) in zip(curves.items(), estimates, strict=True):
        columns = {x: where, "mean": mean, "low": low, "high": high, "seeds": len(returns)}
        frames.append(pd.DataFrame({"env_id": key[0], "label": key[1], **columns}))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def steps_to_threshold(
    evaluations: pd.DataFrame, thresholds: Mapping[str, float], lower_is_better: bool = False
) -> pd.DataFrame:
    """Environment steps at the first evaluation whose mean return is at or above a threshold.

    A seed without such an evaluation counts as infinitely many steps, so that the median is
    infinite where half of the seeds or more have none.

    :param evaluations: as for :func:`run_scores`, in any order
    :param thresholds: environment to return; what has none is left out
    :param lower_is_better: it is the first evaluation at or below the threshold
    :return: one row per environment and label: ``env_id, label, threshold, seeds`` (how many),
        ``reached`` (how many of them did), ``median, lowest, highest`` (over seeds, in environment
        steps, ``inf`` for not reached), ``budget`` (environment steps up to which every seed was
        evaluated) and ``spacing`` (most environment steps without an evaluation)
    """
    rows = []
    sign = -1 if lower_is_better else 1
    for (env_id, label), group in by_label(evaluations).items():
        threshold = thresholds.get(env_id)
        if threshold is not None:
            found = _steps_of(group.assign(value=sign * group["return_mean"]), sign * threshold)
            rows.append((env_id, label, threshold, *found))
    return pd.DataFrame(rows, columns=_STEPS_COLUMNS)


def _steps_of(evaluations: pd.DataFrame, threshold: float) -> tuple[float, ...]:
    """What :func:`steps_to_threshold` says of one label, from ``seeds`` on."""
    by_seed = evaluations.groupby("seed")["timesteps"]
    budgets = by_seed.max()
    above = evaluations[evaluations["value"] >= threshold]
    first = above.groupby("seed")["timesteps"].min()
    steps = first.astype(np.float64).reindex(budgets.index, fill_value=np.inf).to_numpy()
    spacing = max(int(np.diff(np.sort(grid), prepend=0).max()) for _, grid in by_seed)
    extent = (float(np.median(steps)), float(steps.min()), float(steps.max()))
    return len(steps), len(first), *extent, int(budgets.min()), spacing
