"""What ACER logs about its updates."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_natural.acer.loss import Estimates
from sb3_natural.acer.retrace import truncated_weight
from sb3_natural.curvature.families import ActionFamily

__all__ = ["Update", "summary"]


class Update(NamedTuple):
    """What one update used and did, detached."""

    phi: Tensor
    """(N, K), before the step"""
    average: Tensor | None
    """phi of the average policy, (N, K); None without a trust region"""
    estimates: Estimates
    advantages: Tensor
    """(N,)"""
    targets: Tensor
    """Qret, (N,)"""
    gradient: Tensor
    """g, (N, K)"""
    bounded: Tensor
    """z, (N, K)"""
    norm: float
    """of the gradient with respect to the parameters, before clipping"""
    ages: np.ndarray
    """(n_segments,), environment steps"""


@torch.no_grad()
def summary(
    updates: Sequence[Update], family: ActionFamily, c: float, max_grad_norm: float
) -> dict[str, float]:
    """Means over all samples of some updates.

    ``policy_loss`` and ``correction_loss`` are the surrogates whose gradients are the two parts of
    -g; ``value_loss`` is half the mean squared error of Q to Qret; ``projected`` is the fraction of
    samples that the trust region changed, ``projection`` the mean change relative to the mean
    length of g; ``replay_age`` is in environment steps.
    """

    def all_of(get: Callable[[Update], Tensor]) -> Tensor:
        return torch.cat([get(update) for update in updates])

    phi = all_of(lambda update: update.phi)
    rho = all_of(lambda update: update.estimates.log_rho).exp()
    advantages = all_of(lambda update: update.advantages)
    log_prob = all_of(lambda update: update.estimates.log_prob)
    targets = all_of(lambda update: update.targets)
    q = all_of(lambda update: update.estimates.q)
    norms = [update.norm for update in updates]
    means = {
        "policy_loss": -(truncated_weight(rho.log(), c) * advantages * log_prob).mean(),
        "correction_loss": -all_of(lambda update: update.estimates.correction_objective).mean(),
        "value_loss": 0.5 * (targets - q).square().mean(),
        "entropy_loss": -family.entropy(phi).mean(),
        "rho_mean": rho.mean(),
        "rho_p95": rho.quantile(0.95),
        "rho_truncated": (rho > c).float().mean(),
        "explained_variance": 1 - (targets - q).var(correction=0) / targets.var(correction=0),
    }
    if updates[0].average is not None:
        gradient = all_of(lambda update: update.gradient)
        change = all_of(lambda update: update.bounded) - gradient
        average = torch.cat([update.average for update in updates if update.average is not None])
        means["projected"] = (change != 0).any(dim=1).float().mean()
        means["projection"] = change.norm(dim=1).mean() / gradient.norm(dim=1).mean()
        means["kl_average"] = family.kl(average, phi).mean()
    names, values = list(means), torch.stack(list(means.values())).tolist()
    return {
        **dict(zip(names, values, strict=True)),
        **family.randomness(phi),
        "grad_norm": float(np.mean(norms)),
        "grad_norm_clipped": float(np.mean([min(norm, max_grad_norm) for norm in norms])),
        "replay_age": _replay_age(updates),
    }


def _replay_age(updates: Sequence[Update]) -> float:
    """Mean age of replayed segments; NaN where there are none, since the first update is fresh."""
    ages = [update.ages.mean() for update in updates[1:]]
    return float(np.mean(ages)) if ages else math.nan
