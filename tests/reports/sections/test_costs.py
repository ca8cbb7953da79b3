"""What runs cost: times in fitting units, memory where it is known."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.tables import text_of
from reports.data.context import load
from reports.rendering import figures
from reports.rendering.blocks import Section, figures_of
from reports.sections import costs
from reports.sections.costs import time_curves, time_figure
from tests.reports.conftest import RunFolders
from tests.reports.values import cells, headers, shown, tables


def curves(**seconds: float) -> pd.DataFrame:
    """A curve for each environment that ends after so many seconds."""
    return pd.concat(
        pd.DataFrame(
            {
                "env_id": env_id,
                "label": "npg",
                "seconds": [0.0, longest],
                "mean": [0.0, 1.0],
                "low": [0.0, 0.9],
                "high": [0.0, 1.1],
                "seeds": 3,
            }
        )
        for env_id, longest in seconds.items()
    )


@pytest.mark.parametrize(
    ("seconds", "unit", "end"),
    [(119.0, "seconds", 119.0), (180.0, "minutes", 3.0), (7_200.0, "hours", 2.0)],
)
def test_a_panel_is_in_the_unit_that_fits_it(seconds: float, unit: str, end: float) -> None:
    figure = time_figure(time_curves(curves(Short=1.0, This=seconds), figures.looks(["npg"])))
    short, this = figure.axes
    assert short.get_xlabel() == "training time (seconds)"
    assert this.get_xlabel() == f"training time ({unit})"
    assert this.lines[0].get_xdata()[-1] == pytest.approx(end)
    assert this.get_title() == "This"


def section(folders: RunFolders) -> Section:
    built = costs.build(load(folders.root))
    assert built is not None
    return built


def test_peak_memory_is_shown_where_it_is_known(folders: RunFolders) -> None:
    folders.add("npg")
    (table,) = tables(section(folders).blocks)
    assert headers(table) == [
        "environment",
        "algorithm",
        "wall time per run",
        "training speed (steps/s)",
    ]
    # 61 and 11 seconds, 50,000 steps in 61 seconds.
    assert shown(table) == [["CartPole-v1", "npg", "1 min 12 s", "820"]]
    folders.add("ppo", peak_memory_mib=412.4)
    (table,) = tables(section(folders).blocks)
    assert cells(table, "peak memory (MiB)") == ["–", "412"]


def test_different_machines_are_said_beside_the_curves_against_time(folders: RunFolders) -> None:
    folders.add("npg")
    (figure,) = figures_of(section(folders).blocks)
    assert "All runs were made on Linux, x86_64, 2 cores, 8 GiB memory" in text_of(figure.caption)
    folders.add("ppo", machine={"system": "Linux", "processor": "arm64", "cores": 8})
    (figure,) = figures_of(section(folders).blocks)
    said = text_of(figure.caption)
    assert "These curves do not compare: the runs were made on different machines" in said
    assert "Linux, arm64, 8 cores: 1 run" in said
