"""The local engine: processes on this machine."""

import os
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from benchmarks.claims import Agenda
from benchmarks.engines.events import Advanced, Ended, Failure, Success, attempt, cause_of_death
from benchmarks.engines.processes import (
    SPAWN,
    end_with_parent,
    interrupts_held_back,
    last_output,
    redirect_output,
)
from benchmarks.records import RunSpec
from benchmarks.run import Progress, now, run
from benchmarks.run_files import is_finished
from benchmarks.storage import Folder

_GRACE = 10.0  # seconds that a process may take to end
_POLL = 1.0  # seconds between looks at what other sweeps are doing


def run_locally(
    agenda: Agenda,
    out: Folder,
    jobs: int,
    command: str,
    trackers: Sequence[str] = (),
    run_timeout: float | None = None,
) -> Generator[Advanced | Ended, None, None]:
    """Execute runs on this machine, each in a fresh process, at most ``jobs`` at once.

    A process that dies is the failure of its run alone. Closing the iterator ends the processes;
    should this process die, they end by themselves.

    :param run_timeout: seconds after which a run is ended, and has failed
    """
    running: dict[Connection, _Worker] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as outputs:
        try:
            while running or not agenda.is_empty:
                while len(running) < jobs and (spec := agenda.claim()) is not None:
                    with interrupts_held_back():
                        worker = _Worker(spec, out, command, trackers, run_timeout, Path(outputs))
                        running[worker.connection] = worker
                for connection in _ready(running, agenda, jobs):
                    event = running[connection].receive()
                    if isinstance(event, Ended):
                        del running[connection]
                    yield event
        finally:
            for worker in running.values():
                worker.process.terminate()
            for worker in running.values():
                worker.stop()


def _ready(running: "dict[Connection, _Worker]", agenda: Agenda, jobs: int) -> Iterator[Connection]:
    """The workers that have something to say; none if it is time to look at the agenda again."""
    if not running:
        if not agenda.is_empty:
            time.sleep(_POLL)
        return
    nothing_to_claim = len(running) == jobs or agenda.is_empty
    for connection in wait(list(running), timeout=None if nothing_to_claim else _POLL):
        assert isinstance(connection, Connection)
        yield connection


class _Worker:
    """A process that executes one run, seen from the parent."""

    def __init__(
        self,
        spec: RunSpec,
        out: Folder,
        command: str,
        trackers: Sequence[str],
        run_timeout: float | None,
        outputs: Path,
    ) -> None:
        self.spec = spec
        self._folder = spec.folder(out)
        self._run_timeout = run_timeout
        self.started = now()
        descriptor, name = tempfile.mkstemp(dir=outputs)
        os.close(descriptor)
        self._output = Path(name)
        self.connection, remote = SPAWN.Pipe(duplex=False)
        self.process: SpawnProcess = SPAWN.Process(
            target=_work,
            args=(spec, out.absolute(), command, trackers, run_timeout, remote, self._output),
        )
        self.process.start()
        # The worker's end must be open in the worker alone, or its death would go unnoticed.
        remote.close()

    def receive(self) -> Advanced | Ended:
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return self._ended(None)
        if isinstance(message, Progress):
            return Advanced(self.spec, message)
        return self._ended(message)

    def _ended(self, message: "Success | Failure | None") -> Ended:
        self.stop()
        output = last_output(self._output)
        self._output.unlink()
        if isinstance(message, Success):
            return Ended(self.spec, self.started, warnings=message.warnings)
        if is_finished(self._folder):  # all that was left was to close what it had opened
            return Ended(self.spec, self.started)
        # A process that died has told nothing, but the library that killed it may have.
        cause = cause_of_death(self.process.exitcode, output, self._run_timeout)
        return Ended(self.spec, self.started, message or Failure(cause, output))

    def stop(self) -> None:
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _work(
    spec: RunSpec,
    out: Folder,
    command: str,
    trackers: Sequence[str],
    run_timeout: float | None,
    connection: Connection,
    output: Path,
) -> None:
    """Execute one run: what a worker process does."""
    end_with_parent()
    redirect_output(output)
    torch.set_num_threads(1)
    connection.send(
        attempt(lambda: run(spec, out, command, connection.send, trackers), run_timeout)
    )
