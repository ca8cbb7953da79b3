"""The scores on each environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from benchmarks.names import file_name
from benchmarks.results import frame_csv
from benchmarks.statistics import final_window
from benchmarks.tables import Estimates, Inline, Link, Number, Strong, Table, Text
from reports.data.context import Context
from reports.data.metrics import EVALUATIONS, Metric
from reports.data.readers.logged import EVALUATION
from reports.data.scores import SCORES
from reports.data.verdicts import Comparisons
from reports.rendering import figures
from reports.rendering.blocks import Block, Figure, Paragraph, Section
from reports.rendering.curves import Curves
from reports.rendering.figures import Look
from reports.rendering.text import MOST_LISTED, curve_remarks, joined, listing


def build(context: Context) -> Section | None:
    """A table and learning curves for each environment, and all scores as CSV files."""
    if context.runs is None:
        return None
    table = context.scores
    styles = figures.looks(list(table["label"]))
    metric = context.runs.metric
    blocks: list[Block] = [Paragraph(_opening(context.runs.evaluations, metric))]
    several = table["env_id"].nunique() > 1
    for env_id, rows in table.groupby("env_id", sort=True):
        of_env: list[Block] = [environment_table(rows, context.comparisons, metric)]
        if mixed := _mixed(rows):
            of_env.insert(0, Paragraph(mixed))
        if several:  # otherwise it is the figure of the summary
            of_env.append(_figure(str(env_id), context, styles))
        blocks.append(Section(str(env_id), of_env))
    frames = {"scores.csv": table, "comparisons.csv": context.comparisons.frame()}
    return Section(
        "Scores", blocks, files={name: frame_csv(frames[name], "%.10g") for name in frames}
    )


def environment_table(
    table: pd.DataFrame, comparisons: Comparisons, metric: Metric = EVALUATIONS
) -> Table:
    """One row per label: scores with intervals, seeds and steps.

    :param table: rows of :func:`reports.data.scores.score_table`, all of one environment
    """
    env_id = str(table["env_id"].iloc[0])
    estimates = [
        Estimates(
            metric.heading(score),
            [comparisons.means[score, env_id, label] for label in table["label"]],
            bold=comparisons.bold(score, table).tolist(),
        )
        for score in SCORES
    ]
    return Table(
        [
            Text("algorithm", list(table["label"])),
            *estimates,
            Number("seeds", table["seeds"].tolist()),
            Number("steps", table["timesteps"].tolist(), "{:,.0f}".format),
        ],
        name=file_name(f"scores-{env_id}"),
    )


def _opening(evaluations: pd.DataFrame, metric: Metric) -> Inline:
    sizes = evaluations.groupby(["env_id", "label", "seed"]).size()
    windows = sorted({(final_window(n), n) for n in sizes})
    texts = [f"the last {f'{window} ' if window > 1 else ''}of {n}" for window, n in windows]
    if len(texts) > MOST_LISTED:
        fewest, most = windows[0][1], windows[-1][1]
        texts = [f"the last tenth of each run's {fewest:,} to {most:,}"]
    final = "Final returns" if metric.name == EVALUATION else f"Final values of {metric.noun}"
    return (
        f"{final} are over {listing(texts)} {metric.points}. All scores with time and memory as "
        "data: ",
        Link("scores.csv", "scores.csv"),
        "; every pair of algorithms: ",
        Link("comparisons.csv", "comparisons.csv"),
        ". What the columns mean: ",
        Link("How to read this", "#how-to-read-this"),
        ".",
    )


def _mixed(table: pd.DataFrame) -> Inline:
    """A warning beside a table whose rows do not all compare; otherwise empty."""
    groups = sorted(set(table["protocol"]))
    if len(groups) < 2:
        return ""
    said = f" {listing(groups)} do not compare. Bold is within each of them."
    return (Strong("Mixed:"), said)


def _figure(env_id: str, context: Context, styles: Mapping[str, Look]) -> Figure:
    assert context.runs is not None
    metric = context.runs.metric
    means, runs = (
        frame[frame["env_id"] == env_id]
        for frame in (context.learning_curves, context.drawn_evaluations)
    )
    axis = replace(figures.STEPS, values=metric.axis_label)
    shown = "mean over seeds" if metric.name == EVALUATION else f"mean {metric.noun} over seeds"
    caption = f"Learning curves on {env_id}: {shown} with its 95% interval."
    drawn = runs if context.show_seeds else None
    return Figure(
        f"learning_curve_{file_name(env_id)}",
        f"Learning curves on {env_id}",
        joined([caption, *curve_remarks(context.show_seeds, context.smooth)]),
        lambda: figures.learning_curves(means, styles, axis, drawn),
        data=Curves(means, styles, runs, axis, show_runs=context.show_seeds),
    )
