"""What happens to the runs of a sweep, whatever the engine."""

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.run import Progress
from benchmarks.secrets import mask
from benchmarks.specs import RunSpec


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
    """Why a run failed: as text, since exceptions need not survive the way between processes."""

    error: str
    traceback: str


@dataclass(frozen=True)
class Success:
    """A run has done what it should; its Python warnings, each once."""

    warnings: tuple[str, ...]


def attempt(work: Callable[[], object]) -> Success | Failure:
    """Execute a run and say what became of it; no exception leaves."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            # MuJoCo says this of Gymnasium's own models; nobody here can act on it.
            warnings.filterwarnings("ignore", "(?s).*compiler attribute", UserWarning)
            work()
    except BaseException as error:
        line = "".join(traceback.format_exception_only(error)).strip()
        return Failure(mask(line), mask(traceback.format_exc()))
    return Success(
        tuple(dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in caught))
    )
