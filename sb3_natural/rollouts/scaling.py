"""The scale of returns.

Dividing rewards by it makes delta, the entropy bonus, the critic's damping and its loss comparable
between environments.
"""

import math
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

__all__ = ["NotedRewards", "ReturnScale"]


class ReturnScale:
    """Standard deviation of discounted returns, estimated as by ``VecNormalize``.

    The estimate of a rollout includes the rollout's own rewards. A replay buffer holds rewards as
    they were, and they are divided when they are used; it thus stays valid while the estimate
    changes.
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
        goes_on = ~dones
        decay = self._gamma * goes_on
        returns = rewards.astype(np.float64)
        returns[0] += self._gamma * self._returns
        for before, now, factor in zip(returns[:-1], returns[1:], decay[:-1], strict=True):
            now += factor * before
        self._returns = returns[-1] * goes_on[-1]
        self._moments.update(returns.reshape(-1))

    def normalize(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Add the rewards of a rollout, then divide them by the standard deviation, in place.

        :param rewards: as for :meth:`update`
        :param dones: as for :meth:`update`
        """
        self.update(rewards, dones)
        np.divide(rewards, self.std, out=rewards, dtype=np.float64, casting="same_kind")


class NotedRewards(VecEnvWrapper):
    """Remembers the rewards and ends of episodes of one rollout that SB3's own loop collects.

    :param venv: the environments
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self._rewards: list[np.ndarray] = []
        self._dones: list[np.ndarray] = []

    def reset(self) -> VecEnvObs:
        """Reset the environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step, and remember it."""
        observations, rewards, dones, infos = self.venv.step_wait()
        # Copies: SB3 adds bootstrap values to the array, and environments may reuse it.
        self._rewards.append(np.array(rewards, dtype=np.float32))
        self._dones.append(np.array(dones, dtype=bool))
        return observations, rewards, dones, infos

    def normalize(self, buffer: RolloutBuffer, scale: ReturnScale) -> None:
        """Replace the rewards in the buffer by normalised ones; bootstrap values stay as they are.

        :param buffer: of the whole rollout
        :param scale: gets the rewards, too
        """
        rewards = np.stack(self._rewards)
        bootstrapped = buffer.rewards - rewards
        scale.normalize(rewards, np.stack(self._dones))
        buffer.rewards[...] = rewards + bootstrapped
