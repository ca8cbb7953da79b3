"""The policy's step of sb3-contrib's TRPO, with products of the Fisher information.

sb3-contrib differentiates the gradient of the KL divergence once more for each product. Here the
products are those of :class:`~sb3_natural.curvature.operators.FisherOperator`, which equal them up
to rounding (Martens 2020, section 5); all else is as there, its averaging of the KL divergence over
an action's dimensions included.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.utils import conjugate_gradient_solver
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.networks.parameters import assign_flat, flatten

__all__ = ["TrpoStep", "dimensions_averaged", "trpo_step"]


class TrpoStep(NamedTuple):
    """What one step did."""

    objective: float
    """The surrogate objective after the step."""
    kl: float
    """The mean KL divergence, 0 if there was no step."""
    success: bool
    """Whether the line search found a step."""


def dimensions_averaged(space: spaces.Space) -> int:
    """The number of an action's dimensions over which sb3-contrib averages the KL divergence."""
    if isinstance(space, spaces.Box):
        return math.prod(space.shape)
    return int(np.prod(space.n)) if isinstance(space, spaces.MultiBinary) else 1


def trpo_step(
    policy: ActorCriticPolicy,
    observations: PyTorchObs,
    actions: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    *,
    target_kl: float,
    cg_max_steps: int,
    cg_damping: float,
    line_search_max_iter: int,
    line_search_shrinking_factor: float,
) -> TrpoStep:
    """Take one step, or none; arguments as for ``sb3_contrib.TRPO``.

    :param actions: as the distribution's ``log_prob`` takes them
    :param advantages: normalised if they are to be
    :raises NoStepError: the direction is not finite; nothing has moved
    """
    fisher = FisherOperator(policy, observations)
    dims = dimensions_averaged(policy.action_space)
    surrogate = Surrogate(fisher.distribution, actions, old_log_prob, advantages)
    before, phi = fisher.statistics, fisher.statistics
    objective, phi_gradient = surrogate.with_gradient(phi)
    gradient = fisher.jacobian.vjp(phi_gradient)

    def product(vector: Tensor) -> Tensor:
        return (fisher @ vector).div_(dims).add_(vector, alpha=cg_damping)

    direction = conjugate_gradient_solver(product, gradient, max_iter=cg_max_steps)
    if not torch.isfinite(direction).all():
        raise NoStepError("the search direction is not finite")
    longest = math.sqrt(2 * target_kl / float(direction @ product(direction)))
    theta, share = flatten(param.detach() for param in fisher.params), 1.0
    for _ in range(line_search_max_iter):
        assign_flat(fisher.params, theta + share * longest * direction)
        phi = fisher.jacobian.evaluate()
        kl = fisher.family.kl(phi, before).mean().item() / dims
        reached = surrogate(phi)
        if kl < target_kl and reached > objective:
            return TrpoStep(reached, kl, success=True)
        share *= line_search_shrinking_factor
    assign_flat(fisher.params, theta)
    return TrpoStep(objective, 0.0, success=False)
