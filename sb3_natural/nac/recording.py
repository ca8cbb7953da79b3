"""Recording what the linear systems need of a rollout beyond the rollout buffer."""

from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor

from sb3_natural.observations import mapped, stacked
from sb3_natural.rollouts.actors import Actor
from sb3_natural.rollouts.recorders import BufferRecorder, Step

__all__ = ["TransitionRecorder", "Transitions"]


class Transitions(NamedTuple):
    """Rewards and ends of T steps of E environments, as the environments gave them."""

    rewards: np.ndarray
    """(T, E), without bootstrapped values"""
    dones: np.ndarray
    """Whether a step ended its episode, (T, E)"""
    last_observations: Any
    """What the last step led to, (E, ...)"""
    cut_off_at: tuple[np.ndarray, np.ndarray]
    """Steps and environments of the C episodes that a time limit ended, (C,) each"""
    cut_off: Any
    """Their last observations, (C, ...); None if there are none"""


class TransitionRecorder(BufferRecorder):
    """Fills a rollout buffer as for every algorithm, and gives the algorithm the transitions.

    :param algorithm: gets them as ``_transitions``, and is told of a rollout that is not finished
        by ``_lose_track()``
    :param buffer: where the steps go
    :param actor: picks the actions
    """

    def __init__(self, algorithm: Any, buffer: RolloutBuffer, actor: Actor) -> None:
        super().__init__(algorithm, buffer, actor)
        self._rewards: list[np.ndarray] = []
        self._dones: list[np.ndarray] = []

    def add(self, step: Step) -> None:
        """Store one step of all environments."""
        super().add(step)
        # Copies: environments may reuse the arrays.
        self._rewards.append(np.array(step.rewards, dtype=np.float64))
        self._dones.append(np.array(step.dones, dtype=bool))

    def stop(self, step: Step) -> None:
        """The steps are dropped, as in SB3: what comes next does not follow from the last ones."""
        super().stop(step)
        algorithm: Any = self._algorithm
        algorithm._lose_track()

    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """Hand over the transitions; see :meth:`Recorder.finish`."""
        last_values = super().finish(last_observations, dones)
        limits = self._time_limits
        where = np.array([(limit.step, limit.env_index) for limit in limits], dtype=int)
        algorithm: Any = self._algorithm
        algorithm._transitions = Transitions(
            np.stack(self._rewards),
            np.stack(self._dones),
            mapped(np.copy, last_observations),
            (where.reshape(-1, 2)[:, 0], where.reshape(-1, 2)[:, 1]),
            stacked([limit.observation for limit in limits]) if limits else None,
        )
        return last_values
