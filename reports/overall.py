"""The section on all environments together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.names import shield
from benchmarks.normalisation import Scale
from benchmarks.numbers import Form, form_with
from benchmarks.statistics import Estimate
from reports import aggregate_figures, aggregates, figures, scores, wording
from reports.tables import Table, estimate_cells
from reports.verdicts import excludes_half


@dataclass(frozen=True)
class Overall:
    """What the report says of all environments together."""

    introduction: Sequence[str]
    scales: Table
    aggregates: Table
    bold: str  # what is bold in it; empty where nothing is compared
    improvements: Table | None
    figures: Sequence[tuple[str, str]]  # file name without its ending, and what it shows


def overall_of(
    matrices: aggregates.Matrices,
    baseline: str | None,
    styles: Mapping[str, figures.Look],
    out: Path,
) -> Overall:
    """The section on all environments; its figures are written into ``out``."""
    table = aggregates.aggregate_table(matrices.finals)
    seeds = {label: len(finals) for label, finals in matrices.finals.items()}
    drawn = {
        "aggregates": (
            aggregate_figures.aggregates(table, styles),
            "Aggregates over environments, each with its 95% interval",
        ),
        "profiles": (
            aggregate_figures.profiles(aggregates.profiles(matrices.finals), styles, seeds),
            "Performance profiles: for each score τ (tau), which share of its runs an algorithm "
            "has above it. At τ = 0.5, for example, that is the share of runs that end more than "
            "half of the way from a random policy (0) to the reference (1). A curve above another "
            "one is better, and where they cross, neither is throughout",
        ),
    }
    if matrices.curves:
        efficiency = aggregates.efficiency(matrices.curves, matrices.shares)
        drawn["efficiency"] = (
            aggregate_figures.efficiency(efficiency, styles, seeds),
            "Sample efficiency: the interquartile mean of all scores as training goes on",
        )
    pairs = aggregates.improvements(matrices.finals)
    if len(pairs):
        over = _baseline(table, baseline)
        drawn["improvement"] = (
            aggregate_figures.improvements(pairs, over, styles, seeds),
            f"Probability of improvement: that a run ends above a run of {over}, on average over "
            "environments",
        )
    for name, (figure, _) in drawn.items():
        figures.save(figure, out / name)
    return Overall(
        introduction=wording.overall(matrices),
        scales=scale_table(matrices),
        aggregates=aggregates_table(table),
        bold=bold_sentence(table),
        improvements=improvements_table(pairs, table) if len(pairs) else None,
        figures=[(name, caption) for name, (_, caption) in drawn.items()],
    )


def _ranking(table: pd.DataFrame) -> list[str]:
    """Labels by their interquartile mean, the highest first."""
    first = table[table["aggregate"] == "interquartile mean"]
    return [str(label) for label in first.sort_values("value", ascending=False)["label"]]


def _baseline(table: pd.DataFrame, baseline: str | None) -> str:
    ranking = _ranking(table)
    return baseline if baseline in ranking else ranking[min(1, len(ranking) - 1)]


def scale_table(matrices: aggregates.Matrices) -> Table:
    """What scores 0 and what scores 1 on each environment."""
    rows = [
        [env_id, *_scale_texts(scale), shield(scale.reference_source)]
        for env_id, scale in matrices.scales.items()
    ]
    headers = ["environment", "random policy (0)", "reference (1)", "the reference is"]
    return Table(headers, rows, "lrrl")


def _scale_texts(scale: Scale) -> list[str]:
    ends = scale.random, scale.reference
    form = form_with(2, ends).apart([ends])
    return [form.text(end) for end in ends]


def aggregates_table(table: pd.DataFrame) -> Table:
    """One row per label of :func:`reports.aggregates.aggregate_table`, one column per aggregate."""
    ranking = _ranking(table)
    columns = [ranking]
    for name in aggregates.AGGREGATES:
        rows = table[table["aggregate"] == name].set_index("label").loc[ranking]
        value, low, high = (
            rows[key].to_numpy(dtype=np.float64) for key in ("value", "low", "high")
        )
        sign = -1.0 if name == "optimality gap" else 1.0
        ends = (low, high) if sign > 0 else (-high, -low)
        bold = scores.not_told_apart(sign * value, *ends)
        columns.append(estimate_cells(value, low, high, bold))
    seeds = table.drop_duplicates("label").set_index("label").loc[ranking, "seeds"]
    columns.append([str(n) for n in seeds])
    headers = ["algorithm", *aggregates.AGGREGATES, "seeds"]
    return Table(headers, list(zip(*columns, strict=True)), "l" + "r" * (len(headers) - 1))


def bold_sentence(table: pd.DataFrame) -> str:
    """What is bold in :func:`aggregates_table`; empty where no two labels have intervals."""
    seeds = table.drop_duplicates("label")["seeds"]
    if (seeds > 1).sum() < 2:
        return ""
    return "Bold, in each column: the best, and all whose intervals overlap with it."


def improvements_table(pairs: pd.DataFrame, table: pd.DataFrame) -> Table:
    """How probable it is that a run of the row's label is better than one of the column's."""
    ranking = _ranking(table)
    cells = {
        (row["label"], row["over"]): _probability(
            Estimate(row["probability"], row["low"], row["high"])
        )
        for row in pairs.to_dict("records")
    }
    rows = [[label, *(cells.get((label, other), "–") for other in ranking)] for label in ranking]
    return Table(["P(row > column)", *ranking], rows, "l" + "r" * len(ranking))


def _probability(improvement: Estimate) -> str:
    form = Form(2).apart([(improvement.low, 0.5), (improvement.high, 0.5)])
    value, low, high = map(form.text, improvement.numbers)
    if not improvement.has_interval:
        return f"{value} (1 seed)"
    shown = f"**{value}**" if excludes_half(improvement) else value
    return f"{shown} [{low}, {high}]"
