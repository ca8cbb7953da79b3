"""Actor and critic of a plain policy, forwards and backwards, with one vector for the gradient."""

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from sb3_natural.curvature.families import family_of
from sb3_natural.networks.passes import Backprop
from sb3_natural.updates.plain_networks import Networks

__all__ = ["ActorCritic"]


class ActorCritic:
    """Passes for many small batches in a row.

    :param policy: the policy that the networks belong to
    :param networks: from :func:`~sb3_natural.updates.plain_networks.plain_networks`
    :param theta: their parameters as one vector, (P,); read at each pass
    """

    def __init__(self, policy: ActorCriticPolicy, networks: Networks, theta: Tensor) -> None:
        self.distribution = policy.action_dist
        self.family = family_of(policy.action_dist)
        self._gradient = torch.zeros_like(theta)
        n_log_std = 0 if networks.log_std is None else networks.log_std.numel()
        n_actor = sum(param.numel() for param in networks.actor.params)
        sizes = (n_log_std, n_actor, len(theta) - n_log_std - n_actor)
        self._log_std, actor, critic = theta.split(sizes)
        self._log_std_gradient, *gradients = self._gradient.split(sizes)
        self._actor = Backprop(networks.actor, actor, gradients[0])
        self._critic = Backprop(networks.critic, critic, gradients[1])
        self._has_log_std = n_log_std > 0

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics phi, (N, K), and values, (N,), of features, (N, n_features)."""
        outputs, values = self._actor.forward(features), self._critic.forward(features)
        if not self._has_log_std:
            return outputs, values[:, 0]
        n_samples, n_dims = outputs.shape
        phi = np.empty((n_samples, 2 * n_dims), dtype=self._log_std.numpy().dtype)
        phi[:, :n_dims] = outputs.numpy()
        phi[:, n_dims:] = self._log_std.numpy()
        return torch.from_numpy(phi), values[:, 0]

    def backward(self, by_phi: Tensor, by_value: Tensor) -> Tensor:
        """The gradient with respect to theta, (P,), which the next call overwrites.

        :param by_phi: derivatives with respect to the last phi, (N, K)
        :param by_value: derivatives with respect to the last values, (N,)
        """
        if self._has_log_std:
            by_phi, by_log_std = by_phi.chunk(2, dim=1)
            np.add.reduce(by_log_std.numpy(), axis=0, out=self._log_std_gradient.numpy())
        self._actor.backward(by_phi)
        self._critic.backward(by_value[:, None])
        return self._gradient
