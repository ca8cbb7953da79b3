"""Actor-critic with experience replay (Wang et al. 2017) for Stable-Baselines3."""

import io
import math
import pathlib
import warnings
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_natural.acer.buffers import SegmentBuffer, Segments
from sb3_natural.acer.diagnostics import Update, summary
from sb3_natural.acer.loss import (
    Estimates,
    critic_loss,
    discrete_estimates,
    duelling_estimates,
    policy_gradient,
    state_value_loss,
)
from sb3_natural.acer.policies import ACERPolicy, CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_natural.acer.recording import SegmentRecorder
from sb3_natural.acer.retrace import retrace
from sb3_natural.arguments import (
    DEVICE,
    FINITE_AND_NOT_NEGATIVE,
    POSITIVE,
    SEED,
    Range,
    at_least,
    between,
    check_attributes,
    checked,
)
from sb3_natural.curvature.families import ACTION_SPACES
from sb3_natural.curvature.masking import MASKED
from sb3_natural.curvature.trust_region import linearised_projection
from sb3_natural.loading import Loadable, opened
from sb3_natural.networks.mlp import actor_mlp
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.observations import at
from sb3_natural.rollouts.actors import Actor, TorchActor, make_actor
from sb3_natural.rollouts.masks import MaskedRollouts
from sb3_natural.rollouts.recorders import Recorder
from sb3_natural.rollouts.scaling import ReturnScale

SelfACER = TypeVar("SelfACER", bound="ACER")

# With more updates than this between two rollouts, training would seem to hang.
MAX_REPLAY_RATIO = 10_000


class Batch(NamedTuple):
    """Segments as the update uses them, on the model's device; N = n_steps * n_segments."""

    observations: PyTorchObs
    """Normalised, (R, ...); actions were taken in the first N."""
    actions: Tensor
    """(N,) for Discrete, otherwise (N, n_dims)"""
    mu: Tensor
    """phi of the policy that acted, (N, K)"""
    rewards: np.ndarray
    """In units of the return's standard deviation, (n_steps, n_segments)"""
    masks: Tensor | None = None
    """Which actions are valid, (R, K); None: all"""

    def valid(self, phi: Tensor) -> Tensor:
        """The logits of the first rows, those of invalid actions so low that they have no chance.

        Everything that follows from them is then that of the valid actions.
        """
        return phi if self.masks is None else phi.masked_fill(~self.masks[: len(phi)], MASKED)


