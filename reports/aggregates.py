"""Scores over all environments, as Agarwal et al. (2021) ask for them, with rliable.

Everything here is about normalised scores: a random policy has 0 and a reference 1 on every
environment (``benchmarks/normalisation.csv``, or a file of the user's). A matrix has a row for each
seed and a column for each environment; intervals are from seeds resampled within each column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rliable import metrics

from benchmarks import statistics
from benchmarks.names import restored
from benchmarks.normalisation import Scale, load_scales
from benchmarks.statistics import Estimate, interquartile_mean, interval
from reports.scores import run_scores

REPETITIONS = 2_000


AGGREGATES = {
    "interquartile mean": lambda scores: interquartile_mean(scores, axis=None),
    "median": metrics.aggregate_median,
    "mean": metrics.aggregate_mean,
    "optimality gap": metrics.aggregate_optimality_gap,
}
_THRESHOLDS = 101


@dataclass(frozen=True)
class Matrices:
    """The normalised scores that are aggregated, and what had to be left out.

    ``finals``: label to final returns, shape ``(n_seeds, n_environments)``; ``areas``: likewise to
    areas under the curve, that is, mean returns over the training; ``curves``: label to
    evaluation returns, shape ``(n_seeds, n_environments, n_points)``, the points being the same
    shares of every environment's budget, ``shares``; empty where the environments do not have that
    in common. ``without_scale`` are environments for which random policy and reference are not
    known; ``mixed`` are those whose runs have different budgets or evaluation protocols;
    ``partial`` are labels that have not been run on all of the others; ``surplus`` says of
    how many runs a label has more on some environments than on others, which do not count.
    """

    env_ids: list[str]
    finals: dict[str, np.ndarray]
    areas: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    shares: np.ndarray
    scales: dict[str, Scale]
    without_scale: list[str]
    mixed: list[str]
    partial: list[str]
    surplus: dict[str, int]


def matrices(
    evaluations: pd.DataFrame, known: Mapping[str, Scale] | None = None
) -> Matrices | None:
    """The scores of all labels that have been run on all environments with a scale.

    Where a label has more seeds on one environment than on another, the first of them count, as
    many as there are on each.

    :param evaluations: as for :func:`reports.scores.run_scores`, with ``protocol``
    :param known: environment to scale; None: those of ``benchmarks/normalisation.csv``
    :return: None where there is nothing to aggregate: fewer than two environments have a scale, or
        no label has been run on all of them
    """
    is_mixed = evaluations["protocol"] != ""
    mixed = sorted(map(str, evaluations.loc[is_mixed, "env_id"].unique()))
    evaluations = evaluations[~is_mixed]
    every = sorted(map(str, evaluations["env_id"].unique()))
    known = load_scales() if known is None else known
    scales = {env_id: known[name] for env_id in every if (name := restored(env_id)) in known}
    env_ids = list(scales)
    by_label = {str(label): group for label, group in evaluations.groupby("label", sort=True)}
    complete = {
        label: group for label, group in by_label.items() if set(env_ids) <= set(group["env_id"])
    }
    if len(env_ids) < 2 or not complete:
        return None
    shares = _common_shares(evaluations[evaluations["env_id"].isin(env_ids)])
    finals, areas, curves, surplus = {}, {}, {}, {}
    for label, group in complete.items():
        seeds = {env_id: sorted(rows["seed"].unique()) for env_id, rows in group.groupby("env_id")}
        n_seeds = min(len(seeds[env_id]) for env_id in env_ids)
        surplus[label] = sum(len(seeds[env_id]) - n_seeds for env_id in env_ids)
        scores = run_scores(group).set_index(["env_id", "seed"])[["final", "area"]]
        finals[label], areas[label] = (
            np.column_stack(
                [
                    scales[env_id].normalise(
                        each[env_id].loc[seeds[env_id][:n_seeds]].to_numpy(float)
                    )
                    for env_id in env_ids
                ]
            )
            for each in (scores["final"], scores["area"])
        )
        if len(shares):
            curves[label] = np.stack(
                [
                    _curves(group, env_id, seeds[env_id][:n_seeds], scales[env_id])
                    for env_id in env_ids
                ],
                axis=1,
            )
    return Matrices(
        env_ids,
        finals,
        areas,
        curves,
        shares,
        scales,
        without_scale=[env_id for env_id in every if env_id not in scales],
        mixed=mixed,
        partial=[label for label in by_label if label not in complete],
        surplus={label: n for label, n in surplus.items() if n},
    )


def why_not_compared_with(scores: Matrices | None, baseline: str | None) -> str | None:
    """Why nothing over all environments is compared with a baseline that was asked for.

    :return: a sentence; None where it is compared with, or none was asked for
    """
    if baseline is None or (scores is not None and baseline in scores.finals):
        return None
    if scores is None:
        return (
            f"Nothing is compared with {baseline} over all environments: that takes an algorithm "
            "with runs on all environments whose scale is known, two at least; --normalisation "
            "FILE gives the scale of others."
        )
    return (
        f"Over all environments nothing is compared with {baseline}, which has not been run on all "
        f"of {', '.join(scores.env_ids)}; these have: {', '.join(scores.finals)}."
    )


def _common_shares(evaluations: pd.DataFrame) -> np.ndarray:
    """At which shares of its budget every run has been evaluated; empty if they differ."""
    grids = []
    for _, rows in evaluations.groupby(["env_id", "label", "seed"]):
        steps = np.sort(rows["timesteps"].to_numpy(float))
        grids.append(steps / steps[-1])
    first = grids[0]
    # Points are whole steps, so the same share of two budgets is not the same to the last digit.
    same = all(len(grid) == len(first) and np.allclose(grid, first, atol=1e-3) for grid in grids)
    return first if same else np.array([])


def _curves(rows: pd.DataFrame, env_id: str, seeds: Sequence[int], scale: Scale) -> np.ndarray:
    """Normalised returns of one environment, shape ``(n_seeds, n_points)``."""
    table = rows[rows["env_id"] == env_id].pivot(
        index="seed", columns="timesteps", values="return_mean"
    )
    return scale.normalise(table.loc[list(seeds)].to_numpy(float))


def aggregate_table(finals: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Interquartile mean, median, mean and optimality gap of each label, with 95% intervals.

    :param finals: label to scores, shape ``(n_seeds, n_environments)``
    :return: one row a label and aggregate: ``label, aggregate, value, low, high, seeds``; ``low``
        and ``high`` are NaN with one seed
    """

    def statistics(scores: np.ndarray) -> np.ndarray:
        return np.array([aggregate(scores) for aggregate in AGGREGATES.values()])

    rows = []
    for label, scores in finals.items():
        values = statistics(scores)
        low = high = np.full(len(values), np.nan)
        if len(scores) > 1:
            low, high = interval(scores, statistics, REPETITIONS)
        rows += [
            (label, name, values[i], low[i], high[i], len(scores))
            for i, name in enumerate(AGGREGATES)
        ]
    return pd.DataFrame(rows, columns=["label", "aggregate", "value", "low", "high", "seeds"])


