"""Evaluation at fixed step counts, without disturbing the training."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from benchmarks.records import Evaluation, EvaluationRow
from sb3_natural.rollouts.masks import MaskedPredictions


class ScheduledEvaluation(BaseCallback):
    """Evaluates the policy at step 0, T/points, 2 T/points, ..., T.

    Each evaluation happens at the first environment step at or after its point, with the policy of
    the last update before that step. It draws nothing from the random generators of the training
    (actions are deterministic, and the environments have generators of their own), so the training
    is the same with and without it.

    An episode counts where it ends for the agent, unless the environment goes on, as a game does
    after the loss of a life. Returns and lengths are measured inside the wrappers, as in SB3's
    ``evaluate_policy``.

    :param eval_env: of :func:`benchmarks.environments.make_envs`, one environment for each episode,
        wrapped as the training environment is; its normalisation statistics are overwritten by
        those of the training, and not updated
    :param n_timesteps: T
    :param watch: called after each evaluation
    """

    def __init__(
        self,
        eval_env: VecEnv,
        n_timesteps: int,
        protocol: Evaluation,
        watch: Callable[[EvaluationRow], None] | None = None,
    ) -> None:
        super().__init__()
        self._watch = watch
        self.eval_env = eval_env
        self.protocol = protocol
        self.rows: list[EvaluationRow] = []
        self.seconds = 0.0
        self._points = [
            round(n_timesteps * i / protocol.points) for i in range(protocol.points + 1)
        ]

    @property
    def training_seconds(self) -> float:
        """Seconds since the training began, without the evaluations."""
        return time.perf_counter() - self._began - self.seconds

    def _on_training_start(self) -> None:
        # Wrapped as the algorithm wraps its own, with the channels of images first.
        self.eval_env = self.model._wrap_env(self.eval_env, monitor_wrapper=False)
        self._began = time.perf_counter()
        self._evaluate_what_is_due()

    def _on_step(self) -> bool:
        self._evaluate_what_is_due()
        return True

    def _evaluate_what_is_due(self) -> None:
        # Several can be due, since a step of the vectorised environment is n_envs steps.
        while len(self.rows) < len(self._points) and (
            self.num_timesteps >= self._points[len(self.rows)]
        ):
            self._evaluate(self._points[len(self.rows)])

    def _evaluate(self, point: int) -> None:
        training_seconds = self.training_seconds
        began = time.perf_counter()
        sync_envs_normalization(self.training_env, self.eval_env)
        # Before every evaluation: the episodes of all evaluations start from the same states.
        self.eval_env.seed(self.protocol.seed)
        returns, lengths = evaluate_policy(
            with_masks(self.model, self.eval_env),
            self.eval_env,
            n_eval_episodes=self.protocol.episodes,
            deterministic=True,
            callback=_report_ended,
            return_episode_rewards=True,
        )
        assert isinstance(lengths, list)
        # For TensorBoard; progress.csv keeps the columns that the algorithm gave it.
        self.logger.record("eval/return_mean", float(np.mean(returns)), exclude="csv")
        self.seconds += time.perf_counter() - began
        self.rows.append(
            EvaluationRow(
                timesteps=point,
                wall_seconds=round(training_seconds, 3),
                return_mean=float(np.mean(returns)),
                return_std=float(np.std(returns)),
                length_mean=float(np.mean(lengths)),
                episodes=len(lengths),
            )
        )
        if self._watch is not None:
            self._watch(self.rows[-1])


def with_masks(model: Any, env: VecEnv) -> Any:
    """The model, with the environment's action masks if it takes them and there are any."""
    return MaskedPredictions(model, env) if MaskedPredictions.apply_to(model, env) else model


def _report_ended(step: dict[str, Any], _: dict[str, Any]) -> None:
    """Report an episode that a wrapper has ended, since SB3 counts those that Monitor reports."""
    if step["done"] and "episode" not in step["info"] and step["is_monitor_wrapped"]:
        (ended,) = step["env"].env_method("take_ended", indices=[step["i"]])
        if ended is not None:
            step["info"]["episode"] = ended


def freeze(eval_env: VecEnv) -> VecEnv:
    """Keep an evaluation environment from updating its statistics and from scaling rewards."""
    if isinstance(eval_env, VecNormalize):
        eval_env.training = False
        eval_env.norm_reward = False
    return eval_env
