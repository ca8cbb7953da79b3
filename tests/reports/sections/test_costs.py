"""What runs cost: times in fitting units, memory where it is known."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.rendering import figures
from reports.sections.costs import time_figure


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
    figure = time_figure(curves(Short=1.0, This=seconds), figures.looks(["npg"]))
    short, this = figure.axes
    assert short.get_xlabel() == "training time (seconds)"
    assert this.get_xlabel() == f"training time ({unit})"
    assert this.lines[0].get_xdata()[-1] == pytest.approx(end)
    assert this.get_title() == "This"
