"""Solvers of A x = b, A a curvature operator: from a gradient b to a natural gradient x.

All share one small interface, :class:`Solver`. Choose one by name (``NPG(fisher_solver="cg")``), or
pass an instance to set what a name leaves at its default. They serve the policy, where A is the
damped Fisher information, and (except ``empirical``) the Gauss-Newton critic (``critic_solver``).

=============  =======================================  ==========================================
name           cost                                     when
=============  =======================================  ==========================================
``cg``         one product a step                       nearly always
``diagonal``   one backward pass per output             very large networks; ignores correlations
``empirical``  an N x N system                          few samples; noisy in its choice of actions
``dense``      P products and P^3                       reference for tests and tiny networks
``identity``   free                                     the vanilla gradient, for comparison
``kfac``       one backward pass per output             wide and convolutional networks
=============  =======================================  ==========================================
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sb3_natural.curvature.kfac import KFAC
from sb3_natural.curvature.operators import FisherOperator, Operator, undamped
from sb3_natural.curvature.solution import NoStepError, Solution, Solver
from sb3_natural.shapes import check_shape

__all__ = [
    "KFAC",
    "SOLVERS",
    "ConjugateGradient",
    "Dense",
    "Diagonal",
    "Empirical",
    "Identity",
    "NoStepError",
    "Solution",
    "Solver",
    "conjugate_gradient",
]


class _Products(Protocol):
    def __matmul__(self, vector: Tensor) -> Tensor: ...


def conjugate_gradient(
    operator: _Products,
    b: Tensor,
    max_steps: int = 10,
    tol: float = 1e-5,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
) -> Solution:
    """Solve ``operator @ x = b`` for a symmetric positive definite operator, by products alone.

    Products run in the precision of ``b``; the recurrences and dot products in float64, where the
    device has it, since they cost nothing next to a product.

    Source: Nocedal & Wright, Numerical Optimization (2006), algorithm 5.3.

    :param operator: an :class:`~sb3_natural.curvature.operators.Operator`, or anything else that
        ``@`` multiplies by a vector of shape (P,)
    :param b: right-hand side, shape (P,)
    :param max_steps: stop after this many products
    :param tol: stop when the relative residual ``|operator @ x - b| / |b|`` is at most this
    :param preconditioner: maps r, shape (P,), in the precision of ``b``, to an approximation of
        ``operator^-1 r``; it must be linear, symmetric and positive definite. None: no
        preconditioning
    :return: x, with the number of products, the residual and ``x^T (operator @ x)``
    :raises NoStepError: non-positive curvature or a non-finite product was met
    :raises ValueError: b is not a vector that the operator takes
    """
    check_shape((b.numel(),), b=b)
    exact = _exact_dtype(b)
    target = b.to(exact)
    scale = target.norm().item()
    if scale == 0:
        return Solution(torch.zeros_like(b), 0, 0.0)
    x, r = torch.zeros_like(target), target.clone()
    rr = (r @ r).item()
    if not math.isfinite(rr):
        raise NoStepError("the right-hand side is not finite")

    def conditioned(r: Tensor) -> Tensor:
        """The preconditioner works in the precision of ``b``, as the operator does."""
        if preconditioner is None:
            return r
        z = preconditioner(r.to(b.dtype, copy=True))
        check_shape(b.shape, **{"the preconditioner's result": z})
        return z.to(exact)

    z = conditioned(r)
    p, rz = z.clone(), (r @ z).item()
    steps = 0
    while steps < max_steps and math.sqrt(rr) > tol * scale:
        product = (operator @ p.to(b.dtype)).to(exact)
        curvature = (p @ product).item()
        if not math.isfinite(curvature):
            raise NoStepError("a product with the curvature matrix is not finite")
        if curvature <= 0:
            raise NoStepError(
                f"conjugate gradient met non-positive curvature ({curvature:.3g}) "
                f"at step {steps + 1}; more damping makes the system positive definite"
            )
        x.add_(p, alpha=rz / curvature)
        r.sub_(product, alpha=rz / curvature)
        rr = (r @ r).item()
        z = conditioned(r)
        rz, previous = rr if preconditioner is None else (r @ z).item(), rz
        p.mul_(rz / previous).add_(z)
        steps += 1
    curvature = (x @ (target - r)).item()
    return Solution(x.to(b.dtype), steps, math.sqrt(rr) / scale, curvature)


class ConjugateGradient(Solver):
    """Conjugate gradient: needs products with the matrix, and never forms it.

    :param max_steps: stop after this many products
    :param tol: stop when the relative residual ``|A x - b| / |b|`` is at most this
    :param preconditioner: as for :func:`conjugate_gradient`
    :raises ValueError: ``max_steps`` is less than 1, ``tol`` is negative, or the preconditioner is
        no function
    """

    # A class attribute: instances in models of version 0.1 do not have it.
    preconditioner: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self,
        max_steps: int = 10,
        tol: float = 1e-5,
        preconditioner: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
        if not tol >= 0.0:
            raise ValueError(f"tol must not be negative, got {tol}")
        if preconditioner is not None and not callable(preconditioner):
            raise ValueError(f"preconditioner must be a function, got {preconditioner!r}")
        self.max_steps = max_steps
        self.tol = tol
        self.preconditioner = preconditioner

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        check_shape(operator.shape[:1], b=b)
        return conjugate_gradient(operator, b, self.max_steps, self.tol, self.preconditioner)


class Diagonal(Solver):
    """Division by the exact diagonal, ``x = b / diag(A)``: correlations are ignored."""

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        check_shape(operator.shape[:1], b=b)
        diagonal = operator.diagonal()
        if not (diagonal > 0).all():
            raise NoStepError("the diagonal of the curvature matrix has zeros; use more damping")
        return Solution(b / diagonal)


class Empirical(Solver):
    """The empirical Fisher information ``mean_i s_i s_i^T`` of the scores s_i, inverted.

    With S the N x P matrix of scores, the Woodbury identity gives::

        x = (b - S^T (damping N I + S S^T)^-1 S b) / damping,

    which is exact for the empirical Fisher information. Memory is N x P: subsample the states for
    large networks. With b the policy gradient of the same samples, x is also Kakade's compatible
    function approximation: the w that minimises ``mean((w^T s_i - A_i)^2) + damping |w|^2``.
    """

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        """Solve ``A x = b``, A the empirical Fisher information with damping.

        :param operator: ``Damped(FisherOperator(policy, observations, actions), damping)``
        :param b: the right-hand side, shape (P,)
        :return: the solution, whose ``direction`` is x, shape (P,)
        :raises NoStepError: the scores are not finite
        :raises ValueError: the operator is not a damped Fisher information with actions, or the
            damping is 0
        """
        check_shape(operator.shape[:1], b=b)
        fisher, damping = undamped(operator)
        if fisher is operator or not isinstance(fisher, FisherOperator):
            raise ValueError(
                "the empirical Fisher is made of a policy's scores: operator must be "
                "Damped(FisherOperator(policy, observations, actions), damping), "
                f"got a {type(fisher).__name__}"
            )
        if damping == 0:
            raise ValueError(
                "the empirical Fisher has rank N < P and needs damping > 0; got damping=0"
            )
        scores = fisher.scores()
        exact = _exact_dtype(scores)
        scores, b_exact = scores.to(exact), b.to(exact)
        gram = scores @ scores.T
        gram.diagonal().add_(damping * len(scores))
        factor = _cholesky(gram)
        inner = torch.cholesky_solve((scores @ b_exact)[:, None], factor).squeeze(1)
        return Solution(((b_exact - scores.T @ inner) / damping).to(b.dtype))


class Dense(Solver):
    """The matrix itself, solved by Cholesky in float64: the reference for the others."""

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        check_shape(operator.shape[:1], b=b)
        matrix = operator.dense()
        exact = _exact_dtype(matrix)
        factor = _cholesky(matrix.to(exact))
        direction = torch.cholesky_solve(b.to(exact)[:, None], factor).squeeze(1)
        return Solution(direction.to(b.dtype))


class Identity(Solver):
    """No curvature, ``x = b``: the vanilla gradient, which depends on the parameterisation."""

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        check_shape(operator.shape[:1], b=b)
        return Solution(b)


SOLVERS: dict[str, type[Solver]] = {
    "cg": ConjugateGradient,
    "diagonal": Diagonal,
    "empirical": Empirical,
    "dense": Dense,
    "identity": Identity,
    "kfac": KFAC,
}


def _exact_dtype(tensor: Tensor) -> torch.dtype:
    """float64, except on Apple's GPUs, which have none."""
    return tensor.dtype if tensor.device.type == "mps" else torch.float64


def _cholesky(matrix: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise NoStepError("the curvature matrix is not positive definite; use more damping")
    return factor
