"""From the environments into the replay buffer."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor

from sb3_natural.acer.buffers import SegmentBuffer
from sb3_natural.common.actors import Actor
from sb3_natural.common.deferred import Deferred
from sb3_natural.common.rollouts import FastRollouts, Recorder

__all__ = ["SegmentRecorder"]


class SegmentRecorder(Recorder):
    """Writes the steps of a rollout into a replay buffer.

    With ``VecNormalize`` it stores what the environments gave, before normalisation: statistics
    move on while data lies in the buffer. Of an episode's last observation ``VecNormalize`` hands
    on only the normalised form; undoing that is exact unless it was clipped.

    :param algorithm: whose rollout it is
    :param buffer: where to
    :param actor: what picks the actions
    :param normalisation: what the observations have gone through, if it is to be undone
    """

    def __init__(
        self,
        algorithm: FastRollouts,
        buffer: SegmentBuffer,
        actor: Actor,
        normalisation: VecNormalize | None,
    ) -> None:
        super().__init__(algorithm)
        self._buffer = buffer
        self._actor = actor
        self._normalisation = normalisation
        last_observations: Any = algorithm._last_obs
        if normalisation is not None:
            last_observations = normalisation.get_original_obs()
        self.cut_off = buffer.resume(last_observations)

    def add(
        self,
        observations: Any,
        actions: np.ndarray,
        rewards: np.ndarray,
        episode_starts: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
        new_observations: Any,
    ) -> None:
        """Add the step to the buffer, with the statistics of the policy that acted."""
        if self._normalisation is not None:
            new_observations = self._normalisation.get_original_obs()
            rewards = self._normalisation.get_original_reward()
        cut_off = self._cut_off(dones, infos) if dones.any() else {}
        statistics = self._actor.statistics()
        self._buffer.add(actions, rewards, statistics, new_observations, dones, cut_off)

    def _cut_off(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> dict[int, Any]:
        """The true last observations of the episodes that a time limit ended, by environment."""
        last = {}
        for index in np.flatnonzero(dones):
            observation = infos[index].get("terminal_observation")
            if observation is not None and infos[index].get("TimeLimit.truncated", False):
                if self._normalisation is not None:
                    observation = self._normalisation.unnormalize_obs(observation)
                last[int(index)] = observation
        return last

    def stop(self, *step: Any) -> None:
        """Add the last step too, and go on from where it led: a gap would be replayed."""
        self.add(*step)
        *_, dones, _, new_observations = step
        self._algorithm._last_obs = new_observations
        self._algorithm._last_episode_starts = dones

    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """The values, when they are looked at."""
        policy = self._algorithm.policy
        values: Any = Deferred(
            lambda: policy.predict_values(policy.obs_to_tensor(last_observations)[0])  # type: ignore[arg-type]
        )
        return values
