"""Evaluation with frozen normalisation statistics."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped, make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.environments import make_envs
from benchmarks.evaluation import ScheduledEvaluation, freeze
from benchmarks.records import Evaluation
from benchmarks.wrappers import WarningTimeLimit


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


class Doubled(gym.RewardWrapper):
    def reward(self, reward: Any) -> float:
        return 2.0 * float(reward)


class Lengths(BaseCallback):
    """The lengths of the training's episodes, as SB3's statistics have them."""

    def _on_training_start(self) -> None:
        self.lengths: list[int] = []

    def _on_step(self) -> bool:
        self.lengths += [info["episode"]["l"] for info in self.locals["infos"] if "episode" in info]
        return True


def evaluate(
    wrappers: list[Any], env_id: str = "Pendulum-v1", max_steps: int | None = None
) -> ScheduledEvaluation:
    """An untrained policy's evaluation, of two episodes."""
    env = make_envs(env_id, 2, 0, wrappers=wrappers, max_steps=max_steps)
    evaluation = ScheduledEvaluation(env, 2, Evaluation(points=1, episodes=2, seed=40))
    model = PPO("MlpPolicy", env_id, n_steps=64, batch_size=64, seed=0, device="cpu")
    model.learn(2, callback=evaluation)
    return evaluation


def test_an_episode_goes_on_after_the_loss_of_a_life() -> None:
    rows = evaluate([f"{__name__}.Lives"]).rows
    assert [row.length_mean for row in rows] == [200, 200]


def limit(n_steps: int) -> dict[str, Any]:
    return {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": n_steps}}


RESCALED = {"gymnasium.wrappers.RescaleAction": {"min_action": -2.0, "max_action": 2.0}}
DOUBLED = f"{__name__}.Doubled"


@pytest.mark.parametrize("wrappers", [[limit(20)], [RESCALED, limit(20)], [limit(20), DOUBLED]])
def test_an_episode_that_a_wrapper_ends_is_one_whatever_the_order(wrappers: list[Any]) -> None:
    """With the environment's own return: a wrapper may change the rewards."""
    row = evaluate(wrappers).rows[0]

    assert [row.length_mean, row.episodes] == [20, 2]
    single = gym.make("Pendulum-v1", max_episode_steps=20)
    policy = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu").policy
    returns = []
    for seed in (40, 41):
        observation, _ = single.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = policy.predict(observation, deterministic=True)
            observation, reward, _, over, _ = single.step(action)
            total += float(reward)
        returns.append(total)
    assert row.return_mean == pytest.approx(np.mean(returns), rel=1e-4)


def test_not_only_failures_are_counted_where_a_wrapper_ends_the_others() -> None:
    env_id, seeds = "CartPole-v1", range(40, 60)
    policy = PPO("MlpPolicy", env_id, seed=0, device="cpu").policy
    lengths = []
    for seed in seeds:
        single = gym.make(env_id)
        observation, _ = single.reset(seed=seed)
        over, length = False, 0
        while not over:
            action, _ = policy.predict(observation, deterministic=True)
            observation, _, terminated, truncated, _ = single.step(int(action))
            over, length = terminated or truncated, length + 1
        lengths.append(length)
    n_steps = 90
    assert min(lengths) < n_steps < max(lengths)

    env = make_envs(env_id, len(seeds), 0, wrappers=[limit(n_steps)])
    evaluation = ScheduledEvaluation(env, 1, Evaluation(1, len(seeds), seeds[0]))
    PPO("MlpPolicy", env_id, seed=0, device="cpu").learn(1, callback=evaluation)

    counted = np.minimum(lengths, n_steps)
    assert evaluation.rows[0].length_mean == pytest.approx(np.mean(counted))
    assert evaluation.rows[0].return_std == pytest.approx(np.std(counted))


def test_the_statistics_of_the_training_have_the_episodes_that_a_wrapper_ends() -> None:
    env = make_envs("CartPole-v1", 2, 0, wrappers=[limit(12)])
    lengths = Lengths()
    PPO("MlpPolicy", env, n_steps=256, batch_size=64, seed=0, device="cpu").learn(512, lengths)
    assert lengths.lengths.count(12) > 10
    assert min(lengths.lengths) < 12
    # All steps but those of the episodes that have not ended, or were not reported before the end.
    assert 512 - 2 * 2 * 12 <= sum(lengths.lengths) <= 512


def test_an_episode_that_never_ends_is_cut_and_said() -> None:
    with pytest.warns(UserWarning, match="max_steps: an episode was cut after 30 steps"):
        rows = evaluate([], "tests.benchmarks.envs:Endless-v0", max_steps=30).rows
    assert [row.length_mean for row in rows] == [30, 30]
    assert rows[0].return_mean == 30


def test_the_limit_is_no_layer_where_the_environment_has_a_lower_one() -> None:
    (env,) = make_envs("Pendulum-v1", 1, 0, max_steps=200).unwrapped.envs  # type: ignore[attr-defined]
    assert not is_wrapped(env, WarningTimeLimit)
