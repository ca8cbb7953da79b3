"""Gymnasium wrappers that a run puts around its environments."""

import time
import warnings
from collections import deque
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor


class WarningTimeLimit(gym.wrappers.TimeLimit):
    """A time limit for episodes that might never end; it warns when it cuts one."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As in TimeLimit."""
        obs, reward, terminated, truncated, info = super().step(action)
        if self._elapsed_steps == self._max_episode_steps and not terminated:
            warnings.warn(
                f"evaluation: max_steps: an episode was cut after {self._max_episode_steps:,} "
                "steps, and counts with its return so far; kwargs: {max_episode_steps: N} gives "
                "the environment a time limit of its own",
                stacklevel=2,
            )
        return obs, reward, terminated, truncated, info


class EpisodeMonitor(Monitor):
    """SB3's Monitor, which also reports the episodes that a wrapper around it ends.

    A wrapper may end an episode before the environment does. If it then resets the environment, as
    a time limit does, the episode has ended; if not, as after the loss of a life in a game, the
    episode goes on. Monitor forgets an episode that a reset ends, so that its statistics would
    cover only those that ended by themselves. This one reports it, with its return and length, in
    the ``info`` of the next step or, before that, from :meth:`take_ended`.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._ended: deque[dict[str, float]] = deque(maxlen=100)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As in Monitor."""
        if kwargs.get("seed") is not None:  # a fresh start, whatever happened before
            self._ended.clear()
        elif self.rewards and not self.needs_reset:
            seconds = round(time.time() - self.t_start, 6)
            episode = {"r": round(sum(self.rewards), 6), "l": len(self.rewards), "t": seconds}
            self._ended.append(episode)
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As in Monitor."""
        obs, reward, terminated, truncated, info = super().step(action)
        if self._ended and "episode" not in info:
            info["episode"] = self._ended.popleft()
        return obs, reward, terminated, truncated, info

    def take_ended(self) -> dict[str, float] | None:
        """The oldest episode that a wrapper has ended and no ``info`` has reported, if any."""
        return self._ended.popleft() if self._ended else None
