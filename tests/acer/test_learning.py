"""ACER learns: several seeds of real tasks, a minute or so each (suite ``classic``)."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from benchmarks.results import load_evaluations
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from benchmarks.sweep import sweep
from sb3_natural import ACER


def final_returns(env_id, n_seeds, out):
    """For each seed the mean of the last two evaluations."""
    specs = plan(load_suite("classic"), ["acer"], [env_id], range(n_seeds))
    result = sweep(specs, out, jobs=1, command="pytest", show_progress=False)
    assert not result.failed
    by_seed = load_evaluations(out).sort_values("timesteps").groupby("seed")["return_mean"]
    return by_seed.apply(lambda returns: returns.tail(2).mean()).to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "target"),
    [
        ("CartPole-v1", 490),
        ("Acrobot-v1", -82),
        ("MountainCar-v0", -115),
        ("Pendulum-v1", -200),
    ],
)
def test_tuned_hyperparameters_reach_their_targets(env_id, target, tmp_path):
    final = final_returns(env_id, 3, tmp_path)
    assert len(final) == 3
    assert np.mean(final) >= target, final


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_defaults_solve_cartpole_whatever_its_rewards_are_worth(scale):
    returns = []
    for seed in range(3):
        env = make_vec_env(
            "CartPole-v1",
            wrapper_class=gym.wrappers.TransformReward,
            wrapper_kwargs=dict(func=lambda reward: scale * reward),
        )
        model = ACER("MlpPolicy", env, seed=seed, device="cpu").learn(30_000)
        returns.append(evaluate_policy(model, make_vec_env("CartPole-v1", seed=9), 10)[0])
    assert np.mean(returns) >= 400, returns
