"""The speed of vectorised environments alone, one of which costs what is asked of it."""

import time
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_natural import make_vec_env

SEED = 0
# Long enough for the processors to be warm, and for every process to have started.
_WARM_UP = 50  # steps of all environments


class Spinning(gym.Env):
    """Computes for a given time at each step; observations and actions as HalfCheetah's.

    :param cost: processor time of a step, in microseconds
    """

    observation_space = spaces.Box(-np.inf, np.inf, (17,))
    action_space = spaces.Box(-1, 1, (6,))

    def __init__(self, cost: float) -> None:
        self._seconds = 1e-6 * cost
        self._observation = np.zeros(17, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, which never ends."""
        super().reset(seed=seed)
        return self._observation, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Spin."""
        # Of this thread: time in which another process has the core does not count.
        end = time.thread_time() + self._seconds
        while time.thread_time() < end:
            pass
        return self._observation, 0.0, False, False, {}


def step(n_envs: int, backend: str, steps: int, **which: Any) -> dict[str, Any]:
    """Step vectorised environments, with random actions drawn beforehand.

    :param steps: of all environments together
    :param which: ``env_id``, or the ``cost`` of a step in microseconds
    :return: ``seconds`` and environment ``steps``
    """
    env, actions = _stepped(n_envs, backend, **which)
    n_calls = -(-steps // n_envs)
    start = time.perf_counter()
    for call in range(n_calls):
        env.step(actions[call % len(actions)])
    return {"seconds": time.perf_counter() - start, "steps": n_calls * n_envs}


@cache
def _stepped(
    n_envs: int, backend: str, env_id: str | None = None, cost: float = 0
) -> tuple[VecEnv, list[np.ndarray]]:
    env = make_vec_env(env_id or partial(Spinning, cost), n_envs, SEED, backend=backend)
    env.reset()
    env.action_space.seed(SEED)
    rows = range(n_envs)
    actions = [np.stack([env.action_space.sample() for _ in rows]) for _ in range(100)]
    for call in range(_WARM_UP):
        env.step(actions[call])
    return env, actions
