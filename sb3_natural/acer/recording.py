"""Recording rollouts in the replay buffer."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor

from sb3_natural.acer.buffers import SegmentBuffer
from sb3_natural.rollouts.actors import Actor
from sb3_natural.rollouts.collection import FastRollouts
from sb3_natural.rollouts.deferred import Deferred
from sb3_natural.rollouts.recorders import Recorder, Step

__all__ = ["SegmentRecorder"]


class SegmentRecorder(Recorder):
    """Writes the steps of a rollout into a replay buffer.

    With ``VecNormalize`` it stores what the environments gave, before normalisation, because the
    statistics change while data is in the buffer. ``VecNormalize`` passes on an episode's last
    observation only in normalised form; undoing that is exact unless the observation was clipped.

    :param algorithm: the algorithm that collects the rollout
    :param buffer: where the steps go
    :param actor: picks the actions
    :param normalisation: the wrapper whose normalisation is to be undone, if any
    """

    def __init__(
        self,
        algorithm: FastRollouts,
        buffer: SegmentBuffer,
        actor: Actor,
        normalisation: VecNormalize | None,
    ) -> None:
        super().__init__(algorithm, actor)
        self._buffer = buffer
        self._normalisation = normalisation
        last_observations: Any = algorithm._last_obs
        if normalisation is not None:
            last_observations = normalisation.get_original_obs()
        self.cut_off = buffer.resume(last_observations)

    def begin(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> None:
        """Note the masks; the buffer has held the observations since the step that led to them."""
        if masks is not None:
            self._buffer.note_masks(masks)

    def add(self, step: Step) -> None:
        """Add the step to the buffer, with the statistics of the policy that acted."""
        rewards, new_observations = step.rewards, step.new_observations
        cut_off = step.cut_off() if step.dones.any() else {}
        if self._normalisation is not None:
            rewards = self._normalisation.get_original_reward()
            new_observations = self._normalisation.get_original_obs()
            undo = self._normalisation.unnormalize_obs
            cut_off = {index: undo(observation) for index, observation in cut_off.items()}
        statistics = self._actor.statistics()
        self._buffer.add(step.actions, rewards, statistics, new_observations, step.dones, cut_off)

    def stop(self, step: Step) -> None:
        """Add this step too, and go on from where it led: otherwise there would be a gap."""
        self.add(step)
        self._algorithm._last_obs = step.new_observations
        self._algorithm._last_episode_starts = step.dones

    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """Note the masks of the last observations; their values are computed when they are used."""
        algorithm: Any = self._algorithm
        if (masks := algorithm._action_masks(algorithm.env)) is not None:
            self._buffer.note_masks(masks)
        policy = algorithm.policy
        values: Any = Deferred(
            lambda: policy.predict_values(policy.obs_to_tensor(last_observations)[0])
        )
        return values
