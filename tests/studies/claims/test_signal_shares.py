"""How much of a direction is signal."""

import numpy as np
import pytest

from studies.claims.signal_shares import share_of_signal


def forms_of(rng, signal, deviation, n):
    directions = signal + rng.normal(0, deviation, size=(n, len(signal)))
    return directions @ directions.T


def test_the_share_is_that_of_signal_in_the_squared_norm():
    signal = np.array([3.0, 4.0])
    share = share_of_signal(forms_of(np.random.default_rng(0), signal, 5.0, 2_000))
    assert share == pytest.approx(25 / (25 + 2 * 25), abs=0.03)


def test_the_squared_norm_of_the_mean_is_without_bias():
    rng = np.random.default_rng(0)
    without_signal = [share_of_signal(forms_of(rng, np.zeros(50), 1.0, 5)) for _ in range(400)]
    # The mean of five directions itself has a fifth of a direction's squared norm.
    assert np.mean(without_signal) == pytest.approx(0.0, abs=0.01)


def test_the_share_of_equal_directions_is_one():
    assert share_of_signal(np.full((4, 4), 7.0)) == pytest.approx(1.0)


def test_the_share_is_the_corrected_squared_norm_of_the_mean():
    directions = np.random.default_rng(1).normal(1.0, 1.0, size=(6, 3))
    mean_square = (directions**2).sum(axis=1).mean()
    variance = directions.var(axis=0, ddof=1).sum()
    signal = (directions.mean(axis=0) ** 2).sum() - variance / 6
    assert share_of_signal(directions @ directions.T) == pytest.approx(signal / mean_square)
