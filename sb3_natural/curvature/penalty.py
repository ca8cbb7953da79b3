"""Steps that pay for the KL divergence instead of bounding it: max over theta of L - C D.

L is the surrogate of :mod:`~sb3_natural.curvature.surrogate`, D the KL divergence from the policy
that collected the rollout: the mean over states, or the largest. With D the largest and
C = 4 gamma max|A| / (1 - gamma)^2, the penalised objective bounds the return from below, so that a
step that raises it never lowers the return (Schulman et al. 2015, theorem 1). That C allows tiny
steps only; in practice it is a number to choose, or one that adapts to a target (Schulman et al.
2017, section 4).

Where the divergence vanishes, so does its gradient, and the quadratic model of L - C D is

    g^T d - C/2 d^T F d,   whose maximum is at d = x / C with x = F^-1 g:

Kakade's fixed step. Damping makes x shorter than that, so the length used here is the one that is
best along x, g^T x / (C x^T F x), which is 1/C without damping. The steps after it are of the same
kind, with g the gradient of L - C D where the policy then is.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from sb3_natural.curvature.jacobian import Jacobian
from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.curvature.trust_region import KL_TOLERANCE, PolicyLine, StepTaken, limited
from sb3_natural.networks.parameters import flatten

__all__ = ["Aim", "PenalisedAscent", "PenalisedRise", "adapted", "penalty_for"]

_MAX_HALVINGS = 20
# Nats. Where the quadratic model's divergence is larger than this, the model means nothing.
_FURTHEST = 1.0
# Armijo's condition: the model promises a rise of half of slope times length, and a step that
# brings less than half of that has gone too far. Any rise will not do: an overshooting step may end
# where the policy is certain, and stay there.
_WORTH = 0.25
# Adapting doubles and halves; no scale of advantages needs more than this.
_SMALLEST, _LARGEST = 1e-30, 1e30


class Aim(NamedTuple):
    """The natural gradient of an objective where the policy is."""

    fisher: FisherOperator
    jacobian: Jacobian
    """Of the statistics of all samples"""
    gradient: Tensor
    """g, (P,)"""
    direction: Tensor
    """x, (P,)"""
    quadratic_form: float
    """x^T F x"""

    def model(self, maximal: bool) -> tuple[float, float]:
        """g^T x, and x^T F x: the mean over states, or that of the state where it is largest.

        :raises NoStepError: they are not positive and finite, so that the model has no maximum
        """
        slope, form = (self.gradient @ self.direction).item(), self.quadratic_form
        if maximal:
            form = self.fisher.quadratic_forms(self.direction).max().item()
        if not (0 < slope < math.inf and 0 < form < math.inf):
            raise NoStepError(
                "the quadratic model of the penalised objective has no maximum along the direction "
                f"(slope {slope:.3g}, curvature {form:.3g})"
            )
        return slope, form


class PenalisedRise(NamedTuple):
    """All steps of an update, and where they led."""

    taken: StepTaken
    """The length of the first step; L and D after all of them, and how often they were shortened"""
    objective: float
    """L - C D after them"""
    n_steps: int
    kl_predicted: float
    """The quadratic model's mean KL divergence of the first step"""
    phi: Tensor
    """The statistics of the new policy, (N, K)"""


class _Step(NamedTuple):
    """One step, and where it led."""

    taken: StepTaken
    objective: float
    kl_predicted: float
    phi: Tensor


