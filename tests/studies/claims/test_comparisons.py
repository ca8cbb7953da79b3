"""How runs are compared: when they reach a return, and by how much they differ."""

import numpy as np
import pandas as pd
import pytest

from studies.claims.claim import Verdict
from studies.claims.contrasts import difference, written
from studies.claims.convergence import first_at_least
from studies.claims.costs import CLAIM as COSTS


def test_the_first_that_is_no_lower_counts():
    steps = np.array([0, 10, 20, 30])
    assert first_at_least(steps, np.array([1.0, 5.0, 2.0, 9.0]), 5.0) == 10
    assert np.isnan(first_at_least(steps, np.array([1.0, 4.9, 2.0, 3.0]), 5.0))


def test_a_difference_has_the_interval_of_a_bootstrap():
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 20), rng.normal(0, 2, 15)
    resampled = [rng.choice(x, 20).mean() - rng.choice(y, 15).mean() for _ in range(20_000)]
    found = difference(x, y)
    assert found.value == pytest.approx(x.mean() - y.mean())
    np.testing.assert_allclose(
        (found.low, found.high), np.quantile(resampled, (0.025, 0.975)), atol=0.05
    )
    assert difference(x + 10, y).is_positive
    assert not difference(x[:1] + 10, y).is_positive, "one seed allows no claim"


def test_an_interval_is_written_where_there_is_one():
    assert written(difference([3.0], [1.0])) == "2"
    assert written(difference([3.0] * 3, [1.0] * 3), ".1f") == "2.0 [2.0, 2.0]"


def costs(**seconds):
    rows = [
        ("CartPole-v1", method, seed, 1000 * each, each, 50_000, 100.0)
        for method, needed in seconds.items()
        for seed, each in enumerate(needed)
    ]
    columns = ["env_id", "method", "seed", "steps", "seconds", "all steps", "all seconds"]
    return pd.DataFrame(rows, columns=columns)


def test_a_run_that_never_gets_there_is_behind_one_that_does():
    never = [np.nan] * 3
    sooner = costs(NPG=never, TRPO=never, ACKTR=[5.0, 6.0, 7.0], PPO=[5.0, 6.0, 7.0])
    assert COSTS.judge(sooner).verdict == Verdict.HOLDS
    level = costs(NPG=never, TRPO=never, ACKTR=never, PPO=never)
    finding = COSTS.judge(level)
    assert finding.verdict == Verdict.FAILS
    assert "PPO in 0 of 3 runs only" in finding.measured
