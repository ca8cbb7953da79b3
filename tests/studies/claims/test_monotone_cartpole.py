"""Returns of CartPole's policies, and what is counted of them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from studies.claims.directions import prefer_one
from studies.claims.monotone_cartpole import _ratio, counted, episode_lengths


def test_returns_are_those_of_single_environments():
    policy = PPO("MlpPolicy", "CartPole-v1", device="cpu", seed=0).policy
    prefer_one(policy, 0.7)
    many = gym.make_vec("CartPole-v1", 500, vectorization_mode="vector_entry_point")
    state = torch.random.get_rng_state()
    lengths = episode_lengths(many, policy, seed=0)
    assert (torch.random.get_rng_state() == state).all()  # a training would go on as before
    single, singles = gym.make("CartPole-v1"), []
    for seed in range(300):
        observation, _ = single.reset(seed=seed)
        done = False
        singles.append(0)
        while not done:
            action, _ = policy.predict(observation)
            observation, _, ended, cut_off, _ = single.step(action.item())
            singles[-1] += 1
            done = ended or cut_off
    error = np.hypot(lengths.std() / 500**0.5, np.std(singles) / 300**0.5)
    assert abs(lengths.mean() - np.mean(singles)) < 4 * error


def test_updates_are_counted_by_two_standard_errors_of_the_difference():
    returns = np.array([20.0, 30.0, 31.0, 25.0, 25.0, 480.0, 300.0])
    errors = np.full(7, 1.0)
    kls = np.array([0.01, 0.02, 0.03, 0.0, 0.05, 0.06])
    found = counted(returns, errors, kls)
    # Up, undecided, down, no step, up, and one from where there is nothing left to gain.
    assert (found.raised, found.undecided, found.lowered, found.left_out) == (2, 1, 1, 2)
    assert (found.worst, found.last) == (6.0, 300.0)
    assert found.kl == pytest.approx(0.025)


def test_a_ratio_of_sums_lies_in_its_interval():
    share, low, high = _ratio(np.array([[1, 10], [0, 10], [3, 10], [1, 5], [0, 5]]))
    assert share == pytest.approx(5 / 40)
    assert 0 <= low < share < high <= 0.3
    assert np.isnan(_ratio(np.array([[0, 0], [0, 0]]))[0])
