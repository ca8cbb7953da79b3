"""Scores over several environments, as Agarwal et al. (2021) ask for them, with rliable.

Scores are normalised: on every environment a random policy has 0 and a reference 1
(``benchmarks/normalisation.csv``, or a file of the user's). A matrix has a row for each seed and a
column for each environment; for intervals the seeds are resampled within each column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from benchmarks import statistics
from benchmarks.normalisation import Scale
from benchmarks.statistics import Estimate, interquartile_mean, interval

REPETITIONS = 2_000

# With fewer environments there is nothing to aggregate.
FEWEST_ENVIRONMENTS = 2

IQM, GAP = "interquartile mean", "optimality gap"
AGGREGATES = (IQM, "median", "mean", GAP)
_THRESHOLDS = 101

Finals: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
"""Label to environment to the final returns of its runs, by seed."""


@dataclass(frozen=True)
class NormalizedScores:
    """The normalised scores that are aggregated, and what had to be left out.

    ``env_ids``: the environments, all labels having run on each. ``finals``: label to final
    returns, shape ``(n_seeds, n_environments)``. ``curves``: label to evaluation returns, shape
    ``(n_seeds, n_environments, n_points)``, the points being the same shares of every environment's
    budget, ``shares``; empty where the runs were not evaluated at the same shares. ``scales``: of
    these environments.

    Left out are: ``without_scale``, environments without a known random policy and reference;
    ``mixed``, those whose runs have different budgets or evaluation protocols; ``unshared``, those
    that not all labels have run on; ``partial``, labels without runs on all of the environments;
    and ``surplus`` runs of a label, which has more seeds on some environments than on others.
    """

    env_ids: Sequence[str]
    finals: Mapping[str, np.ndarray]
    curves: Mapping[str, np.ndarray]
    shares: np.ndarray
    scales: Mapping[str, Scale]
    without_scale: Sequence[str]
    mixed: Sequence[str]
    unshared: Sequence[str]
    partial: Sequence[str]
    surplus: Mapping[str, int]


def normalized_scores(
    evaluations: pd.DataFrame, of_runs: pd.DataFrame, known: Mapping[str, Scale]
) -> NormalizedScores | None:
    """The scores of the labels on the environments that they share and whose scale is known.

    Where a label has more seeds on one environment than on another, the first of them count, as
    many as there are on each. Which labels and environments: see :func:`group_of`.

    :param evaluations: as for :func:`reports.data.scores.run_scores`
    :param of_runs: as :func:`reports.data.scores.run_scores` returns it, of the same runs
    :param known: environment to scale
    :return: None where fewer than two environments are shared and have a scale
    """
    mixed = _names(of_runs.loc[of_runs["protocol"] != "", "env_id"])
    of_runs = of_runs[of_runs["protocol"] == ""]
    every = _names(of_runs["env_id"])
    scales = {env_id: known[env_id] for env_id in every if env_id in known}
    finals = {
        label: {x: scales[x].normalise(values) for x, values in of_label.items()}
        for label, of_label in finals_of(of_runs[of_runs["env_id"].isin(list(scales))]).items()
    }
    labels, env_ids = group_of(finals)
    if not env_ids:
        return None
    matrices = {label: matrix(finals[label], env_ids) for label in labels}
    rows = evaluations[evaluations["env_id"].isin(env_ids) & evaluations["label"].isin(labels)]
    shares = _common_shares(rows)
    surplus = {
        label: sum(len(finals[label][env_id]) - len(scores) for env_id in env_ids)
        for label, scores in matrices.items()
    }
    return NormalizedScores(
        env_ids,
        matrices,
        _curves(rows, env_ids, scales, matrices) if len(shares) else {},
        shares,
        {env_id: scales[env_id] for env_id in env_ids},
        without_scale=[env_id for env_id in every if env_id not in scales],
        mixed=mixed,
        unshared=[env_id for env_id in scales if env_id not in env_ids],
        partial=[label for label in _names(of_runs["label"]) if label not in labels],
        surplus={label: n for label, n in surplus.items() if n},
    )


def finals_of(of_runs: pd.DataFrame) -> Finals:
    """The final returns of each label on each environment.

    :param of_runs: as :func:`reports.data.scores.run_scores` returns it
    """
    finals: dict[str, dict[str, np.ndarray]] = {}
    ordered = of_runs.sort_values(["label", "env_id", "seed"])
    for (label, env_id), rows in ordered.groupby(["label", "env_id"], sort=True):
        finals.setdefault(str(label), {})[str(env_id)] = rows["final"].to_numpy(float)
    return finals


def group_of(finals: Finals) -> tuple[list[str], list[str]]:
    """Which labels are aggregated over which environments; both sorted, empty if there are none.

    All labels, over the environments that they share. While these are fewer than two, the label
    with the fewest environments is left out. A label is no group by itself unless it is the only
    one.
    """
    labels = sorted(finals, key=lambda label: (-len(finals[label]), label))
    fewest_labels = min(len(labels), 2)
    while labels and len(labels) >= fewest_labels:
        env_ids = shared(finals, labels)
        if len(env_ids) >= FEWEST_ENVIRONMENTS:
            return sorted(labels), env_ids
        labels.pop()
    return [], []


def shared(finals: Finals, labels: Sequence[str]) -> list[str]:
    """The environments that all of these labels have run on, sorted."""
    return sorted(set.intersection(*(set(finals[label]) for label in labels)))


def matrix(of_label: Mapping[str, np.ndarray], env_ids: Sequence[str]) -> np.ndarray:
    """A label's scores, shape ``(n_seeds, n_environments)``.

    Of as many seeds as there are on each of the environments, the first ones.
    """
    n_seeds = min(len(of_label[env_id]) for env_id in env_ids)
    return np.column_stack([of_label[env_id][:n_seeds] for env_id in env_ids])


def _names(column: pd.Series[str]) -> list[str]:
    return sorted(map(str, column.unique()))


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


def _curves(
    evaluations: pd.DataFrame,
    env_ids: Sequence[str],
    scales: Mapping[str, Scale],
    matrices: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Normalised returns of each label, shape ``(n_seeds, n_environments, n_points)``."""
    ordered = evaluations.sort_values("timesteps", kind="stable")
    tables = {
        key: np.stack([run["return_mean"].to_numpy(float) for _, run in rows.groupby("seed")])
        for key, rows in ordered.groupby(["label", "env_id"], sort=True)
    }
    return {
        label: np.stack(
            [scales[env_id].normalise(tables[label, env_id][: len(scores)]) for env_id in env_ids],
            axis=1,
        )
        for label, scores in matrices.items()
    }


