"""ACER's networks: SB3's actor, a critic that rates actions, and a moving average of the actor.

The critic is a vector of Q(s, .) for Discrete actions and a stochastic duelling network otherwise
(Wang et al. 2017, section 5.1).
"""

import copy
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from sb3_natural.curvature.families import ActionFamily, family_of

__all__ = ["ACERPolicy", "CnnPolicy", "DuellingHead", "MlpPolicy", "MultiInputPolicy"]

# Wider bounds do not matter to a policy whose actions deviate by about one at first.
WIDE = 1000.0


class ACERPolicy(ActorCriticPolicy):
    """SB3's actor-critic policy with Q values in place of V.

    ``value_net`` is the critic's head: for Discrete actions a Linear layer with one output per
    action, otherwise a stochastic duelling network, :class:`DuellingHead`. gSDE is not supported.

    The arguments are those of SB3's ``ActorCriticPolicy``, except for these defaults.

    :param activation_fn: activation of the hidden layers
    :param optimizer_class: the optimiser; RMSprop is the paper's
    :param optimizer_kwargs: arguments of the optimiser; None: for RMSprop ``alpha=0.99, eps=1e-5``,
        else what SB3 gives it
    """

    average: nn.ModuleList
    """The average policy: features extractor, hidden layers and last layer."""
    value_net: Any
    family: ActionFamily

    def __init__(
        self,
        *args: Any,
        activation_fn: type[nn.Module] = nn.ReLU,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.RMSprop,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if optimizer_kwargs is None and optimizer_class is torch.optim.RMSprop:
            # foreach: the same numbers in fewer calls, which take most of a small network's time.
            optimizer_kwargs = dict(alpha=0.99, eps=1e-5, foreach=True)
        kwargs["activation_fn"] = activation_fn
        kwargs["optimizer_class"] = optimizer_class
        kwargs["optimizer_kwargs"] = optimizer_kwargs
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        if self.use_sde:
            raise ValueError("use_sde=True: ACER does not support gSDE; leave it out")
        super()._build(lr_schedule)
        latent_dim = self.mlp_extractor.latent_dim_vf
        if self.is_discrete:
            self.value_net = nn.Linear(latent_dim, int(self.action_space.n))  # type: ignore[attr-defined]
            if self.ortho_init:
                self.init_weights(self.value_net, gain=1)
        else:
            self.value_net = DuellingHead(latent_dim, self.action_space, self.activation_fn)
            if self.ortho_init:
                self.value_net.apply(lambda module: self.init_weights(module, gain=1))
        self.family = family_of(self.action_dist)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )
        # Made after the optimiser, which must not move it.
        self.average = copy.deepcopy(nn.ModuleList(self._actor_modules()))
        self.average.requires_grad_(False)
        if self._is_gaussian:
            self.average_log_std = nn.Parameter(self.log_std.detach().clone(), requires_grad=False)
        self.find_averaged()

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that the optimiser moves: all but those of the average policy."""
        return [param for group in self.optimizer.param_groups for param in group["params"]]

    @property
    def n_statistics(self) -> int:
        """K, the number of statistics that describe an action distribution."""
        sizes: Any = self.action_dist
        n_outputs = int(np.sum(getattr(sizes, "action_dim", None) or sizes.action_dims))
        return n_outputs * (2 if self._is_gaussian else 1)

    @property
    def is_discrete(self) -> bool:
        """Whether the critic outputs the values of all actions."""
        return isinstance(self.action_space, spaces.Discrete)

    @property
    def _is_gaussian(self) -> bool:
        return isinstance(self.action_dist, DiagGaussianDistribution)

    def _actor_modules(self) -> list[nn.Module]:
        return [self.pi_features_extractor, self.mlp_extractor.policy_net, self.action_net]

    def find_averaged(self) -> None:
        """Find the parameters for :meth:`update_average`; needed after one has been replaced.

        It is not done there because walking through modules takes longer than the update.
        """
        self._averages: list[Tensor] = list(self.average.parameters())
        self._averaged: list[Tensor] = [
            parameter for module in self._actor_modules() for parameter in module.parameters()
        ]
        if self._is_gaussian:
            self._averages.append(self.average_log_std)
            self._averaged.append(self.log_std)

    def update_average(self, alpha: float) -> None:
        """Move the average policy towards the policy.

        Its parameters become ``alpha theta_a + (1 - alpha) theta``, theta the policy's.

        :param alpha: from 0 (a copy of the policy) to 1 (no change)
        """
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._averaged, 1 - alpha)

    def statistics_and_latent(self, observations: PyTorchObs) -> tuple[Tensor, Tensor]:
        """What one pass through the networks gives.

        :param observations: N states, as tensors
        :return: phi, the statistics of the action distribution, (N, K), and the critic's last
            hidden layer, (N, H)
        """
        features = self.extract_features(observations)
        if isinstance(features, tuple):
            pi_features, vf_features = features
        else:
            pi_features = vf_features = features
        outputs = self.action_net(self.mlp_extractor.forward_actor(pi_features))
        phi = _phi(outputs, self.log_std if self._is_gaussian else None)
        return phi, self.mlp_extractor.forward_critic(vf_features)

    @torch.no_grad()
    def average_statistics(self, observations: PyTorchObs) -> Tensor:
        """The statistics phi of the average policy, (N, K), without a graph.

        :param observations: N states, as tensors
        """
        extractor, policy_net, action_net = self.average
        features = super(ActorCriticPolicy, self).extract_features(
            observations, cast(BaseFeaturesExtractor, extractor)
        )
        outputs = action_net(policy_net(features))
        return _phi(outputs, self.average_log_std if self._is_gaussian else None)

    def values_from(self, phi: Tensor, latent: Tensor) -> Tensor:
        """The values V(s), (N,); for Discrete actions the mean of Q under the policy.

        :param phi: statistics of the action distribution, (N, K); only used for Discrete actions
        :param latent: the critic's last hidden layer, (N, H)
        """
        if self.is_discrete:
            return (phi.softmax(dim=1) * self.value_net(latent)).sum(dim=1)
        return self.value_net.value(latent)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """The values V(s), (N, 1).

        :param obs: N states, as tensors
        """
        return self.values_from(*self.statistics_and_latent(obs))[:, None]

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions.

        :param obs: N states, as tensors
        :param deterministic: whether to take the mode instead of a sample
        :return: N actions, their states' values, (N, 1), and log-probabilities, (N,)
        """
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        actions = actions.reshape((-1, *self.action_space.shape))  # type: ignore[misc]
        return actions, self.predict_values(obs), log_prob

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rate actions that were taken.

        :param obs: N states, as tensors
        :param actions: N actions, as the distribution's ``log_prob`` takes them
        :return: values, (N, 1), log-probabilities, (N,), and entropies, (N,), which are None for a
            distribution without a closed form
        """
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()


def _phi(outputs: Tensor, log_std: Tensor | None) -> Tensor:
    return outputs if log_std is None else torch.cat([outputs, log_std.expand_as(outputs)], dim=1)


class DuellingHead(nn.Module):
    """V(s) and A(s, a), from which Q(s, a) = V(s) + A(s, a) - mean_i A(s, u_i), u_i ~ pi.

    :param latent_dim: H, size of the critic's last hidden layer
    :param action_space: Box, MultiDiscrete or MultiBinary
    :param activation_fn: activation of A's hidden layer, which has H units, too
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    half_width: Tensor

    def __init__(
        self, latent_dim: int, action_space: spaces.Space, activation_fn: type[nn.Module]
    ) -> None:
        super().__init__()
        self.action_space = action_space
        self.value_layer = nn.Linear(latent_dim, 1)
        self.state_layer = nn.Linear(latent_dim, latent_dim)
        self.action_layer = nn.Linear(_n_inputs(action_space), latent_dim, bias=False)
        self.activation = activation_fn()
        self.advantage_layer = nn.Linear(latent_dim, 1)
        if isinstance(action_space, spaces.Box):
            for name, array in _bounds(action_space).items():
                self.register_buffer(name, torch.as_tensor(array), persistent=False)

    def value(self, latent: Tensor) -> Tensor:
        """V(s), (N,)."""
        return self.value_layer(latent).squeeze(1)

    def advantage(self, latent: Tensor, actions: Tensor) -> Tensor:
        """A(s, a), before its mean is subtracted.

        :param latent: (N, H)
        :param actions: (M, N, ...): M actions for each state
        :return: (M, N)
        """
        inputs = self.state_layer(latent) + self.action_layer(self._encode(actions))
        return self.advantage_layer(self.activation(inputs)).squeeze(-1)

    def _encode(self, actions: Tensor) -> Tensor:
        """Actions as the network's inputs: (M, N, ...) -> (M, N, n_inputs)."""
        if isinstance(self.action_space, spaces.Box):
            # As in the environment: clipped, and scaled so that any bounds are at -1 and 1.
            clipped = torch.minimum(torch.maximum(actions.flatten(2), self.low), self.high)
            return (clipped - self.centre) / self.half_width
        if isinstance(self.action_space, spaces.MultiDiscrete):
            columns = actions.flatten(2).long().unbind(dim=2)
            sizes = self.action_space.nvec.flatten()
            one_hot = [
                nn.functional.one_hot(column, int(size))
                for column, size in zip(columns, sizes, strict=True)
            ]
            return torch.cat(one_hot, dim=2).to(self.action_layer.weight.dtype)
        return actions.flatten(2).to(self.action_layer.weight.dtype)


def _n_inputs(space: spaces.Space) -> int:
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    assert space.shape is not None
    return int(np.prod(space.shape))


def _bounds(space: spaces.Box) -> dict[str, np.ndarray]:
    low, high = space.low.flatten().astype(np.float64), space.high.flatten().astype(np.float64)
    half_width = high / 2 - low / 2
    bounded = (half_width > 0) & (half_width < WIDE)
    bounds = {
        "low": low,
        "high": high,
        "centre": np.where(bounded, low, 0) / 2 + np.where(bounded, high, 0) / 2,
        "half_width": np.where(bounded, half_width, 1),
    }
    return {name: array.astype(np.float32) for name, array in bounds.items()}


class MlpPolicy(ACERPolicy):
    """Separate networks of two hidden layers for actor and critic."""


class CnnPolicy(ACERPolicy, ActorCriticCnnPolicy):
    """The CNN of Mnih et al. 2015, shared by actor and critic."""


class MultiInputPolicy(ACERPolicy, MultiInputActorCriticPolicy):
    """For Dict observations."""
