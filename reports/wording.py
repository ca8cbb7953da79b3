"""What the runs say, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.results import final_window
from reports import figures, runs, scores
from reports.aggregates import REPETITIONS as AGGREGATE_REPETITIONS
from reports.aggregates import Matrices
from reports.thresholds import Threshold, value_text

# What nominal 95% intervals of the mean really cover, by the number of seeds: the share of 95%
# percentile bootstrap intervals that contain the mean, over normal samples. Measured by
# tests/reports/test_coverage.py, which fails when a figure here is no longer what it measures.
MEASURED_COVERAGE = {2: 0.50, 3: 0.75, 5: 0.84, 10: 0.90}


def introduction(data: runs.RunData) -> list[str]:
    """Which algorithms, environments, seeds and steps, and how they were evaluated."""
    table = data.runs
    seeds = table.groupby(["env_id", "label"])["seed"].nunique()
    sentences = [
        f"{_algorithms_text(table)} on {_environments_text(table)}: {runs.runs_text(len(table))}, "
        f"{figures.seeds_text(seeds)} per algorithm and environment."
    ]
    sentences.append(_evaluation_sentence(table))
    incomplete = []
    if data.broken:
        incomplete.append(f"{runs.runs_text(len(data.broken))} left out as unreadable")
    if len(data.failures):
        incomplete.append(f"{runs.runs_text(len(data.failures))} failed")
    if missing_results(data):
        incomplete.append("not every algorithm has the same seeds and environments")
    if incomplete:
        sentences.append(
            f"**Incomplete:** {listing(incomplete)}; see [What is missing](#what-is-missing)."
        )
    return sentences


def mixed_lines(data: runs.RunData) -> list[str]:
    """Where runs of different budgets or evaluation protocols are, and what becomes of them."""
    lines = []
    for env_id in data.mixed:
        group = data.runs[data.runs["env_id"] == env_id]
        who = [
            f"{protocol} ({listing(sorted(of_protocol['algo'].unique()))})"
            for protocol, of_protocol in group.groupby("protocol", sort=True)
        ]
        lines.append(f"{env_id}: the runs have different budgets or evaluations: {listing(who)}.")
    if lines:
        lines.append(
            "The names of the algorithms say which is which. Scores of different budgets or "
            "evaluations do not compare: what is bold, and who is ahead, is said of each group by "
            "itself, and such an environment is not among all environments together. Where a "
            "hyperparameter follows a schedule over the budget, even equal steps do not compare."
        )
    return lines


def mixed_here(table: pd.DataFrame) -> str:
    """The warning beside a table of one environment; empty where its rows compare.

    :param table: rows of :func:`reports.scores.score_table`, all of one environment
    """
    groups = sorted(set(table["protocol"]))
    if len(groups) < 2:
        return ""
    return (
        f"**Mixed:** {listing(groups)} do not compare with each other. Bold and who is ahead are "
        "within each of them."
    )


def verdicts(table: pd.DataFrame) -> list[str]:
    """What one environment's table says of the final returns, for each protocol by itself.

    :param table: rows of :func:`reports.scores.score_table`, all of one environment
    """
    return [
        ": ".join([*filter(None, [protocol]), sentence])
        for protocol in sorted(set(table["protocol"]))
        for sentence in verdict(table[table["protocol"] == protocol])
    ]


def verdict(table: pd.DataFrame) -> list[str]:
    """What a table says of the final returns, and no more than that.

    :param table: rows of :func:`reports.scores.score_table`, of one environment and protocol
    """
    if len(table) == 1:
        return []
    single = sorted(table.loc[table["seeds"] == 1, "label"])
    compared = table[table["seeds"] > 1]
    sentences = []
    if single:
        has = "has" if len(single) == 1 else "have"
        sentences.append(
            f"{listing(single)} {has} 1 seed, hence no interval and no part in the comparison."
        )
    if len(compared) < 2:
        sentences.append("Nothing is compared: that takes two algorithms with two seeds each.")
    else:
        sentences.append(("Among the others, " if single else "") + _comparison(compared))
    return sentences


def missing_results(data: runs.RunData) -> list[str]:
    """What some algorithm lacks and another has: seeds on an environment, or an environment."""
    where: dict[tuple[str, str], list[str]] = {}
    for env_id in sorted(data.runs["env_id"].unique()):
        for label, seeds in _missing_seeds(data, env_id).items():
            where.setdefault((label, seeds), []).append(env_id)
    lines = [
        f"{label} on {listing(env_ids)}: no result for {seeds}"
        for (label, seeds), env_ids in where.items()
    ]
    every = set(data.runs["env_id"])
    for algo, group in data.runs.groupby("algo", sort=True):
        tried = data.failures.loc[data.failures["algo"] == algo, "env_id"]
        absent = sorted(every - set(group["env_id"]) - set(tried))
        if absent:
            lines.append(f"{algo} on {listing(absent)}: no run")
    return lines


def notes(data: runs.RunData, table: pd.DataFrame) -> list[str]:
    """How the numbers are to be read."""
    lines = [
        "A **return** is the sum of an episode's rewards. **Final return**: the mean over the last "
        f"tenth of a run's evaluations, then over seeds. {_window_sentence(data.evaluations)}",
        "**Best evaluation**: the highest evaluation of each run, then the mean over seeds. A "
        "maximum of noisy values lies above what that policy returns on average.",
        "**Area under curve**: the mean return over the training, that is, the area under a run's "
        "learning curve (straight between evaluations) divided by its steps; then the mean over "
        "seeds. Of two that end level, the one that learned sooner has the larger area.",
        "**Bold**, in each column: the highest mean and each whose interval overlaps with it, that "
        "is, all that cannot be told apart from the best. Means without an interval are never "
        "bold.",
        "**Steps** are those that were taken: whole rollouts may exceed the budget a little.",
    ]
    if (table["seeds"] > 1).any():
        lines.insert(
            0,
            "Each cell has the mean over seeds and, in brackets, its **95% interval**: rliable's "
            f"percentile bootstrap over seeds ({scores.REPETITIONS:,} resamples, fixed seed). "
            + coverage_sentence(),
        )
    return lines


def overall(matrices: Matrices) -> list[str]:
    """What is aggregated, how, and what had to be left out."""
    lines = [
        f"Final returns on {listing(matrices.env_ids)}, each on a scale where a random policy has "
        "0 and a reference 1 (below), over environments and seeds. **Interquartile mean**: of the "
        "middle half of all runs, which a single lucky or failed run hardly moves. **Median** and "
        "**mean**: of the environments' means over seeds. **Optimality gap**: how far runs stay "
        "below the reference, on average; less is better. In brackets 95% intervals: rliable's "
        f"stratified bootstrap over seeds ({AGGREGATE_REPETITIONS:,} resamples, fixed seed), too "
        "narrow with few seeds, as those above are."
    ]
    if matrices.without_scale:
        lines.append(
            f"{listing(matrices.without_scale)} is not in it: no random policy has been measured "
            "there (`python -m benchmarks random`)."
        )
    if matrices.mixed:
        lines.append(
            f"{listing(matrices.mixed)}: not in it, since the runs there have different budgets or "
            "evaluations."
        )
    if matrices.partial:
        lines.append(
            f"Not in it, since they have not been run on all of these environments: "
            f"{listing(matrices.partial)}."
        )
    for label, n in matrices.surplus.items():
        lines.append(
            f"Of {label} {runs.runs_text(n)} {'does' if n == 1 else 'do'} not count here, since it "
            "has not as many seeds on every environment."
        )
    return lines


def thresholds_sentence(thresholds: Mapping[str, Threshold]) -> str:
    """Which environment has which threshold, and where it is from."""
    sources = {False: "Gymnasium's registered `reward_threshold`", True: "given with `--threshold`"}
    texts = []
    for given, source in sources.items():
        values = [
            f"{env_id} ({value_text(threshold.value)})"
            for env_id, threshold in thresholds.items()
            if threshold.given == given
        ]
        if values:
            texts.append(f"{source} for {listing(values)}")
    return f"Threshold{'s' if len(thresholds) > 1 else ''}: {'; '.join(texts)}."


def steps_notes(table: pd.DataFrame, mixed: Sequence[str]) -> list[str]:
    """How the steps to a threshold are to be read.

    :param table: as :func:`reports.scores.steps_to_threshold` gives it
    :param mixed: environments whose runs have different budgets or evaluation protocols
    """
    lines = [
        "Steps are environment steps at the first evaluation whose mean return is at or above the "
        "threshold: the median over seeds (lowest, highest)."
    ]
    if (table["reached"] < table["seeds"]).any():
        lines.append(
            "A seed that never gets there counts as infinitely many steps: `>` or `not within` the "
            "steps of the run."
        )
    lines.append(
        f"Evaluations come {_spacings_text(table)}, which limits the resolution, and the first one "
        "to reach a threshold is a noisy event: the next may lie below it again."
    )
    if concerned := sorted(set(table["env_id"]) & set(mixed)):
        lines.append(
            f"**Mixed:** on {listing(concerned)} the runs have different budgets or evaluations; "
            "their steps compare only where nothing follows a schedule over the budget."
        )
    return lines


def coverage_sentence() -> str:
    """What a nominal 95% is worth with few seeds, as measured."""
    shares = listing([f"{share:.0%} with {n} seeds" for n, share in MEASURED_COVERAGE.items()])
    return (
        "With few seeds they are too narrow: over normally distributed returns they contain the "
        f"true mean in {shares}, not in 95% of cases."
    )


def commit_lines(table: pd.DataFrame) -> str:
    """The commits the runs were made from, and whether what ran was the commit itself."""
    pairs = zip(table["commit"].tolist(), table["dirty"].tolist(), strict=True)
    return tally_text(_commit_text(commit, dirty) for commit, dirty in pairs)


def versions_text(versions: Mapping[str, str | None]) -> str:
    """``python 3.11.9, gymnasium 1.2.0, …``: Python first, what is absent left out."""
    names = sorted(versions, key=lambda name: (name != "python", name))
    return ", ".join(f"{name} {versions[name]}" for name in names if versions[name])


def machine_text(machine: Mapping[str, Any]) -> str:
    """``Linux, x86_64, 2 cores, 8 GiB memory``."""
    parts = [str(machine[name]) for name in ("system", "processor") if machine.get(name)]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    if machine.get("memory_gib"):
        parts.append(f"{machine['memory_gib']:g} GiB memory")
    return ", ".join(parts)


def tally_text(texts: Iterable[str]) -> str:
    """The one text, or each with how many runs it is true of."""
    counts = pd.Series(list(texts)).value_counts().sort_index()
    if len(counts) == 1:
        return str(counts.index[0])
    return "; ".join(f"{text}: {runs.runs_text(n)}" for text, n in counts.items())


def listing(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _missing_seeds(data: runs.RunData, env_id: str) -> dict[str, str]:
    """Label to the seeds it lacks on ``env_id`` and another label has, or that failed."""
    finished = data.runs[data.runs["env_id"] == env_id]
    failed = data.failures[data.failures["env_id"] == env_id]
    protocols = dict(zip(finished["label"], finished["protocol"], strict=True))
    of_protocol: dict[str, set[int]] = {}
    for frame in (finished, failed):
        for label, seed in zip(frame["label"], frame["seed"], strict=True):
            of_protocol.setdefault(protocols.get(label, ""), set()).add(seed)
    missing = {}
    for label in sorted(set(finished["label"]) | set(failed["label"])):
        every = of_protocol[protocols.get(label, "")]
        absent = sorted(every - set(finished.loc[finished["label"] == label, "seed"]))
        tried = set(failed.loc[failed["label"] == label, "seed"])
        texts = [f"{seed} (failed)" if seed in tried else str(seed) for seed in absent]
        if texts:
            missing[label] = f"seed{'s' if len(texts) > 1 else ''} {', '.join(texts)}"
    return missing


def _comparison(table: pd.DataFrame) -> str:
    mean, low, high = (
        table[f"final_{part}"].to_numpy(dtype=np.float64) for part in ("mean", "low", "high")
    )
    leaders = sorted(table.loc[mean == mean.max(), "label"])
    if len(leaders) > 1:
        return f"{listing(leaders)} share the highest mean: no winner."
    best = leaders[0]
    level = sorted(set(table.loc[scores.not_told_apart(mean, low, high), "label"]) - {best})
    if not level:
        return f"{best} has the highest final return: its interval lies above every other one."
    overlap = (
        f"{best} has the highest mean, but its interval overlaps with {_that_of(level)}: no winner."
    )
    below = sorted(set(table["label"]) - {best, *level})
    return overlap + (f" It lies above {_that_of(below)}." if below else "")


def _that_of(labels: Sequence[str]) -> str:
    return f"{'that' if len(labels) == 1 else 'those'} of {listing(labels)}"


def _commit_text(commit: object, dirty: object) -> str:
    """Both are missing (None or NaN) where the run was not made in a clone."""
    if not isinstance(commit, str):
        return "unknown"
    state = {True: " with uncommitted changes", False: " (clean)"}
    return f"`{commit}`" + (state[dirty] if isinstance(dirty, bool) else "")


def _algorithms_text(table: pd.DataFrame) -> str:
    labels = table.groupby(["algo", "env_id", "protocol"], sort=True)["label"].nunique()
    counts = labels.groupby("algo", sort=True).max()
    return listing(
        [f"{algo} ({n} configurations)" if n > 1 else str(algo) for algo, n in counts.items()]
    )


def _environments_text(table: pd.DataFrame) -> str:
    """Every environment with its steps; where they are many, how many and between which steps."""
    budgets = table.groupby("env_id", sort=True)["n_timesteps"].unique()
    if len(budgets) <= 4:
        return listing(
            [
                f"{env_id} ({listing([f'{steps:,}' for steps in sorted(of_env)])} steps)"
                for env_id, of_env in budgets.items()
            ]
        )
    fewest, most = table["n_timesteps"].min(), table["n_timesteps"].max()
    steps = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return f"{len(budgets)} environments ({steps} steps)"


def _evaluation_sentence(table: pd.DataFrame) -> str:
    where: dict[tuple[int, int], list[str]] = {}
    for env_id, group in table.groupby("env_id", sort=True):
        for points, episodes in sorted({(p["points"], p["episodes"]) for p in group["evaluation"]}):
            where.setdefault((points, episodes), []).append(str(env_id))
    texts = [
        f"{points} times during training, {episodes} episodes each"
        + (f" ({', '.join(env_ids)})" if len(where) > 1 else "")
        for (points, episodes), env_ids in where.items()
    ]
    return (
        f"Every policy was evaluated before training and {' or '.join(texts)}, with deterministic "
        "actions."
    )


def _spacings_text(table: pd.DataFrame) -> str:
    """``every 2,500 steps``, for each environment where they differ."""
    where: dict[int, list[str]] = {}
    for env_id, spacing in table.groupby("env_id", sort=True)["spacing"].max().items():
        where.setdefault(int(spacing), []).append(str(env_id))
    return listing(
        [
            f"every {spacing:,} steps" + (f" on {listing(env_ids)}" if len(where) > 1 else "")
            for spacing, env_ids in where.items()
        ]
    )


def _window_sentence(evaluations: pd.DataFrame) -> str:
    sizes = evaluations.groupby(["env_id", "label", "seed"]).size()
    windows = sorted({(final_window(n), n) for n in sizes})
    texts = [f"the last {f'{window} ' if window > 1 else ''}of {n}" for window, n in windows]
    return f"Here that is {listing(texts)} evaluations."
