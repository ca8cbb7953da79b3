"""The scale of returns.

Dividing by it makes delta, the entropy bonus and the critic's loss comparable between environments.
"""

import math
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

__all__ = ["ReturnScale"]


class ReturnScale:
    """Standard deviation of discounted returns, estimated as by ``VecNormalize``.

    Rewards are divided by it when they are used, not when they are stored, so that the replay
    buffer stays valid while the estimate changes.
    """

    def __init__(self) -> None:
        self._gamma = 1.0
        self._returns = np.zeros(0)
        # Without SB3's prior, which would outweigh small returns.
        self._moments = RunningMeanStd(epsilon=0.0, shape=())

    @property
    def std(self) -> float:
        """The current estimate; 1 as long as all rewards have been zero."""
        std = math.sqrt(float(self._moments.var))
        return std if std > 0 and self._moments.count > 0 else 1.0

    def setup(self, gamma: float, n_envs: int) -> None:
        """Set discount factor and number of environments; a new number means new episodes.

        :param gamma: discount factor
        :param n_envs: number of environments
        """
        self._gamma = gamma
        if len(self._returns) != n_envs:
            self._returns = np.zeros(n_envs)

    def to_plain(self) -> dict[str, Any]:
        """All numbers, as values that JSON can hold."""
        moments = {name: float(getattr(self._moments, name)) for name in ("mean", "var", "count")}
        return {"gamma": self._gamma, "returns": self._returns.tolist(), **moments}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "ReturnScale":
        """The inverse of :meth:`to_plain`.

        :raises ValueError: ``plain`` is not a result of :meth:`to_plain`
        """
        try:
            gamma, mean, var, count = (float(plain[k]) for k in ("gamma", "mean", "var", "count"))
            returns = np.array(plain["returns"], dtype=float)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the scale of returns is incomplete: {error}") from error
        finite = np.isfinite([gamma, mean, var, count]).all() and np.isfinite(returns).all()
        if not finite or returns.ndim != 1 or var < 0 or count < 0:
            raise ValueError("the scale of returns is invalid: not finite, or negative")
        scale = cls()
        scale._gamma, scale._returns = gamma, returns
        scale._moments.mean, scale._moments.var = np.array(mean), np.array(var)
        scale._moments.count = count
        return scale

    def end_episodes(self, ended: np.ndarray) -> None:
        """Note which environments were reset from outside, (n_envs,)."""
        self._returns = self._returns * ~ended

    def update(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Add the rewards of a rollout.

        :param rewards: (n_steps, n_envs)
        :param dones: whether an episode ended at the step, (n_steps, n_envs)
        """
        returns = np.empty(rewards.shape)
        running = self._returns
        for t, reward in enumerate(rewards):
            running = self._gamma * running + reward
            returns[t] = running
            running = running * ~dones[t]
        self._returns = running
        self._moments.update(returns.reshape(-1))
