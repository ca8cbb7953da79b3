"""What the report says of intervals and verdicts is what they are worth, as measured."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from benchmarks import statistics
from reports.data import aggregates
from reports.data.context import Context
from reports.data.verdicts import FALSE_ALARMS
from reports.sections import how_to_read
from reports.sections.how_to_read import MEASURED_COVERAGE
from tests.reports.values import texts

SAMPLES = 2_000
STANDARD_ERRORS = 3


def said() -> str:
    built = how_to_read.build(Context())
    assert built is not None
    return " ".join(texts(built.blocks))


@pytest.mark.parametrize(("n_seeds", "stated"), MEASURED_COVERAGE.items())
def test_stated_coverage_is_what_normal_samples_show(n_seeds: int, stated: float) -> None:
    samples = np.random.default_rng(0).normal(size=(n_seeds, SAMPLES))
    _, low, high = statistics.mean_interval(samples)
    covered = np.mean((low <= 0) & (high >= 0))
    tolerance = STANDARD_ERRORS * np.sqrt(stated * (1 - stated) / SAMPLES)
    assert covered == pytest.approx(stated, abs=tolerance)


def test_the_measured_figures_are_stated() -> None:
    for n_seeds, share in MEASURED_COVERAGE.items():
        assert f"{share:.0%} with {n_seeds} seeds" in said()
    # Either of two equal algorithms may be ahead.
    for n_seeds, share in FALSE_ALARMS.items():
        if n_seeds >= statistics.FEWEST_SEEDS:
            assert f"{2 * share:.0%} with {n_seeds} seeds" in said()
    assert f"With 2 seeds it would be {2 * FALSE_ALARMS[2]:.0%}" in said()


def test_the_example_of_an_interquartile_mean_is_right() -> None:
    example = [0, 0.8, 0.9, 5]
    assert f"{np.mean(example) + 1e-9:.2f}" == "1.68"
    assert scipy.stats.trim_mean(example, 0.25) == pytest.approx(0.85)
    assert (
        "Four runs that score 0, 0.8, 0.9 and 5 have the mean 1.68 and the interquartile mean 0.85"
    ) in said()
    # As it says, one of four environments on which every run fails leaves no trace.
    matrix = np.tile([0.0, 0.8, 0.9, 1.0], (5, 1))
    assert aggregates.iqm(matrix).value == pytest.approx(0.85)
