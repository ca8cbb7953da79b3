"""Solvers of (F + damping I) x = g: from the policy gradient g to the natural gradient x.

All share one small interface, :class:`FisherSolver`. Choose by name (``NPG(fisher_solver="cg")``)
or pass an instance, which gives access to what a name leaves at its default.

=============  =======================================  ==========================================
name           cost                                     when
=============  =======================================  ==========================================
``cg``         one product a step                       nearly always
``diagonal``   one backward pass a statistic            very large networks; ignores correlations
``empirical``  an N x N system                          few samples; noisy in its choice of actions
``dense``      P products and P^3                       reference for tests and tiny policies
``identity``   free                                     the vanilla policy gradient, to compare
=============  =======================================  ==========================================
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sb3_natural.curvature.operators import FisherOperator

__all__ = [
    "SOLVERS",
    "ConjugateGradient",
    "Dense",
    "Diagonal",
    "Empirical",
    "FisherSolver",
    "Identity",
    "NoStepError",
    "Solution",
    "conjugate_gradient",
]


class NoStepError(ArithmeticError):
    """No sound step can be computed from this batch; the message says why."""


class Solution(NamedTuple):
    """The direction x with (F + damping I) x = g, and for iterative solvers how it was reached."""

    direction: Tensor
    """Shape (P,), in the gradient's precision."""
    iterations: int | None = None
    residual: float | None = None
    """||(F + damping I) x - g|| / ||g||"""
    curvature: float | None = None
    """x^T (F + damping I) x, from solvers that know it without another product."""


class _Operator(Protocol):
    def __matmul__(self, vector: Tensor) -> Tensor: ...


