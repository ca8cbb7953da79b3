"""What every solver of A x = b offers: a direction, or the reason why there is none."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from sb3_natural.curvature.operators import Operator

__all__ = ["NoStepError", "Solution", "Solver"]


class NoStepError(ArithmeticError):
    """No sound step can be computed from this batch; the message says why."""


class Solution(NamedTuple):
    """The solution x of ``A x = b``, and for iterative solvers how it was reached."""

    direction: Tensor
    """x, shape (P,), in the precision of b."""
    iterations: int | None = None
    """How many products an iterative solver took; None from others."""
    residual: float | None = None
    """The relative residual ``|A x - b| / |b|`` of an iterative solver; None from others."""
    curvature: float | None = None
    """``x^T A x`` from solvers that know it without another product; None from others."""


class Solver(ABC):
    """Solves systems ``A x = b`` with a curvature operator A.

    Derive from this class for a solver of your own: NPG takes an instance as ``fisher_solver`` or
    ``critic_solver``. A solver may keep state between updates (running averages, say); it is saved
    with the model.
    """

    @abstractmethod
    def solve(self, operator: Operator, b: Tensor) -> Solution:
        """Solve ``A x = b``.

        :param operator: A, symmetric and positive semidefinite; a damping is part of it
        :param b: the right-hand side, shape (P,)
        :return: the solution, whose ``direction`` is x, shape (P,)
        :raises NoStepError: no sound direction can be found
        :raises ValueError: b is not a vector of P elements
        """
