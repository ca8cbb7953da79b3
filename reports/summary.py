"""The report in a few lines of plain words, computed from the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rliable.metrics import aggregate_iqm

from reports import aggregates, figures
from reports.aggregates import Matrices
from reports.scores import best_of_their_protocol, improvement
from reports.wording import listing, verdict


def summary(table: pd.DataFrame, scores: Matrices | None, baseline: str | None) -> list[str]:
    """Which label is best overall and by how much, how sure that is, where it loses, how fast.

    "Better" is said only where the 95% interval of the probability of improvement excludes 0.5.

    :param table: as :func:`reports.scores.score_table` gives it
    :param scores: as :func:`reports.aggregates.matrices` gives them
    :param baseline: the label that the others are compared with; None: the second best
    """
    if scores is None or len(scores.finals) < 2:
        return _without_aggregates(table)
    means = {label: float(aggregate_iqm(finals)) for label, finals in scores.finals.items()}
    ranking = sorted(means, key=lambda label: -means[label])
    best = ranking[0]
    other = baseline if baseline in means and baseline != best else ranking[1]
    level = [label for label in ranking if np.isclose(means[label], means[best])]
    rest = [f"{label} ({means[label]:.2f})" for label in ranking if label not in level]
    sooner = [_who_learns_sooner(table, level)] if len(level) > 1 else []
    return [
        f"**Highest over all: {listing(level)}**, with an interquartile mean of {means[best]:.2f} "
        f"over {len(scores.env_ids)} environments{'; then ' if rest else ''}{listing(rest)}. That "
        "is the mean over the middle half of all runs' final returns, on a scale where a random "
        "policy has 0 and a reference 1: see [All environments "
        "together](#all-environments-together).",
        _how_sure(scores, best, other),
        *sooner,
        *_where_it_loses(table, best),
        _speed(table, ranking),
    ]


def _how_sure(scores: Matrices, best: str, other: str) -> str:
    probability, low, high = aggregates.improvement(scores.finals[best], scores.finals[other])
    text = f"A run of {best} ends above one of {other} with probability {probability:.2f}"
    if not np.isfinite(low):
        return f"{text}; one of them has one seed, so nothing is known of how sure that is."
    interval = f" (95% interval {low:.2f} to {high:.2f})"
    by_environment = improvement(scores.finals[best], scores.finals[other])
    if (by_environment == 0.5).all():
        return f"The runs of {best} and {other} end level."
    if low == high == 0.5:
        return f"{text}: it is ahead on as many environments as it is behind on."
    if low > 0.5:
        return f"{text}{interval}: {best} is better, as far as these environments and seeds go."
    return f"{text}{interval}: that may be chance."


def _who_learns_sooner(table: pd.DataFrame, level: Sequence[str]) -> str:
    """Which of the labels has the largest area under the curve, by environment."""
    texts = []
    for env_id, rows in table[table["label"].isin(level)].groupby("env_id", sort=True):
        highest = str(rows["label"].iloc[int(np.argmax(rows["area_mean"]))])
        alike = rows["label"][best_of_their_protocol(rows, "area")]
        others = [str(label) for label in alike if label != highest]
        text = f"on {env_id} {highest}"
        texts.append(f"{text} (not told apart from {listing(others)})" if others else text)
    return f"Of these learned soonest, by the area under the curve: {'; '.join(texts)}."


def _where_it_loses(table: pd.DataFrame, best: str) -> list[str]:
    """On which environments another label is the best and cannot be taken for this one's equal."""
    lost, shared = [], []
    for env_id, rows in table.groupby("env_id", sort=True):
        if best not in set(rows["label"]) or len(rows) < 2:
            continue
        equal = dict(zip(rows["label"], best_of_their_protocol(rows, "final"), strict=True))
        highest = str(rows["label"].iloc[int(np.argmax(rows["final_mean"]))])
        if not equal.get(best, False) and highest != best and any(equal.values()):
            lost.append(f"{env_id} (to {highest})")
        elif sum(equal.values()) > 1:
            shared.append(str(env_id))
    lines = []
    if lost:
        lines.append(f"{best} loses on {listing(lost)}: there the intervals do not overlap.")
    if shared:
        lines.append(f"On {listing(shared)} {best} cannot be told apart from others.")
    return lines or [f"On no environment is another one ahead of {best}, beyond the intervals."]


def _speed(table: pd.DataFrame, ranking: Sequence[str]) -> str:
    speeds = table.groupby("label")["steps_per_second"].median()
    texts = [f"{label} {speeds[label]:,.0f}" for label in ranking]
    seeds = figures.seeds_text(table["seeds"])
    return (
        f"Environment steps per second of training, median over environments: {listing(texts)}; "
        f"they depend on what else the machine was doing. All of this rests on {seeds} each."
    )


def _without_aggregates(table: pd.DataFrame) -> list[str]:
    """What can be said of one environment, or of labels that have none in common."""
    lines = []
    for (env_id, protocol), rows in table.groupby(["env_id", "protocol"], sort=True):
        ordered = rows.sort_values("final_mean", ascending=False)
        texts = [
            f"{label} {mean:,.1f}"
            for label, mean in zip(ordered["label"], ordered["final_mean"], strict=True)
        ]
        where = f"{env_id}, {protocol}" if protocol else str(env_id)
        lines.append(" ".join([f"{where}, final return: {listing(texts)}.", *verdict(rows)]))
    return lines
