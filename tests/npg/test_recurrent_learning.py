"""What a memory is for: CartPole without its velocities."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_natural import NPG, RecurrentNPG

POSITIONS = [0, 2]  # of cart and pole; the others are velocities


class WithoutVelocities(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gym.spaces.Box(space.low[POSITIONS], space.high[POSITIONS])

    def observation(self, observation):
        return observation[POSITIONS]


def make_envs(n, seed):
    return make_vec_env(lambda: WithoutVelocities(gym.make("CartPole-v1")), n, seed=seed)


def final_return(seed, algorithm, policy, steps, **options):
    model = algorithm(policy, make_envs(8, seed), n_steps=128, seed=seed, device="cpu", **options)
    model.learn(steps)
    return evaluate_policy(model, make_envs(1, 1000 + seed), n_eval_episodes=20)[0]


@pytest.mark.slow
def test_a_memory_balances_a_pole_whose_velocity_is_hidden():
    memory = dict(policy_kwargs=dict(lstm_hidden_size=32))
    with_memory, without = [], []
    for seed in range(3):
        with_memory.append(final_return(seed, RecurrentNPG, "MlpLstmPolicy", 100_000, **memory))
        without.append(final_return(seed, NPG, "MlpPolicy", 100_000))
    print(f"with a memory {with_memory}, without {without}")
    assert np.min(with_memory) > 475
    assert np.max(without) < 100
