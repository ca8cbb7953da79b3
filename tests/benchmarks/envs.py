"""Environments that go wrong, for ``tests.benchmarks.envs:NAME``."""

import os
import signal
from typing import Any

import gymnasium as gym
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


class Unmakable(CartPoleEnv):
    def __init__(self, render_mode: str | None = None) -> None:
        raise StubbornError("a", "b")


for _name in ("Raising", "Stubborn", "Dying", "Unmakable"):
    gym.register(f"{_name}-v0", entry_point=f"{__name__}:{_name}", max_episode_steps=500)
