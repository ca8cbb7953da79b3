"""ACER's policy gradient with respect to the statistics phi, and its critic's loss.

Everything here is per sample, for N samples in any order. Notation follows Wang et al. 2017:
rho = pi(a|s) / mu(a|s), c = ``correction_term``.
"""

from typing import NamedTuple

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from sb3_natural.acer.policies import ACERPolicy
from sb3_natural.acer.retrace import correction_weight, trace, truncated_weight

__all__ = [
    "Estimates",
    "critic_loss",
    "discrete_estimates",
    "duelling_estimates",
    "policy_gradient",
    "state_value_loss",
]


class Estimates(NamedTuple):
    """What the networks say about a batch; all but ``q`` and ``values`` are detached."""

    log_prob: Tensor
    """log pi(a|s) for the actions taken, (N,)"""
    log_rho: Tensor
    """log pi(a|s) - log mu(a|s) for the actions taken, (N,)"""
    traces: Tensor
    """c_t of Retrace, (N,)"""
    q: Tensor
    """Q(s, a) for the actions taken, (N,)"""
    values: Tensor
    """V(s) of all rows, including the states that segments end in, (R,)"""
    correction: Tensor
    """What truncating rho leaves out of the policy gradient, with respect to phi, (N, K)"""
    correction_objective: Tensor
    """What ``correction`` is the gradient of, (N,)"""


def discrete_estimates(
    policy: ACERPolicy, phi: Tensor, latent: Tensor, mu: Tensor, actions: Tensor, c: float
) -> Estimates:
    """For Discrete actions: the critic outputs Q(s, .), so all sums over actions are exact.

    The correction is ``sum_a [1 - c / rho(a)]_+ pi(a) (Q(a) - V) grad_phi log pi(a)``
    (equation 7); with respect to logits, grad log pi(a) = e_a - pi.

    :param phi: logits of the rows, (R, K), R >= N
    :param latent: the critic's last hidden layer, (R, H)
    :param mu: the logits that the actions were drawn from, (N, K)
    :param actions: (N,)
    :param c: where rho is truncated
    """
    n = len(mu)
    q_all = policy.value_net(latent)
    with torch.no_grad():
        log_pi = phi.log_softmax(dim=1)
        pi = log_pi.exp()
        values = (pi * q_all).sum(dim=1)
        log_pi, pi = log_pi[:n], pi[:n]
        chosen = actions.long()[:, None]
        log_rho_all = log_pi - mu.log_softmax(dim=1)
        advantages = q_all[:n] - values[:n, None]
        weights = correction_weight(log_rho_all, c) * pi * advantages
        correction = weights - pi * weights.sum(dim=1, keepdim=True)
        log_prob = log_pi.gather(1, chosen).squeeze(1)
        log_rho = log_rho_all.gather(1, chosen).squeeze(1)
    q = q_all[:n].gather(1, chosen).squeeze(1)
    objective = (weights * log_pi).sum(dim=1)
    return Estimates(log_prob, log_rho, trace(log_rho), q, values, correction, objective)


def duelling_estimates(
    policy: ACERPolicy,
    phi: Tensor,
    latent: Tensor,
    mu: Tensor,
    actions: Tensor,
    c: float,
    n_samples: int,
    duelling: bool = True,
) -> Estimates:
    """For all other actions, with a stochastic duelling network.

    The correction is ``[1 - c / rho(a')]_+ (Q(a') - V) grad_phi log pi(a')`` with one a' ~ pi
    (equation 9).

    :param actions: (N, n_dims)
    :param n_samples: how many u_i per state; other arguments as for :func:`discrete_estimates`
    :param duelling: False takes the network's A(s, a) for Q(s, a) itself, without V
    """
    n, head, family = len(mu), policy.value_net, policy.family
    values = head.value(latent)
    with torch.no_grad():
        phi, n_dims = phi[:n].detach(), actions[0].numel()
        distribution = policy.action_dist
        drawn = family.sample(distribution, phi, n_samples + 1)
        log_prob = family.log_prob(distribution, phi, actions)
        log_rho = log_prob - family.log_prob(distribution, mu, actions)
        other = drawn[-1]
        log_prob_other = family.log_prob(distribution, phi, other)
        log_rho_other = log_prob_other - family.log_prob(distribution, mu, other)
    outputs = head.advantage(latent[:n], torch.cat([actions[None], drawn]))
    # Added to the network's outputs, this gives Q(s, a).
    offset = values[:n] - outputs[1:-1].mean(dim=0) if duelling else torch.zeros_like(outputs[0])
    q = outputs[0] + offset
    with torch.no_grad():
        weight = correction_weight(log_rho_other, c) * (outputs[-1] + offset - values[:n])
        correction = weight[:, None] * family.score(distribution, phi, other)
    traces, objective = trace(log_rho, n_dims), weight * log_prob_other
    return Estimates(log_prob, log_rho, traces, q, values, correction, objective)


def policy_gradient(
    policy: ACERPolicy,
    phi: Tensor,
    actions: Tensor,
    estimates: Estimates,
    advantages: Tensor,
    c: float,
    ent_coef: float,
) -> Tensor:
    """g, the gradient of the expected return (and of the entropy bonus) by phi, (N, K).

    :param advantages: Qret - V or Qopc - V, (N,)
    """
    distribution: Distribution = policy.action_dist
    weight = truncated_weight(estimates.log_rho, c) * advantages
    gradient = weight[:, None] * policy.family.score(distribution, phi, actions)
    gradient += estimates.correction
    if ent_coef != 0:
        gradient += ent_coef * policy.family.entropy_gradient(phi)
    return gradient


def critic_loss(estimates: Estimates, targets: Tensor) -> Tensor:
    """Half the mean squared error of Q(s, a) to Qret.

    :param targets: Qret, (N,)
    """
    return 0.5 * (targets - estimates.q).square().mean()


def state_value_loss(estimates: Estimates, targets: Tensor, duelling: bool) -> Tensor:
    """A loss whose gradient is that of half the mean squared error of V to its target.

    With a duelling network the target is ``V + min(1, rho) (Qret - Q)``. A plain Q does not contain
    V, so there it is ``V + min(1, rho) (Qret - V)``.

    :param targets: Qret, (N,)
    """
    values = estimates.values[: len(targets)]
    known = estimates.q if duelling else values
    wanted = truncated_weight(estimates.log_rho, 1.0) * (targets - known.detach())
    return -(wanted * values).mean()
