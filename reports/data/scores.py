"""Scores of runs and their intervals: pure functions on arrays and tidy frames.

Intervals are rliable's percentile bootstrap over seeds; nothing here resamples by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from benchmarks.intervals import REPETITIONS, interval
from benchmarks.results import final_return

SCORES = ("final", "best", "area")
_GROUP = ["env_id", "label"]
# Resamples of so many columns are in memory at once.
_COLUMNS_AT_ONCE = 1_000
_STEPS_COLUMNS = [*_GROUP, "threshold", "seeds", "reached", "median", "lowest", "highest"]
_STEPS_COLUMNS += ["budget", "spacing"]


def best_evaluation(steps: np.ndarray, returns: np.ndarray) -> float:
    """The highest of a run's evaluations, without the one before training.

    That one says nothing of the algorithm, and where training makes a policy worse it would be the
    best. A maximum of noisy values lies above what the policy that reached it returns on average.

    :param steps: of training before each evaluation, shape ``(n_evaluations,)``, as is ``returns``
    :return: of a run that has been evaluated before training alone, what that gave
    """
    trained = returns[steps > 0]
    return float(np.max(trained if len(trained) else returns))


def area_under_curve(steps: np.ndarray, returns: np.ndarray) -> float:
    """The mean return over the training: the area under a run's curve over the steps it took.

    The curve is straight between evaluations.

    :param steps: increasing, shape ``(n_evaluations,)``, as is ``returns``
    """
    if len(steps) == 1:
        return float(returns[0])
    return float(trapezoid(returns, steps) / (steps[-1] - steps[0]))


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds with its 95% interval, column by column.

    A resample takes the same seeds in every column, which changes no column's interval.

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
    seeds = np.arange(len(values))[:, None]
    ends = []
    for first in range(0, values.shape[1], _COLUMNS_AT_ONCE):
        columns = values[:, first : first + _COLUMNS_AT_ONCE]
        ends.append(interval(seeds, _mean_of(columns), REPETITIONS))
    low, high = np.concatenate(ends, axis=1)
    return mean, low, high


def _mean_of(columns: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean of the columns over seeds that are given by their places."""
    return lambda seeds: columns[seeds[:, 0]].mean(axis=0)


