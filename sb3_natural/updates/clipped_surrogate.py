"""PPO's loss and its gradient for plain networks, without autograd.

With minibatches of a few dozen samples, most of an update's time is not arithmetic but overhead:
modules, distribution objects and a graph for each minibatch, and an optimiser that visits the
parameters one by one. The loss depends on the networks only through the action distribution's
statistics phi and the value, so its gradient consists of two products J^T u.
"""

from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from sb3_natural.updates.actor_critic import ActorCritic
from sb3_natural.updates.plain_networks import Networks

__all__ = ["ClippedSurrogate", "Losses", "Minibatch"]


class Minibatch(NamedTuple):
    """N samples of a rollout."""

    features: Tensor
    """The inputs of the networks' first layers, (N, n_features)."""
    actions: Tensor
    """As the distribution's ``log_prob`` takes them."""
    old_values: np.ndarray
    """(N,), like the fields below."""
    old_log_prob: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray


class Losses(NamedTuple):
    """The parts of PPO's loss on one minibatch, and what SB3 logs beside them."""

    policy: float
    value: float
    entropy: float
    clip_fraction: float
    approx_kl: float


class ClippedSurrogate:
    """-mean(min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A)), with the critic's loss and entropy.

    Source: Schulman et al. 2017, equations 7 and 9; the clipped value loss comes from OpenAI's
    baselines. The results are SB3's, up to rounding.

    :param policy: the policy that the networks belong to
    :param networks: from :func:`~sb3_natural.updates.plain_networks.plain_networks`
    :param theta: their parameters as one vector, (P,)
    :param clip_range: epsilon
    :param clip_range_vf: the same for values; None does not clip them
    :param ent_coef: weight of the entropy, in nats
    :param vf_coef: weight of the critic's loss
    :param normalize_advantage: whether to scale each minibatch's advantages to mean 0 and
        standard deviation 1
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        networks: Networks,
        theta: Tensor,
        clip_range: float,
        clip_range_vf: float | None,
        ent_coef: float,
        vf_coef: float,
        normalize_advantage: bool,
    ) -> None:
        self._networks = ActorCritic(policy, networks, theta)
        self._distribution = self._networks.distribution
        self._family = self._networks.family
        self._clip_range = clip_range
        self._clip_range_vf = clip_range_vf
        self._ent_coef = ent_coef
        self._vf_coef = vf_coef
        self._normalize_advantage = normalize_advantage

    def total(self, losses: Losses) -> float:
        """The sum that is minimised."""
        return losses.policy + self._ent_coef * losses.entropy + self._vf_coef * losses.value

    def losses(self, batch: Minibatch) -> Losses:
        """The losses at the current theta."""
        array, values = self._networks.forward(batch.features.numpy())
        phi = torch.from_numpy(array)
        log_prob = self._family.log_prob(self._distribution, phi, batch.actions).numpy()
        policy_loss, clip_fraction, approx_kl, by_log_prob = self._surrogate(log_prob, batch)
        by_phi = self._family.score(self._distribution, phi, batch.actions)
        by_phi.mul_(torch.from_numpy(by_log_prob)[:, None])
        if self._ent_coef:
            by_phi.sub_(self._family.entropy_gradient(phi), alpha=self._ent_coef / len(phi))
        entropy = self._family.entropy(phi).mean().item()
        value_loss, by_value = self._value_loss(values, batch)
        self._by_outputs = by_phi.numpy(), by_value
        return Losses(policy_loss, value_loss, -entropy, clip_fraction, approx_kl)

    def gradient(self) -> Tensor:
        """The gradient of :meth:`total` with respect to theta, for the last losses; (P,).

        The next call overwrites it.
        """
        return self._networks.backward(*self._by_outputs)

    def _surrogate(
        self, log_prob: np.ndarray, batch: Minibatch
    ) -> tuple[float, float, float, np.ndarray]:
        """Loss, fraction of clipped samples, approximate KL divergence, d loss / d log pi(a|s)."""
        advantages = batch.advantages
        if self._normalize_advantage and len(advantages) > 1:
            centred = advantages - advantages.mean()
            advantages = centred / (advantages.std(ddof=1) + np.float32(1e-8))
        epsilon = self._clip_range
        log_ratio = log_prob - batch.old_log_prob
        ratio = np.exp(log_ratio)
        unclipped = advantages * ratio
        clipped = advantages * np.minimum(np.maximum(ratio, 1 - epsilon), 1 + epsilon)
        # Where the clipped term is the smaller one, the loss is constant.
        by_log_prob = unclipped * (unclipped <= clipped) * np.float32(-1 / len(ratio))
        moved = ratio - 1
        return (
            -float(np.minimum(unclipped, clipped).mean()),
            float((np.abs(moved) > epsilon).mean()),
            float((moved - log_ratio).mean()),
            by_log_prob,
        )

    def _value_loss(self, values: np.ndarray, batch: Minibatch) -> tuple[float, np.ndarray]:
        """Mean squared error, and ``vf_coef`` times its derivative with respect to the values."""
        factor = np.float32(2 * self._vf_coef / len(values))
        if self._clip_range_vf is None:
            error = values - batch.returns
            return float(np.square(error).mean()), error * factor
        moved = values - batch.old_values
        epsilon = self._clip_range_vf
        error = batch.old_values + np.minimum(np.maximum(moved, -epsilon), epsilon) - batch.returns
        return float(np.square(error).mean()), error * (np.abs(moved) <= epsilon) * factor
