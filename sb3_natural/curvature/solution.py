"""What every solver of A x = b offers: a direction, or the reason why there is none."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from sb3_natural.curvature.operators import Operator
from sb3_natural.shapes import check_shape

__all__ = ["NoStepError", "Solution", "Solver", "solved"]


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


def solved(solver: Solver, operator: Operator, b: Tensor) -> Solution:
    """``solver.solve(operator, b)``, where what a solver of the user's own returns is checked.

    :raises TypeError: it is not a :class:`Solution` of a tensor, or not in the precision of b
    :raises ValueError: the direction does not have b's shape
    """
    solution = solver.solve(operator, b)
    name = f"{type(solver).__name__}.solve"
    if not isinstance(solution, Solution):
        raise TypeError(
            f"{name} must return a Solution, such as Solution(x), "
            f"and returned a {type(solution).__name__}"
        )
    direction = solution.direction
    if not isinstance(direction, Tensor):
        raise TypeError(
            f"{name} must return a tensor as direction, and returned a {type(direction).__name__}"
        )
    check_shape(b.shape, **{f"the direction of {name}": direction})
    if direction.dtype != b.dtype:
        raise TypeError(
            f"{name} must return a direction in the precision of b, {b.dtype}, "
            f"and returned {direction.dtype}"
        )
    return solution
