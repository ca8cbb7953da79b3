"""The returns that the critic is fitted to have a lambda of their own."""

import numpy as np
import pytest
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import configure

from sb3_natural import NPG
from sb3_natural.rollouts.returns import advantages_and_returns


def buffer_of(path=None, env="Pendulum-v1", **arguments):
    """A full rollout of more than one episode, the same for the same seed."""
    model = NPG("MlpPolicy", env, n_steps=500, seed=0, device="cpu", **arguments)
    model.rollout_path = path
    _, callback = model._setup_learn(1000)
    model.set_logger(configure(None, []))
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    last, _ = model.policy.obs_to_tensor(model._last_obs)
    last_values = model.policy.predict_values(last).detach().numpy().reshape(-1)
    return model.rollout_buffer, last_values, model._last_episode_starts


@pytest.mark.parametrize("path", [None, "sb3"])
@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("critic_lambda", [0.5, 1.0, None])
def test_advantages_are_of_gae_lambda_and_returns_of_the_critics(path, env, critic_lambda):
    arguments = dict(gamma=0.9, gae_lambda=0.7, critic_gae_lambda=critic_lambda)
    buffer, last_values, dones = buffer_of(path, env, **arguments)
    given = (buffer.rewards, buffer.values, buffer.episode_starts, last_values, dones, 0.9)
    advantages, returns = advantages_and_returns(*given, 0.7)
    if critic_lambda is not None:
        _, returns = advantages_and_returns(*given, critic_lambda)
    np.testing.assert_allclose(buffer.advantages, advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(buffer.returns, returns, rtol=1e-4, atol=1e-5)


def test_a_buffer_with_advantages_of_its_own_keeps_its_returns():
    class Own(RolloutBuffer):
        def compute_returns_and_advantage(self, last_values, dones):
            super().compute_returns_and_advantage(last_values, dones)
            self.returns[...] = 7.0

    buffer, _, _ = buffer_of(rollout_buffer_class=Own, critic_gae_lambda=1.0)
    assert (buffer.returns == 7.0).all()