def profiles(finals: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Which share of its runs each label has above a score, for scores from lowest to highest.

    :param finals: label to scores, shape ``(n_seeds, n_environments)``
    :return: one row a label and score: ``label, score, share, low, high``, the interval NaN with
        one seed
    """
    lowest = min(0.0, *(float(scores.min()) for scores in finals.values()))
    highest = max(1.0, *(float(scores.max()) for scores in finals.values()))
    thresholds = np.linspace(lowest, highest, _THRESHOLDS)

    def shares(scores: np.ndarray) -> np.ndarray:
        return np.mean(scores[None] > thresholds[:, None, None], axis=(1, 2))

    frames = []
    for label, scores in finals.items():
        low = high = np.full(_THRESHOLDS, np.nan)
        if len(scores) > 1:
            low, high = interval(scores, shares, REPETITIONS)
        columns = {"score": thresholds, "share": shares(scores), "low": low, "high": high}
        frames.append(pd.DataFrame({"label": label, **columns}))
    return pd.concat(frames, ignore_index=True)


def iqm(scores: np.ndarray) -> Estimate:
    """The interquartile mean of all scores with its 95% interval, as in :func:`aggregate_table`.

    :param scores: shape ``(n_seeds, n_environments)``
    """

    def value(sample: np.ndarray) -> np.ndarray:
        return interquartile_mean(sample.reshape(-1, 1))

    low = high = np.array([np.nan])
    if len(scores) > 1:
        low, high = interval(scores, value, REPETITIONS)
    return Estimate(float(value(scores)[0]), float(low[0]), float(high[0]))


def iqm_difference(x: np.ndarray, y: np.ndarray) -> Estimate:
    """How much higher the interquartile mean of X is than that of Y.

    :param x: scores, shape ``(n_seeds_of_x, n_environments)``; ``y`` likewise
    :return: with its 95% interval, whose ends are NaN where either has one seed
    """

    def value(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        first, second = (interquartile_mean(scores.reshape(-1, 1)) for scores in (ours, theirs))
        return first - second

    low = high = np.array([np.nan])
    if min(len(x), len(y)) > 1:
        low, high = interval((x, y), value, REPETITIONS)
    return Estimate(float(value(x, y)[0]), float(low[0]), float(high[0]))


def improvement(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Probability that a run of X is better than a run of Y, averaged over environments.

    The mean over environments of :func:`benchmarks.statistics.improvement`, as rliable has it.

    :param x: scores, shape ``(n_seeds_of_x, n_environments)``; ``y`` likewise
    :return: the probability and its 95% interval, NaN where either has one seed
    """

    def probability(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return statistics.improvement(ours, theirs).mean(keepdims=True)

    value = float(probability(x, y)[0])
    if min(len(x), len(y)) < 2:
        return Estimate(value)
    low, high = interval((x, y), probability, REPETITIONS)
    return Estimate(value, float(low[0]), float(high[0]))


def improvements(finals: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """:func:`improvement` of each label over each other one.

    :return: one row an ordered pair: ``label, over, probability, low, high``
    """
    rows = [
        (label, other, *improvement(finals[label], finals[other]).numbers)
        for label in finals
        for other in finals
        if label != other
    ]
    return pd.DataFrame(rows, columns=["label", "over", "probability", "low", "high"])


def efficiency(curves: Mapping[str, np.ndarray], shares: np.ndarray) -> pd.DataFrame:
    """The interquartile mean of the scores at each share of the budget.

    :param curves: label to scores, shape ``(n_seeds, n_environments, n_points)``
    :param shares: of the budget, shape ``(n_points,)``
    :return: one row a label and point: ``label, share, value, low, high``, the interval NaN with
        one seed
    """

    def iqm_of_points(scores: np.ndarray) -> np.ndarray:
        return interquartile_mean(scores.reshape(-1, len(shares)))

    frames = []
    for label, scores in curves.items():
        low = high = np.full(len(shares), np.nan)
        if len(scores) > 1:
            low, high = interval(scores, iqm_of_points, REPETITIONS)
        columns = {"share": shares, "value": iqm_of_points(scores), "low": low, "high": high}
        frames.append(pd.DataFrame({"label": label, **columns}))
    return pd.concat(frames, ignore_index=True)
