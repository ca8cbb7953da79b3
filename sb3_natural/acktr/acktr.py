"""Actor-critic using Kronecker-factored trust region (Wu et al. 2017) for Stable-Baselines3."""

import math
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    RolloutBufferSamples,
    Schedule,
)
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from sb3_natural.arguments import (
    DEVICE,
    FINITE_AND_NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_AND_FINITE,
    SEED,
    at_least,
    between,
    check_attributes,
    check_no_memory,
    checked,
)
from sb3_natural.curvature.actor_critic import ActorCriticOutputs
from sb3_natural.curvature.families import ACTION_SPACES
from sb3_natural.curvature.kfac import KFAC, own_kfac
from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.loading import Loadable
from sb3_natural.networks.mlp import actor_mlp
from sb3_natural.networks.parameters import assign_flat, flatten
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.rollouts.collection import forget_graph
from sb3_natural.rollouts.normalized_returns import NormalizedReturns
from sb3_natural.rollouts.scaling import ReturnScale
from sb3_natural.updates.sound_steps import SoundSteps

SelfACKTR = TypeVar("SelfACKTR", bound="ACKTR")


class Losses(NamedTuple):
    """The parts of A2C's loss, before the step."""

    policy: float
    value: float
    entropy: float


class Step(NamedTuple):
    """What an update did: by default nothing."""

    length: float = 0.0
    """eta"""
    share: float = 0.0
    """of the learning rate; below 1 where the trust region has shortened the step"""
    kl_predicted: float = 0.0
    """By K-FAC's model, of actions and values together."""
    kl: float = 0.0
    """Measured, of the actions, in nats."""
    grad_norm: float = 0.0
    """Before clipping."""


