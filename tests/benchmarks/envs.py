"""Environments that go wrong, for ``tests.benchmarks.envs:NAME``."""

import os
import signal
import time
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv


class StubbornError(Exception):
    """An exception that can neither be pickled nor be shown."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(lambda: first)

    def __str__(self) -> str:
        raise RuntimeError("no text")


class _Failing(CartPoleEnv):
    """CartPole until its 100th step."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self._count = 0

    def step(self, action: Any) -> Any:
        self._count += 1
        if self._count == 100:
            self.fail()
        return super().step(action)

    def fail(self) -> None:
        raise NotImplementedError


class Raising(_Failing):
    def fail(self) -> None:
        raise ValueError("the pole is gone")


class Stubborn(_Failing):
    def fail(self) -> None:
        raise StubbornError("a", "b")


class Dying(_Failing):
    def fail(self) -> None:
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Aborting(_Failing):
    def fail(self) -> None:
        os.abort()


class Leaving(_Failing):
    def fail(self) -> None:
        os._exit(3)


class Unclosable(CartPoleEnv):
    """CartPole that cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("the window is gone")


class Endless(gym.Env):
    """Episodes that never end, a reward of 1 each step."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 1.0, False, False, {}


class Hanging(_Failing):
    """Does not come back from a step."""

    def fail(self) -> None:
        while True:
            with suppress(Exception):  # as much code does
                time.sleep(60)


class Lingering(CartPoleEnv):
    """Does not come back from being closed."""

    def close(self) -> None:
        while True:
            time.sleep(60)


class Unrendered(CartPoleEnv):
    """CartPole without pictures."""

    metadata = {"render_modes": []}  # noqa: RUF012 (as Gymnasium has it)

    def render(self) -> None:
        return None


class Unmakable(CartPoleEnv):
    def __init__(self, render_mode: str | None = None) -> None:
        raise StubbornError("a", "b")


class Exiting(CartPoleEnv):
    def __init__(self, render_mode: str | None = None) -> None:
        raise SystemExit(0)


class Vanishing(CartPoleEnv):
    """Ends its process, as a simulator without a licence may."""

    def __init__(self, render_mode: str | None = None) -> None:
        os._exit(0)


for _name in (
    "Raising",
    "Stubborn",
    "Dying",
    "Aborting",
    "Leaving",
    "Unclosable",
    "Hanging",
    "Lingering",
    "Unmakable",
    "Exiting",
    "Vanishing",
    "Unrendered",
):
    gym.register(f"{_name}-v0", entry_point=f"{__name__}:{_name}", max_episode_steps=500)
gym.register("Endless-v0", entry_point=f"{__name__}:Endless")
