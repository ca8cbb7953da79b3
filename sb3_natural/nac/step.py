"""The step of the policy along the natural gradient, and what is logged about it."""

from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.curvature.trust_region import (
    PolicyLine,
    StepTaken,
    fixed_step,
    kl_normalised_length,
    shortened_step,
)
from sb3_natural.nac.estimation import Batch

__all__ = ["PolicyStep", "step_along", "summary"]

# Advantages below this share of the largest reward are rounding errors of the linear system.
VANISHING = 1e-8


class PolicyStep(NamedTuple):
    """What one update did to the policy: by default nothing."""

    taken: StepTaken = StepTaken(0.0, 0.0, 0.0)
    target_kl: float = 0.0
    """delta as the step took it; 0 for a fixed step"""
    kl_predicted: float = 0.0


def step_along(
    policy: ActorCriticPolicy,
    batch: Batch,
    direction: Tensor,
    rewards: np.ndarray,
    target_kl: float | None = None,
    step_size: float = 0.0,
) -> PolicyStep:
    """Move the policy along w.

    w^T F w is the exact mean over the rollout's states and all actions, not that of the squared
    compatible advantages of the actions that were drawn, which would be noisier.

    :param direction: w, shape (P,)
    :param rewards: of the rollout, which say how large an advantage is worth a step
    :param target_kl: delta of a KL-normalised step, in nats; None: a fixed step
    :param step_size: of the fixed step
    :raises NoStepError: no sound step exists; the parameters are as before
    """
    fisher = FisherOperator(policy, batch.observations, batch.actions)
    phi = fisher.statistics
    score = fisher.family.score(fisher.distribution, phi, batch.actions)
    advantages = (score * fisher.jacobian.jvp(direction)).sum(dim=1)  # w^T grad_theta log pi
    if not torch.isfinite(advantages).all():
        raise NoStepError("the natural gradient is not finite")
    if advantages.abs().max() <= VANISHING * np.abs(rewards).max():
        raise NoStepError("the natural gradient vanishes: no action is better than another")
    quadratic_form = fisher.quadratic_form(direction)
    surrogate = Surrogate(fisher.distribution, batch.actions, batch.old_log_prob, advantages)
    line = PolicyLine(fisher, fisher.jacobian, surrogate, direction.to(phi.dtype))
    try:
        if target_kl is None:
            taken = fixed_step(line, step_size)
        else:
            length = kl_normalised_length(quadratic_form, target_kl)
            taken = shortened_step(line, length, target_kl)
    except Exception:  # whatever went wrong, the policy is never left half-way
        line.go_back()
        raise
    return PolicyStep(taken, target_kl or 0.0, 0.5 * taken.length**2 * quadratic_form)


@torch.no_grad()
def summary(
    step: PolicyStep, policy: ActorCriticPolicy, batch: Batch, buffer: RolloutBuffer
) -> dict[str, float]:
    """What is logged of every update; V is that before it, the policy that after it."""
    distribution = policy.get_distribution(batch.observations)
    family = family_of(distribution)
    values, returns = buffer.values.flatten(), buffer.returns.flatten()
    return {
        "policy_objective": step.taken.objective,
        "kl": step.taken.kl,
        "kl_predicted": step.kl_predicted,
        "step_length": step.taken.length,
        "value_loss": float(np.square(returns - values).mean()),
        "explained_variance": float(explained_variance(values, returns)),
        **family.randomness(family.statistics(distribution)),
    }