class ACER(Loadable, MaskedRollouts):
    """Actor-critic with experience replay, for discrete and continuous actions.

    After every ``n_steps`` steps of each environment there is one update on these steps. Then comes
    a random number of updates, ``replay_ratio`` on average, on segments drawn from the replay
    buffer. An update

    - computes targets for the critic Q with Retrace (Munos et al. 2016), from the importance ratios
      ``rho = pi(a|s) / mu(a|s)``, where mu is the policy that acted;
    - forms the policy gradient g with respect to the statistics phi of the action distribution
      (logits, or mean and ``log_std``), with rho truncated at c (``correction_term``) and a
      correction that makes up for the truncation;
    - bounds it by a trust region around a slowly moving average of the policy: the z nearest to g
      with ``k^T z <= delta``, where k is the gradient of the KL divergence from the average policy;
    - back-propagates z through phi, together with the critic's loss.

    For Discrete actions the critic has one output per action; for Box, MultiDiscrete and
    MultiBinary it is a stochastic duelling network.

    Paper: Wang et al. 2017, Sample efficient actor-critic with experience replay. There are two
    differences. Rewards are divided by a running estimate of the standard deviation of the return
    (``normalize_returns``), so that delta, the entropy bonus and the clipping of gradients do not
    depend on the scale of rewards. And k is taken with respect to logits, where it is bounded,
    instead of probabilities. Argument names are those of Stable-Baselines 2.

    Updates run with the policy in evaluation mode (dropout off, batch norm frozen): rho compares
    the distributions that actions are drawn from.

    :param policy: the policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy, or a class
        derived from :class:`~sb3_natural.acer.policies.ACERPolicy`)
    :param env: the environment to learn from (if registered in Gymnasium, can be str)
    :param learning_rate: learning rate of the optimiser, a float or a schedule
    :param n_steps: length of a segment: steps in each environment per rollout
    :param gamma: discount factor
    :param buffer_size: steps in the replay buffer, over all environments
    :param replay_ratio: updates on replayed segments per rollout, on average (the number is Poisson
        distributed); 0 for learning on-policy
    :param replay_start: steps in the replay buffer, over all environments, before the first replay
    :param replay_batch_size: segments in an update on replay; None: as many as environments
    :param correction_term: c, at which importance ratios are truncated; ``math.inf`` for never
    :param trust_region: whether to bound the policy gradient by the trust region
    :param delta: bound of the trust region: how much the KL divergence from the average policy may
        grow, to first order, along the gradient of a sample
    :param alpha: share of its old parameters that the average policy keeps at each update; the rest
        is the policy's
    :param q_coef: weight of the critic's loss
    :param ent_coef: weight of the entropy bonus
    :param max_grad_norm: norm at which the gradient of an update is clipped
    :param n_sdn_samples: actions per state over which the stochastic duelling network averages
    :param retrace: whether Q's targets use Retrace's traces; without them they are uncorrected
        off-policy returns (for comparison)
    :param duelling: whether Q(s, a) is a stochastic duelling network, or a plain one beside V (for
        comparison; Discrete actions use neither)
    :param normalize_returns: whether to divide rewards by the standard deviation of the return
    :param stats_window_size: number of episodes that the logged episode statistics average over
    :param tensorboard_log: the log location for TensorBoard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: 0 no output, 1 info messages, 2 debug messages
    :param device: device (cpu, cuda, ...) on which the code should be run
    :param seed: seed for the pseudo random generators
    :param _init_setup_model: whether or not to build the network at the creation of the instance
    :raises ValueError: an argument is out of range or of the wrong type; the message names it
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: ACERPolicy

    @checked(
        device=DEVICE,
        seed=SEED,
        verbose=at_least(0),
        stats_window_size=at_least(1),
        learning_rate=FINITE_AND_NOT_NEGATIVE,
        n_steps=at_least(1),
        gamma=between(0, 1),
        buffer_size=at_least(1),
        replay_ratio=Range(
            f"finite and not negative, and at most {MAX_REPLAY_RATIO}",
            lambda value: 0 <= value <= MAX_REPLAY_RATIO,
        ),
        replay_batch_size=at_least(1),
        correction_term=POSITIVE,
        delta=FINITE_AND_NOT_NEGATIVE,
        alpha=between(0, 1),
        q_coef=FINITE_AND_NOT_NEGATIVE,
        ent_coef=FINITE_AND_NOT_NEGATIVE,
        max_grad_norm=POSITIVE,
        n_sdn_samples=at_least(1),
    )
    def __init__(
        self,
        policy: str | type[ACERPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 7e-4,
        n_steps: int = 20,
        gamma: float = 0.99,
        buffer_size: int = 50_000,
        replay_ratio: float = 4.0,
        replay_start: int = 1_000,
        replay_batch_size: int | None = None,
        correction_term: float = 10.0,
        trust_region: bool = True,
        delta: float = 1.0,
        alpha: float = 0.99,
        q_coef: float = 0.5,
        ent_coef: float = 0.01,
        max_grad_norm: float = 10.0,
        n_sdn_samples: int = 5,
        retrace: bool = True,
        duelling: bool = True,
        normalize_returns: bool = True,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: bool | int = 0,
        device: torch.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=1.0,  # required by SB3's base class; ACER has Retrace
            ent_coef=ent_coef,
            vf_coef=0.0,  # likewise; ACER has q_coef
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=ACTION_SPACES,
        )
        self.buffer_size = buffer_size
        self.replay_ratio = replay_ratio
        self.replay_start = replay_start
        self.replay_batch_size = replay_batch_size
        self.correction_term = correction_term
        self.trust_region = trust_region
        self.delta = delta
        self.alpha = alpha
        self.q_coef = q_coef
        self.n_sdn_samples = n_sdn_samples
        self.retrace = retrace
        self.duelling = duelling
        self.normalize_returns = normalize_returns
        self._return_scale = ReturnScale()
        self._skipped_updates = 0
        if _init_setup_model:
            self._setup_model()

    def _check_arguments(self) -> None:
        check_attributes(self)
        if self.n_steps * self.n_envs > self.buffer_size:
            raise ValueError(
                f"buffer_size={self.buffer_size} steps cannot hold one segment of "
                f"n_steps={self.n_steps} steps for each of {self.n_envs} environments: it must be "
                f"at least {self.n_steps * self.n_envs}"
            )
        held = self.buffer_size // self.n_envs * self.n_envs
        if not 0 <= self.replay_start <= held:
            raise ValueError(
                f"replay_start must be between 0 and {held}, the steps that "
                f"buffer_size={self.buffer_size} holds of {self.n_envs} environments, "
                f"got {self.replay_start}: replay would never start"
            )

    def _setup_model(self) -> None:
        self._check_arguments()  # here, since load() may bring new ones
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        if not isinstance(policy, ACERPolicy):
            raise ValueError(
                "policy must be derived from sb3_natural.acer.ACERPolicy, whose critic rates "
                f"actions; got {type(policy).__name__}"
            )
        self.policy = policy.to(self.device)
        self._maybe_recommend_cpu("MlpPolicy")
        self.replay_buffer = SegmentBuffer(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            self.policy.n_statistics,
            self.n_envs,
        )
        self._return_scale.setup(self.gamma, self.n_envs)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed all generators, including that of replay.

        :param seed: the seed; None: replay gets a random one, and the others stay as they are
        """
        super().set_random_seed(seed)
        self._rng = np.random.default_rng(seed)

    @property
    def rollout_buffer(self) -> SegmentBuffer:  # type: ignore[override]
        """The replay buffer: rollouts are written into it directly."""
        return self.replay_buffer

    def _make_actor(self) -> Actor | None:
        paths = ["torch"] if self._forced_path == "torch" else ["numpy", "torch"]
        actors = (make_actor(self.policy, path, ACERPolicy.forward) for path in paths)
        # The policy's own forward() is not used: it would not say what mu was.
        return next(filter(None, actors), None) or TorchActor(self.policy)

    def _recorder(self, buffer: SegmentBuffer, actor: Actor) -> Recorder:
        self._check_arguments()
        if self.buffer_size // self.n_envs != buffer.capacity:
            raise ValueError(
                f"buffer_size={self.buffer_size} was set too late: the replay buffer was made "
                f"for {buffer.capacity * self.n_envs} steps; save the model, and load it with "
                f"buffer_size={self.buffer_size}"
            )
        recorder = SegmentRecorder(self, buffer, actor, self._normalisation)
        self._return_scale.end_episodes(recorder.cut_off)
        return recorder

    @property
    def _normalisation(self) -> VecNormalize | None:
        """The normalisation to undo before steps are stored, and to redo when they are sampled.

        If another wrapper is around it (to stack frames, say), observations are stored as they are.
        """
        return self._vec_normalize_env if self.env is self._vec_normalize_env else None

    @np.errstate(all="ignore")  # traces may fade into denormal numbers
    def train(self) -> None:
        """Take one update on the rollout, then a random number of them on replayed segments.

        :raises ValueError: an argument has been set to an invalid value, or a parameter of the
            policy is no longer finite
        """
        check_attributes(self)  # callbacks may have set some
        self.policy.set_training_mode(False)
        self.policy.find_averaged()
        self._update_learning_rate(self.policy.optimizer)
        n_steps = self.replay_buffer.n_fresh
        fresh = self.replay_buffer.latest(n_steps)
        self._return_scale.setup(self.gamma, self.n_envs)
        if self.normalize_returns:
            self._return_scale.update(self._rewards(fresh), ~fresh.continues)

        n_segments = self.replay_batch_size or self.n_envs
        with one_thread_if_small(actor_mlp(self.policy), n_steps * n_segments):
            updates = [self._update(fresh)]
            if len(self.replay_buffer) >= self.replay_start:
                for _ in range(self._rng.poisson(self.replay_ratio)):
                    replayed = self.replay_buffer.sample(n_segments, n_steps, self._rng)
                    updates.append(self._update(replayed))
            self._record(updates)

    def _update(self, segments: Segments) -> Update:
        """One step of the optimiser."""
        policy, n = self.policy, segments.rewards.size
        batch = self._to_batch(segments)
        phi, latent = policy.statistics_and_latent(batch.observations)
        phi = batch.valid(phi)
        estimates = self._estimates(batch, phi, latent)
        with torch.no_grad():
            targets, goals = self._targets(batch, segments, estimates)
            current, advantages = phi[:n].detach(), goals - estimates.values[:n]
            gradient = policy_gradient(
                policy,
                current,
                batch.actions,
                estimates,
                advantages,
                self.correction_term,
                self.ent_coef,
            )
            average, bounded = None, gradient
            if self.trust_region:
                average = batch.valid(policy.average_statistics(at(batch.observations, slice(n))))
                kl_gradient = policy.family.kl_gradient(average, current)
                bounded = linearised_projection(gradient, kl_gradient, self.delta)
        value_loss = critic_loss(estimates, targets)
        if not policy.is_discrete:
            value_loss = value_loss + state_value_loss(estimates, targets, self.duelling)
        # Its gradient with respect to phi is -z / N.
        policy_surrogate = -(bounded * phi[:n]).sum() / n
        norm = self._step(policy_surrogate + self.q_coef * value_loss)
        return Update(
            current,
            average,
            estimates,
            advantages,
            targets,
            gradient,
            bounded,
            norm,
            segments.ages,
        )

    def _to_batch(self, segments: Segments) -> Batch:
        n, observations = segments.rewards.size, segments.observations
        if self._normalisation is not None:
            observations = self._normalisation.normalize_obs(observations)
        rewards = self._rewards(segments)
        if self.normalize_returns:
            rewards = rewards / np.float32(self._return_scale.std)
        actions = self._to_tensor(segments.actions)
        return Batch(
            obs_as_tensor(observations, self.device),
            actions.reshape(n) if self.policy.is_discrete else actions.reshape(n, -1),
            self._to_tensor(segments.statistics).reshape(n, -1),
            rewards,
            None if segments.masks is None else self._to_tensor(segments.masks),
        )

    def _rewards(self, segments: Segments) -> np.ndarray:
        if self._normalisation is None:
            return segments.rewards
        return self._normalisation.normalize_reward(segments.rewards).astype(np.float32)

    def _estimates(self, batch: Batch, phi: Tensor, latent: Tensor) -> Estimates:
        arguments = (self.policy, phi, latent, batch.mu, batch.actions, self.correction_term)
        if self.policy.is_discrete:
            return discrete_estimates(*arguments)
        return duelling_estimates(*arguments, self.n_sdn_samples, self.duelling)

    def _targets(
        self, batch: Batch, segments: Segments, estimates: Estimates
    ) -> tuple[Tensor, Tensor]:
        """Qret, and what the policy gradient uses instead: Qopc with a duelling network; (N,)."""
        shape = segments.rewards.shape
        # In numpy: its calls on small arrays cost a fraction of torch's.
        values, q, traces = (
            tensor.detach().cpu().numpy()
            for tensor in (estimates.values, estimates.q, estimates.traces)
        )
        next_values = values[segments.next_rows] * ~segments.terminals
        q, traces = q.reshape(shape), traces.reshape(shape)

        def backed_up(coefficients: np.ndarray) -> Tensor:
            arguments = batch.rewards, next_values, q, coefficients, segments.continues, self.gamma
            return self._to_tensor(retrace(*arguments)).reshape(-1)

        targets = backed_up(traces if self.retrace else np.ones_like(traces))
        return targets, targets if self.policy.is_discrete else backed_up(np.ones_like(traces))

    def _step(self, loss: Tensor) -> float:
        """Move the parameters, unless the gradient is not finite; its norm before clipping.

        :raises ValueError: the gradient is not finite because a parameter is not
        """
        policy = self.policy
        policy.optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(policy.trained, self.max_grad_norm))
        if math.isfinite(norm):
            policy.optimizer.step()
            policy.update_average(self.alpha)
        else:
            self._check_parameters()
            self._skipped_updates += 1
            warnings.warn(
                f"update {self._n_updates} was skipped: its gradient is not finite (norm {norm})",
                stacklevel=2,
            )
        self._n_updates += 1
        return norm

    def _check_parameters(self) -> None:
        for name, tensor in self.policy.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(
                    f"{name} of the policy is no longer finite (num_timesteps="
                    f"{self.num_timesteps}, after {self._n_updates} updates): "
                    "training cannot go on from here"
                )

    def _to_tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _record(self, updates: list[Update]) -> None:
        c, family = self.correction_term, self.policy.family
        for name, value in summary(updates, family, c, self.max_grad_norm).items():
            self.logger.record(f"train/{name}", value)
        if self.normalize_returns:
            self.logger.record("train/return_std", self._return_scale.std)
        self.logger.record("train/skipped_updates", self._skipped_updates)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(
        self: SelfACER,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "ACER",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfACER:
        """Train for ``total_timesteps`` environment steps, as SB3's algorithms do.

        :return: the model itself
        :raises ValueError: an observation, a reward, an action or a parameter is NaN or infinite,
            or an argument has been set to an invalid value
        """
        super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )
        # No gradient has been computed since the last step.
        self._check_parameters()
        return self

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """Save the replay buffer, which ``save`` leaves out.

        The file is in NumPy's npz format, whatever its name, with a header in JSON.

        :param path: a file; ``.npz`` is added to a name without a suffix
        :raises ValueError: a space is of a kind that the file cannot hold; the message names it
        """
        self.replay_buffer.header()  # raises before there is a file
        with opened(path, "w", "npz", self.verbose) as file:
            self.replay_buffer.save(file)

    def load_replay_buffer(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        truncate_last_traj: bool = True,
        *,
        trust: bool = False,
    ) -> None:
        """Replace the replay buffer, and its size, by a saved one.

        Nothing in the file is executed, unless ``trust`` is given.

        :param path: as for :meth:`save_replay_buffer`
        :param truncate_last_traj: whether the environments start new episodes after this. If not,
            they may continue those at the end of the buffer; an environment whose observation
            differs from the last one there counts as reset all the same
        :param trust: whether to load pickles too, which earlier versions wrote; loading a pickle
            executes whatever code is in it
        :raises ValueError: it does not fit the model (another space, number of environments or
            size), or the file is not a replay buffer, or a pickle without ``trust``
        """
        loaded = self._read_replay_buffer(path, trust)
        held = self.replay_buffer
        if trust:  # a pickle has not been checked yet
            loaded.check_fits(
                held.observation_space, held.action_space, held.n_statistics, held.n_envs
            )
        needed = max(self.n_steps * self.n_envs, self.replay_start)
        if loaded.capacity * loaded.n_envs < needed:
            raise ValueError(
                f"{path} holds at most {loaded.capacity * loaded.n_envs} steps; n_steps, n_envs "
                f"and replay_start of this model need {needed}"
            )
        if truncate_last_traj:
            loaded.start_anew()
        if loaded.capacity != held.capacity:
            self.buffer_size = loaded.capacity * loaded.n_envs
        self.replay_buffer = loaded

    def _read_replay_buffer(
        self, path: str | pathlib.Path | io.BufferedIOBase, trust: bool
    ) -> SegmentBuffer:
        with opened(path, "r", "npz", self.verbose) as file:
            start = file.tell()
            is_npz = file.read(2) == b"PK"
            file.seek(start)
            if is_npz:
                try:
                    return SegmentBuffer.load(file, self.replay_buffer)
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from error
            if not trust:
                raise ValueError(
                    f"{path} is not in npz format. If it is a pickle of an earlier version and you "
                    "know where it comes from, give trust=True: loading a pickle executes whatever "
                    "code is in it"
                )
            loaded = load_from_pkl(file)
        if not isinstance(loaded, SegmentBuffer):
            raise ValueError(
                f"{path} holds a {type(loaded).__name__}, not one of ACER's replay buffers"
            )
        return loaded

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_rng"]
