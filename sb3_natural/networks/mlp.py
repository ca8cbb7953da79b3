"""The multilayer perceptrons inside an SB3 policy, if the policy consists of nothing else.

Most policies are chains of Linear layers with elementwise functions between them. For these, acting
and Fisher products need neither modules nor autograd. For any other policy, :func:`actor_mlp` and
:func:`critic_mlp` return None, and the caller uses a general method.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from sb3_natural.networks.activations import Activation, activation_of
from sb3_natural.networks.normalization import normalizer_of

__all__ = ["Mlp", "action_value_mlp", "actor_mlp", "critic_mlp", "flat_features"]

# The outputs of the actor's last layer, and log_std, determine these distributions.
_DISTRIBUTIONS = (
    DiagGaussianDistribution,
    CategoricalDistribution,
    MultiCategoricalDistribution,
    BernoulliDistribution,
)


class Mlp(NamedTuple):
    """Linear layers, with an activation after each of them but the last."""

    linears: tuple[nn.Linear, ...]
    activations: tuple[nn.Module, ...]

    @property
    def params(self) -> list[nn.Parameter]:
        """Weights and biases, layer by layer."""
        return [param for layer in self.linears for param in layer.parameters()]

    # Detached tensors share the parameters' memory and need no torch.no_grad().
    @property
    def weights(self) -> list[Tensor]:
        """The layers' weights, detached."""
        return [layer.weight.detach() for layer in self.linears]

    @property
    def biases(self) -> list[Tensor]:
        """The layers' biases, detached."""
        return [layer.bias.detach() for layer in self.linears]

    @property
    def functions(self) -> list[Activation]:
        """What is known about each activation."""
        return [activation_of(module) for module in self.activations]


def actor_mlp(policy: nn.Module) -> Mlp | None:
    """The network from :func:`flat_features` to the action distribution's parameters.

    ``log_std`` is not part of it. With gSDE, whose noise depends on the last hidden layer, it is
    None.
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


def action_value_mlp(q_net: nn.Module) -> Mlp | None:
    """The network from :func:`flat_features` to the values of all actions, in DQN's policies."""
    if not isinstance(q_net, QNetwork) or not _is_flat(q_net, QNetwork, ("forward",)):
        return None
    *body, head = q_net.q_net
    return _read(nn.Sequential(*body), head)


def flat_features(policy: BasePolicy, observations: PyTorchObs) -> Tensor:
    """The inputs of the first layer: observations as rows of floats, shape (N, n_features).

    As in SB3, discrete observations become one-hot vectors and images are scaled. If the policy
    normalises observations, they are normalised.
    """
    if (normalizer := normalizer_of(policy)) is not None:
        observations = normalizer(observations)
    features = preprocess_obs(
        observations, policy.observation_space, normalize_images=policy.normalize_images
    )
    assert isinstance(features, Tensor)
    return features.flatten(1)


def _is_plain(policy: nn.Module, methods: Sequence[str]) -> bool:
    """Whether an actor-critic policy consists of SB3's own multilayer perceptrons."""
    return (
        isinstance(policy, ActorCriticPolicy)
        and type(policy.mlp_extractor) is MlpExtractor
        and _is_flat(policy, ActorCriticPolicy, methods)
    )


def _is_flat(policy: BasePolicy, base: type[BasePolicy], methods: Sequence[str]) -> bool:
    """Whether the forward pass is SB3's own, from the observation to the last layer."""
    if type(policy.features_extractor) is not FlattenExtractor:
        return False
    if global_hooks._global_forward_hooks or global_hooks._global_forward_pre_hooks:
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules()):
        return False
    return all(
        getattr(type(policy), method) is getattr(base, method) and method not in vars(policy)
        for method in (*methods, "extract_features")
    )


def _read(body: nn.Module, head: nn.Module) -> Mlp | None:
    if not isinstance(body, nn.Sequential):
        return None
    modules = list(body)
    activations = modules[1::2]
    # Exact types: a class derived from Linear may do more (spectral normalisation, for example).
    linears = [
        layer
        for layer in (*modules[::2], head)
        if type(layer) is nn.Linear and layer.bias is not None
    ]
    if len(linears) != len(activations) + 1 or len(modules) != 2 * len(activations):
        return None
    # No activation here has parameters: PReLU, or a layer in its place, is left to autograd.
    if any(list(layer.parameters()) for layer in activations):
        return None
    return Mlp(tuple(linears), tuple(activations))
