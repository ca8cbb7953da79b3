"""Where the time goes: functions are replaced by ones that count their time."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

# The phases of a training step, in the order in which they are shown.
PHASES = ("simulator", "acting", "bookkeeping", "policy update", "critic update", "joint update")
# The parts of a training with ACER: collecting is outside the updates, the others are within.
ACER_PARTS = (
    "collecting",
    "gathering",
    "forward",
    "Retrace",
    "projection",
    "backward",
    "optimiser",
    "rest",
)


class Stopwatch:
    """Seconds by name. Of functions that call each other, each counts its whole time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: set[str] = set()

    def watch(self, owner: Any, method: str, name: str, only_during: str | None = None) -> None:
        """Count the time spent in ``owner.method`` under ``name``.

        :param only_during: count only while this name is being measured too
        """
        function: Callable[..., Any] = getattr(owner, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            """The function, with its time counted."""
            if name in self._running or (only_during and only_during not in self._running):
                return function(*args, **kwargs)
            self._running.add(name)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start
                self._running.discard(name)

        setattr(owner, method, watched)

    def reset(self) -> None:
        """Drop what was counted."""
        self.seconds.clear()


def phases(seconds: dict[str, float], total: float) -> dict[str, float]:
    """The seconds of every phase, which add up to the total: bookkeeping is the remainder.

    :param seconds: of some phases, not of bookkeeping
    :param total: seconds of the whole
    """
    return _split(PHASES, "bookkeeping", seconds, total)


def acer_parts(seconds: dict[str, float], total: float) -> dict[str, float]:
    """The seconds of every part, which add up to the total: the rest is the remainder.

    :param seconds: of some parts, not of the rest
    :param total: seconds of the whole
    """
    return _split(ACER_PARTS, "rest", seconds, total)


def _split(
    names: Sequence[str], remainder: str, seconds: dict[str, float], total: float
) -> dict[str, float]:
    known = {name: seconds.get(name, 0.0) for name in names if name != remainder}
    measured = {**known, remainder: total - sum(known.values())}
    return {name: measured[name] for name in names}
