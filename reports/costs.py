"""The section on what the runs cost: time, memory, and returns against training time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.numbers import rough_text
from reports import figures, runs, scores, wording
from reports.tables import Table, duration

_FIGURE = "learning_curves_time"
# From how many seconds on an axis is in which unit, and that unit in seconds.
_UNITS = [(7_200.0, 3_600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds")]


@dataclass(frozen=True)
class Costs:
    """What the report says of time and memory."""

    table: Table
    notes: Sequence[str]
    figure: str | None  # file name without its ending; none where no run says when it was evaluated
    caption: str


def costs_of(
    data: runs.RunData, table: pd.DataFrame, styles: Mapping[str, figures.Look], out: Path
) -> Costs:
    """The section; its figure is written into ``out``.

    :param table: as :func:`reports.scores.score_table` gives it
    """
    curves = scores.wall_time_curves(data.evaluations)
    if len(curves):
        figures.save(time_figure(curves, styles), out / _FIGURE)
    return Costs(
        table=costs_table(table),
        notes=_notes(table),
        figure=_FIGURE if len(curves) else None,
        caption=_caption(data),
    )


def costs_table(table: pd.DataFrame) -> Table:
    """One row per environment and label; memory where it is known of any.

    :param table: as :func:`reports.scores.score_table` gives it
    """
    columns = {
        "environment": list(table["env_id"]),
        "algorithm": list(table["label"]),
        "wall time per run": [duration(seconds) for seconds in table["wall_seconds"]],
        "training speed (steps/s)": [rough_text(speed) for speed in table["steps_per_second"]],
    }
    memory = table["peak_memory_mib"]
    if memory.notna().any():
        columns["peak memory (MiB)"] = ["–" if pd.isna(mib) else rough_text(mib) for mib in memory]
    rows = list(zip(*columns.values(), strict=True))
    return Table(list(columns), rows, "ll" + "r" * (len(columns) - 2))


def time_figure(curves: pd.DataFrame, styles: Mapping[str, figures.Look]) -> Figure:
    """Learning curves against training time, each panel in a unit for short numbers.

    :param curves: as :func:`reports.scores.wall_time_curves` gives them
    """
    names, frames = [], []
    for _, group in curves.groupby("env_id", sort=True):
        longest = group["seconds"].max()
        size, name = next((size, name) for least, size, name in _UNITS if longest >= least)
        names.append(name)
        frames.append(group.assign(time=group["seconds"] / size))
    axis = figures.Axis("time", "", "{:g}".format)
    figure = figures.learning_curves(pd.concat(frames), styles, axis)
    for ax, name in zip(figure.axes, names, strict=False):  # some panels may be empty
        ax.set_xlabel(f"training time ({name})")
    return figure


def _notes(table: pd.DataFrame) -> list[str]:
    """How the table is to be read."""
    text = (
        "**Wall time**: training and evaluations of a run, mean over runs. **Training speed**: "
        "environment steps per second of training alone, mean over runs."
    )
    if table["peak_memory_mib"].notna().any():
        text += (
            " **Peak memory**: the most that a run's process has held, Python and its libraries "
            "included, median over runs."
        )
    notes = [f"{text} Times depend on what else the machine was doing."]
    if (table["protocol"] != "").any():
        notes.append("**Mixed:** budgets or evaluations differ, and with them wall times.")
    return notes


def _caption(data: runs.RunData) -> str:
    machines = data.runs["machine"].map(wording.machine_text)
    shown = (
        "Learning curves against the time of training, evaluations not counted: mean over seeds "
        "with its 95% interval, up to the time at which the first seed was done"
    )
    if machines.nunique() > 1:
        return (
            f"{shown}. **These curves do not compare:** the runs were made on different machines "
            f"({wording.tally_text(machines)})"
        )
    return f"{shown}. All runs were made on {machines.iloc[0]}; on another, times are others"
