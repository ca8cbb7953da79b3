"""What nominal 95% intervals are worth with few seeds: the figures the report states."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import statistics
from reports.sections import wording

SAMPLES = 2_000
STANDARD_ERRORS = 3


@pytest.mark.parametrize(("n_seeds", "stated"), wording.MEASURED_COVERAGE.items())
def test_stated_coverage_is_what_normal_samples_show(n_seeds: int, stated: float) -> None:
    samples = np.random.default_rng(0).normal(size=(n_seeds, SAMPLES))
    _, low, high = statistics.mean_interval(samples)
    covered = np.mean((low <= 0) & (high >= 0))
    tolerance = STANDARD_ERRORS * np.sqrt(stated * (1 - stated) / SAMPLES)
    assert covered == pytest.approx(stated, abs=tolerance)


def test_the_report_states_the_measured_figures() -> None:
    sentence = wording.coverage_sentence()
    assert "75% with 3 seeds, 84% with 5 seeds and 90% with 10 seeds" in sentence
