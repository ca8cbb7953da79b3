"""The policies that NAC knows by name, and the features of the state value in any policy."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

__all__ = [
    "NET_ARCH",
    "CnnPolicy",
    "MlpPolicy",
    "MultiInputPolicy",
    "check_value_net",
    "set_values",
    "value_features",
    "values_of",
]

NET_ARCH: dict[str, list[int]] = {"pi": [16], "vf": [64]}
"""Small for the actor, since work grows with the cube of its parameters."""


class MlpPolicy(ActorCriticPolicy):
    """A small actor, and a critic that is linear in features of one hidden layer.

    :param net_arch: hidden layers of actor and critic; None: 16 units for the actor, 64 for the
        critic; [] for an actor and a critic that are linear in the observation
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        layers = NET_ARCH if net_arch is None else net_arch
        super().__init__(observation_space, action_space, lr_schedule, layers, *args, **kwargs)


class CnnPolicy(ActorCriticCnnPolicy):
    """For images; its features extractor has to be far smaller than SB3's to fit in memory."""


class MultiInputPolicy(MlpPolicy, MultiInputActorCriticPolicy):
    """For Dict observations."""


def check_value_net(policy: ActorCriticPolicy) -> None:
    """Check that the state value is linear in the features of the critic's last layer.

    :raises ValueError: it is not, or one of the layer's two parameters is frozen
    """
    layer = getattr(policy, "value_net", None)
    if not isinstance(layer, nn.Linear) or layer.out_features != 1 or layer.bias is None:
        raise ValueError(
            "policy must have a value_net that is a Linear layer with a bias and one output, whose "
            f"inputs are the features of the state value; {type(policy).__name__} has {layer}"
        )
    if layer.weight.requires_grad != layer.bias.requires_grad:
        raise ValueError(
            "weight and bias of the policy's value_net are solved for together: freeze both or "
            f"neither, got requires_grad={layer.weight.requires_grad} for the weight, "
            f"{layer.bias.requires_grad} for the bias"
        )


@torch.no_grad()
def value_features(policy: ActorCriticPolicy, observations: PyTorchObs) -> Tensor:
    """psi(s): 1, and the inputs of the critic's last layer; V(s) = v^T psi(s).

    :param observations: N states
    :return: shape (N, K)
    """
    seen: list[Tensor] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    with policy.value_net.register_forward_pre_hook(note):
        policy.predict_values(observations)
    return torch.cat([torch.ones_like(seen[0][:, :1]), seen[0]], dim=1)


@torch.no_grad()
def set_values(policy: ActorCriticPolicy, weights: Tensor) -> None:
    """Make V(s) = v^T psi(s), where the critic's last layer is not frozen.

    :param weights: v, shape (K,)
    """
    layer = policy.value_net
    if layer.weight.requires_grad:
        layer.bias.copy_(weights[:1])
        layer.weight.copy_(weights[None, 1:])


@torch.no_grad()
def values_of(policy: ActorCriticPolicy, psi: Tensor) -> Tensor:
    """V of N states from their features, (N, K) -> (N,)."""
    return policy.value_net(psi[:, 1:])[:, 0]
