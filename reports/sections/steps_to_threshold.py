"""How soon the algorithms reached a return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.tables import Code, Fraction, Inline, Steps, StepsTaken, Strong, Table, Text
from reports.data import scores, thresholds
from reports.data.context import Context
from reports.data.thresholds import Threshold, value_text
from reports.rendering.blocks import Block, Paragraph, Section
from reports.rendering.text import joined, listing

_SOURCES: Mapping[bool, Inline] = {
    False: ("Gymnasium's registered ", Code("reward_threshold")),
    True: ("given with ", Code("--threshold")),
}


def build(context: Context) -> Section | None:
    """Steps to the threshold of each environment that has one; None where none has.

    :raises reports.data.runs.ReportError: see :func:`reports.data.thresholds.resolve`
    """
    if context.runs is None:
        return None
    metric = context.runs.metric
    env_ids = context.runs.runs["env_id"]
    resolved = thresholds.resolve(env_ids, context.thresholds, metric.is_return)
    if not resolved:
        return None
    values = {env_id: threshold.value for env_id, threshold in resolved.items()}
    table = scores.steps_to_threshold(context.runs.evaluations, values, metric.lower_is_better)
    blocks: list[Block] = [
        Paragraph(_sources(resolved)),
        steps_table(table),
        Paragraph(f"{metric.points.title()} come {_spacings(table)}, which limits the resolution."),
    ]
    if mixed := _mixed(table, context.runs.mixed):
        blocks.append(Paragraph(mixed))
    return Section("Steps to threshold", blocks)


def steps_table(table: pd.DataFrame) -> Table:
    """One row per environment and label of :func:`reports.data.scores.steps_to_threshold`."""
    rows = table.to_dict("records")
    names = [f"{row['env_id']} ({value_text(row['threshold'])})" for row in rows]
    steps = [
        StepsTaken(*(row[key] for key in ("median", "lowest", "highest", "budget", "seeds")))
        for row in rows
    ]
    return Table(
        [
            Text("environment (threshold)", names),
            Text("algorithm", list(table["label"])),
            Fraction("seeds that reached it", [(row["reached"], row["seeds"]) for row in rows]),
            Steps("steps: median (lowest, highest)", steps),
        ],
        name="steps-to-threshold",
    )


def _sources(resolved: Mapping[str, Threshold]) -> Inline:
    """Which environment has which threshold, and where that is from."""
    texts: list[Inline] = []
    for given, source in _SOURCES.items():
        values = [
            f"{env_id} ({value_text(threshold.value)})"
            for env_id, threshold in resolved.items()
            if threshold.given == given
        ]
        if values:
            texts.append((source, f" for {listing(values)}"))
    return (f"Threshold{'s' if len(resolved) > 1 else ''}: ", joined(texts, by="; "), ".")


def _spacings(table: pd.DataFrame) -> str:
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


def _mixed(table: pd.DataFrame, mixed: Sequence[str]) -> Inline:
    """A warning about environments with several budgets or protocols; empty if there are none."""
    concerned = sorted(set(table["env_id"]) & set(mixed))
    if not concerned:
        return ""
    return (
        Strong("Mixed:"),
        f" on {listing(concerned)} the runs have different budgets or evaluations; their steps "
        "compare only where nothing follows a schedule over the budget.",
    )
