"""A2C's loss and its gradient for plain networks, without autograd."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_natural.curvature.few_samples import likelihood
from sb3_natural.updates.actor_critic import ActorCritic

__all__ = ["PolicyGradientLosses", "policy_gradient"]


class PolicyGradientLosses(NamedTuple):
    """The parts of A2C's loss."""

    policy: float
    value: float
    entropy: float


def policy_gradient(
    networks: ActorCritic,
    features: np.ndarray,
    actions: np.ndarray,
    advantages: np.ndarray,
    returns: np.ndarray,
    *,
    ent_coef: float,
    vf_coef: float,
) -> tuple[PolicyGradientLosses, Tensor]:
    """-mean(A log pi(a|s)), with the critic's loss and the entropy, and the gradient of the sum.

    Source: Mnih et al. 2016, section 4. The results are SB3's, up to rounding.

    :param features: the inputs of the networks' first layers, (N, n_features)
    :param actions: as the distribution's ``log_prob`` takes them
    :param advantages: A, (N,)
    :param returns: what the values are to be, (N,)
    :param ent_coef: weight of the entropy, in nats
    :param vf_coef: weight of the critic's loss
    :return: the losses, and the gradient, (P,), which the next call overwrites
    """
    n_samples = len(features)
    phi, values = networks.forward(features)
    log_prob, score, entropy = likelihood(networks.distribution, phi, actions)
    by_phi = score * (advantages * np.float32(-1 / n_samples))[:, None]
    if ent_coef:
        by_entropy = networks.family.entropy_gradient(torch.from_numpy(phi)).numpy()
        by_phi -= by_entropy * np.float32(ent_coef / n_samples)
    errors = values - returns
    losses = PolicyGradientLosses(
        policy=-float(advantages.dot(log_prob)) / n_samples,
        value=float(errors.dot(errors)) / n_samples,
        entropy=-float(np.add.reduce(entropy)) / n_samples,
    )
    by_value = errors * np.float32(2 * vf_coef / n_samples)
    return losses, networks.backward(by_phi, by_value)
