"""The sections on the single environments: who scores what there, and who is ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.names import file_name
from reports.data.verdicts import Comparisons
from reports.rendering.tables import Table, estimate_cells
from reports.sections import wording

_HEADERS = {"final": "final return", "best": "best evaluation", "area": "area under curve"}


@dataclass(frozen=True)
class Section:
    """What the report says of one environment."""

    env_id: str
    table: Table
    verdicts: Sequence[str]
    warning: str  # empty where all runs have one budget and evaluation protocol
    figure: str | None  # file name without its ending; none where it would be the report's first


def sections_of(table: pd.DataFrame, comparisons: Comparisons) -> list[Section]:
    """A section for each environment of :func:`reports.data.scores.score_table`."""
    several = table["env_id"].nunique() > 1
    return [
        Section(
            env_id=str(env_id),
            table=environment_table(group, comparisons),
            verdicts=wording.verdicts(group, comparisons),
            warning=wording.mixed_here(group),
            figure=f"learning_curve_{file_name(str(env_id))}" if several else None,
        )
        for env_id, group in table.groupby("env_id", sort=True)
    ]


def environment_table(table: pd.DataFrame, comparisons: Comparisons) -> Table:
    """One row per label: scores with intervals, seeds and steps."""
    columns = [
        list(table["label"]),
        *(_estimates(table, score, comparisons) for score in _HEADERS),
        [str(n) for n in table["seeds"]],
        [f"{steps:,.0f}" for steps in table["timesteps"]],
    ]
    headers = ["algorithm", *_HEADERS.values(), "seeds", "steps"]
    return Table(headers, list(zip(*columns, strict=True)), "l" + "r" * (len(headers) - 1))


def _estimates(table: pd.DataFrame, score: str, comparisons: Comparisons) -> list[str]:
    mean, low, high = (
        table[f"{score}_{part}"].to_numpy(dtype=np.float64) for part in ("mean", "low", "high")
    )
    return estimate_cells(mean, low, high, comparisons.bold(score, table))
