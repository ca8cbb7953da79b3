"""What a report compares runs by: one metric, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.names import plain
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING

_NOUNS = {
    EVALUATION: "evaluation return",
    TRAINING: "training return",
    SUCCESS_RATE: "success rate",
}
_SCORES = {"final": "final {}", "best": "best {}", "area": "area under curve"}
_HEADINGS = {
    EVALUATION: {"final": "final return", "best": "best evaluation", "area": "area under curve"}
}


@dataclass(frozen=True)
class Metric:
    """A metric and its direction.

    ``name``: as in :attr:`reports.data.readers.logged.LoggedRun.metrics`.
    """

    name: str = EVALUATION
    lower_is_better: bool = False

    @property
    def sign(self) -> int:
        """What makes the higher the better of a value that is multiplied by it."""
        return -1 if self.lower_is_better else 1

    @property
    def is_return(self) -> bool:
        """Whether its values are returns, which thresholds and scales are made for."""
        return self.name in (EVALUATION, TRAINING) and not self.lower_is_better

    @property
    def is_evaluated(self) -> bool:
        """Whether it is measured at evaluations, and not logged as training goes on."""
        return self.name in (EVALUATION, SUCCESS_RATE)

    @property
    def noun(self) -> str:
        """``evaluation return``, or the name of a column."""
        return _NOUNS.get(self.name, plain(self.name))

    @property
    def axis_label(self) -> str:
        """What stands beside an axis with its values."""
        return f"{self.noun} (lower is better)" if self.lower_is_better else self.noun

    @property
    def points(self) -> str:
        """What it has been measured at: ``evaluations`` or ``points``."""
        return "evaluations" if self.is_evaluated else "points"

    @property
    def higher(self) -> str:
        """Where the better of two runs ends: ``higher`` or ``lower``."""
        return "lower" if self.lower_is_better else "higher"

    @property
    def highest(self) -> str:
        """Where the best of all runs ends: ``highest`` or ``lowest``."""
        return "lowest" if self.lower_is_better else "highest"

    def heading(self, score: str) -> str:
        """What a score is called, by its name in :data:`reports.data.scores.SCORES`."""
        headings = _HEADINGS.get(self.name, _SCORES)
        return headings[score].format(self.noun)


EVALUATIONS = Metric()
"""Evaluation returns, which this suite's own reports are of."""
