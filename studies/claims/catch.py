"""Catch: a ball falls, and a paddle has to be below it in the end; seen as an image."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

__all__ = ["SIDE", "Catch"]

SIDE = 8  # pixels
_LEFT, _RIGHT = 0, 2


class Catch(gym.Env):
    """A ball falls from the top row, in a column that is drawn, one row a step.

    *Observation*: a grey image of 8 by 8 pixels, white where the ball and the paddle are.
    *Action*: move the paddle, which starts in a column that is drawn, to the left (0), not (1) or
    to the right (2). *Reward*: in the bottom row, after 7 steps, 1 if the ball is caught and -1 if
    it is not; otherwise 0.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A ball in the top row, and the paddle in the bottom row."""
        super().reset(seed=seed)
        self._row = 0
        self._column, self._paddle = self.np_random.integers(SIDE, size=2)
        return self._image(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the paddle, then the ball."""
        moved = self._paddle + (action == _RIGHT) - (action == _LEFT)
        self._paddle = min(max(moved, 0), SIDE - 1)
        self._row += 1
        is_over = self._row == SIDE - 1
        reward = (1.0 if self._paddle == self._column else -1.0) if is_over else 0.0
        return self._image(), reward, is_over, False, {}

    def _image(self) -> np.ndarray:
        image = np.zeros((SIDE, SIDE, 1), np.uint8)
        image[self._row, self._column] = image[-1, self._paddle] = 255
        return image


gym.register("Catch-v0", entry_point="studies.claims.catch:Catch")
