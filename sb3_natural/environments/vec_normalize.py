"""SB3's ``VecNormalize`` with less work at each step."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3.common.vec_env as sb3
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_natural.observations import mapped

__all__ = ["VecNormalize"]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_UPDATE, _UPDATE_FROM_MOMENTS = RunningMeanStd.update, RunningMeanStd.update_from_moments


class VecNormalize(sb3.VecNormalize):
    """SB3's ``VecNormalize``, bit for bit, for a fraction of the time.

    SB3's makes a deep copy of the observations at every step, and computes the mean and the
    variance of a batch of one. Files are those of SB3's class: each class loads what the other has
    saved.

    :param venv: the environments
    :param training: whether the statistics are updated
    :param norm_obs: whether observations are normalised
    :param norm_reward: whether rewards are divided by the standard deviation of the discounted
        return
    :param clip_obs: largest absolute value of a normalised observation
    :param clip_reward: largest absolute value of a normalised reward
    :param gamma: discount factor
    :param epsilon: added to variances before their root is taken
    :param norm_obs_keys: which parts of Dict observations are normalised; None: all
    :raises ValueError: a part that is to be normalised is not of a ``Box`` space
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Step the environments; update the statistics, and normalise.

        :return: observations and rewards, normalised; dones; infos, in which
            ``terminal_observation`` is normalised, too
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        self.old_obs = observations  # type: ignore[assignment]
        self.old_reward = rewards
        if self.training:
            self._update_observations(observations)
            self._update_reward(rewards)
        normalized = self.normalize_obs(observations)
        if dones.any():
            for index in np.flatnonzero(dones).tolist():
                if "terminal_observation" in infos[index]:
                    last = infos[index]["terminal_observation"]
                    infos[index]["terminal_observation"] = self.normalize_obs(last)
        rewards = self.normalize_reward(rewards)
        self.returns[dones] = 0
        return normalized, rewards, dones, infos

    def reset(self) -> np.ndarray | dict[str, np.ndarray]:
        """Reset the environments; update the statistics, and normalise.

        :return: the first observations, normalised
        """
        observations = self.venv.reset()
        self.old_obs = observations  # type: ignore[assignment]
        self.returns = np.zeros(self.num_envs)
        if self.training:
            self._update_observations(observations)
        return self.normalize_obs(observations)

    def _update_observations(self, observations: Any) -> None:
        if not self.norm_obs:
            return
        if isinstance(self.obs_rms, dict):
            for key, moments in self.obs_rms.items():
                _update(moments, observations[key])
        else:
            _update(self.obs_rms, observations)

    def _update_reward(self, reward: np.ndarray) -> None:
        self.returns = self.returns * self.gamma + reward
        if len(self.returns) == 1 and _is_sb3s_own(self.ret_rms):
            _update_by_one(self.ret_rms, float(self.returns[0]))
        else:
            _update(self.ret_rms, self.returns)

    def normalize_obs(self, obs: Any) -> Any:
        """Observations, normalised by the statistics as they are: a copy.

        :param obs: an array of any batch shape, or for Dict observations a dict of such arrays
        """
        if not self.norm_obs:
            return mapped(np.copy, obs)
        if isinstance(self.obs_rms, dict):
            return {
                key: self._normalize_obs(part, self.obs_rms[key])
                if key in self.norm_obs_keys  # type: ignore[operator]
                else np.copy(part)
                for key, part in obs.items()
            }
        return self._normalize_obs(obs, self.obs_rms)

    def _normalize_obs(self, obs: np.ndarray, obs_rms: RunningMeanStd) -> np.ndarray:
        normalized = obs - obs_rms.mean
        normalized /= np.sqrt(obs_rms.var + self.epsilon)
        np.maximum(normalized, -self.clip_obs, out=normalized)
        np.minimum(normalized, self.clip_obs, out=normalized)
        return normalized.astype(np.float32)

    def normalize_reward(self, reward: np.ndarray) -> np.ndarray:
        """Rewards, divided by the standard deviation of the return as it is, and clipped: a copy.

        :param reward: of any shape
        """
        if not self.norm_reward:
            return reward.astype(np.float32)
        std = math.sqrt(float(self.ret_rms.var) + self.epsilon)
        scaled = np.divide(reward, std, dtype=np.float64)
        np.maximum(scaled, -self.clip_reward, out=scaled)
        np.minimum(scaled, self.clip_reward, out=scaled)
        return scaled.astype(np.float32)

    def save(self, save_path: str) -> None:
        """Save statistics and settings, as SB3's class does.

        :param save_path: the file to write, a pickle
        """
        plain = sb3.VecNormalize.__new__(sb3.VecNormalize)
        vars(plain).update(vars(self))
        with Path(save_path).open("wb") as file:
            pickle.dump(plain, file)

    @staticmethod
    def load(load_path: str, venv: VecEnv) -> "VecNormalize":
        """Load statistics and settings that this or SB3's class has saved.

        This executes any code that the file contains: load only files from people whom you trust.

        :param load_path: the file to read
        :param venv: the environments to wrap
        """
        with Path(load_path).open("rb") as file:
            loaded = pickle.load(file)
        if type(loaded) is sb3.VecNormalize:
            loaded.__class__ = VecNormalize
        loaded.set_venv(venv)
        return loaded


def _is_sb3s_own(moments: RunningMeanStd) -> bool:
    """Whether they are updated as SB3 does it: no method has been replaced, to freeze them say."""
    own = moments.__dict__
    return (
        type(moments) is RunningMeanStd
        and RunningMeanStd.update is _UPDATE
        and RunningMeanStd.update_from_moments is _UPDATE_FROM_MOMENTS
        and "update" not in own
        and "update_from_moments" not in own
    )


def _update(moments: RunningMeanStd, batch: np.ndarray) -> None:
    """What ``moments.update(batch)`` does, with fewer calls; new arrays, as there."""
    n = len(batch)
    if batch.dtype not in _FLOATS or not _is_sb3s_own(moments):
        moments.update(batch)
        return
    count = moments.count
    total = count + n
    if n == 1:
        delta = batch[0] - moments.mean
        mean = delta / total
        squares = moments.var * count
    else:
        of_batch = np.add.reduce(batch, 0) / n
        deviations = batch - of_batch
        deviations *= deviations
        delta = of_batch - moments.mean
        mean = delta * n
        mean /= total
        squares = moments.var * count
        squares += np.add.reduce(deviations, 0) / n * n
    mean += moments.mean
    delta *= delta
    delta *= count
    if n > 1:
        delta *= n
    delta /= total
    squares += delta
    squares /= total
    moments.mean, moments.var, moments.count = mean, squares, n + count


def _update_by_one(moments: RunningMeanStd, value: float) -> None:
    """The same for one number."""
    mean, count = float(moments.mean), moments.count
    total = count + 1
    delta = value - mean
    squares = float(moments.var) * count + delta * delta * count / total
    moments.mean = np.float64(mean + delta / total)  # type: ignore[assignment]
    moments.var = np.float64(squares / total)  # type: ignore[assignment]
    moments.count = 1 + count
