"""Simulation in worker processes: Gymnasium's ``AsyncVectorEnv`` behind SB3's interface.

``AsyncVectorEnv`` has a process for each environment. Where a step takes microseconds, most of the
time would go into messages, so here what a process steps is a batch of environments.
"""

import math
import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import cloudpickle
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.preprocessing import check_for_nested_spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from sb3_natural.arguments import at_least, checked, one_of
from sb3_natural.environments.batches import Batch, Failure, Step, each, padded

__all__ = ["ProcessVecEnv"]

# A forked process would inherit torch's threads, and the other end of every pipe.
START_METHODS = [
    name for name in ("forkserver", "spawn") if name in multiprocessing.get_all_start_methods()
]
_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class ProcessVecEnv(VecEnv):
    """Environments in worker processes, several in each, with observations in shared memory.

    Returns what ``DummyVecEnv`` returns for the same seeds. It pays where the steps of a process's
    environments take much longer together than the messages about them, about 0.1 milliseconds.

    As with ``SubprocVecEnv``, a script has to make it below ``if __name__ == "__main__":``, and
    one environment is made in this process, to know its spaces, and closed at once.

    An error of an environment is raised here with its type and the environment's index, and with
    the worker's traceback as its cause. After an error in a step or in a reset all processes end;
    after one in ``env_method`` or ``get_attr`` they go on.

    :param env_fns: functions that make one environment each; they and what they refer to are
        pickled by cloudpickle
    :param n_processes: number of processes; None for one per core, at most one per environment.
        The environments are divided in equal parts, but for the last, so it can be fewer
    :param start_method: how processes are started, ``"forkserver"`` or ``"spawn"``; None for the
        first of these that the system has
    :raises ValueError: ``env_fns`` is empty or cannot be pickled, or a space is not one of SB3's
    :raises RuntimeError: a process has ended while it started
    """

    @checked(n_processes=at_least(1), start_method=one_of(START_METHODS))
    def __init__(
        self,
        env_fns: list[Callable[[], gym.Env]],
        n_processes: int | None = None,
        start_method: str | None = None,
    ) -> None:
        observation_space, action_space = _spaces(env_fns)
        n_envs = len(env_fns)
        self._batch_size = math.ceil(n_envs / min(n_processes or _n_cores(), n_envs))
        self._action_shape = (n_envs, *(action_space.shape or ()))
        self._is_stepping = False
        batches = [
            partial(
                Batch,
                env_fns[first : first + self._batch_size],
                first,
                self._batch_size,
                observation_space,
                action_space,
            )
            for first in range(0, n_envs, self._batch_size)
        ]
        try:
            self._vector = AsyncVectorEnv(
                batches, copy=False, context=start_method or START_METHODS[0]
            )
        except (EOFError, OSError) as error:
            raise RuntimeError(
                "a worker process has ended while it started, and its own message is above; a "
                "script must make environments below \"if __name__ == '__main__':\""
            ) from error
        try:
            self._call("make")
            super().__init__(n_envs, observation_space, action_space)
        except BaseException:
            self._end()
            raise

    def reset(self) -> VecEnvObs:
        """Start new episodes in all environments, with the seeds and options that were set.

        :return: the first observations, (n_envs, \\*shape), or a dict or tuple of such arrays
        """
        self._check_is_open()
        if self._is_stepping:
            self.step_wait()
        options = {"seeds": self._seeds, "options": self._options}
        try:
            observations, info = self._vector.reset(options=options)
        except BaseException as error:
            self._give_up(error)
        answers = self._answers(info["answer"], closes=True)
        self.reset_infos = [info for infos in answers for info in infos]
        self._reset_seeds()
        self._reset_options()
        return self._rows(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Start a step; the processes work until :meth:`step_wait`.

        :param actions: (n_envs, \\*shape of an action)
        :raises ValueError: the shape is another
        """
        actions = np.asarray(actions)
        if actions.shape != self._action_shape:
            raise ValueError(
                f"actions must have shape {self._action_shape}, got shape {actions.shape}"
            )
        self._check_is_idle("step_async()")
        n_batches = len(self._vector.processes)
        rows = padded(actions, n_batches * self._batch_size)
        try:
            self._vector.step_async(rows.reshape(n_batches, self._batch_size, *rows.shape[1:]))
        except BaseException as error:
            self._give_up(error)
        self._is_stepping = True

    def step_wait(self) -> VecEnvStepReturn:
        """Finish the step; environments whose episode has ended start the next within it.

        :return: observations (n_envs, \\*shape), or a dict or tuple of such arrays; rewards
            (n_envs,), float32; dones (n_envs,); infos, as from ``DummyVecEnv``
        """
        self._check_is_open()
        if not self._is_stepping:
            raise RuntimeError("step_wait() without step_async()")
        try:
            observations, _, _, _, info = self._vector.step_wait()
        except BaseException as error:
            self._give_up(error)
        self._is_stepping = False
        rewards: list[float] = []
        dones: list[bool] = []
        infos: list[dict[str, Any]] = []
        step: Step
        for step in self._answers(info["answer"], closes=True):
            rewards += step.rewards
            dones += step.dones
            infos += step.infos
            for index, reset_info in step.reset_infos.items():
                self.reset_infos[index] = reset_info
        return self._rows(observations), np.array(rewards, np.float32), np.array(dones), infos

    def close(self) -> None:
        """Close the environments and end the processes. A second call does nothing."""
        if self._vector.closed:
            return
        try:
            if self._is_stepping:
                self._vector.step_wait()
            self._vector.close()
        except (EOFError, OSError):
            pass  # a process has ended by itself
        finally:
            self._end()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of each environment, pickled in its process."""
        return self._ask("get_attr", indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Whether all environments have the attribute."""
        return all(self.env_method("has_wrapper_attr", attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the attribute of each environment's outermost wrapper, as ``DummyVecEnv`` does."""
        self._ask("set_attr", indices, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """What a method of each environment returns."""
        return self._ask("env_method", indices, method_name, *method_args, **method_kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether each environment is wrapped in this class."""
        return self._ask("env_is_wrapped", indices, wrapper_class)

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of each environment, (height, width, 3), uint8; None if they make none."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"render_mode is {self.render_mode!r}: pictures need 'rgb_array'", stacklevel=2
            )
            return [None] * self.num_envs
        return self.env_method("render")

    def _ask(self, method: str, indices: VecEnvIndices, *args: Any, **kwargs: Any) -> list[Any]:
        self._check_is_idle(f"{method}()")
        asked = [range(self.num_envs)[index] for index in self._get_indices(indices)]
        question = cloudpickle.dumps((method, asked, args, kwargs))
        answers = [iter(answer) for answer in self._call("ask", question)]
        return [next(answers[index // self._batch_size]) for index in asked]

    def _call(self, name: str, *args: Any) -> list[Any]:
        """What a method of each batch answers."""
        try:
            pickled = self._vector.call(name, *args)
        except BaseException as error:
            self._give_up(error)
        return self._answers(pickled, closes=False)

    def _answers(self, pickled: Sequence[bytes], closes: bool) -> list[Any]:
        """The answers of all batches.

        :param closes: whether a failure ends all processes
        """
        answers = [pickle.loads(answer) for answer in pickled]
        for answer in answers:
            if isinstance(answer, Failure):
                if closes:
                    self.close()
                raise answer.error()
        return answers

    def _rows(self, observations: Any) -> Any:
        """A copy of what is in shared memory, by batch and row, as (n_envs, \\*shape)."""
        n_envs = self.num_envs
        return each(lambda part: part.reshape(-1, *part.shape[2:])[:n_envs].copy(), observations)

    def _check_is_idle(self, what: str) -> None:
        self._check_is_open()
        if self._is_stepping:
            raise RuntimeError(f"{what} between step_async() and step_wait()")

    def _check_is_open(self) -> None:
        if self._vector.closed:
            raise RuntimeError(
                "the processes were ended by close() or by an error: make a new ProcessVecEnv"
            )

    def _give_up(self, error: BaseException) -> NoReturn:
        """End all processes after an error between them and this one, and raise it."""
        if not isinstance(error, EOFError | OSError):
            self._end()
            raise error
        for process in self._vector.processes:
            process.join(timeout=0.1)
        codes = {i: p.exitcode for i, p in enumerate(self._vector.processes) if not p.is_alive()}
        self._end()
        raise RuntimeError(self._description(codes)) from error

    def _description(self, codes: dict[int, int | None]) -> str:
        """Which processes have ended by themselves.

        :param codes: exit status by process
        """
        ended = "; ".join(
            f"that of environments {first} to {min(first + self._batch_size, self.num_envs) - 1} "
            f"(exit status {code})"
            for i, code in codes.items()
            for first in [i * self._batch_size]
        )
        return f"a worker process has ended by itself: {ended}"

    def _end(self) -> None:
        self._is_stepping = False
        for process in self._vector.processes:
            process.terminate()
        for pipe in self._vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        for process in self._vector.processes:
            process.join()
        self._vector.closed = True


def _n_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spaces(env_fns: list[Callable[[], gym.Env]]) -> tuple[spaces.Space, spaces.Space]:
    """The spaces of the first environment, which is made for that alone."""
    if not env_fns:
        raise ValueError("env_fns must hold at least one function, got []")
    try:
        cloudpickle.dumps(env_fns)
    except Exception as error:
        raise ValueError(f"env_fns cannot be sent to other processes: {error}") from error
    probe = env_fns[0]()
    probe.close()
    observation_space, action_space = probe.observation_space, probe.action_space
    check_for_nested_spaces(observation_space)
    parts: Any = getattr(observation_space, "spaces", [observation_space])
    parts = parts.values() if isinstance(parts, dict) else parts
    for kind, space in [*(("observation", part) for part in parts), ("action", action_space)]:
        if not isinstance(space, _ARRAYS):
            raise ValueError(
                f"the {kind} space has {space!r}, which is not Box, Discrete, MultiDiscrete or "
                "MultiBinary; use backend='dummy'"
            )
    return observation_space, action_space
