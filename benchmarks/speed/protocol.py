"""Workers: processes that make the measurements they are asked for, in lines of JSON.

Each library has a process of its own, which is kept alive so that contenders can take turns. The
peers' processes run the Python of another environment.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]

Task = Callable[..., dict[str, Any]]

# One thread each for torch, numpy and numba, since contenders are compared on one core.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}


class UnavailableError(Exception):
    """Something cannot be measured here; the message says what is missing."""


class WorkerError(Exception):
    """A worker's task failed, or the worker died; the message's first line says why."""


def serve(tasks: Mapping[str, Task]) -> None:
    """Answer questions until there are no more: what a worker process does.

    :param tasks: by name; each takes its settings as keyword arguments and returns its results
    """
    # Whatever libraries print goes to stderr, so that stdout has the answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _put(answers, {"ready": True})
    for line in sys.stdin:
        question = json.loads(line)
        _put(answers, _answer(tasks[question["task"]], question["settings"]))


def _answer(task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"values": task(**settings)}
    except UnavailableError as error:
        return {"unavailable": str(error)}
    except Exception:
        return {"error": traceback.format_exc()}


def _put(file: Any, answer: dict[str, Any]) -> None:
    file.write(json.dumps(answer) + "\n")
    file.flush()


class Worker:
    """A worker process, as its parent sees it.

    :param command: a Python interpreter and its arguments
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            list(command),
            cwd=REPOSITORY,
            env={**os.environ, **_ONE_THREAD},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            # Ctrl-C does not reach it: the parent ends its workers itself.
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until the worker has imported its libraries.

        :raises WorkerError: it died
        """
        self._read()

    def ask(self, task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The results of a task.

        :raises UnavailableError: it cannot be measured here
        :raises WorkerError: it failed
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, "settings": settings}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        answer = self._read()
        if "unavailable" in answer:
            raise UnavailableError(answer["unavailable"])
        if "error" in answer:
            lines = answer["error"].strip().splitlines()
            raise WorkerError(f"{lines[-1]}\n{answer['error']}")
        return answer["values"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            assert stream is not None
            stream.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return json.loads(line)

    def _died(self) -> WorkerError:
        code = self._process.wait()
        self._stderr.seek(0)
        words = self._stderr.read().strip()
        last = words.splitlines()[-1] if words else "it said nothing"
        return WorkerError(f"a worker ended with exit code {code}: {last}\n{words}")
