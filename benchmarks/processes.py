"""Processes: what Ctrl-C does to them, how long they may take, and the children that do the work.

Only the standard library is imported: a command imports this module before anything else.
"""

import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import fork_server

Result = TypeVar("Result")

_LARGEST_OUTPUT = 1_000_000  # bytes
_KEPT_OUTPUT = 100_000
_TIME_TO_END = 10.0  # seconds that a child may take to end before it is killed
_TIME_TO_UNWIND = 5.0  # seconds that a timed-out block may take to end before its process is ended
# What faulthandler prints above the stacks when it ends a process.
_TIMED_OUT = re.compile(r"^Timeout \([\d:.]+\)!$", re.MULTILINE)


def exit_on_interrupt() -> None:
    """Have Ctrl-C end this process at once, with the status 130 and without a traceback.

    This is for the time before there is anything to put in order. Some modules would turn a
    KeyboardInterrupt that is raised during their import into another exception. A process that
    ignores Ctrl-C goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_interrupted)


def _exit_interrupted(*_: object) -> None:
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt in the block, as usual."""
    before = signal.getsignal(signal.SIGINT)
    if before is _exit_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if before is _exit_interrupted:
            signal.signal(signal.SIGINT, _exit_interrupted)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Start children that Ctrl-C does not reach: the parent ends them in good order.

    A child inherits the blocked signals. In the parent the interrupt is only delayed to the end of
    the block, when the child is known and can be ended.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_children() -> None:
    """Have what takes seconds done before the first :class:`ChildProcess`; Ctrl-C interrupts it."""
    resource_tracker.ensure_running()  # before that, since its start unblocks Ctrl-C
    with deferred_interrupts():
        fork_server.start()
    fork_server.wait_until_ready()


class ChildProcess:
    """A fresh process that calls a function; it ends with its parent, however the parent ends.

    It shares nothing with other children but what :mod:`benchmarks.preload` has imported. Its
    stdout and stderr, those of C libraries included, go to a file. Start it in
    :func:`deferred_interrupts`.

    :param target: a function that can be pickled, as can its arguments
    :param outputs: an existing folder for the file
    :param forked: whether it may begin with those imports, rather than from nothing
    """

    def __init__(
        self,
        target: Callable[..., object],
        args: Sequence[Any],
        outputs: Path,
        forked: bool = True,
    ) -> None:
        descriptor, name = tempfile.mkstemp(dir=outputs)
        os.close(descriptor)
        self._output = Path(name)
        context = fork_server.context(forked)
        how = (target, args, self._output, dict(os.environ), fork_server.parent_of(context))
        self._process = context.Process(target=_run_child, args=how)
        self._process.start()

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        """As in ``multiprocessing``: negative for a signal, None while the process runs."""
        return self._process.exitcode

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def terminate(self) -> None:
        """Ask the process to end; see :meth:`join`."""
        self._process.terminate()

    def join(self) -> None:
        """Wait until the process has ended; kill it if that takes long."""
        self._process.join(_TIME_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def take_output(self) -> str:
        """The end of what an ended process has printed; its file is removed."""
        output = last_output(self._output)
        self._output.unlink()
        return output


def end_all(children: Iterable[ChildProcess]) -> None:
    """End child processes, all at the same time."""
    children = list(children)
    for child in children:
        child.terminate()
    for child in children:
        child.join()


def _run_child(
    target: Callable[..., object],
    args: Sequence[Any],
    output: Path,
    environ: Mapping[str, str],
    child_of: int,
) -> None:
    _end_with_parent(child_of)
    redirect_output(output)
    fork_server.begin(environ)
    try:
        target(*args)
    finally:
        fork_server.end()


def _end_with_parent(child_of: int) -> None:
    """End with the parent, or with the process that this one was forked from.

    Without the latter, the parent cannot know how this process ends.

    :param child_of: the latter, which may have ended by now
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        while not wait([parent.sentinel], timeout=1.0) and os.getppid() == child_of:
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def redirect_output(path: Path) -> None:
    """Send this process's stdout and stderr to a file, since the parent's display has the screen.

    So as not to fill the disk, a file that has become too long keeps its end alone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_keep_short, args=(path,), daemon=True).start()


def _keep_short(path: Path) -> None:
    with suppress(FileNotFoundError):  # the parent has removed it
        while True:
            if path.stat().st_size > _LARGEST_OUTPUT:
                end = last_output(path)
                # The descriptors append, wherever the end is.
                path.write_text(end)
            time.sleep(1)


def last_output(path: Path) -> str:
    """The end of a file that :func:`redirect_output` writes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _KEPT_OUTPUT))
        return file.read().decode(errors="replace").strip()


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in the block after some seconds; None sets no limit.

    A block that does not end then, because it hangs in C or catches every exception, has its whole
    process ended; the stacks of the threads are printed first.
    """
    if seconds is None:
        yield
        return

    def time_out(*_: object) -> None:
        raise TimeoutError(_timeout_message(seconds))

    faulthandler.dump_traceback_later(seconds + _TIME_TO_UNWIND, exit=True, file=2)
    if hasattr(signal, "setitimer"):  # not on Windows
        before = signal.signal(signal.SIGALRM, time_out)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def timed_out(output: str) -> bool:
    """Whether :func:`time_limit` has ended the process that has printed this."""
    return _TIMED_OUT.search(output) is not None


def exit_reason(exitcode: int | None, output: str, timeout: float | None) -> str:
    """Why a process ended that should have gone on, as far as its parent can tell.

    :param output: what it, or a library, has printed
    :param timeout: the seconds of its :func:`time_limit`
    """
    if timeout is not None and timed_out(output):
        return f"TimeoutError: {_timeout_message(timeout)}"
    if exitcode is not None and exitcode < 0:
        return f"WorkerDied: the process was killed by {signal.Signals(-exitcode).name}"
    return f"WorkerDied: the process ended with exit code {exitcode}"


def _timeout_message(seconds: float) -> str:
    return f"--run-timeout: the run has taken more than {seconds:g} seconds"


def call_in_fork(function: Callable[[], Result], seconds: float = 30.0) -> Result | None:
    """What a function returns in a copy of this process; None if it raises, dies or takes too long.

    What it prints is dropped. Where processes cannot be forked, it is called in this one.
    """
    if sys.platform != "linux":
        with suppress(Exception, SystemExit):
            return function()
        return None
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads, which the copy does without
        child = context.Process(target=_send_result, args=(function, theirs), daemon=True)
        child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(seconds) else None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


def _send_result(function: Callable[[], object], to: Connection) -> None:
    with suppress(Exception):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        warnings.simplefilter("ignore")
        to.send(function())
    os._exit(0)  # whatever is open belongs to the parent


def peak_resident_mib() -> float | None:
    """The most memory that this process has held so far, in MiB; None elsewhere than on Linux."""
    try:
        # getrusage's ru_maxrss is more portable, but starts from the parent process's.
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmHWM"].split()[0]) / 1024
