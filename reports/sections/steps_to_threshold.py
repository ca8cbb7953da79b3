"""The section on how soon the algorithms reached a return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.data import runs, scores, thresholds
from reports.rendering.tables import Table, steps_cells
from reports.sections import wording


@dataclass(frozen=True)
class StepsSection:
    """How soon the algorithms reached the thresholds, all environments in one table."""

    caption: str
    table: Table
    notes: Sequence[str]


def steps_section(data: runs.RunData, given: Mapping[str, float]) -> StepsSection | None:
    """Steps to the threshold of each environment that has one; ``None`` where none has.

    :param given: environment to return, instead of what Gymnasium has registered
    :raises reports.data.runs.ReportError: see :func:`reports.data.thresholds.resolve`
    """
    resolved = thresholds.resolve(data.runs["env_id"], given)
    if not resolved:
        return None
    values = {env_id: threshold.value for env_id, threshold in resolved.items()}
    table = scores.steps_to_threshold(data.evaluations, values)
    return StepsSection(
        caption=wording.thresholds_sentence(resolved),
        table=steps_table(table),
        notes=wording.steps_notes(table, data.mixed),
    )


def steps_table(table: pd.DataFrame) -> Table:
    """One row per environment and label of :func:`reports.data.scores.steps_to_threshold`."""
    names = ("median", "lowest", "highest", "budget", "seeds")
    rows = table.to_dict("records")
    columns = [
        [f"{row['env_id']} ({thresholds.value_text(row['threshold'])})" for row in rows],
        [row["label"] for row in rows],
        [f"{row['reached']} of {row['seeds']}" for row in rows],
        steps_cells(*(table[name].to_numpy(dtype=np.float64) for name in names)),
    ]
    headers = ["environment (threshold)", "algorithm", "seeds that reached it"]
    headers += ["steps: median (lowest, highest)"]
    return Table(headers, list(zip(*columns, strict=True)), "llrr")
