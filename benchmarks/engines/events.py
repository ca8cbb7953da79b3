"""What happens to the runs of a sweep, whatever the engine."""

import faulthandler
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.errors import sanitize, warning_texts
from benchmarks.records import RunSpec
from benchmarks.run import Progress

_LONGEST_LINE = 2_000  # characters
_LONGEST_TRACEBACK = 50_000
_GRACE = 5.0  # seconds that a run may take to end when its time is up
# What faulthandler writes above the stacks when it ends a process.
_ENDED = re.compile(r"^Timeout \([\d:.]+\)!$", re.MULTILINE)


@dataclass(frozen=True)
class Advanced:
    """A run has come further."""

    spec: RunSpec
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A run has finished, or failed if ``failure`` is set.

    ``warnings`` are the Python warnings of a finished run, each once.
    """

    spec: RunSpec
    started: str
    failure: "Failure | None" = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a run failed: as text, since exceptions need not survive the way between processes.

    The text is cut to what a record and a table can hold.
    """

    error: str
    traceback: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", sanitize(self.error, _LONGEST_LINE))
        object.__setattr__(self, "traceback", sanitize(self.traceback, _LONGEST_TRACEBACK))


@dataclass(frozen=True)
class Success:
    """A run has done what it should; its Python warnings, each once."""

    warnings: tuple[str, ...]


def attempt(work: Callable[[], object], timeout: float | None = None) -> Success | Failure:
    """Execute a run and say what became of it; no exception leaves.

    :param timeout: seconds that it may take; None: as long as it likes
    """
    try:
        with warnings.catch_warnings(record=True) as caught, ended_after(timeout):
            # MuJoCo says this of Gymnasium's own models; nobody here can act on it.
            warnings.filterwarnings("ignore", "(?s).*compiler attribute", UserWarning)
            work()
    except BaseException as error:
        line = "".join(traceback.format_exception_only(error)).strip()
        return Failure(line, traceback.format_exc())
    return Success(warning_texts(caught))


@contextmanager
def ended_after(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in the block when the time is up; None: it never is.

    Where that does not end it, as it hangs in C or catches all exceptions, the process ends, and
    the stack of its threads stands in its output.
    """
    if seconds is None:
        yield
        return

    def end(*_: object) -> None:
        raise TimeoutError(overtime(seconds))

    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=2)
    if hasattr(signal, "setitimer"):  # not on Windows
        before = signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def was_overtime(output: str) -> bool:
    """Whether :func:`ended_after` has ended the process that has written this."""
    return _ENDED.search(output) is not None


def cause_of_death(exitcode: int | None, output: str, timeout: float | None) -> str:
    """What is known of a process that ended without a word.

    :param output: what it, or a library, has written
    :param timeout: that of :func:`ended_after` in it
    """
    if timeout is not None and was_overtime(output):
        return f"TimeoutError: {overtime(timeout)}"
    if exitcode is not None and exitcode < 0:
        return f"WorkerDied: the process was killed by {signal.Signals(-exitcode).name}"
    return f"WorkerDied: the process ended with exit code {exitcode}"


def overtime(seconds: float) -> str:
    """What is said of a run that has taken too long."""
    return f"--run-timeout: the run has taken more than {seconds:g} seconds"
