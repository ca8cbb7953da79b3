"""The multilayer perceptrons inside an SB3 policy, if that is all it consists of.

Nearly everybody's policy is a chain of Linear layers with a pointwise function between them. Where
that is so, acting and Fisher products need neither modules nor autograd; where anything about the
policy is out of the ordinary, ``None`` is returned and the general way is taken.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

__all__ = ["Mlp", "activate", "actor_mlp", "critic_mlp", "flat_features", "mlp_outputs"]

# The outputs of the actor's last layer (and log_std) are all that these need to know.
_DISTRIBUTIONS = (
    DiagGaussianDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
    BernoulliDistribution,
)


class Mlp(NamedTuple):
    """Linear layers with an activation after each but the last."""

    linears: tuple[nn.Linear, ...]
    activations: tuple[nn.Module, ...]

    @property
    def params(self) -> list[nn.Parameter]:
        """Weights and biases, layer by layer."""
        return [param for layer in self.linears for param in layer.parameters()]


def actor_mlp(policy: nn.Module) -> Mlp | None:
    """The network from :func:`flat_features` to the action distribution's parameters.

    ``log_std`` is not part of it. None for gSDE, whose noise depends on the last hidden layer.
    """
    if not _is_plain(policy, ("get_distribution", "_get_action_dist_from_latent")):
        return None
    assert isinstance(policy, ActorCriticPolicy)
    if type(policy.action_dist) not in _DISTRIBUTIONS:
        return None
    return _read(policy.mlp_extractor.policy_net, policy.action_net)


def critic_mlp(policy: nn.Module) -> Mlp | None:
    """The network from :func:`flat_features` to the value."""
    if not _is_plain(policy, ("predict_values",)):
        return None
    assert isinstance(policy, ActorCriticPolicy)
    return _read(policy.mlp_extractor.value_net, policy.value_net)


def mlp_outputs(mlp: Mlp, features: Tensor) -> Tensor:
    """The network's outputs, shape (N, n_outputs), detached."""
    *hidden, last = mlp.linears
    h = features
    with torch.no_grad():
        for layer, activation in zip(hidden, mlp.activations, strict=True):
            h = activate(activation, torch.addmm(layer.bias, h, layer.weight.t()))
        # Transposed: with few rows and N columns it takes half the time.
        return torch.addmm(last.bias[:, None], last.weight, h.t()).t()


def activate(activation: nn.Module, x: Tensor) -> Tensor:
    """The activation's output, in x's place; x must not require a gradient."""
    kind = type(activation)
    if kind is nn.Tanh:
        if x.device.type == "cpu":
            np.tanh(x.numpy(), x.numpy())  # as exact as torch's, and several times faster
            return x
        return x.tanh_()
    if kind is nn.ReLU:
        return x.relu_()
    return x.copy_(activation(x))


def flat_features(policy: ActorCriticPolicy, observations: PyTorchObs) -> Tensor:
    """What the first layer sees: observations as floats, one row each, shape (N, n_features).

    Discrete observations become one-hot vectors, images are scaled, as SB3 does it.
    """
    features = preprocess_obs(
        observations, policy.observation_space, normalize_images=policy.normalize_images
    )
    assert isinstance(features, Tensor)
    return features.flatten(1)


def _is_plain(policy: nn.Module, methods: Sequence[str]) -> bool:
    """Whether the forward pass is SB3's own, from the observation to the last layer."""
    if not isinstance(policy, ActorCriticPolicy):
        return False
    if type(policy.features_extractor) is not FlattenExtractor:
        return False
    if type(policy.mlp_extractor) is not MlpExtractor:
        return False
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules()):
        return False
    return all(
        getattr(type(policy), method) is getattr(ActorCriticPolicy, method)
        and method not in vars(policy)
        for method in (*methods, "extract_features")
    )


def _read(body: nn.Module, head: nn.Module) -> Mlp | None:
    if not isinstance(body, nn.Sequential):
        return None
    modules = list(body)
    activations = modules[1::2]
    # Exact types: a layer that is derived from Linear (spectral norm, say) does more than Linear.
    linears = [
        layer
        for layer in (*modules[::2], head)
        if type(layer) is nn.Linear and layer.bias is not None
    ]
    if len(linears) != len(activations) + 1 or len(modules) != 2 * len(activations):
        return None
    # An activation has nothing to learn: PReLU and whole layers in its place are left to autograd.
    if any(list(layer.parameters()) for layer in activations):
        return None
    return Mlp(tuple(linears), tuple(activations))
