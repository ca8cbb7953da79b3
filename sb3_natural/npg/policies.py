"""The policies that NPG knows by name: SB3's own, which can also normalise observations."""

from typing import Any

from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from stable_baselines3.common.policies import ActorCriticCnnPolicy, MultiInputActorCriticPolicy

from sb3_natural.networks.normalization import NormalizedObservations

__all__ = [
    "CnnLstmPolicy",
    "CnnPolicy",
    "MlpLstmPolicy",
    "MlpPolicy",
    "MultiInputLstmPolicy",
    "MultiInputPolicy",
]


class MlpPolicy(NormalizedObservations):
    """Separate networks of two hidden layers for actor and critic: NPG's ``"MlpPolicy"``."""


class CnnPolicy(NormalizedObservations, ActorCriticCnnPolicy):
    """The CNN of Mnih et al. 2015, shared by actor and critic: NPG's ``"CnnPolicy"``."""


class MultiInputPolicy(NormalizedObservations, MultiInputActorCriticPolicy):
    """For Dict observations: a features extractor for each key, then as :class:`MlpPolicy`."""


class MlpLstmPolicy(NormalizedObservations, RecurrentActorCriticPolicy):
    """An LSTM each for actor and critic, with two hidden layers after it."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        n_layers, _, n_hidden = self.lstm_hidden_state_shape
        return super()._get_constructor_parameters() | {
            "lstm_hidden_size": n_hidden,
            "n_lstm_layers": n_layers,
            "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm,
            "lstm_kwargs": self.lstm_kwargs,
        }


class CnnLstmPolicy(MlpLstmPolicy, RecurrentActorCriticCnnPolicy):
    """The CNN of Mnih et al. 2015, shared by actor and critic, then as :class:`MlpLstmPolicy`."""


class MultiInputLstmPolicy(MlpLstmPolicy, RecurrentMultiInputActorCriticPolicy):
    """For Dict observations: a features extractor for each key, then as :class:`MlpLstmPolicy`."""
