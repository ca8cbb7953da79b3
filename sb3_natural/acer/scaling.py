"""The scale of returns, so that delta, the entropy bonus and the critic's loss mean the same in
every environment."""

import math

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

__all__ = ["ReturnScale"]


class ReturnScale:
    """Standard deviation of discounted returns, as ``VecNormalize`` estimates it.

    Rewards are divided by it when they are used, not when they are stored, so that what lies in
    the replay buffer stays right while the estimate moves.

    :param gamma: discount factor
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._returns = np.zeros(0)
        self._moments = RunningMeanStd(shape=())

    @property
    def std(self) -> float:
        """The current estimate; 1 while nothing but zeros has been seen."""
        std = math.sqrt(float(self._moments.var))
        return std if std > 0 else 1.0

    def set_n_envs(self, n_envs: int) -> None:
        """Say how many environments there are; with another number than before, all start anew."""
        if len(self._returns) != n_envs:
            self._returns = np.zeros(n_envs)

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
