"""The largest delta that still learns."""

import math

import numpy as np
import pytest

from studies.claims.stable_steps import largest

DELTAS = (0.1, 1.0, 10.0)


def test_the_largest_delta_is_the_last_whose_mean_is_half_of_the_best():
    rng = np.random.default_rng(0)
    for _ in range(50):
        returns = rng.uniform(0, 1, size=(3, 2, 3))
        best = max(returns[:, m, d].mean() for m in range(2) for d in range(3))
        for method, found in enumerate(largest(returns, DELTAS)):
            learnt = [d for d in range(3) if returns[:, method, d].mean() >= 0.5 * best]
            expected = math.log10(DELTAS[learnt[-1]]) if learnt else -1.5
            assert found == pytest.approx(expected)


def test_a_gap_between_deltas_that_learn_does_not_count():
    assert largest(np.array([[[1.0, 0.1, 0.9]]]), DELTAS) == pytest.approx([1.0])