def mean_intervals(groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """:func:`mean_interval` of each group, of all that have as many seeds at once.

    :param groups: each of shape ``(n_seeds, n_columns)``
    :return: for each group mean, lower and upper end, shape ``(3, n_columns)``
    """
    found: dict[int, np.ndarray] = {}
    for n_seeds in {len(values) for values in groups}:
        where = [i for i, values in enumerate(groups) if len(values) == n_seeds]
        ends = np.stack(mean_interval(np.concatenate([groups[i] for i in where], axis=1)))
        widths = [groups[i].shape[1] for i in where]
        found |= dict(zip(where, np.split(ends, np.cumsum(widths)[:-1], axis=1), strict=True))
    return [found[i] for i in range(len(groups))]


def run_scores(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Final return, best evaluation and area under the curve of each run.

    :param evaluations: tidy, with ``env_id, label, seed, timesteps, return_mean``
    :return: one row a run: ``env_id, label, seed, final, best, area``
    """
    ordered = evaluations.sort_values([*_GROUP, "seed", "timesteps"], kind="stable")
    rows = []
    for key, run in ordered.groupby([*_GROUP, "seed"], sort=True):
        steps, returns = run["timesteps"].to_numpy(float), run["return_mean"]
        values = returns.to_numpy(float)
        best, area = best_evaluation(steps, values), area_under_curve(steps, values)
        rows.append((*key, final_return(returns), best, area))
    return pd.DataFrame(rows, columns=[*_GROUP, "seed", *SCORES])


def score_table(runs: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Scores over seeds, one row per environment and label.

    :param runs: one row a run, with ``env_id, label, algo, config, protocol, seed, timesteps,
        wall_seconds`` (training alone), ``evaluation_seconds`` and ``peak_memory_mib``
    :param evaluations: as for :func:`run_scores`
    :return: ``env_id, label, algo, config, protocol, seeds`` (how many), ``timesteps`` (mean);
        each of ``SCORES`` with ``_mean, _low, _high``; ``wall_seconds`` (training and evaluations,
        mean over runs), ``steps_per_second`` (environment steps per second of training alone, mean
        over runs) and ``peak_memory_mib`` (median over runs, NaN where it is not known of any)
    """
    scores = dict(iter(run_scores(evaluations).groupby(_GROUP, sort=True)))
    groups = dict(iter(runs.groupby(_GROUP, sort=True)))
    values = [scores[key][list(SCORES)].to_numpy(dtype=np.float64) for key in groups]
    rows = []
    for (key, group), estimates in zip(groups.items(), mean_intervals(values), strict=True):
        first = group.iloc[0]
        row = {"env_id": key[0], "label": key[1]}
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


def learning_curves(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its interval at each evaluation.

    :param evaluations: as for :func:`run_scores`; the seeds of a label share their ``timesteps``
    :return: one row a point: ``env_id, label, timesteps, mean, low, high, seeds``; ``low`` and
        ``high`` are NaN with one seed
    """
    curves = {}
    for key, group in evaluations.groupby(_GROUP, sort=True):
        returns = group.pivot(index="seed", columns="timesteps", values="return_mean")
        curves[key] = (returns.columns.to_numpy(), returns.to_numpy(dtype=np.float64))
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
    for key, group in evaluations.groupby(_GROUP, sort=True):
        if not np.isfinite(group["wall_seconds"]).all():
            continue
        seeds = [run.sort_values("timesteps") for _, run in group.groupby("seed", sort=True)]
        seconds = np.linspace(0, min(run["wall_seconds"].max() for run in seeds), len(seeds[0]))
        returns = [np.interp(seconds, run["wall_seconds"], run["return_mean"]) for run in seeds]
        curves[key] = (seconds, np.stack(returns))
    return _averaged(curves, "seconds")


def _averaged(
    curves: Mapping[tuple[Hashable, ...], tuple[np.ndarray, np.ndarray]], x: str
) -> pd.DataFrame:
    """The means over seeds of curves, each of x, shape ``(n_points,)``, and returns by seed."""
    estimates = mean_intervals([returns for _, returns in curves.values()])
    frames = [pd.DataFrame(columns=[*_GROUP, x, "mean", "low", "high", "seeds"])]
    for (key, (where, returns)), (mean, low, high) in zip(curves.items(), estimates, strict=True):
        columns = {x: where, "mean": mean, "low": low, "high": high, "seeds": len(returns)}
        frames.append(pd.DataFrame({"env_id": key[0], "label": key[1], **columns}))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """P(X > Y): the share of all pairs of a run of X and one of Y in which X's is higher.

    A tie counts half. What :func:`rliable.metrics.probability_of_improvement` gives for one
    column, without the test for which that takes a hundred times as long.

    :param x: shape ``(n_seeds_of_x, n_columns)``; ``y`` likewise
    :return: shape ``(n_columns,)``
    """
    difference = x[:, None] - y
    higher, level = (difference > 0).sum(axis=(0, 1)), (difference == 0).sum(axis=(0, 1))
    shares: np.ndarray = (higher + 0.5 * level) / (len(x) * len(y))
    return shares


def improvement_interval(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`improvement` with its 95% interval, column by column.

    The seeds of X and of Y are resampled independently of each other. A resample takes the same
    seeds in every column, which changes no column's interval.

    :param x: shape ``(n_seeds_of_x, n_columns)``; ``y`` likewise
    :return: probability, lower and upper end, each of shape ``(n_columns,)``; both ends are NaN
        where X or Y has one seed
    """
    probability = improvement(x, y)
    if min(len(x), len(y)) < 2:
        return probability, np.full_like(probability, np.nan), np.full_like(probability, np.nan)
    seeds = np.arange(len(x))[:, None], np.arange(len(y))[:, None]
    ends = []
    for first in range(0, x.shape[1], _COLUMNS_AT_ONCE):
        columns = slice(first, first + _COLUMNS_AT_ONCE)
        ends.append(interval(seeds, _improvement_of(x[:, columns], y[:, columns]), REPETITIONS))
    low, high = np.concatenate(ends, axis=1)
    return probability, low, high


def _improvement_of(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """:func:`improvement` of seeds that are given by their places.

    Every pair is looked at once and for all; a resample says how often each counts.
    """
    # 1 where X's run is higher, 0 where Y's is, and one half for a tie.
    won = (np.sign(x[:, None] - y) + 1) / 2

    def share(of_x: np.ndarray, of_y: np.ndarray) -> np.ndarray:
        times_x, times_y = (
            np.bincount(seeds[:, 0], minlength=n).astype(float)
            for seeds, n in ((of_x, len(x)), (of_y, len(y)))
        )
        shares: np.ndarray = times_y @ np.tensordot(times_x, won, axes=1)
        return shares / (len(x) * len(y))

    return share


def improvement_intervals(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """:func:`improvement_interval` of each pair, of all that have as many seeds at once.

    :param pairs: X and Y as for :func:`improvement`
    :return: for each pair probability, lower and upper end, shape ``(3, n_columns)``
    """
    found: dict[int, np.ndarray] = {}
    sizes = [(len(x), len(y)) for x, y in pairs]
    for size in set(sizes):
        where = [i for i, of_pair in enumerate(sizes) if of_pair == size]
        x, y = (np.concatenate([pairs[i][side] for i in where], axis=1) for side in (0, 1))
        ends = np.stack(improvement_interval(x, y))
        widths = [pairs[i][0].shape[1] for i in where]
        found |= dict(zip(where, np.split(ends, np.cumsum(widths)[:-1], axis=1), strict=True))
    return [found[i] for i in range(len(pairs))]


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
    """Which entries are the best or have an interval that overlaps with it, higher being better.

    Of aggregates over environments; on one environment :mod:`reports.data.verdicts` asks for more. Among
    the entries that have an interval: the highest mean, and each whose interval overlaps
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
