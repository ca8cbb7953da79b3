"""Natural actor-critic (Peters & Schaal 2008) for Stable-Baselines3."""

import math
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule
from torch import Tensor

from sb3_natural.arguments import (
    DEVICE,
    FINITE_AND_NOT_NEGATIVE,
    POSITIVE_AND_FINITE,
    SEED,
    at_least,
    between,
    check_attributes,
    check_no_memory,
    checked,
)
from sb3_natural.curvature.families import ACTION_SPACES
from sb3_natural.curvature.value_fit import split_parameters
from sb3_natural.loading import Loadable
from sb3_natural.nac.episodes import Episodes
from sb3_natural.nac.estimation import Batch, batch_of, check_memory, score_blocks, state_features
from sb3_natural.nac.lstd import Lstd
from sb3_natural.nac.policies import (
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    check_value_net,
    set_values,
    value_features,
    values_of,
)
from sb3_natural.nac.recording import TransitionRecorder, Transitions
from sb3_natural.nac.step import PolicyStep, step_along, summary
from sb3_natural.networks.mlp import actor_mlp
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.rollouts.actors import Actor, ForwardActor
from sb3_natural.rollouts.collection import FastRollouts, forget_graph
from sb3_natural.rollouts.recorders import Recorder
from sb3_natural.updates.sound_steps import SoundSteps

SelfNAC = TypeVar("SelfNAC", bound="NAC")

DEFAULT_TARGET_KL = 0.01


