"""Evaluation with frozen normalisation statistics."""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.evaluation import ScheduledEvaluation, freeze
from benchmarks.specs import Evaluation


class Snapshot(BaseCallback):
    """The policy and the statistics as they were when the training began."""

    policy: Any
    statistics: Any

    def _on_training_start(self) -> None:
        assert isinstance(self.training_env, VecNormalize)
        self.policy = copy.deepcopy(self.model.policy)
        self.statistics = copy.deepcopy(self.training_env.obs_rms)

    def _on_step(self) -> bool:
        return True


def test_evaluation_uses_the_statistics_of_the_training_and_raw_rewards() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu").learn(512)
    eval_env = freeze(VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=1)))
    assert isinstance(eval_env, VecNormalize)
    evaluation = ScheduledEvaluation(eval_env, 2, Evaluation(points=1, episodes=2, seed=40))
    snapshot = Snapshot()

    model.learn(2, callback=[evaluation, snapshot])

    def play(seed: int) -> float:
        single = gym.make("Pendulum-v1")
        observation, _ = single.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            scaled = (observation - snapshot.statistics.mean) / np.sqrt(
                snapshot.statistics.var + env.epsilon
            )
            clipped = np.clip(scaled, -env.clip_obs, env.clip_obs).astype(np.float32)
            action, _ = snapshot.policy.predict(clipped, deterministic=True)
            observation, reward, _, over, _ = single.step(action)
            total += float(reward)
        return total

    before, _ = evaluation.rows
    assert before.return_mean == pytest.approx(np.mean([play(40), play(41)]), rel=1e-4)
    assert before.length_mean == 200


def test_evaluation_does_not_update_the_statistics() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu")
    eval_env = freeze(VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=1)))
    assert isinstance(eval_env, VecNormalize)
    evaluation = ScheduledEvaluation(eval_env, 128, Evaluation(points=4, episodes=2, seed=40))

    model.learn(128, callback=evaluation)

    assert len(evaluation.rows) == 5
    # 64 steps and the reset of two environments; the statistics start with a count of 1e-4.
    assert env.obs_rms.count == pytest.approx(2 * 64 + 2 + 1e-4)
    assert eval_env.obs_rms.count == env.obs_rms.count
    assert np.array_equal(eval_env.obs_rms.mean, env.obs_rms.mean)


class Lives(gym.Wrapper):
    """Ends episodes every 30 steps, and goes on where the game was."""

    steps = 0
    is_over = True

    def reset(self, **arguments: Any) -> Any:
        return self.env.reset(**arguments) if self.is_over else (self.observation, {})

    def step(self, action: Any) -> Any:
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        self.is_over = truncated
        return self.observation, reward, terminated or self.steps % 30 == 0, truncated, info


def evaluate(wrapper: Callable[[gym.Env], gym.Env]) -> ScheduledEvaluation:
    env = make_vec_env("Pendulum-v1", n_envs=2, wrapper_class=wrapper)
    evaluation = ScheduledEvaluation(env, 2, Evaluation(points=1, episodes=2, seed=40))
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, seed=0, device="cpu")
    model.learn(2, callback=evaluation)
    return evaluation


def test_an_episode_goes_on_after_the_loss_of_a_life() -> None:
    assert [row.length_mean for row in evaluate(Lives).rows] == [200, 200]


def test_a_wrapper_that_ends_every_episode_before_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wrappers: .* use kwargs: {max_episode_steps: N}"):
        evaluate(lambda env: gym.wrappers.TimeLimit(env, 20))
