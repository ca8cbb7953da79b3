"""What natural-gradient algorithms do around a step: read schedules, skip what is not sound."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule

from sb3_natural.curvature.solvers import NoStepError

__all__ = ["SoundSteps"]


class SoundSteps(BaseAlgorithm):
    """Mixin for algorithms whose updates may find no sound step.

    :ivar _skipped_updates: how many were left out for that reason
    """

    _skipped_updates: int
    _warned: set[str]
    """The reasons that a warning has named"""

    def _now(
        self, name: str, schedule: float | Schedule | None, progress: float | None = None
    ) -> float:
        """What a schedule gives at this point of the training.

        :param progress: share of the training that remains, if not what remains now
        :raises ValueError: it is no number, negative or not finite
        """
        assert schedule is not None, name
        if progress is None:
            progress = self._current_progress_remaining
        # Assigned after construction it may be a plain number.
        try:
            value = FloatSchedule(schedule)(progress)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the schedule of {name} gave no number: {error}") from error
        if not 0 <= value < math.inf:
            raise ValueError(
                f"the schedule of {name} gave {value} with {progress:.3f} of the training "
                "remaining; it must be finite and not negative"
            )
        return value

    @contextmanager
    def _skipping(self, what: str = "") -> Iterator[None]:
        """Skip the update in the ``with`` block if it finds no sound step.

        Counts what was skipped, and warns once for each reason.

        :param what: is updated, where there is more than one thing
        """
        try:
            yield
        except NoStepError as error:
            self._skipped_updates += 1
            reason = f"{what} update skipped: {error}".lstrip()
            # Numbers differ from update to update; the reason is what comes before them.
            if (kind := reason.split("(")[0]) not in self._warned:
                self._warned.add(kind)
                warnings.warn(
                    f"{reason}. Further ones are counted in train/skipped_updates.", stacklevel=3
                )
