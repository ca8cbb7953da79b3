"""What is missing: seeds, environments, algorithms, and runs that failed or cannot be read."""

from __future__ import annotations

import pandas as pd

from benchmarks.tables import Code, Number, Table, Text
from reports.data.context import Context
from reports.data.missing import Gap, Missing
from reports.rendering.blocks import Block, Bullets, Paragraph, Section
from reports.rendering.text import listing

_MOST_SEEDS = 50


def build(context: Context) -> Section | None:
    """Everything that has no result although it might have one."""
    data = context.runs
    if data is None:
        return None
    lacking = context.missing
    blocks: list[Block] = []
    if data.broken:
        blocks += [Paragraph("Left out:"), Bullets([Code(line) for line in data.broken])]
    if data.without_metric:
        title = f"Left out, since they have not logged the {data.metric.noun}:"
        blocks += [Paragraph(title), Bullets([Code(line) for line in data.without_metric])]
    if data.problems:
        title = "Parts of logs that were left out:"
        blocks += [Paragraph(title), Bullets([Code(line) for line in data.problems])]
    if lacking.gaps:
        blocks.append(Bullets([gap_text(gap) for gap in lacking.gaps]))
    if len(data.failures):
        blocks += [Paragraph("Failed runs:"), failure_table(data.failures)]
    return Section("What is missing", blocks or [Paragraph(_nothing(lacking))])


def gap_text(gap: Gap) -> str:
    """``ppo on CartPole-v1: no result for seeds 1, 2 (failed)``."""
    who = f"{gap.label} on {listing(gap.env_ids)}"
    if not gap.seeds:
        return f"{who}: no run"
    texts = [f"{x} (failed)" if x in gap.failed else str(x) for x in gap.seeds[:_MOST_SEEDS]]
    more = f" and {len(gap.seeds) - len(texts):,} more" if len(gap.seeds) > len(texts) else ""
    return f"{who}: no result for seed{'s' if len(texts) > 1 else ''} {', '.join(texts)}{more}"


def failure_table(failures: pd.DataFrame) -> Table:
    """Every failed run with the first line of its error."""
    return Table(
        [
            Text("environment", list(failures["env_id"])),
            Text("algorithm", list(failures["label"])),
            Number("seed", failures["seed"].tolist(), str),
            Text("error", [Code(error) for error in failures["error"]]),
        ]
    )


def _nothing(lacking: Missing) -> str:
    even = "no run failed, and no algorithm lacks a seed or an environment that another has"
    if lacking.is_asked_known:
        return f"Nothing: {even}, nor a run that a sweep was asked for."
    return (
        f"Nothing, as far as is known: {even}. What sweeps were asked for is not known of all runs."
    )
