"""ACKTR learns."""

import pytest
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_natural import ACKTR, make_vec_env

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(3))
def test_cartpole(seed):
    env = make_vec_env("CartPole-v1", 8, seed=seed)
    model = ACKTR("MlpPolicy", env, seed=seed, device="cpu").learn(100_000)
    mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", 8, seed=1000), 20)
    assert mean == 500
