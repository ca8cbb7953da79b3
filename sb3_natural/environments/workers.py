"""Batches of environments in worker processes: Gymnasium's ``AsyncVectorEnv`` carries messages.

It sees each batch as one environment, whose episodes never end. Observations are in shared memory.
"""

import copyreg
import io
import multiprocessing
import pickle
import select
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.async_vector_env import _async_worker
from gymnasium.vector.utils import batch_space

from sb3_natural.environments.batches import Batch, cloudpickled

__all__ = ["START_METHODS", "Workers"]

# A forked process would inherit torch's threads, and the other end of every pipe.
START_METHODS = [
    name for name in ("forkserver", "spawn") if name in multiprocessing.get_all_start_methods()
]
# How long a process that waits for a message asks for it again and again. To be woken takes tens of
# microseconds, and what it does next is slower, since others have used the core's caches.
_POLLING_SECONDS = 200e-6


class Workers:
    """A process for each of some batches, which answer one after the other; there may be none.

    An error between the processes ends them all.

    :param batches: functions that make them
    :param size: rows of a batch
    :param observation_space: of one environment
    :param action_space: of one environment
    :param start_method: one of ``START_METHODS``; None for the first
    :param polls: whether a process that waits keeps its core busy for a moment
    :raises RuntimeError: a process has ended while it started
    """

    def __init__(
        self,
        batches: Sequence[Callable[[], Batch]],
        size: int,
        observation_space: gym.Space,
        action_space: gym.Space,
        start_method: str | None,
        polls: bool,
    ) -> None:
        self.is_open = True
        self._vector: AsyncVectorEnv | None = None
        if not batches:
            return
        rows = batch_space(observation_space, size), batch_space(action_space, size)
        try:
            self._vector = AsyncVectorEnv(
                [partial(_BatchEnv, batch, *rows) for batch in batches],
                copy=False,
                context=start_method or START_METHODS[0],
                worker=_polling_worker if polls else None,
            )
        except (EOFError, OSError) as error:
            raise RuntimeError(
                "a worker process has ended while it started, and its own message is above; a "
                "script must make environments below \"if __name__ == '__main__':\""
            ) from error
        if polls:
            self._vector.parent_pipes = [_PollingPipe(p) for p in self._vector.parent_pipes]  # type: ignore[misc]

    def reset(
        self, seeds: list[int | None], options: list[dict[str, Any]]
    ) -> tuple[Any, list[Any]]:
        """Have all batches reset.

        :return: observations (n_batches, size, \\*shape) in shared memory, and the answers
        """
        if self._vector is None:
            return None, []
        try:
            observations, info = self._vector.reset(options={"seeds": seeds, "options": options})
        except BaseException as error:
            self._give_up(error)
        return observations, _loaded(info["answer"])

    def step_async(self, actions: np.ndarray) -> None:
        """Have all batches begin a step.

        :param actions: (n_batches, size, \\*shape)
        """
        if self._vector is None:
            return
        try:
            self._vector.step_async(actions)
        except BaseException as error:
            self._give_up(error)

    def step_wait(self) -> tuple[Any, list[Any]]:
        """What the step has given: as from :meth:`reset`."""
        if self._vector is None:
            return None, []
        try:
            observations, _, _, _, info = self._vector.step_wait()
        except BaseException as error:
            self._give_up(error)
        return observations, _loaded(info["answer"])

    def call(self, name: str, *args: Any) -> list[Any]:
        """What a method of each batch answers."""
        if self._vector is None:
            return []
        try:
            return _loaded(self._vector.call(name, *args))
        except BaseException as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the environments, which must not be stepping, and end the processes.

        A second call does nothing.
        """
        if not self.is_open:
            return
        try:
            if self._vector is not None:
                self._vector.close()
        except (EOFError, OSError):
            pass  # a process has ended by itself
        finally:
            self.end()

    def end(self) -> None:
        """End the processes as they are."""
        self.is_open = False
        if self._vector is None:
            return
        for process in self._vector.processes:
            process.terminate()
        for pipe in self._vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        for process in self._vector.processes:
            process.join()
        self._vector.closed = True

    def _give_up(self, error: BaseException) -> NoReturn:
        """End all processes after an error between them and this one, and raise it."""
        assert self._vector is not None
        if not isinstance(error, EOFError | OSError):
            self.end()
            raise error
        for process in self._vector.processes:
            process.join(timeout=0.1)
        ended = [
            f"number {number} (exit status {process.exitcode})"
            for number, process in enumerate(self._vector.processes, 1)
            if not process.is_alive()
        ]
        self.end()
        raise RuntimeError(f"a worker process has ended by itself: {', '.join(ended)}") from error


class _BatchEnv(gym.Env):
    """A batch as an environment that never ends.

    All that is not an observation is in the info, pickled, under ``"answer"``.
    """

    def __init__(
        self, batch: Callable[[], Batch], observation_space: gym.Space, action_space: gym.Space
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._batch = batch()

    def make(self) -> bytes:
        """Make the environments: not before, to have their errors as answers."""
        # Ctrl-C in a terminal is for the main process, which ends the others if it wants to.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return self._pickled(self._batch.make())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, bytes]]:
        """Reset the environments, with the seeds and options in ``options``."""
        assert options is not None
        answer = self._pickled(self._batch.reset(**options))
        return self._batch.observations, {"answer": answer}

    def step(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, bytes]]:
        """Step the environments, one row of ``actions`` each."""
        answer = self._pickled(self._batch.step(actions))
        return self._batch.observations, 0.0, False, False, {"answer": answer}

    def ask(self, question: bytes) -> bytes:
        """Answer a pickled question: see :meth:`Batch.ask`."""
        return self._pickled(self._batch.ask(question))

    def close(self) -> None:
        """Close the environments."""
        self._batch.close()

    def _pickled(self, answer: Any) -> bytes:
        try:
            return _dumps(answer)
        except Exception as error:
            return _dumps(self._batch.failure(error))


class _PollingPipe:
    """A pipe that is asked for a message for a moment before its process goes to sleep."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._poll = select.poll()
        self._poll.register(pipe.fileno(), select.POLLIN)

    def recv(self) -> Any:
        """The next message."""
        end = time.perf_counter() + _POLLING_SECONDS
        while not self._poll.poll(0) and time.perf_counter() < end:
            pass
        return self._pipe.recv()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


def _polling_worker(index: int, env_fn: Any, pipe: Connection, *others: Any) -> None:
    _async_worker(index, env_fn, _PollingPipe(pipe), *others)  # type: ignore[arg-type]


def _as_number(scalar: np.generic) -> tuple[type[np.generic], tuple[Any]]:
    return type(scalar), (scalar.item(),)


class _Pickler(pickle.Pickler):
    """Writes NumPy's scalars, of which infos are full, in a third of the time."""

    dispatch_table = copyreg.dispatch_table | dict.fromkeys(
        [np.bool_, np.int32, np.int64, np.float32, np.float64], _as_number
    )


def _dumps(value: Any) -> bytes:
    try:
        file = io.BytesIO()
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()
    except Exception:  # functions, and classes of a script, which pickle knows by name only
        return cloudpickled(value)


def _loaded(answers: Sequence[bytes]) -> list[Any]:
    return [pickle.loads(answer) for answer in answers]
