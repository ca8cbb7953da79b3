"""Fast rollout collection, for every on-policy algorithm of Stable-Baselines3.

At each step SB3 computes an action, its log-probability and a value, but only the action is needed
to go on. Here values, log-probabilities and the bootstrap values of time-limited episodes come from
one batched pass over the full rollout; the buffer ends up the same.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sb3_natural.environments.vec_env import LeanDummyVecEnv, as_monitored
from sb3_natural.networks.mlp import Mlp, actor_mlp, critic_mlp
from sb3_natural.networks.structure import Remembered
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.observations import mapped
from sb3_natural.rollouts.actors import (
    ROLLOUT_PATHS,
    Actor,
    ForwardActor,
    PlainActor,
    make_actor,
)
from sb3_natural.rollouts.finiteness import CheckedSteps, VecCheckFinite, surely_finite
from sb3_natural.rollouts.recorders import BufferRecorder, Recorder, Step

__all__ = ["FastRollouts", "forget_graph"]


# Buffers whose arrays are filled here as their ``add`` would fill them.
_KNOWN_ADDS = (
    RolloutBuffer.add,
    DictRolloutBuffer.add,
    MaskableRolloutBuffer.add,
    MaskableDictRolloutBuffer.add,
)


class _PassedOn:
    """An argument that SB3 copies on construction: assigning it later updates the copy as well.

    Without this, ``model.gamma = 0.9`` would be ignored silently.

    :param pass_on: gives the new value to whatever holds the copy
    """

    def __init__(self, pass_on: Callable[[Any], None]) -> None:
        self._pass_on = pass_on

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, algorithm: Any, owner: type | None = None) -> Any:
        try:
            return vars(algorithm)[self._name]
        except (KeyError, TypeError):  # not set yet, or looked up on the class
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


class _Acting(NamedTuple):
    """How the actions of a rollout are computed."""

    actor: Actor | None
    """None if SB3's own collection is to be used."""
    mlp: Mlp | None
    """The policy's network, actor or critic, if it is a plain one."""


