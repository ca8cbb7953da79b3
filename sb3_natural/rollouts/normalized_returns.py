"""Rollouts whose rewards are in units of the return's standard deviation."""

from typing import Any

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_natural.rollouts.actors import Actor
from sb3_natural.rollouts.collection import FastRollouts
from sb3_natural.rollouts.recorders import BufferRecorder, Recorder, compute_returns
from sb3_natural.rollouts.scaling import NotedRewards, ReturnScale

__all__ = ["NormalizedReturns"]


class NormalizedReturns(FastRollouts):
    """Mixin: divides the rewards of each rollout by the standard deviation of the return.

    :ivar normalize_returns: whether to do so
    :ivar critic_gae_lambda: lambda of the returns, if not the ``gae_lambda`` of the advantages
    """

    normalize_returns: bool
    critic_gae_lambda: float | None = None
    _return_scale: ReturnScale

    def _recorder(self, buffer: Any, actor: Actor) -> Recorder:
        return BufferRecorder(self, buffer, actor, self._scale_of_rollout(), self.critic_gae_lambda)

    def _collect_as_sb3(
        self, env: VecEnv, callback: BaseCallback, buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        scale = self._scale_of_rollout()
        noted = NotedRewards(env)
        if not super()._collect_as_sb3(noted, callback, buffer, n_rollout_steps):
            return False
        if scale is not None:
            noted.normalize(buffer, scale)
        last, _ = self.policy.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]
        with torch.no_grad():
            last_values = self.policy.predict_values(last)
        dones: Any = self._last_episode_starts
        compute_returns(buffer, last_values, dones, self.critic_gae_lambda)
        return True

    def _scale_of_rollout(self) -> ReturnScale | None:
        """The scale of returns, ready for the next rollout's rewards; None if it is not used."""
        if not self.normalize_returns:
            return None
        assert self._last_episode_starts is not None
        self._return_scale.setup(self.gamma, self.n_envs)
        self._return_scale.end_episodes(self._last_episode_starts.astype(bool))
        return self._return_scale
