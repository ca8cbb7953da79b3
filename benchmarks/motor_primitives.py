"""A motor primitive that has to reach a target in time, and REINFORCE to compare with on it.

The setting of Peters & Schaal 2008 in small: episodes of a fixed length, and a policy that is
linear in the features of a dynamic movement primitive. Suite ``motor``::

    python -m benchmarks run motor --algos nac,benchmarks.motor_primitives:EpisodicReinforce ...
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import Tensor

from sb3_natural.nac import NAC
from sb3_natural.nac.episodes import Episodes

__all__ = ["EpisodicReinforce", "MotorPrimitive"]

N_STEPS, DT = 50, 0.02  # one second
N_BASIS = 10
TARGET = 1.0
STIFFNESS, DAMPING = 4.0, 4.0  # critically damped: left alone it covers 0.59 of the way
PHASE_DECAY = 3.0
EFFORT, POSITION, VELOCITY = 1e-3, 100.0, 1.0  # what they cost


class MotorPrimitive(gym.Env):
    """A point that a spring pulls towards the target, too slowly, and a force that helps.

    With the phase x, which falls from 1, the movement primitive is

        dx/dt = -3 x,   y'' = 4 (1 - y) - 4 y' + force.

    *Observation*: the features x b_i(x) / sum_j b_j(x) of ten Gaussian basis functions b_i along
    the phase, so that a linear policy is the forcing term of Ijspeert et al. 2002. *Action*: the
    force. *Reward*: -0.001 force^2 dt at each step, and at the end, after 50 steps of 0.02 s,
    -100 (y - 1)^2 - y'^2. The end is part of the task, not a time limit.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (N_BASIS,), np.float32)
        self.action_space = spaces.Box(-50.0, 50.0, (1,), np.float32)
        times = np.linspace(0.0, N_STEPS * DT, N_BASIS)
        self._centres = np.exp(-PHASE_DECAY * times)
        self._widths = 1.0 / np.gradient(self._centres) ** 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """At rest, at 0."""
        super().reset(seed=seed)
        self._step, self._position, self._velocity = 0, 0.0, 0.0
        return self._features(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply the force for 0.02 s."""
        force = float(action[0])
        spring = STIFFNESS * (TARGET - self._position) - DAMPING * self._velocity
        self._velocity += DT * (spring + force)
        self._position += DT * self._velocity
        self._step += 1
        over = self._step == N_STEPS
        reward = -EFFORT * force**2 * DT
        if over:
            missed = self._position - TARGET
            reward -= POSITION * missed**2 + VELOCITY * self._velocity**2
        return self._features(), reward, over, False, {}

    def _features(self) -> np.ndarray:
        phase = np.exp(-PHASE_DECAY * DT * self._step)
        basis = np.exp(-0.5 * self._widths * (phase - self._centres) ** 2)
        return (phase * basis / basis.sum()).astype(np.float32)


gym.register("MotorPrimitive-v0", entry_point="benchmarks.motor_primitives:MotorPrimitive")


class EpisodicReinforce(NAC):
    """NAC's episodic variant along the plain gradient: REINFORCE with the mean return as baseline.

    Episodes, critic and lengths of steps are the same.
    """

    def _episode_direction(self, episodes: Episodes) -> Tensor:
        """mean((return - mean return) sum of scores), (P,)."""
        centred = episodes.returns - episodes.returns.mean()
        return episodes.scores.T @ centred / len(episodes)
