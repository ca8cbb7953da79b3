"""CartPole without its velocities, which a policy with a memory can work out."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

__all__ = ["Positions"]

_POSITIONS = [0, 2]  # of cart and pole; the others are their velocities


class Positions(gym.ObservationWrapper):
    """CartPole's position and angle alone."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        self.observation_space = spaces.Box(space.low[_POSITIONS], space.high[_POSITIONS])

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """Of shape (2,)."""
        return observation[_POSITIONS]
