"""What the runs say, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.names import shield
from benchmarks.numbers import Form
from benchmarks.statistics import REPETITIONS, Estimate, final_window
from reports import runs
from reports.aggregates import REPETITIONS as AGGREGATE_REPETITIONS
from reports.aggregates import Matrices
from reports.tables import code
from reports.thresholds import Threshold, value_text
from reports.verdicts import FALSE_ALARMS, Comparisons

# What nominal 95% intervals of the mean really cover, by the number of seeds: the share of 95%
# percentile bootstrap intervals that contain the mean, over normal samples. Measured by
# tests/reports/test_coverage.py, which fails when a figure here is no longer what it measures.
MEASURED_COVERAGE = {2: 0.50, 3: 0.75, 5: 0.84, 10: 0.90}


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


def verdicts(table: pd.DataFrame, comparisons: Comparisons) -> list[str]:
    """What one environment's table says of the final returns, for each protocol by itself.

    :param table: rows of :func:`reports.scores.score_table`, all of one environment
    """
    return [
        ": ".join([*filter(None, [protocol]), sentence])
        for protocol in sorted(set(table["protocol"]))
        for sentence in verdict(table[table["protocol"] == protocol], comparisons)
    ]


def verdict(table: pd.DataFrame, comparisons: Comparisons) -> list[str]:
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
        sentences.append(
            ("Among the others, " if single else "") + _comparison(compared, comparisons)
        )
    return sentences


def notes(data: runs.RunData, table: pd.DataFrame) -> list[str]:
    """How the numbers are to be read."""
    # Either of the two may be the one that is ahead.
    chances = listing([f"{2 * share:.0%}" for share in FALSE_ALARMS.values()])
    seeds = listing([str(n) for n in FALSE_ALARMS])
    lines = [
        "A **return** is the sum of an episode's rewards. **Final return**: the mean over the last "
        f"tenth of a run's evaluations, then over seeds. {_window_sentence(data.evaluations)}",
        "**Best evaluation**: the highest evaluation of each run, the one before training left "
        "out, then the mean over seeds. A maximum of noisy values lies above what that policy "
        "returns on average.",
        "**Area under curve**: the mean return over the training, that is, the area under a run's "
        "learning curve (straight between evaluations) divided by its steps; then the mean over "
        "seeds. Of two that end level, the one that learned sooner has the larger area.",
        "**Bold**, in each column: the highest mean and all that cannot be told apart from it. An "
        "algorithm is **ahead** of another one only where both of these hold: the intervals of "
        "their means do not overlap, and the probability that a run of it is higher than a run of "
        "the other has a 95% interval above 0.5 (bootstrap over seeds, as for the means). "
        "Otherwise there is no winner. Means without an interval are never bold. With few seeds "
        f"chance alone can do it: of two equal algorithms one is ahead in up to {chances} of "
        f"cases with {seeds} seeds each.",
        "**Steps** are those that were taken: whole rollouts may exceed the budget a little.",
    ]
    if (table["seeds"] > 1).any():
        lines.insert(
            0,
            "Each cell has the mean over seeds and, in brackets, its **95% interval**: rliable's "
            f"percentile bootstrap over seeds ({REPETITIONS:,} resamples, fixed seed). "
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
        "narrow with few seeds, as those above are.",
        "An example: four runs that score 0, 0.8, 0.9 and 5 have the mean 1.68 and the "
        "interquartile mean 0.85, that of 0.8 and 0.9. The lowest and the highest quarter of the "
        "runs are left out whichever environment they are on: all runs on one where an algorithm "
        "fails may be among them, so that the interquartile mean does not show it. Look at the "
        "other columns and at each environment, too.",
    ]
    if matrices.without_scale:
        lines.append(
            f"{listing(matrices.without_scale)} is not in it: no random policy has been measured "
            "there (`python -m benchmarks random` does, for `--normalisation`)."
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
    return ", ".join(shield(f"{name} {versions[name]}") for name in names if versions[name])


def machine_text(machine: Mapping[str, Any]) -> str:
    """``Linux, x86_64, 2 cores, 8 GiB memory``."""
    parts = [shield(str(machine[name])) for name in ("system", "processor") if machine.get(name)]
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


def interval_text(estimate: Estimate, form: Form, with_name: bool = True) -> str:
    """``0.85 (95% interval 0.76 to 0.96)``; ``0.85 (0.76 to 0.96)``; or ``0.85 (1 seed)``.

    :param with_name: say what the numbers in brackets are
    """
    value, low, high = map(form.text, estimate.numbers)
    if not estimate.has_interval:
        return f"{value} (1 seed)"
    return f"{value} ({'95% interval ' if with_name else ''}{low} to {high})"


def probability_text(probability: Estimate, with_name: bool = True) -> str:
    """:func:`interval_text` with two decimals, or more, so that an end that is not 0.5 is seen."""
    form = Form(2).apart([(probability.low, 0.5), (probability.high, 0.5)])
    return interval_text(probability, form, with_name)


def listing(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _comparison(table: pd.DataFrame, comparisons: Comparisons) -> str:
    """Who is ahead by the final return, of rows that have an interval."""
    env_id, labels = str(table["env_id"].iloc[0]), sorted(table["label"])
    means = table["final_mean"].to_numpy(dtype=np.float64)
    leaders = sorted(table.loc[means == means.max(), "label"])
    if len(leaders) > 1:
        return f"{listing(leaders)} share the highest mean: no winner."
    best = leaders[0]
    level = [label for label in comparisons.not_behind("final", env_id, labels) if label != best]
    if not level:
        others = [label for label in labels if label != best]
        return f"{best} has the highest final return, and is ahead of {listing(others)}."
    reasons = _why_level(env_id, best, level, comparisons)
    below = [label for label in labels if label not in (best, *level)]
    ahead = f" It is ahead of {listing(below)}." if below else ""
    return f"{best} has the highest mean, but {reasons}: no winner.{ahead}"


def _why_level(env_id: str, best: str, level: Sequence[str], comparisons: Comparisons) -> str:
    """Why the label with the highest mean is not said to be ahead of these."""
    lowest = comparisons.means["final", env_id, best].low
    overlapping = [
        label for label in level if comparisons.means["final", env_id, label].high >= lowest
    ]
    reasons = []
    if overlapping:
        those = "that" if len(overlapping) == 1 else "those"
        reasons.append(f"its interval overlaps with {those} of {listing(overlapping)}")
    for label in level:
        if label not in overlapping:
            probability = comparisons.improvements["final", env_id, best, label]
            reasons.append(
                f"a run of it ends above one of {label} with probability "
                f"{probability_text(probability)} only"
            )
    return listing(reasons)


def _commit_text(commit: object, dirty: object) -> str:
    """Both are missing (None or NaN) where the run was not made in a clone."""
    if not isinstance(commit, str):
        return "unknown"
    state = {True: " with uncommitted changes", False: " (clean)"}
    return code(commit) + (state[dirty] if isinstance(dirty, bool) else "")


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
