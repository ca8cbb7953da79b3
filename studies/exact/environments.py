"""The exact problems as Gymnasium environments, so that what samples learn can be laid over it.

Discounting comes in two ways. The usual one is the algorithm's: it weights rewards by gamma^t, but
counts every visited state alike, which the exact gradient does not. With ``ends`` the episode ends
after each step with probability 1 - gamma instead. Then the expected sum of rewards, undiscounted,
is eta, and a sampled state has the distribution d: an algorithm with a discount factor of 1
estimates the very gradient and Fisher information of :mod:`studies.exact`.
"""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from studies.exact.lqr import Lqr
from studies.exact.mdp import Mdp

__all__ = ["LqrEnv", "MdpEnv"]

_Options = dict[str, Any] | None


class MdpEnv(gym.Env[np.ndarray, np.int64]):
    """A finite decision process.

    Observations are one-hot states, float32, (S,); actions are discrete. So a policy that is linear
    in its observations is a tabular one.

    :param mdp: the process; of its gamma an environment knows nothing, unless ``ends``
    :param max_steps: number of steps after which an episode is truncated
    :param ends: whether an episode ends after each step with probability ``1 - gamma``
    """

    def __init__(self, mdp: Mdp, max_steps: int, ends: bool = False) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (mdp.n_states,), np.float32)
        self.action_space = spaces.Discrete(mdp.n_actions)
        self._mdp, self._max_steps = mdp, max_steps
        self._one_hot = np.eye(mdp.n_states, dtype=np.float32)
        # The first entry above a uniform number is a draw; choice() would take ten times as long.
        self._starts = mdp.start.cumsum()
        self._following = mdp.transitions.cumsum(axis=2)
        self._ending = 1 - mdp.gamma if ends else 0.0
        self._state, self._steps = 0, 0

    def reset(
        self, *, seed: int | None = None, options: _Options = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in a state drawn from mu; see :meth:`gymnasium.Env.reset`.

        :param seed: seeds the random numbers; None: they go on
        :param options: are not used
        :return: the observation, (S,), and an empty info
        """
        super().reset(seed=seed)
        self._state, self._steps = self._draw(self._starts), 0
        return self._one_hot[self._state].copy(), {}

    def step(
        self, action: np.int64
    ) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action; see :meth:`gymnasium.Env.step`.

        :param action: from 0 to A - 1
        """
        reward = float(self._mdp.rewards[self._state, action])
        self._state = self._draw(self._following[self._state, action])
        self._steps += 1
        ended = bool(self.np_random.random() < self._ending)
        observation = self._one_hot[self._state].copy()
        return observation, reward, ended, self._steps >= self._max_steps, {}

    def _draw(self, cumulated: np.ndarray) -> int:
        """An index, by probabilities that have been added up."""
        drawn = int(cumulated.searchsorted(self.np_random.random(), side="right"))
        return min(drawn, len(cumulated) - 1)  # the last sum may be a rounding error below 1


class LqrEnv(gym.Env[np.ndarray, np.ndarray]):
    """The linear-quadratic regulator, which starts at N(0, start).

    Observations are states, float32, (1,), as are actions.

    :param lqr: the regulator; of its gamma an environment knows nothing, unless ``ends``
    :param max_steps: number of steps after which an episode is truncated
    :param ends: whether an episode ends after each step with probability ``1 - gamma``
    :param largest: the largest absolute value of an action, to which it is clipped; the exact
        formulas know no such bound, so it should lie beyond what a policy does
    """

    def __init__(self, lqr: Lqr, max_steps: int, ends: bool = False, largest: float = 20.0) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-largest, largest, (1,), np.float32)
        self._lqr, self._max_steps, self._largest = lqr, max_steps, largest
        self._ending = 1 - lqr.gamma if ends else 0.0
        self._x, self._steps = 0.0, 0

    def reset(
        self, *, seed: int | None = None, options: _Options = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see :meth:`gymnasium.Env.reset`.

        :param seed: seeds the random numbers; None: they go on
        :param options: are not used
        :return: the observation, (1,), and an empty info
        """
        super().reset(seed=seed)
        self._x, self._steps = float(self.np_random.normal(0.0, self._lqr.start**0.5)), 0
        return self._observation(), {}

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action; see :meth:`gymnasium.Env.step`.

        :param action: u, (1,)
        """
        lqr, u = self._lqr, min(max(float(action[0]), -self._largest), self._largest)
        reward = -(lqr.q * self._x**2 + lqr.r * u**2)
        self._x = lqr.a * self._x + lqr.b * u + float(self.np_random.normal(0.0, lqr.noise))
        self._steps += 1
        ended = bool(self.np_random.random() < self._ending)
        return self._observation(), reward, ended, self._steps >= self._max_steps, {}

    def _observation(self) -> np.ndarray:
        return np.array([self._x], dtype=np.float32)
