"""The local engine: processes on this machine."""

import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from benchmarks.engines.events import Advanced, Ended, Failure, Success, attempt
from benchmarks.processes import (
    ChildProcess,
    deferred_interrupts,
    end_all,
    exit_reason,
    prepare_children,
)
from benchmarks.records import RunSpec
from benchmarks.run import Progress, run
from benchmarks.run_files import is_finished, now
from benchmarks.storage import Folder
from benchmarks.work_queue import WorkQueue

_POLL = 1.0  # seconds between looks at what other sweeps are doing


def run_locally(
    queue: WorkQueue,
    out: Folder,
    jobs: int,
    command: str,
    trackers: Sequence[str] = (),
    run_timeout: float | None = None,
) -> Generator[Advanced | Ended, None, None]:
    """Execute runs on this machine, each in a fresh process, at most ``jobs`` at once.

    A process that dies fails its own run only. Closing the generator ends the processes; they also
    end when this process dies.

    :param run_timeout: seconds after which a run is ended and counts as failed
    """
    running: dict[Connection, _Worker] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as outputs:
        try:
            if not queue.is_empty:
                prepare_children()
            while running or not queue.is_empty:
                while len(running) < jobs and (spec := queue.claim()) is not None:
                    with deferred_interrupts():
                        worker = _Worker(spec, out, command, trackers, run_timeout, Path(outputs))
                        running[worker.connection] = worker
                for connection in _ready(running, queue, jobs):
                    event = running[connection].receive()
                    if isinstance(event, Ended):
                        del running[connection]
                    yield event
        finally:
            end_all(worker.process for worker in running.values())
            for connection in running:
                connection.close()


def _ready(
    running: "dict[Connection, _Worker]", queue: WorkQueue, jobs: int
) -> Iterator[Connection]:
    """The workers that have sent something; none when it is time to look at the queue again."""
    if not running:
        if not queue.is_empty:
            time.sleep(_POLL)
        return
    nothing_to_claim = len(running) == jobs or queue.is_empty
    for connection in wait(list(running), timeout=None if nothing_to_claim else _POLL):
        assert isinstance(connection, Connection)
        yield connection


class _Worker:
    """A process that executes one run, as its parent sees it."""

    def __init__(
        self,
        spec: RunSpec,
        out: Folder,
        command: str,
        trackers: Sequence[str],
        run_timeout: float | None,
        outputs: Path,
    ) -> None:
        self._spec = spec
        self._folder = spec.folder(out)
        self._run_timeout = run_timeout
        self._started = now()
        self.connection, remote = Pipe(duplex=False)
        self.process = ChildProcess(
            _work, (spec, out.absolute(), command, trackers, run_timeout, remote), outputs
        )
        # The worker's end must be open in the worker alone, or its death would go unnoticed.
        remote.close()

    def receive(self) -> Advanced | Ended:
        """The next event of the run; its end if the process has died."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return self._ended(None)
        if isinstance(message, Progress):
            return Advanced(self._spec, message)
        return self._ended(message)

    def _ended(self, outcome: Success | Failure | None) -> Ended:
        """:param outcome: as the process has sent it; None if it died before that"""
        self.process.join()
        self.connection.close()
        output = self.process.take_output()
        if isinstance(outcome, Success):
            return Ended(self._spec, self._started, warnings=outcome.warnings)
        if is_finished(self._folder):  # it died while it closed what it had opened
            return Ended(self._spec, self._started)
        # The library that killed the process may have printed why.
        reason = exit_reason(self.process.exitcode, output, self._run_timeout)
        return Ended(self._spec, self._started, outcome or Failure(reason, output))


def _work(
    spec: RunSpec,
    out: Folder,
    command: str,
    trackers: Sequence[str],
    run_timeout: float | None,
    connection: Connection,
) -> None:
    """Execute one run: what a worker process does."""
    import torch  # not needed by the parent, which starts faster without it

    torch.set_num_threads(1)
    connection.send(
        attempt(lambda: run(spec, out, command, connection.send, trackers), run_timeout)
    )