def conjugate_gradient(
    operator: _Operator,
    b: Tensor,
    max_steps: int = 10,
    tol: float = 1e-5,
    x0: Tensor | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Solution:
    """Solve ``operator @ x = b`` for a symmetric positive definite operator.

    Products run in the precision of ``b``; the recurrences and dot products in float64, where the
    device has it, since they cost nothing next to a product.

    Source: Nocedal & Wright, Numerical Optimization (2006), algorithm 5.3.

    :param b: right-hand side, shape (P,)
    :param max_steps: stop after this many products
    :param tol: stop when ``||operator @ x - b|| <= tol ||b||``
    :param x0: where to start; zero by default. A start costs one product.
    :param precondition: maps r to an approximation of ``operator^-1 r``
    :raises NoStepError: non-positive curvature or a non-finite product was met
    """
    exact = _exact_dtype(b)

    def apply(vector: Tensor) -> Tensor:
        return (operator @ vector.to(b.dtype)).to(exact)

    target = b.to(exact)
    scale = target.norm().item()
    if scale == 0:
        return Solution(torch.zeros_like(b), 0, 0.0)
    x = torch.zeros_like(target) if x0 is None else x0.to(exact, copy=True)
    r = target.clone() if x0 is None else target - apply(x)
    rr = (r @ r).item()
    if not math.isfinite(rr):
        raise NoStepError("the right-hand side or a Fisher-vector product is not finite")
    z = r if precondition is None else precondition(r)
    p, rz = z.clone(), (r @ z).item()
    steps = 0
    while steps < max_steps and math.sqrt(rr) > tol * scale:
        product = apply(p)
        curvature = (p @ product).item()
        if not math.isfinite(curvature):
            raise NoStepError("a Fisher-vector product is not finite")
        if curvature <= 0:
            raise NoStepError(
                f"conjugate gradient met non-positive curvature ({curvature:.3g}) "
                f"at step {steps + 1}; more damping makes the system positive definite"
            )
        x.add_(p, alpha=rz / curvature)
        r.sub_(product, alpha=rz / curvature)
        rr = (r @ r).item()
        z = r if precondition is None else precondition(r)
        rz, previous = rr if precondition is None else (r @ z).item(), rz
        p.mul_(rz / previous).add_(z)
        steps += 1
    curvature = (x @ (target - r)).item()
    return Solution(x.to(b.dtype), steps, math.sqrt(rr) / scale, curvature)


class FisherSolver(ABC):
    """Turns a policy gradient into a direction.

    A solver may keep state between updates (a warm start, running averages); it is saved with the
    model.
    """

    @abstractmethod
    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        """Solve (F + damping I) x = g; the damping is the operator's.

        :param gradient: g, shape (P,)
        :raises NoStepError: no sound direction can be found
        """


class ConjugateGradient(FisherSolver):
    """Conjugate gradient on F + damping I: never forms F.

    :param max_steps: stop after this many products
    :param tol: stop when the relative residual is below this
    :param warm_start: start from the last update's solution. Pays where successive natural
        gradients are alike (large batches, small steps); costs one product.
    :param precondition: scale by the exact diagonal of F + damping I, which costs one backward
        pass per statistic and saves steps where parameters differ widely in scale
    :raises ValueError: max_steps below 1, or tol negative
    """

    def __init__(
        self,
        max_steps: int = 10,
        tol: float = 1e-5,
        warm_start: bool = False,
        precondition: bool = False,
    ) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
        if not tol >= 0.0:
            raise ValueError(f"tol must not be negative, got {tol}")
        self.max_steps = max_steps
        self.tol = tol
        self.warm_start = warm_start
        self.precondition = precondition
        self._last: Tensor | None = None

    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        diagonal = fisher.diagonal() if self.precondition else None
        solution = conjugate_gradient(
            fisher,
            gradient,
            self.max_steps,
            self.tol,
            x0=self._last if self.warm_start else None,
            precondition=None if diagonal is None else lambda r: r / diagonal,
        )
        if self.warm_start:
            self._last = solution.direction
        return solution


class Diagonal(FisherSolver):
    """x = g / (diag(F) + damping): exact diagonal, correlations ignored."""

    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        diagonal = fisher.diagonal()
        if not (diagonal > 0).all():
            raise NoStepError("the diagonal of the Fisher information has zeros; use damping > 0")
        return Solution(gradient / diagonal)


class Empirical(FisherSolver):
    """The empirical Fisher, mean_i s_i s_i^T of the scores s_i, inverted in sample space.

    With S the N x P matrix of scores, the Woodbury identity gives

        x = (g - S^T (damping N I + S S^T)^-1 S g) / damping,

    exact for the empirical Fisher. Memory is N x P: subsample the states for large networks. With
    the actions that were taken, x is also Kakade's compatible function approximation: the w that
    minimises mean((w^T s_i - A_i)^2) + damping |w|^2.
    """

    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        if fisher.damping == 0:
            raise ValueError(
                "the empirical Fisher has rank N < P and needs damping > 0; got damping=0"
            )
        scores = fisher.scores()
        exact = _exact_dtype(scores)
        scores, g = scores.to(exact), gradient.to(exact)
        gram = scores @ scores.T
        gram.diagonal().add_(fisher.damping * len(scores))
        factor = _cholesky(gram)
        inner = torch.cholesky_solve((scores @ g)[:, None], factor).squeeze(1)
        return Solution(((g - scores.T @ inner) / fisher.damping).to(gradient.dtype))


class Dense(FisherSolver):
    """Forms F and solves by Cholesky, in float64: the reference for the others."""

    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        matrix = fisher.dense()
        exact = _exact_dtype(matrix)
        factor = _cholesky(matrix.to(exact))
        direction = torch.cholesky_solve(gradient.to(exact)[:, None], factor).squeeze(1)
        return Solution(direction.to(gradient.dtype))


class Identity(FisherSolver):
    """x = g: the vanilla policy gradient, for comparison. Not invariant to parameterisation."""

    def solve(self, fisher: FisherOperator, gradient: Tensor) -> Solution:
        return Solution(gradient)


# K-FAC (ACKTR) is to join them: it needs nothing but the operator's policy and batch.
SOLVERS: dict[str, type[FisherSolver]] = {
    "cg": ConjugateGradient,
    "diagonal": Diagonal,
    "empirical": Empirical,
    "dense": Dense,
    "identity": Identity,
}


def _exact_dtype(tensor: Tensor) -> torch.dtype:
    """float64, except on Apple's GPUs, which have none."""
    return tensor.dtype if tensor.device.type == "mps" else torch.float64


def _cholesky(matrix: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise NoStepError("the Fisher information is not positive definite; use more damping")
    return factor