class PenalisedAscent:
    """Raises L - C D, step by step, and never lowers it.

    Each step goes along the natural gradient of L - C D, to where the quadratic model is highest.
    The step is halved until L - C D has risen by a fair part of what the model promised. The ascent
    ends where there is no such step, or one has gained little.

    :param surrogate: L, of N samples
    :param origin: the statistics of the policy that collected them, (N, K), where D is zero
    :param penalty: C, in units of advantages per nat
    :param maximal: D is the largest of the N divergences, instead of their mean
    :param noise: where a Gaussian's log standard deviations are among the parameters
    :param max_noise_change: root of the mean square by which all steps together may change these
    :param tolerance: a step that gains less than this share of the gain so far is the last
    :param max_steps: how many steps at most
    """

    def __init__(
        self,
        surrogate: Surrogate,
        origin: Tensor,
        penalty: float,
        maximal: bool = False,
        noise: slice | None = None,
        max_noise_change: float = math.inf,
        tolerance: float = 0.01,
        max_steps: int = 10,
    ) -> None:
        self._surrogate = surrogate
        self._origin = origin
        self._family = surrogate.family
        self._penalty = penalty
        self._maximal = maximal
        self._noise = noise
        self._max_noise_change = max_noise_change
        self._tolerance = tolerance
        self._max_steps = max_steps

    def gradient(self, phi: Tensor) -> Tensor:
        """The gradient of L - C D with respect to the statistics phi; both of shape (N, K)."""
        _, gradient = self._surrogate.with_gradient(phi)
        by_kl = self._family.kl_gradient(self._origin, phi)
        if not self._maximal:
            return gradient - by_kl * (self._penalty / len(phi))
        furthest = self._family.kl(self._origin, phi).argmax()
        gradient[furthest] -= self._penalty * by_kl[furthest]
        return gradient

    def run(self, first: Aim, next_aim: Callable[[], Aim]) -> PenalisedRise:
        """Take the steps; there is at least one.

        :param first: the natural gradient of L, which is that of L - C D at the origin
        :param next_aim: the natural gradient of L - C D where the policy is when it is called
        :raises NoStepError: not even the first step raises L - C D; the policy is as before
        """
        theta = flatten(param.detach() for param in first.fisher.params)
        start = here = self._surrogate(self._origin)
        steps = [self._step(first, theta, here)]
        while len(steps) < self._max_steps:
            gain, here = steps[-1].objective - here, steps[-1].objective
            if gain <= self._tolerance * (here - start):
                break
            try:
                steps.append(self._step(next_aim(), theta, here))
            except NoStepError:  # there is nothing more to gain
                break
        last = steps[-1]
        shortenings = sum(step.taken.shortenings for step in steps)
        taken = last.taken._replace(length=steps[0].taken.length, shortenings=shortenings)
        return PenalisedRise(taken, last.objective, len(steps), steps[0].kl_predicted, last.phi)

    def _step(self, aim: Aim, theta: Tensor, here: float) -> _Step:
        """One step.

        :param theta: the parameters before the first step, (P,)
        :param here: L - C D where the policy is, to be exceeded
        :raises NoStepError: there is none; the policy is as before
        """
        slope, form = aim.model(self._maximal)
        length = min(slope / (self._penalty * form), math.sqrt(2 * _FURTHEST / form))
        direction = self._with_bounded_noise(aim, length, theta)
        form, slope = aim.fisher.quadratic_form(direction), (aim.gradient @ direction).item()
        line = PolicyLine(
            aim.fisher, aim.jacobian, self._surrogate, direction, self._maximal, self._origin
        )
        for halvings in range(_MAX_HALVINGS + 1):
            surrogate, kl = line(length)
            objective = surrogate - self._penalty * kl
            # A comparison with NaN is false: a non-finite step is never accepted.
            if objective > here and objective - here >= _WORTH * slope * length:
                taken = StepTaken(length, surrogate, kl, halvings)
                return _Step(taken, objective, 0.5 * length**2 * form, line.phi)
            length /= 2
        line.go_back()
        raise NoStepError(
            "no step along the natural gradient raises the surrogate by more than its divergence "
            f"costs (with a penalty of {self._penalty:.3g})"
        )

    def _with_bounded_noise(self, aim: Aim, length: float, theta: Tensor) -> Tensor:
        """The direction, its noise bounded so that all steps so far and this one keep the bound."""
        if self._noise is None:
            return aim.direction
        now = flatten(param.detach() for param in aim.fisher.params)
        moved = (now - theta)[self._noise].double().square().mean().sqrt().item()
        left = max(self._max_noise_change - moved, 0.0)
        return limited(aim.direction, self._noise, left / length)


def penalty_for(aim: Aim, target_kl: float, maximal: bool = False) -> float:
    """The C for which the quadratic model's divergence at its maximum along x is the target.

    :param target_kl: in nats, positive
    :param maximal: as for :class:`PenalisedAscent`
    :raises NoStepError: the model has no maximum
    """
    slope, form = aim.model(maximal)
    return slope / math.sqrt(2 * target_kl * form)


def adapted(penalty: float, kl: float, target_kl: float) -> float:
    """The next C: doubled where the divergence is far above its target, halved where far below.

    Source: Schulman et al. 2017, section 4.

    :param penalty: C of the step that measured the divergence
    :param kl: the divergence, in nats
    :param target_kl: in nats
    """
    if kl > KL_TOLERANCE * target_kl:
        return min(2.0 * penalty, _LARGEST)
    if kl < target_kl / KL_TOLERANCE:
        return max(penalty / 2.0, _SMALLEST)
    return penalty