class ACKTR(Loadable, SoundSteps, NormalizedReturns):
    """Actor-critic whose steps are natural gradients by K-FAC, within a trust region.

    After every ``n_steps`` steps of each environment there is one update. With g the gradient of
    A2C's loss with respect to the parameters theta, it is::

        x = F^-1 g,
        eta = min(learning_rate, sqrt(2 kfac_clip / x^T F x)),
        theta -= eta x.

    F is K-FAC's approximation of the Fisher information of actor and critic together: the policy's,
    plus ``vf_fisher_coef`` times the Gauss-Newton matrix of the values, in layers that the two
    share, too. By this model, actions and values together move by at most ``kfac_clip``.

    Paper: Wu et al. 2017, Scalable trust-region method for deep reinforcement learning using
    Kronecker-factored approximation. Argument names are those of Stable-Baselines 2. There are
    three differences: the expectation over actions in F is exact, not sampled; rewards are divided
    by a running estimate of the standard deviation of the return (``normalize_returns``), so that
    an error of the critic counts the same for rewards of any scale; and there is no momentum.

    Updates run with the policy in evaluation mode (dropout off, batch norm frozen): F is that of
    the distribution that actions are drawn from. The policy's optimiser is not used.

    :param policy: the policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy, or a class)
    :param env: the environment to learn from (if registered in Gymnasium, can be str)
    :param learning_rate: longest multiple of x that a step may be, a float or a schedule
    :param n_steps: steps to run in each environment per update
        (the batch has n_steps * n_envs samples)
    :param gamma: discount factor
    :param gae_lambda: trade-off of bias against variance in generalised advantage estimation
    :param ent_coef: weight of the entropy bonus
    :param vf_coef: weight of the critic's loss
    :param vf_fisher_coef: weight of the critic's part of F
    :param max_grad_norm: norm at which g is clipped; ``math.inf`` for no clipping
    :param kfac_clip: delta, how far an update may go by K-FAC's model, in nats
    :param kfac_update: how many updates apart the factors are inverted; their averages take in
        every update
    :param kfac_damping: lambda, split between the factors of each layer
    :param kfac_decay: decay of the factors' running averages
    :param normalize_advantage: whether to normalise the advantages over the batch
    :param normalize_returns: whether to divide rewards by the standard deviation of the return
    :param use_sde: whether to use generalised state-dependent exploration (gSDE)
    :param sde_sample_freq: sample a new gSDE noise matrix every n steps (-1: once per rollout)
    :param rollout_buffer_class: rollout buffer class to use; chosen automatically if None
    :param rollout_buffer_kwargs: keyword arguments of the rollout buffer
    :param stats_window_size: number of episodes that the logged episode statistics average over
    :param tensorboard_log: the log location for TensorBoard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation
    :param verbose: 0 no output, 1 info messages, 2 debug messages
    :param device: device (cpu, cuda, ...) on which the code should be run
    :param seed: seed for the pseudo random generators
    :param _init_setup_model: whether or not to build the network at the creation of the instance
    :raises ValueError: an argument is out of range or of the wrong type; the message names it
    """

    _solver_states: ClassVar[tuple[str, ...]] = ("_kfac",)
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
    }

    @checked(
        device=DEVICE,
        seed=SEED,
        verbose=at_least(0),
        stats_window_size=at_least(1),
        sde_sample_freq=at_least(-1),
        learning_rate=FINITE_AND_NOT_NEGATIVE,
        n_steps=at_least(1),
        gamma=between(0, 1),
        gae_lambda=between(0, 1),
        ent_coef=FINITE_AND_NOT_NEGATIVE,
        vf_coef=FINITE_AND_NOT_NEGATIVE,
        vf_fisher_coef=POSITIVE_AND_FINITE,
        max_grad_norm=POSITIVE,
        kfac_clip=POSITIVE_AND_FINITE,
        kfac_update=at_least(1),
        kfac_damping=POSITIVE_AND_FINITE,
        kfac_decay=between(0, 1, ends=False),
    )
    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 0.25,
        n_steps: int = 20,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        ent_coef: float = 0.01,
        vf_coef: float = 0.25,
        vf_fisher_coef: float = 1.0,
        max_grad_norm: float = 0.5,
        kfac_clip: float = 1e-3,
        kfac_update: int = 1,
        kfac_damping: float = 0.01,
        kfac_decay: float = 0.99,
        normalize_advantage: bool = False,
        normalize_returns: bool = True,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
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
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=ACTION_SPACES,
        )
        self.vf_fisher_coef = vf_fisher_coef
        self.kfac_clip = kfac_clip
        self.kfac_update = kfac_update
        self.kfac_damping = kfac_damping
        self.kfac_decay = kfac_decay
        self.normalize_advantage = normalize_advantage
        self.normalize_returns = normalize_returns
        self._return_scale = ReturnScale()
        self._skipped_updates = 0
        self._warned: set[str] = set()
        self._kfac: KFAC | None = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        check_attributes(self)  # here, since load() may bring new ones
        check_no_memory(self.policy_class)
        self._kept_kfac()
        super()._setup_model()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        check_attributes(self)
        return super()._setup_learn(*args, **kwargs)

    def _kept_kfac(self) -> KFAC:
        """K-FAC with the settings as they are now; it goes on from update to update."""
        chosen = KFAC(self.kfac_decay, self.kfac_damping, self.kfac_update)
        self._kfac = own_kfac(chosen, self._kfac)
        assert self._kfac is not None
        return self._kfac

    @np.errstate(all="ignore")  # directions and steps are checked for non-finite numbers
    def train(self) -> None:
        """Take one step on the whole rollout.

        :raises ValueError: an argument has been set to an invalid value
        """
        check_attributes(self)  # callbacks may have set some
        self.policy.set_training_mode(False)
        self._update_learning_rate(self.policy.optimizer)
        batch = next(self.rollout_buffer.get(batch_size=None))
        with one_thread_if_small(actor_mlp(self.policy), len(batch.advantages)):
            network = ActorCriticOutputs(self.policy, batch.observations, self.vf_fisher_coef)
            losses, gradient = self._loss_gradient(network, batch)
            step = Step()
            with self._skipping():
                step = self._step(network, gradient)
        self._n_updates += 1
        self._record(losses, step)
        forget_graph(self.policy)

    def _loss_gradient(
        self, network: ActorCriticOutputs, batch: RolloutBufferSamples
    ) -> tuple[Losses, Tensor]:
        """A2C's loss, and its gradient, (P,)."""
        family, phi, n_samples = network.family, network.phi, len(batch.advantages)
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        advantages = batch.advantages
        if self.normalize_advantage and n_samples > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        distribution = self.policy.action_dist
        log_prob = family.log_prob(distribution, phi, actions)
        errors = network.values - batch.returns
        by_phi = family.score(distribution, phi, actions) * -advantages[:, None]
        by_phi -= self.ent_coef * family.entropy_gradient(phi)
        by_values = 2 * self.vf_coef * errors
        losses = Losses(
            -(advantages * log_prob).mean().item(),
            errors.square().mean().item(),
            -family.entropy(phi).mean().item(),
        )
        return losses, network.gradient(by_phi / n_samples, by_values / n_samples)

    def _step(self, network: ActorCriticOutputs, gradient: Tensor) -> Step:
        """Move the parameters.

        :raises NoStepError: no sound step exists; the parameters are as before
        """
        norm = gradient.norm().item()
        if not math.isfinite(norm):
            raise NoStepError(f"the gradient is not finite (norm {norm})")
        gradient = gradient * min(1.0, self.max_grad_norm / max(norm, 1e-6))
        kfac = self._kept_kfac()
        kfac.update(network, network.layer_factors(), self.kfac_damping)
        direction = kfac.precondition(gradient)
        quadratic_form = (direction.double() @ gradient.double()).item()  # x^T F x = x^T g
        if not math.isfinite(quadratic_form):
            raise NoStepError("the natural gradient is not finite")
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        length = learning_rate
        if quadratic_form > 0:
            length = min(length, math.sqrt(2 * self.kfac_clip / quadratic_form))
        before = flatten(param.detach() for param in network.params)
        assign_flat(network.params, before - length * direction)
        try:
            kl = self._measured_kl(network)
        except ValueError:  # torch makes no distribution of what is not finite
            kl = math.nan
        if not math.isfinite(kl):
            assign_flat(network.params, before)
            raise NoStepError("the step would make the policy non-finite")
        share = length / learning_rate if learning_rate > 0 else 1.0
        return Step(length, share, 0.5 * length**2 * quadratic_form, kl, norm)

    @torch.no_grad()
    def _measured_kl(self, network: ActorCriticOutputs) -> float:
        """The mean KL divergence of the policy now from the one before the step."""
        distribution = self.policy.get_distribution(network.observations)
        return network.family.kl(network.phi, network.family.statistics(distribution)).mean().item()

    def _record(self, losses: Losses, step: Step) -> None:
        log, buffer = self.logger.record, self.rollout_buffer
        log("train/policy_loss", losses.policy)
        log("train/value_loss", losses.value)
        log("train/entropy_loss", losses.entropy)
        log(
            "train/explained_variance",
            explained_variance(buffer.values.flatten(), buffer.returns.flatten()),
        )
        log("train/step_length", step.length)
        log("train/step_share", step.share)
        log("train/kl_predicted", step.kl_predicted)
        log("train/kl", step.kl)
        log("train/grad_norm", step.grad_norm)
        if hasattr(self.policy, "log_std"):
            log("train/std", torch.exp(self.policy.log_std).mean().item())
        if self.normalize_returns:
            log("train/return_std", self._return_scale.std)
        log("train/skipped_updates", self._skipped_updates)
        log("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(
        self: SelfACKTR,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "ACKTR",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfACKTR:
        """Train for ``total_timesteps`` environment steps, as SB3's algorithms do.

        :return: the model itself
        :raises TypeError: the policy's action distribution is not supported
        :raises ValueError: an argument has been set to an invalid value, or an observation, a
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
