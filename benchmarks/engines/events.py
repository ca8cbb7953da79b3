"""What an engine reports about the runs of a sweep."""

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.errors import sanitize, warning_texts
from benchmarks.processes import time_limit
from benchmarks.records import RunSpec
from benchmarks.run import Progress

_LONGEST_LINE = 2_000  # characters
_LONGEST_TRACEBACK = 50_000


@dataclass(frozen=True)
class Advanced:
    """A run has made progress."""

    spec: RunSpec
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A run has finished or, where ``failure`` is set, failed.

    ``warnings`` are the different Python warnings of a finished run.
    """

    spec: RunSpec
    started: str
    failure: "Failure | None" = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a run failed, as text: not every exception can be sent to another process.

    Both texts are cut to a length that a record and a table can hold.
    """

    error: str
    traceback: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", sanitize(self.error, _LONGEST_LINE))
        object.__setattr__(self, "traceback", sanitize(self.traceback, _LONGEST_TRACEBACK))


@dataclass(frozen=True)
class Success:
    """A run has finished, with these different Python warnings."""

    warnings: tuple[str, ...]


def attempt(work: Callable[[], object], timeout: float | None = None) -> Success | Failure:
    """Execute a run and return its outcome; it raises nothing.

    :param timeout: seconds that the run may take; None sets no limit
    """
    try:
        with warnings.catch_warnings(record=True) as caught, time_limit(timeout):
            # MuJoCo warns of Gymnasium's own models, about which nobody here can do anything.
            warnings.filterwarnings("ignore", "(?s).*compiler attribute", UserWarning)
            work()
    except BaseException as error:
        line = "".join(traceback.format_exception_only(error)).strip()
        return Failure(line, traceback.format_exc())
    return Success(warning_texts(caught))
