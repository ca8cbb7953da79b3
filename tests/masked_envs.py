"""Environments with invalid actions, which count how often one is taken."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Keyboard(gym.Env):
    """In each of some states only a few of many keys can be pressed, and one of these pays 1.

    A key that cannot be pressed pays nothing, and is counted.

    :param n_keys: actions
    :param n_valid: how many are valid in each state
    :param time_limit: whether an episode of 20 steps is cut off instead of terminating
    """

    n_states = 6

    def __init__(self, n_keys: int = 40, n_valid: int = 4, time_limit: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.valid = np.zeros((self.n_states, n_keys), dtype=bool)
        self.paying = np.zeros(self.n_states, dtype=int)
        for state in range(self.n_states):
            keys = rng.choice(n_keys, size=n_valid, replace=False)
            self.valid[state, keys] = True
            self.paying[state] = keys[0]
        self.observation_space = spaces.Box(0, 1, (self.n_states,), np.float32)
        self.action_space: spaces.Space = spaces.Discrete(n_keys)
        self.time_limit = time_limit
        self.taken = self.invalid = 0

    def _look(self) -> np.ndarray:
        return np.eye(self.n_states, dtype=np.float32)[self.state]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t, self.state = 0, int(self.np_random.integers(self.n_states))
        return self._look(), {}

    def action_masks(self) -> np.ndarray:
        return self.valid[self.state]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.taken += 1
        self.invalid += not self.valid[self.state, action]
        reward = float(action == self.paying[self.state])
        self.t, self.state = self.t + 1, int(self.np_random.integers(self.n_states))
        over = self.t == 20
        return self._look(), reward, over and not self.time_limit, over and self.time_limit, {}


class Chords(gym.Env):
    """MultiDiscrete actions: what is valid in each dimension changes with every step, and is seen.

    The highest valid choice of each dimension pays.
    """

    sizes = (3, 5, 4)

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (sum(self.sizes),), np.float32)
        self.action_space = spaces.MultiDiscrete(self.sizes)
        self.taken = self.invalid = 0

    def _draw(self) -> np.ndarray:
        parts = []
        for size in self.sizes:
            part = self.np_random.random(size) < 0.4
            part[self.np_random.integers(size)] = True
            parts.append(part)
        self.parts = parts
        return np.concatenate(parts).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._draw(), {}

    def action_masks(self) -> np.ndarray:
        return np.concatenate(self.parts)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.taken += 1
        self.invalid += not all(part[a] for part, a in zip(self.parts, action, strict=True))
        best = [np.flatnonzero(part)[-1] for part in self.parts]
        reward = float(np.mean([a == b for a, b in zip(action, best, strict=True)]))
        self.t += 1
        return self._draw(), reward, self.t == 10, False, {}
