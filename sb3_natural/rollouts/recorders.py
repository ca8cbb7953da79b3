"""Recording a rollout: transitions at once, values and log-probabilities in one batched pass."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor

from sb3_natural.networks.mlp import critic_mlp, flat_features
from sb3_natural.networks.passes import numpy_fits, numpy_forward, torch_forward
from sb3_natural.networks.structure import Remembered
from sb3_natural.observations import at, mapped, pairs, stacked
from sb3_natural.rollouts.actors import Actor, numpy_features, reads_arrays
from sb3_natural.rollouts.deferred import Deferred
from sb3_natural.rollouts.finiteness import surely_finite
from sb3_natural.rollouts.returns import advantages_and_returns
from sb3_natural.rollouts.scaling import ReturnScale

__all__ = ["BufferRecorder", "Recorder", "Step", "compute_returns"]

# Elements of the observations that go through the networks at a time after a rollout: few enough
# for the activations of images to fit in memory, many more than an MLP needs for full speed.
_CHUNK_ELEMENTS = 2**22


# Up to so many samples, numpy's passes are faster than torch's.
_FEW = 64


class _TimeLimit(NamedTuple):
    """An episode that a time limit ended: its last reward is to be bootstrapped."""

    step: int
    env_index: int
    observation: Any


class Step(NamedTuple):
    """One step of all environments."""

    observations: Any
    """(n_envs, ...)"""
    actions: np.ndarray
    """(n_envs, *action shape)"""
    rewards: np.ndarray
    """(n_envs,), as the others below"""
    episode_starts: np.ndarray
    """Whether the observation is the first of an episode."""
    dones: np.ndarray
    """Whether the step ended an episode."""
    infos: list[dict[str, Any]]
    new_observations: Any
    """What the step led to, (n_envs, ...); where an episode ended, the first of the next."""

    def cut_off(self) -> dict[int, Any]:
        """The last observations of the episodes that a time limit ended, by environment."""
        last = {}
        for index in np.flatnonzero(self.dones).tolist():
            observation = self.infos[index].get("terminal_observation")
            if observation is not None and self.infos[index].get("TimeLimit.truncated", False):
                last[index] = observation
        return last


class Recorder(ABC):
    """Records the steps of one rollout.

    :param algorithm: the algorithm that collects it
    :param actor: picks the actions
    :ivar is_unwatched: whether no callback can change the policy during the rollout
    """

    def __init__(self, algorithm: OnPolicyAlgorithm, actor: Actor) -> None:
        self.is_unwatched = False
        self._algorithm = algorithm
        self._actor = actor

    @abstractmethod
    def begin(self, observations: VecEnvObs, masks: np.ndarray | None = None) -> None:
        """A step is about to be taken from these observations, and may overwrite them.

        :param masks: which actions are valid there, (n_envs, K); None: all
        """

    @abstractmethod
    def add(self, step: Step) -> None:
        """Store one step of all environments."""

    def change_actor(self, actor: Actor) -> None:
        """From the next step on, another actor picks the actions."""
        self._actor = actor

    @abstractmethod
    def stop(self, step: Step) -> None:
        """A callback has ended the rollout early, at this step."""

    @abstractmethod
    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """The rollout is complete.

        :return: the values of the observations that it led to, (n_envs, 1)
        """

    def deferred(self, step: int, observations: VecEnvObs, actions: np.ndarray) -> dict[str, Any]:
        """What SB3's loop also computes at each step; here it is computed when a callback uses it.

        :return: ``obs_tensor`` and ``values``, shape (n_envs, 1), and ``log_probs``, (n_envs,)
        """
        policy, device = self._algorithm.policy, self._algorithm.device
        actor, likelihood = self._actor, self._actor.likelihood()

        def obs_tensor() -> Any:
            return obs_as_tensor(observations, device)  # type: ignore[arg-type]

        def values() -> Tensor:
            known = self._evaluated(step)
            return policy.predict_values(obs_tensor()) if known is None else known[0]

        def log_probs() -> Tensor:
            known = self._evaluated(step)
            if known is not None:
                return known[1]
            taken = actions.reshape(_log_prob_shape(policy, actions))
            return torch.as_tensor(actor.log_probs([likelihood], taken), device=device)

        deferred_obs: Any = Deferred(obs_tensor)
        if isinstance(observations, dict):
            deferred_obs = {key: Deferred(partial(_get, obs_tensor, key)) for key in observations}
        return {
            "obs_tensor": deferred_obs,
            "values": Deferred(values),
            "log_probs": Deferred(log_probs),
        }

    def _evaluated(self, step: int) -> tuple[Tensor, Tensor] | None:
        """Values and log-probabilities of a step, if they are already known."""
        return None


class BufferRecorder(Recorder):
    """Fills a rollout buffer: transitions at once, values and log-probabilities at the end.

    :param algorithm: the algorithm that collects the rollout
    :param buffer: where the steps go
    :param actor: picks the actions
    :param return_scale: gets the rewards of the complete rollout, which are then divided by it;
        None: rewards stay as they are
    :param returns_lambda: see :func:`compute_returns`
    """

    def __init__(
        self,
        algorithm: OnPolicyAlgorithm,
        buffer: RolloutBuffer,
        actor: Actor,
        return_scale: ReturnScale | None = None,
        returns_lambda: float | None = None,
    ) -> None:
        super().__init__(algorithm, actor)
        buffer.reset()
        self._buffer: Any = buffer  # sb3-contrib's, if there are masks
        self._return_scale = return_scale
        self._returns_lambda = returns_lambda
        self._time_limits: list[_TimeLimit] = []
        self._likelihoods: list[Any] = []
        self._log_probs: list[np.ndarray] = []
        self._evaluated_steps: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def _policy(self) -> Any:
        return self._algorithm.policy  # a callback may have exchanged it

    def begin(self, observations: Any, masks: np.ndarray | None = None) -> None:
        """Store the observations, and the masks if there are any."""
        pos = self._buffer.pos
        for rows, values in pairs(self._buffer.observations, observations):
            _set_row(rows, pos, values)
        if masks is not None:
            self._buffer.action_masks[pos] = masks

    def add(self, step: Step) -> None:
        """Do what ``RolloutBuffer.add`` does, without the critic."""
        buffer, pos = self._buffer, self._buffer.pos
        self._likelihoods.append(self._actor.likelihood())
        _set_row(buffer.actions, pos, step.actions)
        buffer.rewards[pos] = step.rewards
        buffer.episode_starts[pos] = step.episode_starts
        if step.dones.any():
            self._note_time_limits(step)
        buffer.pos += 1
        buffer.full = buffer.pos == buffer.buffer_size

    def _note_time_limits(self, step: Step) -> None:
        for index, last_observation in step.cut_off().items():
            # A copy, since it is used at the end of the rollout.
            kept = copy.deepcopy(last_observation)
            self._time_limits.append(_TimeLimit(self._buffer.pos, index, kept))

    def change_actor(self, actor: Actor) -> None:
        """Compute the log-probabilities so far, for which the old actor is needed."""
        self._settle_log_probs()
        super().change_actor(actor)

    def _settle_log_probs(self) -> None:
        if not self._likelihoods:
            return
        stop = self._buffer.pos
        start = stop - len(self._likelihoods)
        actions = _rows(self._buffer.actions[start:stop])
        actions = actions.reshape(_log_prob_shape(self._policy, actions))
        actions = actions.astype(np.float32, copy=False)
        self._log_probs.append(self._actor.log_probs(self._likelihoods, actions).reshape(-1))
        self._likelihoods = []

    def stop(self, step: Step) -> None:
        """Evaluate the steps before this one, which is dropped, as in SB3."""
        self.begin(mapped(np.zeros_like, step.observations))
        with torch.no_grad():
            self._evaluate()

    @torch.no_grad()
    @np.errstate(all="ignore")  # advantages fade out into denormal numbers, and should
    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """Scale rewards, evaluate all steps, and compute advantages and returns."""
        if self._return_scale is not None:
            ended = np.concatenate([self._buffer.episode_starts[1:], dones[None]]).astype(bool)
            self._return_scale.normalize(self._buffer.rewards, ended)
        self._evaluate()
        on_device = obs_as_tensor(last_observations, self._algorithm.device)  # type: ignore[arg-type]
        last_values = self._values_after(on_device, dones)
        compute_returns(self._buffer, last_values, dones, self._returns_lambda)
        return last_values

    def _evaluated(self, step: int) -> tuple[Tensor, Tensor] | None:
        if self._evaluated_steps is None:
            return None
        values, log_probs = (
            torch.as_tensor(array[step], device=self._algorithm.device)
            for array in self._evaluated_steps
        )
        return values[:, None], log_probs

    def _evaluate(self) -> None:
        """Fill in values, log-probabilities and bootstrapped rewards of the steps so far."""
        buffer = self._buffer
        n_steps, n_envs = buffer.pos, buffer.n_envs
        if n_steps == 0:
            return
        self._settle_log_probs()
        log_probs = np.concatenate(self._log_probs).reshape(n_steps, n_envs)
        values = self._rollout_values(n_steps)
        self._evaluated_steps = values, log_probs
        buffer.values[:n_steps] = values
        buffer.log_probs[:n_steps] = log_probs
        self._check("value", buffer.values[:n_steps])
        self._check("log-probability", buffer.log_probs[:n_steps])
        self._bootstrap()

    def _check(self, name: str, array: np.ndarray) -> None:
        if not surely_finite(array) and np.isnan(array).any():
            raise ValueError(
                f"the policy returned a {name} of nan in the rollout up to num_timesteps="
                f"{self._algorithm.num_timesteps}: its parameters are no longer finite"
            )

    def _rollout_values(self, n_steps: int) -> np.ndarray:
        """Values of the first steps, (n_steps, n_envs)."""
        n_envs = self._buffer.n_envs
        parts = [self._values(part) for part in self._chunks(n_steps * n_envs)]
        return np.concatenate([part.cpu().numpy() for part in parts]).reshape(n_steps, n_envs)

    def _values_after(self, last_observations: Any, dones: np.ndarray) -> Tensor:
        """Values of the observations that the rollout led to, (n_envs, 1)."""
        return self._values(last_observations)

    def _values(self, observations: Any) -> Tensor:
        """Values, (N, 1), as from ``policy.predict_values`` but faster."""
        remembered: Remembered = self._algorithm._remembered  # type: ignore[attr-defined]
        critic = remembered.recall_again("critic") if self.is_unwatched else None
        if critic is None:
            critic = remembered.recall("critic", self._policy, self._plain_critic, bool)
        if critic is None:
            return self._policy.predict_values(observations)
        return critic(observations)

    def _plain_critic(self) -> Callable[[Tensor], Tensor] | None:
        """A function from observations to values, if the critic is a plain network."""
        policy = self._policy
        critic = critic_mlp(policy)
        if critic is None:
            return None
        forward = torch_forward(critic)
        if not (reads_arrays(critic) and numpy_fits(critic)):
            return lambda observations: forward(flat_features(policy, observations))
        features, few = numpy_features(policy), numpy_forward(critic)

        def values(observations: Tensor) -> Tensor:
            if len(observations) > _FEW:
                return forward(flat_features(policy, observations))
            return torch.from_numpy(few(features(observations.numpy())))

        return values

    def _chunks(self, n_samples: int) -> Iterator[Any]:
        """The first observations, time-major, in chunks that the policy can take."""
        n_rows = _chunk_rows(self._policy)
        observations = mapped(_rows, self._buffer.observations)
        for start in range(0, n_samples, n_rows):
            part = at(observations, slice(start, min(start + n_rows, n_samples)))
            yield obs_as_tensor(part, self._algorithm.device)

    def _bootstrap(self) -> None:
        """Add gamma V(last observation) to the last reward of episodes that time limits ended."""
        n_rows = _chunk_rows(self._policy)
        for start in range(0, len(self._time_limits), n_rows):
            ended = self._time_limits[start : start + n_rows]
            values = self._values_at(ended, start)
            for limit, value in zip(ended, values.reshape(-1).tolist(), strict=True):
                self._buffer.rewards[limit.step, limit.env_index] += self._algorithm.gamma * value

    def _values_at(self, time_limits: Sequence[_TimeLimit], start: int) -> Tensor:
        """Values of the last observations of some episodes, (n, 1).

        :param start: how many there are before these
        """
        last = stacked([limit.observation for limit in time_limits])
        return self._policy.predict_values(self._policy.obs_to_tensor(last)[0])


def compute_returns(
    buffer: RolloutBuffer,
    last_values: Tensor,
    dones: np.ndarray,
    returns_lambda: float | None = None,
) -> None:
    """Fill in advantages and returns, as the buffer does it itself.

    :param last_values: V of the states after the last step, (n_envs,) or (n_envs, 1)
    :param dones: whether the last step ended an episode, (n_envs,)
    :param returns_lambda: of the TD(lambda) returns, if not the ``gae_lambda`` of the advantages; a
        buffer that computes advantages of its own keeps its returns
    """
    own = type(buffer).compute_returns_and_advantage
    if own is not RolloutBuffer.compute_returns_and_advantage:
        buffer.compute_returns_and_advantage(last_values=last_values, dones=dones)
        return
    rollout = (
        buffer.rewards,
        buffer.values,
        buffer.episode_starts,
        last_values.cpu().numpy().reshape(-1),
        dones,
        buffer.gamma,
    )
    buffer.advantages, buffer.returns = advantages_and_returns(*rollout, buffer.gae_lambda)
    if returns_lambda is not None:
        _, buffer.returns = advantages_and_returns(*rollout, returns_lambda)


def _log_prob_shape(policy: Any, actions: np.ndarray) -> tuple[int, ...]:
    """The shape in which ``log_prob`` takes a batch of actions: flat, and (N,) for Discrete."""
    return (-1,) if isinstance(policy.action_space, spaces.Discrete) else (len(actions), -1)


def _chunk_rows(policy: Any) -> int:
    return max(1, _CHUNK_ELEMENTS // spaces.flatdim(policy.observation_space))


def _get(mapping: Callable[[], Any], key: str) -> Tensor:
    return mapping()[key]


def _set_row(rows: np.ndarray, pos: int, values: np.ndarray) -> None:
    """rows[pos] = values, whose shape may differ by axes of length one or flattened ones."""
    row = rows[pos]
    row[...] = values if values.shape == row.shape else values.reshape(row.shape)


def _rows(array: np.ndarray) -> np.ndarray:
    """(n_steps, n_envs, ...) -> (n_steps * n_envs, ...), without a copy."""
    return array.reshape(-1, *array.shape[2:])