class FastRollouts(OnPolicyAlgorithm):
    """Mixin for SB3's on-policy algorithms: ``class PPO(FastRollouts, stable_baselines3.PPO)``.

    With the same seed the rollout buffer equals the one that SB3 fills, up to float32 rounding. In
    chaotic simulators rounding errors grow: in HalfCheetah-v5 a difference of 1e-7 in an action
    becomes one of 0.1 in the rewards 50 steps later. If equality over a whole rollout matters
    there, set ``model.rollout_path = "torch"``, which gives the same actions bit for bit.

    Callbacks see the same, too: ``obs_tensor``, ``values`` and ``log_probs`` of a step are computed
    when they are used. (The buffer's own values and log-probabilities are filled in at the end.)

    NaN or infinity in an observation, a reward or an action raises an error where it appears.

    Schedules never see a progress below 0, which SB3's reaches in the last rollout if the budget is
    not a multiple of the rollout's length. ``gamma``, ``gae_lambda``, ``n_steps`` and
    ``learning_rate`` may be assigned between two rollouts. Changes that a callback makes to the
    policy take effect at the next step; values are those of the critic at the end of the rollout.

    Logs ``time/collect_fraction``: the share of ``learn``'s time so far that was spent collecting
    (callbacks included, so evaluations by an ``EvalCallback`` count as collection).
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

        It depends on policy, buffer and device: "numpy" for the usual networks on the CPU, "sb3"
        for policies with their own ``forward`` and buffers with their own ``add``, "torch"
        otherwise. Assign a path to force it, or None for the default; a ``ValueError`` says that
        the path is unknown, or does not fit policy, device and buffer.
        """
        actor = self._acting().actor
        return "sb3" if actor is None else actor.path

    @rollout_path.setter
    def rollout_path(self, path: str | None) -> None:
        """Force a path.

        :raises ValueError: the path is unknown, or does not fit policy, device and buffer
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
        """The actor of the next rollout; None if SB3's own collection is to be used."""
        own_add = type(self.rollout_buffer).add not in _KNOWN_ADDS
        if own_add or self._forced_path == "sb3":
            return None
        if self._forced_path is not None:
            return make_actor(self.policy, self._forced_path)
        return make_actor(self.policy, "numpy") or make_actor(self.policy, "torch")

    @cached_property
    def _remembered(self) -> Remembered:
        return Remembered()

    def _acting(self) -> _Acting:
        """How the next rollout is collected: as the last one, if nothing has changed."""
        return self._remembered.recall(
            ("acting", *self._path_depends_on()),
            self.policy,
            self._find_acting,
            _reads_plain_networks,
        )

    def _path_depends_on(self) -> tuple[Any, ...]:
        """What, besides the policy, decides how actions are computed."""
        return self._forced_path, getattr(type(self.rollout_buffer), "add", None)

    def _find_acting(self) -> _Acting:
        mlp = actor_mlp(self.policy) or critic_mlp(self.policy)
        return _Acting(self._make_actor(), mlp)

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
        """Update the policy. Afterwards the model can be copied and pickled."""
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

        :param env: the environments
        :param callback: is called at the start and the end, and after each step
        :param rollout_buffer: the buffer to fill
        :param n_rollout_steps: steps to run in each environment
        :return: False if the callback has ended the training, else True
        :raises ValueError: an observation, a reward or an action is NaN or infinite; the message
            names the environment's index and the step
        """
        start = time.perf_counter()
        actor, mlp = self._acting()
        path = "sb3" if actor is None else actor.path
        if self.verbose >= 1 and self._told_path != path:
            self._told_path = path
            print(f"Collecting rollouts through path {path!r}")
        if isinstance(rollout_buffer, RolloutBuffer):
            rollout_buffer.buffer_size = n_rollout_steps  # n_steps may have been changed
        try:
            with one_thread_if_small(mlp, env.num_envs):
                if actor is None:
                    env = VecCheckFinite(env, self.num_timesteps)
                    return self._collect_as_sb3(env, callback, rollout_buffer, n_rollout_steps)
                return self._collect(actor, env, callback, rollout_buffer, n_rollout_steps)
        finally:
            self._collect_seconds += time.perf_counter() - start

    def _collect_as_sb3(
        self, env: VecEnv, callback: BaseCallback, buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """SB3's loop itself."""
        return super().collect_rollouts(env, callback, buffer, n_rollout_steps)

    def _collect(
        self,
        actor: Actor,
        env: VecEnv,
        callback: BaseCallback,
        buffer: Any,
        n_rollout_steps: int,
    ) -> bool:
        """SB3's loop, without the critic."""
        assert self._last_obs is not None, "collect_rollouts is called by learn()"
        assert self._last_episode_starts is not None
        self._remembered.set_training_mode(self.policy, False)
        checked = CheckedSteps(env, self.num_timesteps)
        checked.check_observations(self._last_obs)
        if self.use_sde:
            self._reset_noise(env)
        callback.on_rollout_start()

        watched, to_env = _is_watched(callback), _action_transform(self)
        if watched:
            actor = self._current(actor)
        rollout = self._recorder(buffer, actor)
        rollout.is_unwatched = not watched
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
            # A copy for callbacks: the next step may reuse the array.
            last_obs: Any = mapped(np.copy, self._last_obs) if watched else self._last_obs
            masks = self._action_masks(env)
            actions = actor.sample(last_obs, masks)
            _check_actions(actions, self.num_timesteps)
            clipped_actions = to_env(actions)
            rollout.begin(last_obs, masks)
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
            # A copy, since it is used after the next step, which may reuse the array.
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
        """The actor, or a new one if a callback has replaced what it reads."""
        if actor.is_current(self.policy):
            return actor
        return self._make_actor() or ForwardActor(self.policy)

    @torch.no_grad()
    def _reset_noise(self, env: VecEnv) -> None:
        """New exploration noise for gSDE, without a graph: tensors with one cannot be copied."""
        self.policy.reset_noise(env.num_envs)

    def _action_masks(self, env: VecEnv) -> np.ndarray | None:
        """Which actions are valid now, (n_envs, K); None where all are."""
        return None

    def _recorder(self, buffer: Any, actor: Actor) -> Recorder:
        """The recorder of the next rollout."""
        return BufferRecorder(self, buffer, actor)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_remembered"]

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, with ``time/collect_fraction`` added.

        :param iteration: number of the rollout, logged as ``time/iterations``; 0: it is not logged
        """
        elapsed = (time.time_ns() - self.start_time) / 1e9
        self.logger.record("time/collect_fraction", min(1.0, self._collect_seconds / elapsed))
        super().dump_logs(iteration)


def forget_graph(policy: Any) -> None:
    """Drop the graph of the last forward pass, which SB3's distribution objects keep.

    A tensor with a graph can be neither copied (``copy.deepcopy``) nor pickled.

    :param policy: one of SB3's, with an action distribution
    """
    _detach_inside(policy.action_dist)


def _detach_inside(value: Any) -> Any:
    """The value with its tensors detached, however deep in distributions and lists they are."""
    if isinstance(value, Tensor):
        return value if value.grad_fn is None else value.detach()
    if isinstance(value, list):
        return [_detach_inside(part) for part in value]
    if isinstance(value, (Distribution, torch.distributions.Distribution)):
        for name, part in vars(value).items():
            vars(value)[name] = _detach_inside(part)
    return value


def _reads_plain_networks(acting: _Acting) -> bool:
    """Whether the actor does nothing but read parameters that are known to be the policy's."""
    return isinstance(acting.actor, PlainActor)


def _is_watched(callback: BaseCallback) -> bool:
    """Whether the user gave a callback: SB3 wraps None in one, too."""
    return not (type(callback) is ConvertCallback and callback.callback is None)


def _action_transform(algorithm: FastRollouts) -> Callable[[np.ndarray], np.ndarray]:
    """From the policy's actions to the environment's."""
    space = algorithm.action_space
    if not isinstance(space, spaces.Box):
        return lambda actions: actions
    if algorithm.policy.squash_output:
        return algorithm.policy.unscale_action
    # np.clip spends longer on checking its arguments than on clipping.
    return lambda actions: np.minimum(np.maximum(actions, space.low), space.high)


def _check_actions(actions: np.ndarray, num_timesteps: int) -> None:
    if not surely_finite(actions) and not (finite := np.isfinite(actions)).all():
        raise ValueError(
            f"the policy returned a non-finite action ({actions[~finite][0]}) after "
            f"num_timesteps={num_timesteps}: its parameters are no longer finite"
        )
