"""Numbers with intervals over seeds: paired, and with digits as they need."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.statistics import Estimate
from studies.estimates import compare, in_brackets


def test_a_gain_is_of_pairs_of_runs_with_the_same_seed() -> None:
    """With two seeds the ends of a 95% interval are those of either seed alone, and no proof."""
    defaults, best = np.array([[0.1], [0.8]]), np.array([[0.3], [0.9]])

    found = compare([0, 1], defaults, best)

    assert (found.defaults.value, found.best.value) == pytest.approx((0.45, 0.6))
    assert (found.defaults.low, found.defaults.high) == pytest.approx((0.1, 0.8))
    assert (found.gain.value, found.gain.low, found.gain.high) == pytest.approx((0.15, 0.1, 0.2))
    assert not found.gain.is_positive
    assert not compare([0, 1], best, defaults).gain.is_negative
    defaults, best = np.array([[0.1], [0.8], [0.5]]), np.array([[0.3], [0.9], [0.7]])
    assert compare([0, 1, 2], defaults, best).gain.is_positive
    assert compare([0, 1, 2], best, defaults).gain.is_negative


def test_scores_are_interquartile_means_over_seeds_and_environments() -> None:
    best = np.array([[0.0, 0.4], [0.2, 100.0], [0.3, 0.5], [0.1, 0.6]])

    found = compare(range(4), np.zeros((4, 2)), best)

    assert found.best.value == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4)


def test_one_seed_has_no_interval_and_nothing_is_claimed() -> None:
    gain = compare([0], np.array([[0.0]]), np.array([[1.0]])).gain

    assert gain.value == 1.0
    assert not gain.has_interval
    assert not gain.is_positive
    assert not gain.is_negative


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.5, 0.25, 0.75, 5), "0.500 [0.250, 0.750]"),
        (Estimate(-0.0001, -0.25, 0.75, 5), "0.000 [-0.250, 0.750]"),
        (Estimate(4500.0, 4000.0, 5000.0, 5), "4,500 [4,000, 5,000]"),
        (Estimate(45.0, math.nan, math.nan, 1), "45.0"),
        (Estimate(0.81234, 0.79, 0.831, 3), "0.812 [0.790, 0.831]"),
        (Estimate(4.1e-4, 4e-4, 4.2e-4, 3), "0.000410 [0.000400, 0.000420]"),
        (Estimate(2e12, 1e12, 3e12, 3), "2.00e+12 [1.00e+12, 3.00e+12]"),
    ],
)
def test_estimates_have_digits_as_they_need(estimate: Estimate, text: str) -> None:
    assert in_brackets(estimate) == text


def test_a_difference_has_a_sign_and_is_not_shown_as_zero() -> None:
    estimate = Estimate(-0.0004, -0.0742, 0.0825, 5)
    assert in_brackets(estimate, sign=True) == "-0.0004 [-0.0742, +0.0825]"
    assert in_brackets(Estimate(0.0, 0.0, 0.0, 5), sign=True) == "+0.000 [+0.000, +0.000]"
    positive = Estimate(0.0312, 0.0004, 0.06, 3)
    assert in_brackets(positive, sign=True) == "+0.0312 [+0.0004, +0.0600]"
