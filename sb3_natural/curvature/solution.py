"""What every solver of A x = b offers: a direction, or the reason why there is none."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from sb3_natural.curvature.operators import Operator

__all__ = ["NoStepError", "Solution", "Solver"]


class NoStepError(ArithmeticError):
    """No sound step can be computed from this batch; the message says why."""


class Solution(NamedTuple):
    """The direction x with A x = b, and for iterative solvers how it was reached."""

    direction: Tensor
    """Shape (P,), in the precision of b."""
    iterations: int | None = None
    residual: float | None = None
    """||A x - b|| / ||b||"""
    curvature: float | None = None
    """x^T A x, from solvers that know it without another product."""


class Solver(ABC):
    """Solves systems with a curvature operator.

    A solver may keep state between updates (running averages, say); it is saved with the model.
    """

    @abstractmethod
    def solve(self, operator: Operator, b: Tensor) -> Solution:
        """Solve A x = b.

        :param operator: A, symmetric and positive semidefinite; a damping is part of it
        :param b: shape (P,)
        :raises NoStepError: no sound direction can be found
        :raises ValueError: b is not a vector of P elements
        """
