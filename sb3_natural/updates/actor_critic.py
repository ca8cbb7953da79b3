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
        log_std, actor, critic = theta.split(sizes)
        by_log_std, *gradients = self._gradient.split(sizes)
        self._log_std, self._log_std_gradient = log_std.numpy(), by_log_std.numpy()
        self._actor = Backprop(networks.actor, actor, gradients[0])
        self._critic = Backprop(networks.critic, critic, gradients[1])
        self._has_log_std = n_log_std > 0

    def forward(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Statistics phi, (N, K), and values, (N,), of features, (N, n_features)."""
        outputs, values = self._actor.forward(features), self._critic.forward(features)
        if not self._has_log_std:
            return outputs, values[:, 0]
        n_samples, n_dims = outputs.shape
        phi = np.empty((n_samples, 2 * n_dims), dtype=outputs.dtype)
        phi[:, :n_dims] = outputs
        phi[:, n_dims:] = self._log_std
        return phi, values[:, 0]

    def backward(self, by_phi: np.ndarray, by_value: np.ndarray) -> Tensor:
        """The gradient with respect to theta, (P,), which the next call overwrites.

        :param by_phi: derivatives with respect to the last phi, (N, K)
        :param by_value: derivatives with respect to the last values, (N,)
        """
        if self._has_log_std:
            n_dims = len(self._log_std)
            np.add.reduce(by_phi[:, n_dims:], axis=0, out=self._log_std_gradient)
            by_phi = by_phi[:, :n_dims]
        self._actor.backward(by_phi)
        self._critic.backward(by_value[:, None])
        return self._gradient
