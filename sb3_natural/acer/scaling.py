"""The scale of returns, so that delta, the entropy bonus and the critic's loss mean the same in
every environment."""

import math
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

__all__ = ["ReturnScale"]


class ReturnScale:
    """Standard deviation of discounted returns, as ``VecNormalize`` estimates it.

    Rewards are divided by it when they are used, not when they are stored, so that what lies in
    the replay buffer stays right while the estimate moves.

    """

    def __init__(self) -> None:
        self._gamma = 1.0
        self._returns = np.zeros(0)
        # Without SB3's prior, which outweighs small returns.
        self._moments = RunningMeanStd(epsilon=0.0, shape=())

    @property
    def std(self) -> float:
        """The current estimate; 1 while nothing but zeros has been seen."""
        std = math.sqrt(float(self._moments.var))
        return std if std > 0 and self._moments.count > 0 else 1.0

    def setup(self, gamma: float, n_envs: int) -> None:
        """Go on with these settings; with another number of environments all episodes are new.

        :param gamma: discount factor
        :param n_envs: number of environments
        """
        self._gamma = gamma
        if len(self._returns) != n_envs:
            self._returns = np.zeros(n_envs)

    def to_plain(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        moments = {name: float(getattr(self._moments, name)) for name in ("mean", "var", "count")}
        return {"gamma": self._gamma, "returns": self._returns.tolist(), **moments}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "ReturnScale":
        """The inverse of :meth:`to_plain`.

        :raises ValueError: it is none of its results
        """
        try:
            gamma, mean, var, count = (float(plain[k]) for k in ("gamma", "mean", "var", "count"))
            returns = np.array(plain["returns"], dtype=float)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the scale of returns is not complete: {error}") from error
        finite = np.isfinite([gamma, mean, var, count]).all() and np.isfinite(returns).all()
        if not finite or returns.ndim != 1 or var < 0 or count < 0:
            raise ValueError("the scale of returns is none: not finite, or negative")
        scale = cls()
        scale._gamma, scale._returns = gamma, returns
        scale._moments.mean, scale._moments.var = np.array(mean), np.array(var)
        scale._moments.count = count
        return scale

    def end_episodes(self, ended: np.ndarray) -> None:
        """Say that episodes were reset from outside, (n_envs,)."""
        self._returns = self._returns * ~ended

    def update(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Take in the rewards of a rollout.

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
