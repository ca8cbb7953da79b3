"""The lean vectorised environment returns what SB3's returns."""

import copy

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_natural.environments.vec_env import LeanDummyVecEnv
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, SpacesEnv


def same(left, right):
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        return all(same(left[key], right[key]) for key in left if key != "t")
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return left == right


@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
def test_returns_what_sb3s_returns(observations):
    pair = (OBSERVATION_SPACES[observations], ACTION_SPACES["gaussian"])
    lean, theirs = (
        make_vec_env(lambda: SpacesEnv(*copy.deepcopy(pair)), 3, seed=0, vec_env_cls=cls)
        for cls in (LeanDummyVecEnv, DummyVecEnv)
    )
    assert same(lean.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        assert same(lean.step(actions), theirs.step(actions))
    assert same(lean.reset_infos, theirs.reset_infos)


class Reusing(SpacesEnv):
    """Returns the same arrays and the same info at every step."""

    def __init__(self):
        super().__init__(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
        self.array = np.zeros(2, np.float32)
        self.info = {"nested": {"step": 0}, "step": 0}

    def reset(self, **kwargs):
        return self.array, {}

    def step(self, action):
        self.array += 1
        self.info["step"] += 1
        self.info["nested"]["step"] += 1
        return self.array, 0.0, self.info["step"] % 3 == 0, False, self.info


def test_what_was_returned_does_not_change_later():
    venv = LeanDummyVecEnv([Reusing])
    venv.reset()
    steps = [venv.step(np.array([0])) for _ in range(4)]
    for index, (observation, rewards, dones, infos) in enumerate(steps, start=1):
        np.testing.assert_array_equal(observation, [[index, index]])
        assert rewards.shape == dones.shape == (1,)
        assert infos[0]["step"] == infos[0]["nested"]["step"] == index
    np.testing.assert_array_equal(steps[2][3][0]["terminal_observation"], [3, 3])
