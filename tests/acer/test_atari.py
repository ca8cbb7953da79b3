"""ACER from pixels, in a game of ale-py's."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_natural import ACER


def test_trains_on_an_atari_game():
    gym.register_envs(pytest.importorskip("ale_py"))
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=2, seed=0), n_stack=4)
    model = ACER("CnnPolicy", env, n_steps=10, buffer_size=200, replay_start=20, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(100)
    after = model.policy.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    for part in ("features_extractor.cnn", "action_net", "value_net", "average.0.cnn"):
        assert any(name.startswith(part) for name in moved), part
    assert model.logger.name_to_value["train/replay_age"] > 0
    assert model.replay_buffer._observations.dtype == np.uint8
    assert model.replay_buffer._observations.nbytes == (100 + 1) * 2 * 4 * 84 * 84
    assert model.predict(env.reset())[0].shape == (2,)
