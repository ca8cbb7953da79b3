"""Collecting rollouts with a recurrent policy: its memory, and what buffers keep of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor, nn

from sb3_natural.curvature.families import family_of
from sb3_natural.observations import stacked
from sb3_natural.rollouts.recorders import BufferRecorder, Step

__all__ = ["RecurrentActor", "RecurrentRecorder", "zero_states"]


def zero_states(policy: RecurrentActorCriticPolicy, n_envs: int) -> RNNStates:
    """The memory before the first step of an episode, of actor and critic."""
    n_layers, _, n_hidden = policy.lstm_hidden_state_shape
    zeros = torch.zeros(n_layers, n_envs, n_hidden, device=policy.device)
    return RNNStates((zeros, zeros), (zeros, zeros))


class _Acted(NamedTuple):
    """What the policy returned for one step of all environments."""

    before: RNNStates
    values: Tensor
    """(n_envs, 1)"""
    log_probs: Tensor
    """(n_envs,)"""
    after: RNNStates


class RecurrentActor:
    """Acts with a recurrent policy, from the memory that the algorithm keeps.

    The memory is moved on by the recorder when the step is stored, as observations are.

    :param algorithm: has ``policy``, ``_last_lstm_states`` and ``_last_episode_starts``
    :ivar acted: of the last step
    """

    path = "torch"
    acted: _Acted

    def __init__(self, algorithm: Any) -> None:
        self._algorithm = algorithm
        self._policy = algorithm.policy

    def sample(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> np.ndarray:
        """See :class:`~sb3_natural.rollouts.actors.Actor`."""
        policy, before = self._policy, self._algorithm._last_lstm_states
        starts = torch.as_tensor(
            self._algorithm._last_episode_starts, dtype=torch.float32, device=policy.device
        )
        with torch.no_grad():
            on_device = obs_as_tensor(observations, policy.device)  # type: ignore[arg-type]
            actions, values, log_probs, after = policy(on_device, before, starts)
        self.acted = _Acted(before, values, log_probs, after)
        return actions.cpu().numpy()

    def statistics(self) -> np.ndarray:
        """See :class:`~sb3_natural.rollouts.actors.Actor`."""
        with torch.no_grad():
            distribution = self._policy.action_dist
            return family_of(distribution).statistics(distribution).cpu().numpy()

    def likelihood(self) -> Tensor:
        """See :class:`~sb3_natural.rollouts.actors.Actor`: the log-probabilities themselves."""
        return self.acted.log_probs

    def log_probs(self, likelihoods: Sequence[Tensor], actions: np.ndarray) -> np.ndarray:
        """See :class:`~sb3_natural.rollouts.actors.Actor`."""
        return torch.cat(list(likelihoods)).cpu().numpy()

    def is_current(self, policy: nn.Module) -> bool:
        """See :class:`~sb3_natural.rollouts.actors.Actor`."""
        return policy is self._policy


class RecurrentRecorder(BufferRecorder):
    """Fills a recurrent rollout buffer: with the memory before each step, too.

    Arguments are those of :class:`~sb3_natural.rollouts.recorders.BufferRecorder`; the values are
    those that the policy gave while it acted.
    """

    _actor: RecurrentActor
    _buffer: Any

    def __init__(self, algorithm: Any, buffer: Any, *args: Any) -> None:
        # The number of steps may have changed since the last rollout.
        buffer.hidden_state_shape = (buffer.buffer_size, *buffer.hidden_state_shape[1:])
        super().__init__(algorithm, buffer, *args)
        self._critic_states: list[tuple[Tensor, Tensor]] = []  # where a time limit ended an episode

    def add(self, step: Step) -> None:
        """Store the step with its memory and values, and move the memory on."""
        buffer, acted = self._buffer, self._actor.acted
        for name, states in zip(("pi", "vf"), acted.before, strict=True):
            for kind, state in zip(("hidden", "cell"), states, strict=True):
                getattr(buffer, f"{kind}_states_{name}")[buffer.pos] = state.cpu().numpy()
        buffer.values[buffer.pos] = acted.values.flatten().cpu().numpy()
        super().add(step)
        self._algorithm._last_lstm_states = acted.after  # type: ignore[attr-defined]

    def _note_time_limits(self, step: Step) -> None:
        super()._note_time_limits(step)
        hidden, cell = self._actor.acted.after.vf
        self._critic_states += [(hidden[:, index], cell[:, index]) for index in step.cut_off()]

    def deferred(self, step: int, observations: VecEnvObs, actions: np.ndarray) -> dict[str, Any]:
        """See :meth:`~sb3_natural.rollouts.recorders.Recorder.deferred`; values are known here."""
        acted = self._actor.acted
        known = {"values": acted.values, "lstm_states": acted.after}
        return super().deferred(step, observations, actions) | known

    def _rollout_values(self, n_steps: int) -> np.ndarray:
        return self._buffer.values[:n_steps].copy()

    def _values_after(self, last_observations: Any, dones: np.ndarray) -> Tensor:
        policy = self._policy
        starts = torch.as_tensor(dones, dtype=torch.float32, device=policy.device)
        states = self._algorithm._last_lstm_states.vf  # type: ignore[attr-defined]
        return policy.predict_values(last_observations, states, starts)

    def _values_at(self, time_limits: Sequence[Any], start: int) -> Tensor:
        policy = self._policy
        states = self._critic_states[start : start + len(time_limits)]
        hidden, cell = (torch.stack(list(parts), dim=1) for parts in zip(*states, strict=True))
        last, _ = policy.obs_to_tensor(stacked([limit.observation for limit in time_limits]))
        starts = torch.zeros(len(time_limits), device=policy.device)
        return policy.predict_values(last, (hidden, cell), starts)
