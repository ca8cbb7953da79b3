"""Fast rollout collection, for every on-policy algorithm of Stable-Baselines3.

SB3 evaluates actor and critic at each step and keeps all three results. Of these only the action is
needed to go on. Here values, log-probabilities and the bootstrap values of time-limited episodes
come from one batched pass over the full rollout; the buffer ends up the same.
"""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from torch import Tensor

from sb3_natural.common.actors import ROLLOUT_PATHS, Actor, ForwardActor, make_actor
from sb3_natural.common.deferred import Deferred
from sb3_natural.common.finite import CheckedSteps, VecCheckFinite, surely_finite
from sb3_natural.common.mlp import actor_mlp, critic_mlp, flat_features, mlp_outputs
from sb3_natural.common.threads import one_thread_if_small
from sb3_natural.common.vec_env import LeanDummyVecEnv, as_monitored

__all__ = ["FastRollouts", "Recorder", "Step", "advantages_and_returns", "forget_graph"]

# Elements of the observations that go through the networks at a time after a rollout: little
# enough for the activations of images, much more than an MLP needs to run at full speed.
_CHUNK_ELEMENTS = 2**22


class _PassedOn:
    """An argument that SB3 copies on construction: assigning it later passes it on as well.

    Without this, ``model.gamma = 0.9`` would be ignored without a word.

    :param pass_on: gives the new value to whatever has the copy
    """

    def __init__(self, pass_on: Callable[[Any], None]) -> None:
        self._pass_on = pass_on

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, algorithm: Any, owner: type | None = None) -> Any:
        try:
            return vars(algorithm)[self._name]
        except (KeyError, TypeError):  # not set yet, or asked of the class
            raise AttributeError(self._name) from None

    def __set__(self, algorithm: Any, value: Any) -> None:
        vars(algorithm)[self._name] = value
        self._pass_on(algorithm)


def _tell_buffer(algorithm: Any) -> None:
    if isinstance(buffer := vars(algorithm).get("rollout_buffer"), RolloutBuffer):
        for name in ("gamma", "gae_lambda"):
            setattr(buffer, name, vars(algorithm).get(name, getattr(buffer, name)))


def _tell_lr_schedule(algorithm: Any) -> None:
    if "lr_schedule" in vars(algorithm):
        algorithm._setup_lr_schedule()


