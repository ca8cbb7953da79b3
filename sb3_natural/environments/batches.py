"""Environments that share a process."""

import pickle
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import CloudpickleWrapper

from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.observations import mapped

__all__ = ["Batch", "Failure", "Step", "cloudpickled", "each", "padded"]

_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Step(NamedTuple):
    """What a step says besides the observations."""

    rewards: list[float]
    dones: list[bool]
    infos: list[dict[str, Any]]
    reset_infos: dict[int, dict[str, Any]]  # by environment, of those that were reset


class WorkerTraceback(Exception):
    """Where an error comes from, in the process of the environment."""


class Failure(NamedTuple):
    """An error that an environment has raised."""

    environment: int
    kind: type[Exception]
    text: str
    trace: str

    def error(self) -> Exception:
        """An error of the same type, whose message begins with the environment's index.

        Where the type does not take a message alone, it is a ``RuntimeError``.
        """
        where = f"environment {self.environment}: "
        try:
            error = self.kind(where + self.text)
        except Exception:
            error = RuntimeError(f"{where}{self.kind.__name__}: {self.text}")
        error.__cause__ = WorkerTraceback(f"\n{self.trace}")
        return error


class Batch:
    """Some of the environments; their errors are answers.

    :param env_fns: the functions that make the environments
    :param first: index of the first of them among all environments
    :param size: number of rows of observations and actions: that of the environments or more
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]], first: int, size: int) -> None:
        self.observations: Any = None
        self.environments: LeanDummyVecEnv | None = None
        self._env_fns = env_fns
        self._first = first
        self._size = size
        self._current = first  # the environment that runs, to be named if it fails

    def make(self) -> Failure | None:
        """Make the environments."""
        return self._answer(self._make)

    def reset(
        self, seeds: list[int | None], options: list[dict[str, Any]]
    ) -> list[dict[str, Any]] | Failure:
        """The infos of a reset.

        :param seeds: with an entry for each of all environments
        :param options: likewise
        """
        return self._answer(self._reset, seeds, options)

    def step(self, actions: np.ndarray) -> Step | Failure:
        """Step all environments; those whose episode ends are reset at once."""
        return self._answer(self._step, actions)

    def ask(self, question: bytes) -> list[Any] | Failure:
        """The answers of some environments to a method of ``VecEnv`` that has ``indices``.

        :param question: pickled: the method's name, the environments by their indices among all, of
            which only those here are asked, and the other arguments
        """
        return self._answer(self._ask, question)

    def failure(self, error: Exception) -> Failure:
        """An error that is being handled, as an answer of the environment that ran last."""
        return Failure(self._current, type(error), str(error), traceback.format_exc())

    def close(self) -> None:
        """Close the environments. A second call does nothing."""
        environments, self.environments = self.environments, None
        if environments is not None:
            environments.close()

    def _answer(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            return self.failure(error)

    def _make(self) -> None:
        self.environments = _Environments(self._env_fns, self._note)
        self._keep(self.environments._obs_from_buf())

    def _reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> list[dict]:
        assert self.environments is not None
        own = slice(self._first, self._first + self.environments.num_envs)
        self.environments._seeds = seeds[own]
        self.environments._options = options[own]
        self._keep(self.environments.reset())
        return self.environments.reset_infos

    def _step(self, actions: np.ndarray) -> Step:
        assert self.environments is not None
        observations, rewards, dones, infos = self.environments.step(actions)
        self._keep(observations)
        reset_infos = self.environments.reset_infos
        ended = np.flatnonzero(dones).tolist()
        return Step(
            rewards.tolist(),
            dones.tolist(),
            infos,
            {self._first + index: reset_infos[index] for index in ended},
        )

    def _ask(self, question: bytes) -> list[Any]:
        assert self.environments is not None
        method, environments, args, kwargs = pickle.loads(question)
        answers: list[Any] = []
        for environment in environments:
            index = environment - self._first
            if 0 <= index < self.environments.num_envs:
                self._note(index)
                answer = getattr(self.environments, method)(*args, indices=[index], **kwargs)
                answers += answer or [None]
        return answers

    def _note(self, index: int) -> None:
        self._current = self._first + index

    def _keep(self, observations: Any) -> None:
        self.observations = each(partial(padded, length=self._size), observations)


class _Environments(LeanDummyVecEnv):
    """Tells which of its environments is about to run."""

    def __init__(
        self, env_fns: Sequence[Callable[[], gym.Env]], note: Callable[[int], None]
    ) -> None:
        self._note = note
        super().__init__([partial(self._make, i, env_fn) for i, env_fn in enumerate(env_fns)])

    def _make(self, index: int, env_fn: Callable[[], gym.Env]) -> gym.Env:
        self._note(index)
        env = env_fn()
        _check_spaces(env.observation_space, env.action_space)
        return env

    def _step(self, index: int) -> dict[str, Any]:
        self._note(index)
        return super()._step(index)

    def reset(self) -> Any:
        """What ``DummyVecEnv`` does."""
        for index, env in enumerate(self.envs):
            self._note(index)
            options = {"options": self._options[index]} if self._options[index] else {}
            observation, self.reset_infos[index] = env.reset(seed=self._seeds[index], **options)
            self._save_obs(index, observation)
        self._reset_seeds()
        self._reset_options()
        return self._obs_from_buf()


def each(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """What a function makes of observations, part by part where they are dicts or tuples.

    :param others: further observations, whose parts are further arguments of the function
    """
    if isinstance(first, tuple):
        return tuple(map(function, first, *others))
    return mapped(function, first, *others)


def cloudpickled(value: Any) -> bytes:
    """What cloudpickle makes of a value, for ``pickle.loads``: functions are written as well."""
    return CloudpickleWrapper(value).__getstate__()


def padded(rows: np.ndarray, length: int) -> np.ndarray:
    """The rows, and zeros below them up to a number of rows."""
    if len(rows) == length:
        return rows
    longer = np.zeros((length, *rows.shape[1:]), rows.dtype)
    longer[: len(rows)] = rows
    return longer


def _check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    parts: Any = getattr(observation_space, "spaces", [observation_space])
    parts = parts.values() if isinstance(parts, dict) else parts
    for kind, space in [*(("observation", part) for part in parts), ("action", action_space)]:
        if not isinstance(space, _ARRAYS):
            raise ValueError(
                f"the {kind} space has {space!r}, which is not Box, Discrete, MultiDiscrete or "
                "MultiBinary; use backend='dummy'"
            )