def aggregate_values(scores: np.ndarray) -> np.ndarray:
    """``AGGREGATES`` of scores of shape ``(n_seeds, n_environments)``."""
    from rliable import metrics

    return np.array(
        [
            interquartile_mean(scores, axis=None),
            metrics.aggregate_median(scores),
            metrics.aggregate_mean(scores),
            metrics.aggregate_optimality_gap(scores),
        ]
    )


def aggregate_table(finals: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Interquartile mean, median, mean and optimality gap of each label, with 95% intervals.

    :param finals: label to scores, shape ``(n_seeds, n_environments)``
    :return: one row per label and aggregate: ``label, aggregate, value, low, high, seeds``; ``low``
        and ``high`` are NaN with one seed
    """
    frames = []
    for label, scores in finals.items():
        columns = {"aggregate": AGGREGATES, **_with_intervals(scores, aggregate_values)}
        frames.append(pd.DataFrame({"label": label, **columns, "seeds": len(scores)}))
    return pd.concat(frames, ignore_index=True)


def profiles(finals: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Which share of its runs each label has above a score, for scores from lowest to highest.

    :param finals: label to scores, shape ``(n_seeds, n_environments)``
    :return: one row per label and score: ``label, score, value`` (the share), ``low, high``, the
        interval NaN with one seed
    """
    lowest = min(0.0, *(float(scores.min()) for scores in finals.values()))
    highest = max(1.0, *(float(scores.max()) for scores in finals.values()))
    thresholds = np.linspace(lowest, highest, _THRESHOLDS)

    def shares(scores: np.ndarray) -> np.ndarray:
        return np.mean(scores[None] > thresholds[:, None, None], axis=(1, 2))

    frames = [
        pd.DataFrame({"label": label, "score": thresholds, **_with_intervals(scores, shares)})
        for label, scores in finals.items()
    ]
    return pd.concat(frames, ignore_index=True)


def efficiency(curves: Mapping[str, np.ndarray], shares: np.ndarray) -> pd.DataFrame:
    """The interquartile mean of the scores at each share of the budget.

    :param curves: label to scores, shape ``(n_seeds, n_environments, n_points)``
    :param shares: of the budget, shape ``(n_points,)``
    :return: one row per label and point: ``label, share, value, low, high``, the interval NaN with
        one seed
    """

    def iqms(scores: np.ndarray) -> np.ndarray:
        return interquartile_mean(scores.reshape(-1, len(shares)))

    frames = [
        pd.DataFrame({"label": label, "share": shares, **_with_intervals(scores, iqms)})
        for label, scores in curves.items()
    ]
    return pd.concat(frames, ignore_index=True)


def iqm(scores: np.ndarray) -> Estimate:
    """The interquartile mean of all scores with its 95% interval, as in :func:`aggregate_table`.

    :param scores: shape ``(n_seeds, n_environments)``
    """
    found = _with_intervals(scores, lambda sample: interquartile_mean(sample.reshape(-1, 1)))
    value, low, high = (float(numbers[0]) for numbers in found.values())
    return Estimate(value, low, high, len(scores))


def iqm_difference(x: np.ndarray, y: np.ndarray) -> Estimate:
    """How much higher the interquartile mean of X is than that of Y.

    :param x: scores, shape ``(n_seeds_of_x, n_environments)``; ``y`` likewise
    :return: with its 95% interval, whose ends are NaN where either has one seed
    """

    def difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return interquartile_mean(ours.reshape(-1, 1)) - interquartile_mean(theirs.reshape(-1, 1))

    return _estimate_of_two(x, y, difference)


def mean_difference(x: np.ndarray, y: np.ndarray) -> Estimate:
    """How much higher the mean of X is than that of Y.

    :param x: returns on one environment, shape ``(n_seeds_of_x, 1)``; ``y`` likewise
    :return: with its 95% interval, whose ends are NaN where either has one seed
    """
    return _estimate_of_two(x, y, lambda ours, theirs: ours.mean(axis=0) - theirs.mean(axis=0))


def improvement(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Probability that a run of X is better than a run of Y, averaged over environments.

    The mean over environments of :func:`benchmarks.statistics.improvement`, as rliable has it.

    :param x: scores, shape ``(n_seeds_of_x, n_environments)``; ``y`` likewise
    :return: the probability and its 95% interval, NaN where either has one seed
    """

    def probability(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return statistics.improvement(ours, theirs).mean(keepdims=True)

    return _estimate_of_two(x, y, probability)


def _with_intervals(
    scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """``value``, ``low`` and ``high`` of a statistic that is a vector."""
    value = statistic(scores)
    low = high = np.full(len(value), np.nan)
    if len(scores) > 1:
        low, high = interval(scores, statistic, REPETITIONS)
    return {"value": value, "low": low, "high": high}


def _estimate_of_two(
    x: np.ndarray, y: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Estimate:
    """A number of two matrices, whose seeds are resampled independently of each other."""
    seeds = min(len(x), len(y))
    (value,) = statistic(x, y)
    low = high = np.array([np.nan])
    if seeds > 1:
        low, high = interval((x, y), statistic, REPETITIONS)
    return Estimate(float(value), float(low[0]), float(high[0]), seeds)