class FastRollouts(OnPolicyAlgorithm):
    """Mixin for SB3's on-policy algorithms: ``class PPO(FastRollouts, stable_baselines3.PPO)``.

    With the same seed the rollout buffer equals the one that SB3 fills, up to float32 rounding. In
    chaotic simulators rounding grows: in HalfCheetah-v5 a difference of 1e-7 in an action is one of
    0.1 in the rewards 50 steps later. Where equality over a whole rollout matters there, set
    ``model.rollout_path = "torch"``: then actions are the same bit for bit.

    What callbacks see is the same too; ``obs_tensor``, ``values`` and ``log_probs`` of a step are
    computed when looked at. (The buffer's own rows of these are filled when it is full.)

    NaN or infinity in an observation, a reward or an action raises where it appears.

    Schedules never see a progress below 0, which SB3's reaches in the last rollout if the budget
    is no multiple of rollouts. ``gamma``, ``gae_lambda``, ``n_steps`` and ``learning_rate`` may be
    assigned between two rollouts. What a callback changes of the policy acts at the next step;
    values are those of the critic that stands at the end of the rollout.

    Logs ``time/collect_fraction``: the share of ``learn``'s time so far that went into collecting
    (callbacks included, so evaluations done by an ``EvalCallback`` count as collection).
    """

    gamma = _PassedOn(_tell_buffer)
    gae_lambda = _PassedOn(_tell_buffer)
    learning_rate = _PassedOn(_tell_lr_schedule)
    _forced_path: str | None = None
    _told_path: str | None = None
    _collect_seconds = 0.0

    @property
    def rollout_path(self) -> str:
        """How actions are computed: "numpy", "torch" or "sb3".

        See :mod:`sb3_natural.common.actors`. Chosen by policy and device: "numpy" for the usual
        networks on the CPU, "sb3" for policies with a ``forward`` and buffers with an ``add`` of
        their own, "torch" otherwise. Assign one of them to force it, or None to choose again.
        """
        actor = self._make_actor()
        return "sb3" if actor is None else actor.path

    @rollout_path.setter
    def rollout_path(self, path: str | None) -> None:
        """Force a path.

        :raises ValueError: an unknown path, or one that does not fit policy, device and buffer
        """
        if path is not None and path not in ROLLOUT_PATHS:
            raise ValueError(
                f"rollout_path must be one of {', '.join(ROLLOUT_PATHS)}, or None; got {path!r}"
            )
        before, self._forced_path = self._forced_path, path
        if path not in (None, self.rollout_path):
            self._forced_path = before
            raise ValueError(
                f"rollout_path={path!r} does not fit {type(self.policy).__name__} on "
                f"{self.policy.device} with {type(self.rollout_buffer).__name__}; "
                f"{self.rollout_path!r} does"
            )

    def _make_actor(self) -> Actor | None:
        """The actor of the rollout to come; None where SB3's own collection is to be used."""
        own_add = type(self.rollout_buffer).add not in (RolloutBuffer.add, DictRolloutBuffer.add)
        if own_add or self._forced_path == "sb3":
            return None
        if self._forced_path is not None:
            return make_actor(self.policy, self._forced_path)
        return make_actor(self.policy, "numpy") or make_actor(self.policy, "torch")

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if isinstance(env, gym.Env):
            single = as_monitored(env, verbose) if monitor_wrapper else env
            if verbose >= 1:
                print("Wrapping the env in a DummyVecEnv.")
            env = LeanDummyVecEnv([lambda: single])
        return OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        super()._setup_model()
        forget_graph(self.policy)

    @np.errstate(all="ignore")
    def train(self) -> None:
        """Update the policy as the algorithm does; a trained model can be copied and pickled."""
        super().train()
        forget_graph(self.policy)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._collect_seconds = 0.0
        return super()._setup_learn(*args, **kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the rollout buffer, as SB3 does.

        :raises ValueError: an observation, a reward or an action is NaN or infinite; names the
            environment's index and the step
        """
        start = time.perf_counter()
        actor = self._make_actor()
        path = "sb3" if actor is None else actor.path
        if self.verbose >= 1 and self._told_path != path:
            self._told_path = path
            print(f"Collecting rollouts through path {path!r}")
        mlp = actor_mlp(self.policy) or critic_mlp(self.policy)
        if isinstance(rollout_buffer, RolloutBuffer):
            rollout_buffer.buffer_size = n_rollout_steps  # n_steps may have been changed
        try:
            with one_thread_if_small(mlp, env.num_envs):
                if actor is None:
                    env = VecCheckFinite(env, self.num_timesteps)
                    return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
                return self._collect(actor, env, callback, rollout_buffer, n_rollout_steps)
        finally:
            self._collect_seconds += time.perf_counter() - start

    def _collect(
        self,
        actor: Actor,
        env: VecEnv,
        callback: BaseCallback,
        buffer: Any,
        n_rollout_steps: int,
    ) -> bool:
        """SB3's loop, with the critic's part taken out."""
        assert self._last_obs is not None, "collect_rollouts is called by learn()"
        assert self._last_episode_starts is not None
        self.policy.set_training_mode(False)
        checked = CheckedSteps(env, self.num_timesteps)
        checked.check_observations(self._last_obs)
        if self.use_sde:
            self._reset_noise(env)
        callback.on_rollout_start()

        watched, to_env = _is_watched(callback), _action_transform(self)
        if watched:
            actor = self._current(actor)
        rollout = self._recorder(buffer, actor)
        seen = {
            "self": self,
            "env": env,
            "callback": callback,
            "rollout_buffer": buffer,
            "n_rollout_steps": n_rollout_steps,
        }
        for n_steps in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self._reset_noise(env)
            # A copy for those who look at it: the next step may use the array again.
            last_obs: Any = _map(np.copy, self._last_obs) if watched else self._last_obs
            actions = actor.sample(last_obs)
            _check_actions(actions, self.num_timesteps)
            clipped_actions = to_env(actions)
            rollout.begin(last_obs)
            new_obs, rewards, dones, infos = checked.step(clipped_actions)
            self.num_timesteps += env.num_envs

            if watched:
                seen.update(
                    rollout.deferred(n_steps, last_obs, actions),
                    n_steps=n_steps,
                    actions=actions,
                    clipped_actions=clipped_actions,
                    new_obs=new_obs,
                    rewards=rewards,
                    dones=dones,
                    infos=infos,
                )
                callback.update_locals(seen)
            starts = self._last_episode_starts
            step = Step(last_obs, actions, rewards, starts, dones, infos, new_obs)
            if not callback.on_step():
                rollout.stop(step)
                return False

            self._update_info_buffer(infos, dones)
            rollout.add(step)
            self._last_obs = new_obs  # type: ignore[assignment]
            # A copy, since it is read after the next step, for which the array may serve again.
            self._last_episode_starts = dones.copy()
            if watched and (current := self._current(actor)) is not actor:
                actor = current
                rollout.change_actor(actor)

        last_values = rollout.finish(new_obs, dones)
        seen.update(n_steps=n_rollout_steps, values=last_values, rewards=rewards, dones=dones)
        callback.update_locals(seen)
        callback.on_rollout_end()
        return True

    def _current(self, actor: Actor) -> Actor:
        """The actor, or another one if a callback has exchanged what it reads."""
        if actor.is_current(self.policy):
            return actor
        return self._make_actor() or ForwardActor(self.policy)

    @torch.no_grad()
    def _reset_noise(self, env: VecEnv) -> None:
        """New exploration noise for gSDE, without a graph, which could not be copied."""
        self.policy.reset_noise(env.num_envs)

    def _recorder(self, buffer: Any, actor: Actor) -> "Recorder":
        """What writes down the rollout to come."""
        return _BufferRecorder(self, buffer, actor)

    def _values(self, observations: Any) -> Tensor:
        """Values, (N, 1): ``policy.predict_values``, quicker."""
        critic = critic_mlp(self.policy)
        if critic is None:
            return self.policy.predict_values(observations)
        return mlp_outputs(critic, flat_features(self.policy, observations))

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, with ``time/collect_fraction`` added."""
        elapsed = (time.time_ns() - self.start_time) / 1e9
        self.logger.record("time/collect_fraction", min(1.0, self._collect_seconds / elapsed))
        super().dump_logs(iteration)


class _TimeLimit(NamedTuple):
    """An episode that was cut off: its last reward is to be bootstrapped."""

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
    """Whether ``observations`` are the first of an episode."""
    dones: np.ndarray
    """Whether the step ended an episode."""
    infos: list[dict[str, Any]]
    new_observations: Any
    """What it led to, (n_envs, ...); where an episode ended, the first of the next."""

    def cut_off(self) -> dict[int, Any]:
        """The last observations of the episodes that a time limit ended, by environment."""
        last = {}
        for index in np.flatnonzero(self.dones).tolist():
            observation = self.infos[index].get("terminal_observation")
            if observation is not None and self.infos[index].get("TimeLimit.truncated", False):
                last[index] = observation
        return last


class Recorder(ABC):
    """Writes down the steps of one rollout.

    :param algorithm: whose rollout it is
    :param actor: what picks the actions
    """

    def __init__(self, algorithm: FastRollouts, actor: Actor) -> None:
        self._algorithm = algorithm
        self._actor = actor

    @abstractmethod
    def begin(self, observations: VecEnvObs) -> None:
        """A step from these observations is about to be taken; it may overwrite them."""

    @abstractmethod
    def add(self, step: Step) -> None:
        """Store one step of all environments."""

    def change_actor(self, actor: Actor) -> None:
        """From the next step on, another actor picks the actions."""
        self._actor = actor

    @abstractmethod
    def stop(self, step: Step) -> None:
        """A callback has ended the rollout before its time, at this step."""

    @abstractmethod
    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """The rollout is complete.

        :return: the values of the observations that it led to, (n_envs, 1)
        """

    def deferred(self, step: int, observations: VecEnvObs, actions: np.ndarray) -> dict[str, Any]:
        """What SB3's loop also computes at a step: here, if a callback looks at it.

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
            taken = torch.as_tensor(actions, device=device)
            taken = taken.reshape(_log_prob_shape(policy, taken))
            return actor.log_probs([likelihood], taken)

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


class _BufferRecorder(Recorder):
    """Fills a rollout buffer: transitions at once, what the critic says of them at the end."""

    def __init__(self, algorithm: FastRollouts, buffer: RolloutBuffer, actor: Actor) -> None:
        super().__init__(algorithm, actor)
        buffer.reset()
        self._buffer = buffer
        self._time_limits: list[_TimeLimit] = []
        self._likelihoods: list[Any] = []
        self._log_probs: list[Tensor] = []
        self._evaluated_steps: tuple[Tensor, Tensor] | None = None

    @property
    def _policy(self) -> Any:
        return self._algorithm.policy  # a callback may have exchanged it

    def begin(self, observations: Any) -> None:
        """Store what the actions were taken in."""
        buffer, pos = self._buffer, self._buffer.pos
        if isinstance(buffer.observations, dict):
            for key, rows in buffer.observations.items():
                _set_row(rows, pos, observations[key])
        else:
            _set_row(buffer.observations, pos, observations)

    def add(self, step: Step) -> None:
        """What ``RolloutBuffer.add`` does, without the critic."""
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
            # A copy, since it is read at the end of the rollout.
            kept = copy.deepcopy(last_observation)
            self._time_limits.append(_TimeLimit(self._buffer.pos, index, kept))

    def change_actor(self, actor: Actor) -> None:
        """Settle the log-probabilities of the actions so far: the actor knows what they need."""
        self._settle_log_probs()
        super().change_actor(actor)

    def _settle_log_probs(self) -> None:
        if not self._likelihoods:
            return
        stop = self._buffer.pos
        start = stop - len(self._likelihoods)
        actions = torch.as_tensor(_rows(self._buffer.actions[start:stop]))
        actions = actions.to(self._algorithm.device)
        actions = actions.reshape(_log_prob_shape(self._policy, actions)).float()
        self._log_probs.append(self._actor.log_probs(self._likelihoods, actions).reshape(-1))
        self._likelihoods = []

    def stop(self, step: Step) -> None:
        """Evaluate the steps before this one, which is dropped, as in SB3."""
        self.begin(_map(np.zeros_like, step.observations))
        self.evaluate()

    @torch.no_grad()
    @np.errstate(all="ignore")  # advantages fade out into denormal numbers, and should
    def finish(self, last_observations: VecEnvObs, dones: np.ndarray) -> Tensor:
        """Evaluate all steps; advantages and returns."""
        self.evaluate()
        on_device = obs_as_tensor(last_observations, self._algorithm.device)  # type: ignore[arg-type]
        last_values = self._policy.predict_values(on_device)
        _compute_returns(self._buffer, last_values, dones)
        return last_values

    def _evaluated(self, step: int) -> tuple[Tensor, Tensor] | None:
        if self._evaluated_steps is None:
            return None
        values, log_probs = self._evaluated_steps
        return values[step], log_probs[step]

    @torch.no_grad()
    def evaluate(self) -> None:
        """Fill in values, log-probabilities and bootstrapped rewards of the steps so far."""
        buffer = self._buffer
        n_steps, n_envs = buffer.pos, buffer.n_envs
        if n_steps == 0:
            return
        self._settle_log_probs()
        log_probs = torch.cat(self._log_probs).view(n_steps, n_envs)
        values = torch.cat(
            [self._algorithm._values(part).reshape(-1) for part in self._chunks(n_steps * n_envs)]
        ).view(n_steps, n_envs, 1)
        for name, tensor in (("value", values), ("log-probability", log_probs)):
            if torch.isnan(tensor).any():
                raise ValueError(
                    f"the policy returned a {name} of nan in the rollout up to num_timesteps="
                    f"{self._algorithm.num_timesteps}: its parameters are not finite any more"
                )
        self._evaluated_steps = values, log_probs
        buffer.values[:n_steps] = values.squeeze(2).cpu().numpy()
        buffer.log_probs[:n_steps] = log_probs.cpu().numpy()
        self._bootstrap()

    def _chunks(self, n_samples: int) -> Iterator[Any]:
        """Observations of the first samples, time-major, as the policy takes them."""
        n_rows = _chunk_rows(self._policy)
        observations: Any = self._buffer.observations
        for start in range(0, n_samples, n_rows):
            chunk = slice(start, min(start + n_rows, n_samples))
            if isinstance(observations, dict):
                part: Any = {key: _rows(array)[chunk] for key, array in observations.items()}
            else:
                part = _rows(observations)[chunk]
            yield obs_as_tensor(part, self._algorithm.device)

    def _bootstrap(self) -> None:
        """Add gamma V(last observation) to the last rewards of episodes that were cut off."""
        n_rows = _chunk_rows(self._policy)
        for start in range(0, len(self._time_limits), n_rows):
            ended = self._time_limits[start : start + n_rows]
            stacked = _stack([limit.observation for limit in ended])
            values = self._policy.predict_values(self._policy.obs_to_tensor(stacked)[0])
            for limit, value in zip(ended, values.reshape(-1).tolist(), strict=True):
                self._buffer.rewards[limit.step, limit.env_index] += self._algorithm.gamma * value


def advantages_and_returns(
    rewards: np.ndarray,
    values: np.ndarray,
    episode_starts: np.ndarray,
    last_values: np.ndarray,
    dones: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantage estimates and the TD(lambda) returns that go with them.

    Bit for bit what SB3's ``RolloutBuffer.compute_returns_and_advantage`` computes; all but the
    recursion itself is done for all steps at once. Source: Schulman et al. 2016, equation 16.

    :param rewards: shape (n_steps, n_envs)
    :param values: V of the states, shape (n_steps, n_envs)
    :param episode_starts: 1 where a step is the first of its episode, shape (n_steps, n_envs)
    :param last_values: V of the states after the last step, shape (n_envs,)
    :param dones: whether the last step ended an episode, shape (n_envs,)
    :return: advantages and returns, shape (n_steps, n_envs)
    """
    goes_on = 1.0 - np.concatenate([episode_starts[1:], dones[None].astype(np.float32)])
    next_values = np.concatenate([values[1:], last_values[None]])
    deltas = rewards + gamma * next_values * goes_on - values
    decay = gamma * gae_lambda * goes_on
    advantages = deltas.copy()
    for now, later, factor in zip(
        advantages[-2::-1], advantages[:0:-1], decay[-2::-1], strict=True
    ):
        now += factor * later
    return advantages, advantages + values


def _compute_returns(buffer: RolloutBuffer, last_values: Tensor, dones: np.ndarray) -> None:
    own = type(buffer).compute_returns_and_advantage
    if own is not RolloutBuffer.compute_returns_and_advantage:
        buffer.compute_returns_and_advantage(last_values=last_values, dones=dones)
        return
    buffer.advantages, buffer.returns = advantages_and_returns(
        buffer.rewards,
        buffer.values,
        buffer.episode_starts,
        last_values.cpu().numpy().reshape(-1),
        dones,
        buffer.gamma,
        buffer.gae_lambda,
    )


def forget_graph(policy: Any) -> None:
    """Let go of the last forward pass's graph, which SB3's distribution objects hold on to.

    A tensor with a graph can be neither copied (``copy.deepcopy``) nor pickled.
    """
    _detach_inside(policy.action_dist)


def _detach_inside(value: Any) -> Any:
    """The value; tensors in it, however deep in distributions and lists, are without a graph."""
    if isinstance(value, Tensor):
        return value if value.grad_fn is None else value.detach()
    if isinstance(value, list):
        return [_detach_inside(part) for part in value]
    if isinstance(value, (Distribution, torch.distributions.Distribution)):
        for name, part in vars(value).items():
            vars(value)[name] = _detach_inside(part)
    return value


def _is_watched(callback: BaseCallback) -> bool:
    """Whether anybody looks at the steps: SB3 makes a callback of the user's None, too."""
    return not (type(callback) is ConvertCallback and callback.callback is None)


def _action_transform(algorithm: FastRollouts) -> Callable[[np.ndarray], np.ndarray]:
    """From the policy's actions to the environment's."""
    space = algorithm.action_space
    if not isinstance(space, spaces.Box):
        return lambda actions: actions
    if algorithm.policy.squash_output:
        return algorithm.policy.unscale_action
    # np.clip checks its arguments for longer than the clipping takes.
    return lambda actions: np.minimum(np.maximum(actions, space.low), space.high)


def _check_actions(actions: np.ndarray, num_timesteps: int) -> None:
    if not surely_finite(actions) and not (finite := np.isfinite(actions)).all():
        raise ValueError(
            f"the policy returned a non-finite action ({actions[~finite][0]}) after "
            f"num_timesteps={num_timesteps}: its parameters are not finite any more"
        )


def _log_prob_shape(policy: Any, actions: Tensor) -> tuple[int, ...]:
    """The shape in which ``log_prob`` wants a batch of actions: flat, and (N,) for Discrete."""
    return (-1,) if isinstance(policy.action_space, spaces.Discrete) else (len(actions), -1)


def _chunk_rows(policy: Any) -> int:
    return max(1, _CHUNK_ELEMENTS // spaces.flatdim(policy.observation_space))


def _map(function: Callable[[np.ndarray], np.ndarray], observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: function(array) for key, array in observations.items()}
    return function(observations)


def _get(mapping: Callable[[], Any], key: str) -> Tensor:
    return mapping()[key]


def _set_row(rows: np.ndarray, pos: int, values: np.ndarray) -> None:
    """rows[pos] = values, whose shape may differ by axes of length one or flattened ones."""
    row = rows[pos]
    row[...] = values if values.shape == row.shape else values.reshape(row.shape)


def _rows(array: np.ndarray) -> np.ndarray:
    """(n_steps, n_envs, ...) -> (n_steps * n_envs, ...), without a copy."""
    return array.reshape(-1, *array.shape[2:])


def _stack(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([part[key] for part in observations]) for key in observations[0]}
    return np.stack(observations)
