"""Environments that share a worker process, as one of Gymnasium's ``AsyncVectorEnv``."""

import copyreg
import io
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import cloudpickle
import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.observations import mapped

__all__ = ["Batch", "Failure", "Step", "each", "padded"]


class Step(NamedTuple):
    """What a step says besides the observations."""

    rewards: list[float]
    dones: list[bool]
    infos: list[dict[str, Any]]
    reset_infos: dict[int, dict[str, Any]]  # by environment, of those that were reset


class WorkerTraceback(Exception):
    """Where in a worker process an error comes from."""


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


class Batch(gym.Env):
    """Some of the environments, behind the methods of one.

    Episodes begin and end inside, so that this itself never ends. All that is not an observation is
    in the info, pickled, under ``"answer"``.

    :param env_fns: the functions that make the environments, which :meth:`make` calls
    :param first: index of the first of them among all environments
    :param size: number of rows of observations and actions: that of the environments or more
    :param observation_space: of one environment
    :param action_space: of one environment
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env]],
        first: int,
        size: int,
        observation_space: gym.Space,
        action_space: gym.Space,
    ) -> None:
        self.observation_space = batch_space(observation_space, size)
        self.action_space = batch_space(action_space, size)
        self._env_fns = env_fns
        self._first = first
        self._size = size
        self._current = first  # the environment that runs, to be named if it fails
        self._environments: _Environments | None = None
        self._observations: Any = None

    def make(self) -> bytes:
        """Make the environments: not when this is made, to have their errors as answers."""
        # Ctrl-C in a terminal is for the main process, which ends the others if it wants to.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return self._answer(self._make)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, bytes]]:
        """Reset all environments.

        :param seed: not used
        :param options: lists ``seeds`` and ``options``, with an entry for each of all environments
        :return: the first observations; the answer is the list of infos
        """
        assert options is not None
        answer = self._answer(self._reset, **options)
        return self._observations, {"answer": answer}

    def step(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, bytes]]:
        """Step all environments; those whose episode ends are reset at once.

        :return: the observations; the answer is a :class:`Step`
        """
        answer = self._answer(self._step, actions)
        return self._observations, 0.0, False, False, {"answer": answer}

    def ask(self, question: bytes) -> bytes:
        """The answers of some environments to a method of ``VecEnv`` that has ``indices``.

        :param question: pickled: the method's name, the environments by their indices among all, of
            which only those here are asked, and the other arguments
        """
        return self._answer(self._ask, question)

    def close(self) -> None:
        """Close the environments."""
        if self._environments is not None:
            self._environments.close()

    def _answer(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
        try:
            return _dumps(function(*args, **kwargs))
        except Exception as error:
            failure = Failure(self._current, type(error), str(error), traceback.format_exc())
            try:
                return _dumps(failure)
            except Exception:
                text = f"{type(error).__name__}: {error}"
                return _dumps(failure._replace(kind=RuntimeError, text=text))

    def _make(self) -> None:
        self._environments = _Environments(self._env_fns, self._note)
        self._keep(self._environments._obs_from_buf())

    def _reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> list[dict]:
        assert self._environments is not None
        own = slice(self._first, self._first + self._environments.num_envs)
        self._environments._seeds = seeds[own]
        self._environments._options = options[own]
        self._keep(self._environments.reset())
        return self._environments.reset_infos

    def _step(self, actions: np.ndarray) -> Step:
        assert self._environments is not None
        observations, rewards, dones, infos = self._environments.step(actions)
        self._keep(observations)
        reset_infos = self._environments.reset_infos
        ended = np.flatnonzero(dones).tolist()
        return Step(
            rewards.tolist(),
            dones.tolist(),
            infos,
            {self._first + index: reset_infos[index] for index in ended},
        )

    def _ask(self, question: bytes) -> list[Any]:
        assert self._environments is not None
        method, environments, args, kwargs = pickle.loads(question)
        answers: list[Any] = []
        for environment in environments:
            index = environment - self._first
            if 0 <= index < self._environments.num_envs:
                self._note(index)
                answer = getattr(self._environments, method)(*args, indices=[index], **kwargs)
                answers += answer or [None]
        return answers

    def _note(self, index: int) -> None:
        self._current = self._first + index

    def _keep(self, observations: Any) -> None:
        self._observations = each(partial(padded, length=self._size), observations)


class _Environments(LeanDummyVecEnv):
    """Tells which of its environments is about to run."""

    def __init__(
        self, env_fns: Sequence[Callable[[], gym.Env]], note: Callable[[int], None]
    ) -> None:
        self._note = note
        super().__init__([partial(self._make, i, env_fn) for i, env_fn in enumerate(env_fns)])

    def _make(self, index: int, env_fn: Callable[[], gym.Env]) -> gym.Env:
        self._note(index)
        return env_fn()

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


def each(function: Callable[[np.ndarray], Any], observations: Any) -> Any:
    """What a function makes of observations, part by part where they are dicts or tuples."""
    if isinstance(observations, tuple):
        return tuple(map(function, observations))
    return mapped(function, observations)


def padded(rows: np.ndarray, length: int) -> np.ndarray:
    """The rows, and zeros below them up to a number of rows."""
    if len(rows) == length:
        return rows
    longer = np.zeros((length, *rows.shape[1:]), rows.dtype)
    longer[: len(rows)] = rows
    return longer


def _as_number(scalar: np.generic) -> tuple[type[np.generic], tuple[Any]]:
    return type(scalar), (scalar.item(),)


class _Pickler(pickle.Pickler):
    """Writes NumPy's scalars, of which infos are full, in a third of the time."""

    dispatch_table = copyreg.dispatch_table | dict.fromkeys(
        [np.bool_, np.int32, np.int64, np.float32, np.float64], _as_number
    )


def _dumps(value: Any) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()
    except Exception:  # functions, and classes of a script, which pickle knows by name only
        return cloudpickle.dumps(value)
