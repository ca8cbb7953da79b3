"""NPG, TRPO and PPO with a network of small convolutions, for images too small for SB3's."""

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

import sb3_natural

__all__ = ["NPG", "PPO", "TRPO", "SmallCnn", "SmallCnnPolicy"]


class SmallCnn(BaseFeaturesExtractor):
    """Two layers of convolutions and a linear one.

    :param observation_space: images of at least 7 by 7 pixels, channels first
    :param features_dim: the number of features
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 64) -> None:
        super().__init__(observation_space, features_dim)
        convolutions = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], 8, kernel_size=3),
            nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            (_, n_flat) = convolutions(torch.zeros(1, *observation_space.shape)).shape
        self.layers = nn.Sequential(convolutions, nn.Linear(n_flat, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """(N, channels, height, width) -> (N, features_dim)."""
        features: Tensor = self.layers(observations)
        return features


class SmallCnnPolicy(ActorCriticCnnPolicy):
    """Actor and critic are linear in the features of :class:`SmallCnn`, shared or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": SmallCnn, **kwargs})


_POLICIES: dict[str, type[BasePolicy]] = {"SmallCnnPolicy": SmallCnnPolicy}


class NPG(sb3_natural.NPG):
    """NPG with :class:`SmallCnnPolicy`."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = _POLICIES


class TRPO(sb3_natural.TRPO):
    """TRPO with :class:`SmallCnnPolicy`."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = _POLICIES


class PPO(sb3_natural.PPO):
    """PPO with :class:`SmallCnnPolicy`."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = _POLICIES
