"""Simulation in several processes, behind SB3's interface.

Gymnasium's ``AsyncVectorEnv`` has a process for each environment. Where a step takes microseconds,
most of the time would go into messages, so here each process steps a batch of environments, and the
first batch is stepped by this process, which would have to wait for the others anyway.
"""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from sb3_natural.arguments import at_least, checked, one_of
from sb3_natural.environments.batches import (
    Batch,
    Failure,
    Step,
    cloudpickled,
    each,
    padded,
)
from sb3_natural.environments.workers import START_METHODS, Workers

__all__ = ["ProcessVecEnv"]


class ProcessVecEnv(VecEnv):
    """Environments in several processes, of which this is one, with observations in shared memory.

    It returns what ``DummyVecEnv`` returns for the same seeds. It pays where one step of all of a
    process's environments takes much longer than the messages about it, about 0.1 milliseconds.

    As with ``SubprocVecEnv``, a script has to make it below ``if __name__ == "__main__":``. Each of
    the other processes imports what the environments need, which takes seconds. With "forkserver",
    ``multiprocessing.set_forkserver_preload(["sb3_natural"])`` has it imported once for all.

    An error in an environment is raised here, with the same type. Its message begins with the
    environment's index, and its cause says where it comes from. After an error in a step or in a
    reset all processes end; after one in ``env_method`` or ``get_attr`` they go on.

    :param env_fns: functions that make one environment each; they and what they refer to are
        pickled by cloudpickle
    :param n_processes: number of processes, this one included; None for one per core, at most one
        per environment. The environments are divided in equal parts, but for the last, so it can be
        fewer. If there are not more than cores, those that wait keep their cores busy for up to 0.2
        milliseconds
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
        _check_functions(env_fns)
        n_envs = len(env_fns)
        size = math.ceil(n_envs / min(n_processes or _n_cores(), n_envs))
        self._batch_size = size
        self._is_stepping = False
        batches = [
            partial(Batch, env_fns[first : first + size], first, size)
            for first in range(0, n_envs, size)
        ]
        self._own = batches[0]()
        _checked_answer(self._own.make())
        assert self._own.environments is not None
        observation_space = self._own.environments.observation_space
        action_space = self._own.environments.action_space
        self._actions_shape = (n_envs, *(action_space.shape or ()))
        self._rows_shape = (len(batches), size, *(action_space.shape or ()))
        polls = len(batches) <= _n_cores()
        with ExitStack() as undoing:
            undoing.callback(self._own.close)
            self._workers = Workers(
                batches[1:], size, observation_space, action_space, start_method, polls
            )
            undoing.callback(self._workers.end)
            for answer in self._workers.call("make"):
                _checked_answer(answer)
            super().__init__(n_envs, observation_space, action_space)
            undoing.pop_all()

    def reset(self) -> VecEnvObs:
        """Start new episodes in all environments, with the seeds and options that were set.

        :return: the first observations, (n_envs, \\*shape), or a dict or tuple of such arrays
        """
        self._check_is_open()
        if self._is_stepping:
            self.step_wait()
        own = self._own.reset(self._seeds, self._options)
        observations, others = self._workers.reset(self._seeds, self._options)
        self.reset_infos = [info for infos in self._all(own, others) for info in infos]
        self._reset_seeds()
        self._reset_options()
        return self._rows(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Start a step in the other processes; this one's environments have to wait.

        :param actions: (n_envs, \\*shape of an action)
        :raises ValueError: the shape is another
        """
        actions = np.asarray(actions)
        if actions.shape != self._actions_shape:
            raise ValueError(
                f"actions must have shape {self._actions_shape}, got shape {actions.shape}"
            )
        self._check_is_idle("step_async()")
        rows = padded(actions, self._rows_shape[0] * self._batch_size).reshape(self._rows_shape)
        self._workers.step_async(rows[1:])
        self._own_actions = rows[0].copy()
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
            own = self._own.step(self._own_actions)
        except BaseException:  # such as KeyboardInterrupt: the others' answers will never be read
            self._workers.end()
            raise
        observations, others = self._workers.step_wait()
        self._is_stepping = False
        rewards: list[float] = []
        dones: list[bool] = []
        infos: list[dict[str, Any]] = []
        step: Step
        for step in self._all(own, others):
            rewards += step.rewards
            dones += step.dones
            infos += step.infos
            for index, reset_info in step.reset_infos.items():
                self.reset_infos[index] = reset_info
        return self._rows(observations), np.array(rewards, np.float32), np.array(dones), infos

    def close(self) -> None:
        """Close the environments and end the processes. A second call does nothing."""
        try:
            if self._is_stepping and self._workers.is_open:
                self._workers.step_wait()
        finally:
            self._is_stepping = False
            self._workers.close()
            self._own.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of each environment, as a copy where it is another process's.

        :param attr_name: name of the attribute, which may be a wrapper's
        :param indices: which environments: an index or several; None: all
        :return: one value for each of them
        """
        return self._ask("get_attr", indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Whether all environments have the attribute.

        :param attr_name: name of the attribute, which may be a wrapper's
        """
        return all(self.env_method("has_wrapper_attr", attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the attribute of each environment's outermost wrapper, as ``DummyVecEnv`` does.

        :param attr_name: name of the attribute
        :param value: what it becomes; other processes get a copy
        :param indices: as for :meth:`get_attr`
        """
        self._ask("set_attr", indices, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """What a method of each environment returns.

        :param method_name: name of the method, which may be a wrapper's
        :param method_args: its positional arguments
        :param indices: as for :meth:`get_attr`
        :param method_kwargs: its keyword arguments
        :return: one value for each of the environments
        """
        return self._ask("env_method", indices, method_name, *method_args, **method_kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether each environment is wrapped in a class.

        :param wrapper_class: the class
        :param indices: as for :meth:`get_attr`
        """
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
        question = cloudpickled((method, asked, args, kwargs))
        answers = [
            iter(_checked_answer(answer))
            for answer in (self._own.ask(question), *self._workers.call("ask", question))
        ]
        return [next(answers[index // self._batch_size]) for index in asked]

    def _all(self, own: Any, others: list[Any]) -> list[Any]:
        """The answers of all batches to a step or a reset."""
        answers = [own, *others]
        try:
            return [_checked_answer(answer) for answer in answers]
        except Exception:
            self.close()
            raise

    def _rows(self, others: Any) -> Any:
        """All observations, as (n_envs, \\*shape).

        :param others: of the other processes, (n_batches - 1, size, \\*shape) in shared memory
        """
        if others is None:
            return self._own.observations  # new at each step

        def joined(own: np.ndarray, other: np.ndarray) -> np.ndarray:
            rest = other.reshape(-1, *other.shape[2:])
            return np.concatenate([own, rest[: self.num_envs - len(own)]])

        return each(joined, self._own.observations, others)

    def _check_is_idle(self, what: str) -> None:
        self._check_is_open()
        if self._is_stepping:
            raise RuntimeError(f"{what} between step_async() and step_wait()")

    def _check_is_open(self) -> None:
        if not self._workers.is_open:
            raise RuntimeError(
                "the processes were ended by close() or by an error: make a new ProcessVecEnv"
            )


def _n_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _checked_answer(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise answer.error()
    return answer


def _check_functions(env_fns: list[Callable[[], gym.Env]]) -> None:
    if not env_fns:
        raise ValueError("env_fns must hold at least one function, got []")
    try:
        cloudpickled(env_fns)
    except Exception as error:
        raise ValueError(f"env_fns cannot be sent to other processes: {error}") from error
