"""How far a step may go.

Along the natural gradient x there are three rules: a fixed multiple of x (Kakade 2001); the
multiple at which the quadratic model of the KL divergence equals delta, shortened where the
measured divergence is far beyond delta; and that multiple shrunk until the measured divergence is
within delta and the surrogate improves, which is TRPO (Schulman et al. 2015). The divergence is the
mean over states, or that of the state where it is largest. Steps that pay for the divergence
instead of bounding it are in :mod:`~sb3_natural.curvature.penalty`.

ACER (Wang et al. 2017) bounds the gradient itself, sample by sample, by a linear model of the KL
divergence to an average of past policies.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_natural.curvature.jacobian import Jacobian
from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.networks.parameters import assign_flat, flatten
from sb3_natural.shapes import check_shape

__all__ = [
    "KL_TOLERANCE",
    "PolicyLine",
    "StepTaken",
    "backtracking_line_search",
    "fixed_step",
    "kl_normalised_length",
    "limited",
    "linearised_projection",
    "shortened_step",
]

KL_TOLERANCE = 1.5
_KL_ROUNDING = 1e-6  # nats; what float32 leaves of a mean KL divergence of zero
_MAX_SHORTENINGS = 20


class PolicyLine:
    """The policies with parameters ``theta + beta x``: goes to one of them, and measures it.

    :param fisher: Fisher information of the policy at theta, which is where the policy is now
    :param jacobian: Jacobian of the statistics of all samples, whose outputs are those at theta
    :param surrogate: surrogate objective of the same samples
    :param direction: x, shape (P,)
    :param maximal: whether the divergence is that of the state where it is largest, instead of the
        mean over states
    :param origin: the statistics from which the divergence is measured, (N, K); None: at theta
    :ivar phi: the statistics where the policy is, (N, K)
    :ivar kls: the KL divergence of each state where it went last, in nats, (N,)
    """

    def __init__(
        self,
        fisher: FisherOperator,
        jacobian: Jacobian,
        surrogate: Surrogate,
        direction: Tensor,
        maximal: bool = False,
        origin: Tensor | None = None,
    ) -> None:
        self.phi = jacobian.outputs
        self._maximal = maximal
        self._origin = jacobian.outputs if origin is None else origin
        self.kls = self.phi.new_zeros(len(self.phi))
        self._fisher = fisher
        self._jacobian = jacobian
        self._surrogate = surrogate
        self._theta = flatten(param.detach() for param in fisher.params)
        self._direction = direction

    def __call__(self, length: float) -> tuple[float, float]:
        """Go to ``theta + length x``, and measure the policy there.

        :param length: beta, the multiple of x
        :return: the surrogate, and the mean or largest KL divergence, in nats; NaN where the policy
            is not finite
        """
        assign_flat(self._fisher.params, self._theta + length * self._direction)
        self.phi = self._jacobian.evaluate()
        self.kls = self._surrogate.family.kl(self._origin, self.phi)
        kl = self.kls.max() if self._maximal else self.kls.mean()
        return self._surrogate(self.phi), kl.item()

    def go_back(self) -> None:
        """Go back to theta."""
        assign_flat(self._fisher.params, self._theta)
        self.phi = self._jacobian.outputs


def kl_normalised_length(quadratic_form: float, target_kl: float) -> float:
    """The multiple of x at which the quadratic model of the KL divergence is delta.

    This is ``beta = sqrt(2 delta / (x^T F x))``, so that ``1/2 (beta x)^T F (beta x) = delta``.

    :param quadratic_form: ``x^T F x``
    :param target_kl: delta, in nats
    :return: beta
    :raises NoStepError: ``x^T F x`` is not a positive finite number
    """
    if not (quadratic_form > 0 and math.isfinite(quadratic_form)):
        raise NoStepError(
            f"the quadratic model of the KL divergence along the direction is {quadratic_form}: "
            "the direction does not change the policy, or is not finite"
        )
    return math.sqrt(2 * target_kl / quadratic_form)


def limited(direction: Tensor, block: slice, limit: float) -> Tensor:
    """The direction, with one block of it shortened to a root mean square of at most ``limit``.

    Where the Fisher information is block diagonal, as that of a Gaussian is in mean and standard
    deviations, this leaves the KL divergence of the other block's change as it was.

    :param direction: x, shape (P,), left as it is
    :param block: which of the P elements are limited
    :param limit: the largest root mean square of the block's elements
    :return: x itself if its block is short enough, else a new tensor of shape (P,)
    """
    size = direction[block].double().square().mean().sqrt().item()
    if size <= limit:
        return direction
    shortened = direction.clone()
    shortened[block] *= limit / size
    return shortened


class StepTaken(NamedTuple):
    """A step, and what it did."""

    length: float
    """The multiple of the direction by which the parameters moved."""
    objective: float
    """The surrogate after it."""
    kl: float
    """The measured KL divergence, in nats."""
    shortenings: int = 0
    """How many times it was shortened."""


def fixed_step(evaluate: Callable[[float], tuple[float, float]], length: float) -> StepTaken:
    """The step of the given length, whatever its KL divergence.

    :param evaluate: maps a length to (surrogate objective, measured KL) of the policy there; a
        :class:`PolicyLine`, say
    :param length: the multiple of the direction to take
    :raises NoStepError: the policy there is not finite. The policy is left there.
    """
    objective, kl = evaluate(length)
    if not (math.isfinite(objective) and math.isfinite(kl)):
        raise NoStepError("the step would make the policy non-finite")
    return StepTaken(length, objective, kl)


def shortened_step(
    evaluate: Callable[[float], tuple[float, float]], length: float, target_kl: float
) -> StepTaken:
    """The step of the given length, made shorter while its KL divergence is far beyond delta.

    The KL-normalised length relies on a quadratic model of the divergence. Where that fails (a
    nearly certain policy about to change its mind), a step meant for 0.02 nats can measure tens.
    "Far beyond" is more than 1.5 delta, where SB3's PPO stops, too. Unlike in TRPO, the surrogate
    need not improve. Each try goes to where the parabola through the measured divergence has delta,
    or to half the length if that is longer.

    :param evaluate: as for :func:`fixed_step`
    :param length: the first length to try
    :param target_kl: delta, in nats
    :raises NoStepError: no shortened step is within bounds. The policy is left where ``evaluate``
        was last called.
    """
    for shortenings in range(_MAX_SHORTENINGS + 1):
        objective, kl = evaluate(length)
        if kl <= KL_TOLERANCE * target_kl + _KL_ROUNDING and math.isfinite(objective):
            return StepTaken(length, objective, kl, shortenings)
        # By half at most: far away the parabola knows little. NaN and infinity are halved, too.
        length *= max(0.5, math.sqrt(target_kl / kl)) if target_kl < kl < math.inf else 0.5
    raise NoStepError(
        f"the KL divergence is {kl:.3g} nats after {_MAX_SHORTENINGS} shortenings of the step, "
        f"where target_kl is {target_kl:.3g}"
    )


def backtracking_line_search(
    evaluate: Callable[[float], tuple[float, float]],
    length: float,
    objective: float,
    target_kl: float,
    shrinking_factor: float,
    max_steps: int,
) -> StepTaken:
    """The longest step that raises the surrogate within delta, of those that the search tries.

    It tries ``length * shrinking_factor^k`` for k = 0, 1, ... Source: Schulman et al. 2015,
    appendix C.

    :param evaluate: as for :func:`fixed_step`
    :param length: the first length to try
    :param objective: the surrogate at length 0, to be exceeded
    :param target_kl: delta, in nats
    :param shrinking_factor: ratio of successive lengths, between 0 and 1
    :param max_steps: how many lengths to try
    :raises NoStepError: none of them does. The policy is left where ``evaluate`` was last called.
    """
    for shortenings in range(max_steps):
        new_objective, kl = evaluate(length)
        # A comparison with NaN is false: a non-finite step is never accepted.
        if new_objective > objective and kl <= target_kl:
            return StepTaken(length, new_objective, kl, shortenings)
        length *= shrinking_factor
    raise NoStepError("the line search found no improvement within target_kl")


def linearised_projection(gradient: Tensor, kl_gradient: Tensor, delta: float) -> Tensor:
    """The z nearest to g with ``k^T z <= delta``, for every sample: ACER's trust region.

    In closed form::

        z = g - max(0, (k^T g - delta) / |k|^2) k.

    Source: Wang et al. 2017, equation 12.

    :param gradient: g, the policy gradient with respect to the statistics phi, shape (N, K)
    :param kl_gradient: k, the gradient of the KL divergence from the average policy with respect to
        the same statistics, shape (N, K)
    :param delta: bound on ``k^T z``, not negative
    :return: z, shape (N, K)
    :raises ValueError: the two gradients have different shapes
    """
    check_shape(gradient.shape, kl_gradient=kl_gradient)
    excess = (kl_gradient * gradient).sum(dim=1, keepdim=True) - delta
    squared = kl_gradient.square().sum(dim=1, keepdim=True)
    # Where k vanishes the bound holds for every z (delta is not negative): no 0 / 0 there.
    tiny = torch.finfo(squared.dtype).tiny
    return gradient - (excess.clamp(min=0.0) / squared.clamp(min=tiny)) * kl_gradient
