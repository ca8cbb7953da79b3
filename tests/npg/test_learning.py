"""NPG learns: several seeds of real tasks, minutes each."""

import numpy as np
import pytest

from benchmarks.results import load_evaluations
from benchmarks.specs import Evaluation, RunSpec, hyperparams_for
from benchmarks.sweep import sweep

PROTOCOL = Evaluation(points=20, episodes=10, seed=1_000_000)


def best_evaluations(algo, env_id, n_timesteps, hyperparams, n_seeds, out):
    """For each seed the highest of the evaluations within the budget, one run after the other."""
    specs = [
        RunSpec("learning", algo, env_id, seed, n_timesteps, hyperparams, PROTOCOL)
        for seed in range(n_seeds)
    ]
    result = sweep(specs, out, jobs=1, command="pytest", show_progress=False)
    assert not result.failed
    evaluations = load_evaluations(out)
    return evaluations.groupby("seed")["return_mean"].max().to_numpy()


@pytest.mark.slow
def test_defaults_solve_cartpole_with_every_seed(tmp_path):
    best = best_evaluations("npg", "CartPole-v1", 60_000, {"policy": "MlpPolicy"}, 5, tmp_path)
    assert (best >= 475).all(), best


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "n_timesteps", "target"),
    [("HalfCheetah-v5", 400_000, 4_500), ("Hopper-v5", 500_000, 2_800)],
)
def test_tuned_hyperparameters_reach_their_targets(env_id, n_timesteps, target, tmp_path):
    hyperparams = hyperparams_for("npg", env_id)
    hyperparams.pop("n_timesteps", None)
    best = best_evaluations("npg", env_id, n_timesteps, hyperparams, 3, tmp_path)
    assert np.mean(best) >= target, best