class NAC(Loadable, SoundSteps, FastRollouts):
    """Natural actor-critic.

    The policy's advantages are approximated by compatible features, its scores::

        A(s, a) ~ w^T grad_theta log pi(a|s).

    The w with the least error is the natural gradient, so that the critic's regression replaces
    forming and inverting the Fisher information. After each rollout the policy's parameters theta
    move along w. There are two regressions:

    - *LSTD* (default): state values ``V(s) = v^T psi(s)`` and w together from LSTD-Q(lambda), whose
      sums forget by ``forgetting_factor`` when the policy has moved;
    - *episodic* (``variant="episodic"``, eNAC): the returns of whole episodes, regressed on their
      summed scores and a constant.

    The length of the step is

    - *KL-normalised* (default): ``theta += sqrt(2 target_kl / w^T F w) w``, with ``w^T F w`` from a
      product with the Fisher information, which is never formed; shortened until the measured KL
      divergence is at most 1.5 ``target_kl``;
    - *fixed* (``step_size``): ``theta += step_size w``, as in the paper.

    The features psi(s) are a constant and the inputs of the critic's last layer. Its hidden layers
    stay as they were initialised, since LSTD needs features that do not change; a features
    extractor with parameters that the policy shares moves with the policy, and excludes
    ``forgetting_factor``.
    With ``policy_kwargs=dict(net_arch=[])``, policy and state value are linear in the observation.

    For policies of up to a few thousand parameters: for P of them, the LSTD variant holds a matrix
    of about ``P^2`` numbers and solves a system in about ``P^3`` operations for each update. What
    does not fit in memory is refused.

    Paper: Peters & Schaal 2008, Natural actor-critic, Neurocomputing 71. There are three
    differences. Traces decay by gamma lambda instead of lambda, so that ``trace=1`` fits discounted
    returns. Ridge regression replaces the plain inverse. And a time limit is no termination: V of
    the last state stands for the rest.

    :param policy: the policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy, or a class)
    :param env: the environment to learn from (if registered in Gymnasium, can be str)
    :param variant: which regression finds w: "lstd" or "episodic"
    :param n_steps: steps to run in each environment per update
        (the batch has n_steps * n_envs samples)
    :param gamma: discount factor
    :param trace: lambda, decay of LSTD's eligibility traces beside gamma; with 1, the errors of a V
        that cannot be linear in psi do not bias w. The episodic variant uses it for V alone, which
        it needs where time limits end episodes
    :param target_kl: delta, the KL divergence of an update in nats, a float or a schedule; if
        neither this nor ``step_size`` is given, 0.01
    :param step_size: fixed multiple of the natural gradient, a float or a schedule; excludes
        ``target_kl``. w is in units of rewards
    :param forgetting_factor: beta, by which the sums of LSTD are multiplied when the policy has
        moved; 0: each update uses what came after the last step alone
    :param ridge: multiple of the identity added to LSTD's matrix, a mean over steps, or to that of
        the episodic regression, a mean over episodes; the constants are not penalised
    :param max_angle: the policy moves only once the natural gradients after two successive rollouts
        have at most this angle between them, in radians; None: after each rollout
    :param n_episodes: the episodic variant moves the policy only after so many whole episodes
    :param use_sde: whether to use generalised state-dependent exploration (gSDE)
    :param sde_sample_freq: sample a new gSDE noise matrix every n steps (-1: once per rollout)
    :param stats_window_size: number of episodes that the logged episode statistics average over
    :param tensorboard_log: the log location for TensorBoard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: 0 no output, 1 info messages, 2 debug messages
    :param device: device (cpu, cuda, ...) on which the code should be run
    :param seed: seed for the pseudo random generators
    :param _init_setup_model: whether or not to build the network at the creation of the instance
    :raises ValueError: an argument is out of range or of the wrong type, or two exclude each other
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    @checked(
        device=DEVICE,
        seed=SEED,
        verbose=at_least(0),
        stats_window_size=at_least(1),
        sde_sample_freq=at_least(-1),
        n_steps=at_least(1),
        gamma=between(0, 1),
        trace=between(0, 1),
        target_kl=POSITIVE_AND_FINITE,
        step_size=POSITIVE_AND_FINITE,
        forgetting_factor=between(0, 1),
        ridge=FINITE_AND_NOT_NEGATIVE,
        max_angle=between(0, math.pi),
        n_episodes=at_least(2),
    )
    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        variant: Literal["lstd", "episodic"] = "lstd",
        n_steps: int = 2048,
        gamma: float = 0.99,
        trace: float = 1.0,
        target_kl: float | Schedule | None = None,
        step_size: float | Schedule | None = None,
        forgetting_factor: float = 0.0,
        ridge: float = 1e-3,
        max_angle: float | None = None,
        n_episodes: int = 10,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
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
            learning_rate=0.0,  # part of SB3's base class; NAC has no optimiser,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=trace,  # of the returns that the logged errors of V refer to,
            ent_coef=0.0,  # no entropy bonus,
            vf_coef=0.0,  # solves for its critic,
            max_grad_norm=0.0,  # and bounds its steps by the KL divergence
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=ACTION_SPACES,
        )
        self.variant = variant
        self.trace = trace
        self.target_kl = target_kl
        self.step_size = step_size
        self.forgetting_factor = forgetting_factor
        self.ridge = ridge
        self.max_angle = max_angle
        self.n_episodes = n_episodes
        self._lstd = Lstd(self.device)
        self._episodes = Episodes(self.device)
        self._last_direction = torch.zeros_like(self._lstd.b)
        self._transitions: Transitions | None = None
        self._skipped_updates = 0
        self._warned: set[str] = set()
        if _init_setup_model:
            self._setup_model()

    def _check_arguments(self) -> None:
        check_attributes(self)
        if self.target_kl is not None and self.step_size is not None:
            raise ValueError(
                f"target_kl={self.target_kl} and step_size={self.step_size} exclude each other: "
                "give target_kl for a KL-normalised step, or step_size for a fixed one"
            )
        if self.target_kl is None and self.step_size is None:
            raise ValueError("target_kl=None and step_size=None: give one of them")

    def _setup_model(self) -> None:
        if self.target_kl is None and self.step_size is None:
            self.target_kl = DEFAULT_TARGET_KL
        self._check_arguments()  # here, since load() may bring new ones
        check_no_memory(self.policy_class)
        super()._setup_model()
        for name in ("target_kl", "step_size"):
            if (given := getattr(self, name)) is not None:
                setattr(self, name, FloatSchedule(given))

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._check_arguments()
        check_value_net(self.policy)
        self._check_features()
        result = super()._setup_learn(*args, **kwargs)
        # Before any step is taken, on an observation that the environment really gives.
        observation, _ = self.policy.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]
        self.policy.set_training_mode(False)
        n_features = value_features(self.policy, observation).shape[1]
        n_params = self._n_params(observation)
        if self.variant == "episodic":
            check_memory(n_params, 0, self.n_episodes + self.n_envs, self.device)
        else:
            check_memory(n_params, n_features, n_params + n_features, self.device)
        forget_graph(self.policy)
        return result

    def _check_features(self) -> None:
        """Sums over several policies need features that do not change.

        :raises ValueError: the policy's steps move psi
        """
        shared = getattr(self.policy, "share_features_extractor", False)
        extractor = getattr(self.policy, "features_extractor", None)
        moves = (
            shared
            and extractor is not None
            and any(param.requires_grad for param in extractor.parameters())
        )
        if moves and self.variant == "lstd" and self.forgetting_factor > 0:
            raise ValueError(
                f"forgetting_factor={self.forgetting_factor} keeps sums over features that the "
                "policy's steps move: give policy_kwargs=dict(share_features_extractor=False), or "
                "forgetting_factor=0"
            )

    def _n_params(self, observations: Any) -> int:
        """How many trainable parameters the action distribution depends on."""
        of_policy, _ = split_parameters(self.policy, observations)
        return sum(param.numel() for param in of_policy)

    def _make_actor(self) -> Actor | None:
        # Never SB3's own loop, which keeps neither the rewards as they came nor the last
        # observations of episodes that time limits end.
        return super()._make_actor() or ForwardActor(self.policy)

    def _recorder(self, buffer: Any, actor: Actor) -> Recorder:
        buffer.gae_lambda = self.trace
        return TransitionRecorder(self, buffer, actor)

    def _lose_track(self) -> None:
        """Steps have been dropped: traces and episodes underway end here."""
        self._lstd.break_traces()
        self._episodes.lose_track()

    @np.errstate(all="ignore")  # every direction and step is checked for non-finite numbers
    def train(self) -> None:
        """Solve for critic and natural gradient with the new rollout, and move the policy.

        :raises ValueError: an argument has been set to an invalid value
        """
        self._check_arguments()  # here too, since they may be assigned at any time
        assert self._transitions is not None, "train is called after a rollout"
        self.policy.set_training_mode(False)
        batch, step, angle = batch_of(self.rollout_buffer, self.device), PolicyStep(), None
        with (
            one_thread_if_small(actor_mlp(self.policy), len(batch.old_log_prob)),
            self._skipping("policy"),
        ):
            n_params = self._n_params(batch.observations)
            direction = self._natural_gradient(batch, self._transitions, n_params)
            if direction is not None:
                angle = self._angle_to_last(direction)
                if self.max_angle is None or (angle is not None and angle <= self.max_angle):
                    try:
                        step = self._policy_step(batch, direction, self._transitions.rewards)
                    finally:
                        self._start_next_estimate()
        self._n_updates += 1
        self._record(step, batch, angle)
        forget_graph(self.policy)

    def _natural_gradient(
        self, batch: Batch, transitions: Transitions, n_params: int
    ) -> Tensor | None:
        """Add the rollout to the sums and solve for v, which becomes the critic's, and w.

        :return: w, shape (P,); None if nothing is to be done with it
        :raises NoStepError: a system is singular or not finite
        """
        psi, next_psi = state_features(self.policy, batch, transitions)
        n_envs, n_features = psi.shape[1:]
        n_scores = n_params if self.variant == "lstd" else 0
        rewards = torch.tensor(transitions.rewards, **self._lstd.options)
        starts = torch.from_numpy(batch.starts).to(self.device)
        self._lstd.prepare(n_features + n_scores, n_envs)
        whole = (slice(None), psi[..., :0])
        blocks = score_blocks(self.policy, batch, n_scores) if n_scores else [whole]
        for steps, scores in blocks:
            features = torch.cat([psi[steps], scores], dim=2)
            of_block = features, next_psi[steps], rewards[steps], starts[steps]
            self._lstd.add(*of_block, self.gamma, self.trace)
        if self.variant == "lstd":
            solution = self._lstd.solve(self.ridge)
            set_values(self.policy, solution[:n_features])
            return solution[n_features:] if n_params else None

        with self._skipping("critic"):
            set_values(self.policy, self._lstd.solve(self.ridge))
        if not n_params:  # all of them frozen
            return None
        self._episodes.prepare(n_params, n_envs)
        if transitions.cut_off is not None:
            at = transitions.cut_off_at
            rewards[at] += self.gamma * values_of(self.policy, next_psi[at]).to(rewards.dtype)
        for steps, scores in score_blocks(self.policy, batch, n_params):
            ends = batch.starts[steps], transitions.dones[steps]
            self._episodes.add(scores, rewards[steps], *ends, self.gamma)
        self.logger.record("train/n_episodes", len(self._episodes))
        if len(self._episodes) < self.n_episodes:
            return None
        return self._episode_direction(self._episodes)

    def _episode_direction(self, episodes: Episodes) -> Tensor:
        """Where the episodes say the policy should go: along the natural gradient."""
        return episodes.regress(self.ridge).direction

    def _angle_to_last(self, direction: Tensor) -> float | None:
        """Angle to the natural gradient after the rollout before, in radians.

        None if there was a step, or no natural gradient, since.
        """
        last, self._last_direction = self._last_direction, direction
        norms = (last.norm() * direction.norm()).item()
        if last.shape != direction.shape or norms == 0:
            return None
        return math.acos(max(-1.0, min(1.0, (last @ direction).item() / norms)))

    def _start_next_estimate(self) -> None:
        """The policy has moved; or there was no sound step, and other samples are needed."""
        self._lstd.forget(self.forgetting_factor)
        self._episodes.clear()
        self._last_direction = self._last_direction[:0].clone()

    def _policy_step(self, batch: Batch, direction: Tensor, rewards: np.ndarray) -> PolicyStep:
        """Move the policy along w.

        :param rewards: of the rollout
        :raises NoStepError: no sound step exists; the parameters are as before
        """
        if self.step_size is not None:
            length = self._now("step_size", self.step_size)
            return step_along(self.policy, batch, direction, rewards, step_size=length)
        target_kl = self._now("target_kl", self.target_kl)
        return step_along(self.policy, batch, direction, rewards, target_kl=target_kl)

    def _record(self, step: PolicyStep, batch: Batch, angle: float | None) -> None:
        log = self.logger.record
        for name, value in summary(step, self.policy, batch, self.rollout_buffer).items():
            log(f"train/{name}", value)
        if self.target_kl is not None:
            log("train/target_kl", step.target_kl)
            log("train/step_shortenings", step.taken.shortenings)
        if angle is not None:
            log("train/angle", angle)
        log("train/skipped_updates", self._skipped_updates)
        log("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(
        self: SelfNAC,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "NAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfNAC:
        """Train for ``total_timesteps`` environment steps, as SB3's algorithms do.

        :return: the model itself
        :raises TypeError: the policy's action distribution is not supported
        :raises ValueError: an argument has been set to an invalid value, the policy's linear system
            does not fit in memory, the critic's last layer is not linear, or an observation, a
            reward or an action is NaN or infinite
        """
        return super().learn(
            total_timesteps=total_timesteps,
            callback=callback,
            log_interval=log_interval,
            tb_log_name=tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        states, tensors = super()._get_torch_save_params()
        of_lstd = [f"_lstd.{name}" for name in Lstd.VARIABLES]
        of_episodes = [f"_episodes.{name}" for name in Episodes.VARIABLES]
        return states, [*tensors, "_last_direction", *of_lstd, *of_episodes]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_transitions"]
