"""What the runs cost: time, memory, and returns against training time."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure as Drawing

from benchmarks.numbers import rough_text
from benchmarks.tables import Inline, Number, Seconds, Strong, Table, Text
from reports.data import scores
from reports.data.context import Context
from reports.data.runs import RunData
from reports.rendering import figures
from reports.rendering.blocks import Block, Figure, Paragraph, Section
from reports.rendering.curves import Curves
from reports.rendering.figures import Look
from reports.rendering.text import curve_remarks, joined, machine_text, tally_text

_OTHERS = (
    "Of other programs' runs, times are from the first entry of a log to the last: evaluations and "
    "whatever else the program did are in them, also in training speed. What is not recorded is "
    "left out."
)


def build(context: Context) -> Section | None:
    """Time and memory of each algorithm on each environment."""
    data = context.runs
    if data is None or data.runs["wall_seconds"].isna().all():
        return None
    blocks: list[Block] = [costs_table(context.scores)]
    if not data.are_all_of_suite:
        blocks.append(Paragraph(_OTHERS))
    if (context.scores["protocol"] != "").any():
        mixed = " budgets or evaluations differ, and with them wall times."
        blocks.append(Paragraph((Strong("Mixed:"), mixed)))
    means = scores.wall_time_curves(context.drawn_evaluations)
    runs = context.drawn_evaluations if context.show_seeds else None
    if len(means):
        styles = figures.looks(list(context.scores["label"]))
        curves = time_curves(means, styles, runs, data.metric.axis_label)
        blocks.append(
            Figure(
                "learning_curves_time",
                "Learning curves against training time",
                joined([_caption(data), *curve_remarks(context.show_seeds, context.smooth)]),
                lambda: time_figure(curves),
                data=curves,
            )
        )
    return Section("Time and memory", blocks)


def costs_table(table: pd.DataFrame) -> Table:
    """One row per environment and label; memory where it is known of any.

    :param table: as :func:`reports.data.scores.score_table` returns it
    """
    columns = [
        Text("environment", list(table["env_id"])),
        Text("algorithm", list(table["label"])),
        Seconds("wall time per run", table["wall_seconds"].tolist()),
        Number("training speed (steps/s)", table["steps_per_second"].tolist(), rough_text),
        Number("peak memory (MiB)", table["peak_memory_mib"].tolist(), rough_text),
    ]
    return Table(columns, name="costs").without_empty()


def time_curves(
    means: pd.DataFrame,
    styles: Mapping[str, Look],
    runs: pd.DataFrame | None = None,
    values: str = figures.STEPS.values,
) -> Curves:
    """Learning curves against training time, each panel in a unit for short numbers.

    :param means: as :func:`reports.data.scores.wall_time_curves` returns them
    :param runs: the evaluations of runs to draw as well, with ``wall_seconds``; None: the means
        alone
    """
    longest = means.groupby("env_id", sort=True)["seconds"].max()
    units = {str(env_id): figures.time_unit(seconds) for env_id, seconds in longest.items()}

    def scaled(frame: pd.DataFrame, seconds: str) -> pd.DataFrame:
        sizes = frame["env_id"].map({env_id: size for env_id, (size, _) in units.items()})
        return frame.assign(time=frame[seconds] / sizes)

    return Curves(
        scaled(means, "seconds"),
        styles,
        None if runs is None else scaled(runs, "wall_seconds"),
        figures.Axis("time", "", "{:g}".format, values),
        {env_id: f"training time ({name})" for env_id, (_, name) in units.items()},
        show_runs=runs is not None,
    )


def time_figure(curves: Curves) -> Drawing:
    """These curves as a figure."""
    figure = figures.learning_curves(curves.means, curves.styles, curves.axis, curves.runs)
    for ax, label in zip(figure.axes, curves.x_labels.values(), strict=False):  # some may be empty
        ax.set_xlabel(label)
    return figure


def _caption(data: RunData) -> Inline:
    counted = "evaluations not counted: mean over seeds "
    if not data.are_all_of_suite:
        counted = f"as the runs logged it: mean {data.metric.noun} over seeds "
    shown = (
        f"Learning curves against the time of training, {counted}"
        "with its 95% interval, up to the time at which the first seed was done."
    )
    if not data.are_all_of_suite:
        return (shown, " On which machines the runs were made is not known of all.")
    machines = data.runs["machine"].map(machine_text)
    if machines.nunique() > 1:
        return (
            shown,
            " ",
            Strong("These curves do not compare:"),
            f" the runs were made on different machines ({tally_text(machines)}).",
        )
    return f"{shown} All runs were made on {machines.iloc[0]}; on another, times are others."
