"""The policies that NPG knows by name: SB3's own, which can also normalise observations."""

from stable_baselines3.common.policies import ActorCriticCnnPolicy, MultiInputActorCriticPolicy

from sb3_natural.networks.normalization import NormalizedObservations

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy"]


class MlpPolicy(NormalizedObservations):
    """Separate networks of two hidden layers for actor and critic."""


class CnnPolicy(NormalizedObservations, ActorCriticCnnPolicy):
    """The CNN of Mnih et al. 2015, shared by actor and critic."""


class MultiInputPolicy(NormalizedObservations, MultiInputActorCriticPolicy):
    """For Dict observations."""
