"""The power of the tests: against statsmodels, the noncentral t, and the very tests simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from reports.data.power import TARGET, power, seeds_needed
from reports.data.significance import ALPHA, attained_level, permutation_p


@pytest.mark.parametrize("sizes", [(3, 3, False), (5, 5, False), (6, 9, False), (8, 8, True)])
def test_without_a_difference_the_power_is_the_level(sizes: tuple[int, int, bool]) -> None:
    assert power(0.0, *sizes) == attained_level(*sizes) <= ALPHA
    assert power(1e-9, *sizes) == pytest.approx(attained_level(*sizes))


@pytest.mark.parametrize("effect", [0.3, 1.0, -2.5])
def test_the_power_is_that_of_students_test_at_the_attained_level(effect: float) -> None:
    level = attained_level(6, 9)
    expected = TTestIndPower().power(abs(effect), 6, level, ratio=9 / 6)
    assert power(effect, 6, 9) == pytest.approx(expected, abs=1e-6)
    root, critical = math.sqrt(6 * 9 / 15), scipy.stats.t.isf(level / 2, 13)
    tails = scipy.stats.nct.sf(critical, 13, abs(effect) * root)
    tails += scipy.stats.nct.cdf(-critical, 13, abs(effect) * root)
    assert power(effect, 6, 9) == pytest.approx(tails, abs=1e-6)
    of_pairs = TTestPower().power(abs(effect), 8, attained_level(8, 8, True))
    assert power(effect, 8, 8, is_paired=True) == pytest.approx(of_pairs, abs=1e-6)


@pytest.mark.parametrize(
    ("n_seeds", "effect", "is_paired", "tolerance"),
    [
        (3, 5.0, False, 0.0),
        (4, 1.5, False, 0.08),
        (5, 1.0, False, 0.03),
        (5, 2.0, False, 0.03),
        (7, 1.5, False, 0.03),
        (8, 1.0, True, 0.04),
    ],
)
def test_the_power_is_about_how_often_the_permutation_test_finds_the_difference(
    n_seeds: int, effect: float, is_paired: bool, tolerance: float
) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(n_seeds, 3_000)) + effect, rng.normal(size=(n_seeds, 3_000))
    if is_paired:
        y = np.zeros_like(y)
    found = np.mean(permutation_p(x, y, is_paired) <= ALPHA)
    assert power(effect, n_seeds, n_seeds, is_paired) == pytest.approx(found, abs=tolerance)


@pytest.mark.parametrize("is_paired", [False, True])
@pytest.mark.parametrize("effect", [0.3, 1.0, 3.0])
def test_more_seeds_find_more(effect: float, is_paired: bool) -> None:
    powers = [power(effect, n, n, is_paired) for n in (3, 4, 5, 8, 12, 20, 50, 250, 1_000)]
    assert powers == sorted(powers)
    assert powers[-1] == pytest.approx(1.0, abs=1e-5)
    larger = [power(2 * effect, n, n, is_paired) for n in (4, 8, 20)]
    assert all(a >= b for a, b in zip(larger, powers[1::2], strict=False))


@pytest.mark.parametrize("is_paired", [False, True])
@pytest.mark.parametrize("effect", [0.2, 0.7, 1.5])
def test_with_the_seeds_needed_the_power_is_reached_and_with_one_less_not(
    effect: float, is_paired: bool
) -> None:
    n_seeds = seeds_needed(effect, is_paired)
    assert n_seeds is not None
    assert power(effect, n_seeds, n_seeds, is_paired) >= TARGET
    assert power(effect, n_seeds - 1, n_seeds - 1, is_paired) < TARGET


def test_the_seeds_needed_are_those_of_the_textbook() -> None:
    assert seeds_needed(0.5) == 64  # Cohen (1988)
    assert seeds_needed(-1.0) == 17
    assert seeds_needed(0.1) is None  # 1,571
    assert seeds_needed(0.0) is None


def test_what_has_no_effect_size_has_no_power() -> None:
    assert math.isnan(power(math.nan, 5, 5))
    assert seeds_needed(math.nan) is None
