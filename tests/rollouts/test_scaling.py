"""The running deviation of returns: that of ``VecNormalize``, without its prior."""

import math

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_natural.rollouts.scaling import ReturnScale
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv

GAMMA = 0.9


class Logged(VecNormalize):
    """Remembers the rewards that it normalised."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def step_wait(self):
        result = super().step_wait()
        self.seen.append((self.get_original_reward(), result[2]))
        return result


def test_return_scale_is_that_of_vec_normalize():
    venv = make_vec_env(
        lambda: SpacesEnv(OBSERVATION_SPACES["mlp"], ACTION_SPACES["categorical"]),
        n_envs=3,
        seed=0,
    )
    normalised = Logged(venv, gamma=GAMMA)
    normalised.reset()
    scale = ReturnScale()
    scale.setup(GAMMA, 3)
    normalised.ret_rms.count = scale._moments.count  # VecNormalize's has a little prior
    rng = np.random.default_rng(0)
    for n_steps in (1, 7, 20, 50):
        for _ in range(n_steps):
            normalised.step(rng.integers(3, size=3))
        rewards, dones = map(np.stack, zip(*normalised.seen[-n_steps:], strict=True))
        assert dones.any() or n_steps < 50
        scale.update(rewards, dones)
        assert scale.std == pytest.approx(math.sqrt(normalised.ret_rms.var), rel=1e-9)


def rollout(rng, n_steps=30, n_envs=2):
    rewards = rng.normal(5, 2, (n_steps, n_envs)).astype(np.float32)
    return rewards, rng.random((n_steps, n_envs)) < 0.2


def test_rewards_are_divided_by_an_estimate_that_includes_them():
    rng = np.random.default_rng(0)
    scale, other = ReturnScale(), ReturnScale()
    for each in (scale, other):
        each.setup(GAMMA, 2)
    for _ in range(3):
        rewards, dones = rollout(rng)
        other.update(rewards, dones)
        expected = rewards / other.std
        scale.normalize(rewards, dones)
        assert rewards.dtype == np.float32
        np.testing.assert_allclose(rewards, expected, 1e-6)


def test_what_lies_between_two_rollouts_counts():
    """A new discount factor, and environments that were reset from outside."""
    rng = np.random.default_rng(0)
    scale = ReturnScale()
    seen, running = [], np.zeros(2)
    for gamma, ended in ((0.9, [False, False]), (0.5, [True, False]), (0.99, [False, False])):
        rewards, dones = rollout(rng)
        scale.setup(gamma, 2)
        scale.end_episodes(np.array(ended))
        scale.update(rewards, dones)
        running = running * ~np.array(ended)
        for reward, done in zip(rewards, dones, strict=True):
            running = gamma * running + reward
            seen.append(running)
            running = running * ~done
        assert scale.std == pytest.approx(np.std(seen), rel=1e-9)


def test_without_rewards_nothing_is_scaled():
    scale = ReturnScale()
    scale.setup(GAMMA, 2)
    rewards = np.zeros((5, 2), dtype=np.float32)
    scale.normalize(rewards, np.zeros((5, 2), dtype=bool))
    assert scale.std == 1.0
    assert not rewards.any()


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_rewards_of_any_size_are_scaled(factor):
    rng = np.random.default_rng(0)
    rewards, dones = rollout(rng)
    scaled = (rewards * factor).astype(np.float32)
    for array in (rewards, scaled):
        scale = ReturnScale()
        scale.setup(GAMMA, 2)
        scale.normalize(array, dones)
    np.testing.assert_allclose(scaled, rewards, 1e-5)
