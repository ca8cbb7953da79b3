"""NPG learns: several seeds of real tasks, minutes each (suite ``learning``)."""

import numpy as np
import pytest

from benchmarks.results import load_evaluations
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from benchmarks.sweep import sweep


def best_evaluations(env_id, n_seeds, out):
    """For each seed the highest of the evaluations within the suite's budget."""
    specs = plan(load_suite("learning"), ["npg"], [env_id], range(n_seeds))
    result = sweep(specs, out, jobs=1, command="pytest", show_progress=False)
    assert not result.failed
    return load_evaluations(out).groupby("seed")["return_mean"].max().to_numpy()


@pytest.mark.slow
def test_defaults_solve_cartpole_with_every_seed(tmp_path):
    best = best_evaluations("CartPole-v1", 5, tmp_path)
    assert len(best) == 5
    assert (best >= 475).all(), best


@pytest.mark.slow
@pytest.mark.parametrize(("env_id", "target"), [("HalfCheetah-v5", 4_500), ("Hopper-v5", 2_800)])
def test_defaults_reach_their_targets(env_id, target, tmp_path):
    best = best_evaluations(env_id, 3, tmp_path)
    assert len(best) == 3
    assert np.mean(best) >= target, best
