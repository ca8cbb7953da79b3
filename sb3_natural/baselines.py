"""SB3's PPO and A2C and sb3-contrib's TRPO, faster.

All have fast rollouts and fast updates. The results are the same, and models
saved by either load into the other.
"""

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor, nn
from torch.optim import Adam

from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.networks.mlp import flat_features
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.rollouts.actors import numpy_features
from sb3_natural.rollouts.collection import FastRollouts
from sb3_natural.rollouts.returns import explained_variance
from sb3_natural.rollouts.whole import is_usual, whole_rollout
from sb3_natural.updates.actor_critic import ActorCritic
from sb3_natural.updates.clipped_surrogate import (
    ClippedSurrogate,
    Losses,
    Minibatch,
)
from sb3_natural.updates.flat_adam import FlatAdam, flat_adam
from sb3_natural.updates.flat_adam import fits as flat_adam_fits
from sb3_natural.updates.flat_rms_prop import FlatRmsProp
from sb3_natural.updates.flat_rms_prop import fits as flat_rms_prop_fits
from sb3_natural.updates.plain_networks import Networks, has_gradient_hooks, plain_networks
from sb3_natural.updates.policy_gradient import PolicyGradientLosses, policy_gradient
from sb3_natural.updates.trpo_step import TrpoStep, trpo_step
from sb3_natural.updates.value_regression import regress

__all__ = ["A2C", "PPO", "TRPO"]


class _PlainUpdates(FastRollouts):
    """What the updates without autograd share."""

    def _plain_networks(self) -> Networks | None:
        """The networks if the update can do without autograd; None if SB3's own is needed."""
        networks = self._remembered.recall(
            ("networks", *self._path_depends_on()), self.policy, self._find_networks, bool
        )
        if networks is None or has_gradient_hooks(networks.params):
            return None
        if type(self.rollout_buffer).get is not RolloutBuffer.get:
            return None
        params = self._stepped(networks)
        trainable = all(param.requires_grad for param in params)
        return networks if trainable and self._can_step(params) else None

    def _find_networks(self) -> Networks | None:
        return plain_networks(self.policy) if self.rollout_path == "numpy" else None

    def _can_step(self, params: list[nn.Parameter]) -> bool:
        """Whether the optimiser's steps can be taken for all of these parameters at once."""
        return flat_adam_fits(self.policy.optimizer, params)

    def _stepped(self, networks: Networks) -> list[nn.Parameter]:
        """The parameters that the optimiser moves."""
        return networks.params

    def _in_log_probs_form(self, actions: Tensor) -> Tensor:
        """Actions as the distribution's ``log_prob`` takes them."""
        return (
            actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else actions
        )


class PPO(_PlainUpdates, stable_baselines3.PPO):
    """``stable_baselines3.PPO`` with :class:`~sb3_natural.rollouts.collection.FastRollouts`.

    If the rollout path is "numpy" and the optimiser Adam, the update does not use autograd either:
    it takes the same steps on the same minibatches, up to rounding, in a fraction of the time. The
    last minibatch's gradient is left in the parameters' ``grad``. If parameters or modules have
    hooks, the update is SB3's own.
    """

    @np.errstate(all="ignore")  # like torch, with which SB3 computes this
    def train(self) -> None:
        """Update policy and critic from the rollout buffer."""
        networks = self._plain_networks()
        if networks is None:
            super().train()
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        progress = self._current_progress_remaining
        clip_range = self.clip_range(progress)  # type: ignore[operator]
        clip_range_vf = None
        if self.clip_range_vf is not None:
            clip_range_vf = self.clip_range_vf(progress)  # type: ignore[operator]
        with (
            torch.no_grad(),
            one_thread_if_small(networks.actor, self.batch_size),
            flat_adam(self.policy.optimizer, networks.params) as optimizer,  # type: ignore[arg-type]
        ):
            surrogate = ClippedSurrogate(
                self.policy,
                networks,
                optimizer.vector,
                clip_range,
                clip_range_vf,
                self.ent_coef,
                self.vf_coef,
                self.normalize_advantage,
            )
            epochs = self._run_epochs(surrogate, optimizer)
        self._record(epochs, surrogate, clip_range, clip_range_vf)

    def _run_epochs(self, surrogate: ClippedSurrogate, optimizer: FlatAdam) -> list[list[Losses]]:
        """Take all steps, or those until ``target_kl`` is exceeded; the losses of each epoch."""
        epochs: list[list[Losses]] = []
        for epoch in range(self.n_epochs):
            epochs.append([])
            self._n_updates += 1
            for batch in self._minibatches():
                losses = surrogate.losses(batch)
                epochs[-1].append(losses)
                if self.target_kl is not None and losses.approx_kl > 1.5 * self.target_kl:
                    if self.verbose >= 1:
                        print(
                            f"Early stopping at step {epoch} due to reaching max kl: "
                            f"{losses.approx_kl:.2f}"
                        )
                    return epochs
                optimizer.step(_clip_norm(surrogate.gradient(), self.max_grad_norm))
        return epochs

    def _minibatches(self) -> Iterator[Minibatch]:
        """One pass over the rollout: SB3's minibatches, cut from one permuted copy."""
        rollout = next(self.rollout_buffer.get(batch_size=None))
        actions = self._in_log_probs_form(rollout.actions)
        features = flat_features(self.policy, rollout.observations)
        vectors = (rollout.old_values, rollout.old_log_prob, rollout.advantages, rollout.returns)
        arrays = [vector.numpy() for vector in vectors]
        for start in range(0, len(actions), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield Minibatch(features[rows], actions[rows], *(array[rows] for array in arrays))

    def _record(
        self,
        epochs: list[list[Losses]],
        surrogate: ClippedSurrogate,
        clip_range: float,
        clip_range_vf: float | None,
    ) -> None:
        """Log what SB3 logs: means over all minibatches, or the last epoch's (KL divergence)."""
        log = self.logger.record
        means = Losses(*np.mean([losses for epoch in epochs for losses in epoch], axis=0).tolist())
        log("train/entropy_loss", means.entropy)
        log("train/policy_gradient_loss", means.policy)
        log("train/value_loss", means.value)
        log("train/approx_kl", np.mean([losses.approx_kl for losses in epochs[-1]]))
        log("train/clip_fraction", means.clip_fraction)
        log("train/loss", surrogate.total(epochs[-1][-1]))
        buffer = self.rollout_buffer
        log(
            "train/explained_variance",
            explained_variance(buffer.values, buffer.returns),
        )
        if hasattr(self.policy, "log_std"):
            log("train/std", torch.exp(self.policy.log_std).mean().item())
        log("train/n_updates", self._n_updates, exclude="tensorboard")
        log("train/clip_range", clip_range)
        if clip_range_vf is not None:
            log("train/clip_range_vf", clip_range_vf)


_RMS_PROP = "RMSprop"


class A2C(_PlainUpdates, stable_baselines3.A2C):
    """``stable_baselines3.A2C`` with :class:`~sb3_natural.rollouts.collection.FastRollouts`.

    If the rollout path is "numpy" and the optimiser RMSprop or Adam, the update does not use
    autograd either: it takes the same step, up to rounding, and leaves the same gradient in the
    parameters' ``grad``. If parameters or modules have hooks, the update is SB3's own.
    """

    @np.errstate(all="ignore")  # like torch, with which SB3 computes this
    def train(self) -> None:
        """Update policy and critic from the rollout buffer."""
        networks = self._plain_networks()
        if networks is None:
            super().train()
            return
        self._remembered.set_training_mode(self.policy, True)
        self._update_learning_rate(self.policy.optimizer)
        n_samples = self.rollout_buffer.rewards.size
        with torch.no_grad(), one_thread_if_small(networks.actor, n_samples):
            if type(self.policy.optimizer) is Adam:
                losses = self._adam_step(networks)
            else:
                losses = self._rms_prop_step(networks)
        self._n_updates += 1
        self._record(losses)

    def _plain_networks(self) -> Networks | None:
        return super()._plain_networks() if is_usual(self.rollout_buffer) else None

    def _can_step(self, params: list[nn.Parameter]) -> bool:
        optimizer = self.policy.optimizer
        if type(optimizer) is Adam:
            return super()._can_step(params)
        flat = self._remembered.recall_again(_RMS_PROP)
        return flat_rms_prop_fits(optimizer, params) if flat is None else flat[0].fits(optimizer)

    def _adam_step(self, networks: Networks) -> PolicyGradientLosses:
        with flat_adam(self.policy.optimizer, networks.params) as adam:  # type: ignore[arg-type]
            passes = ActorCritic(self.policy, networks, adam.vector)
            losses, gradient = self._gradient(passes, numpy_features(self.policy))
            adam.step(_clip_norm(gradient, self.max_grad_norm))
        return losses

    def _rms_prop_step(self, networks: Networks) -> PolicyGradientLosses:
        flat = self._remembered.recall_again(_RMS_PROP)
        if flat is None:
            rms_prop = FlatRmsProp(self.policy.optimizer, networks.params)  # type: ignore[arg-type]
            passes = ActorCritic(self.policy, networks, rms_prop.vector)
            flat = rms_prop, passes, numpy_features(self.policy)
            self._remembered.note(_RMS_PROP, flat)
        rms_prop, passes, features = flat
        rms_prop.read()
        losses, gradient = self._gradient(passes, features)
        rms_prop.step(_clip_norm(gradient, self.max_grad_norm))
        return losses

    def _gradient(
        self, passes: ActorCritic, features: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[PolicyGradientLosses, Tensor]:
        """The losses on the whole rollout, and their gradient.

        :param features: from observations to the inputs of the networks' first layers
        """
        rollout = whole_rollout(self.rollout_buffer)
        actions, advantages = rollout.actions, rollout.advantages
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.astype(np.int64).reshape(-1)
        if self.normalize_advantage:
            advantages = _normalized(advantages)
        return policy_gradient(
            passes,
            features(rollout.observations),
            actions,
            advantages,
            rollout.returns,
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
        )

    def _record(self, losses: PolicyGradientLosses) -> None:
        buffer, log = self.rollout_buffer, self.logger.record
        log("train/n_updates", self._n_updates, exclude="tensorboard")
        log("train/explained_variance", explained_variance(buffer.values, buffer.returns))
        log("train/entropy_loss", losses.entropy)
        log("train/policy_loss", losses.policy)
        log("train/value_loss", losses.value)
        if hasattr(self.policy, "log_std"):
            log("train/std", float(np.exp(self.policy.log_std.detach().numpy()).mean()))


class TRPO(_PlainUpdates, sb3_contrib.TRPO):
    """``sb3_contrib.TRPO`` with :class:`~sb3_natural.rollouts.collection.FastRollouts`.

    If the rollout path is "numpy" and the optimiser Adam, the update takes the same steps, up to
    rounding, without second derivatives or autograd, and parts of the actor may be frozen. If
    parameters or modules have hooks, the update is sb3-contrib's own.

    An update whose step is not a number is undone, with a warning. sb3-contrib's curvature is a
    second derivative in single precision; with observations in the thousands it can come out
    negative along the direction.

    ``train/kl_divergence_loss`` is logged under NPG's name ``train/kl`` as well. For Box and
    MultiBinary actions it is the mean over an action's dimensions, while NPG's is the sum.
    """

    def train(self) -> None:
        """Update policy and critic from the rollout buffer."""
        networks = self._plain_networks()
        params = list(self.policy.parameters())
        before = [param.detach().clone() for param in params]
        try:
            if networks is None:
                super().train()
            else:
                self._train_plain(networks)
        except (NoStepError, ValueError) as error:
            sound = all(torch.isfinite(param).all() for param in params)
            if sound and isinstance(error, ValueError):
                raise
            with torch.no_grad():
                for param, value in zip(params, before, strict=True):
                    param.copy_(value)
            warnings.warn(
                f"TRPO's update is undone, since its step is not a number: {error}", stacklevel=2
            )
        else:
            kl = self.logger.name_to_value["train/kl_divergence_loss"]
            self.logger.record("train/kl", kl)

    def _plain_networks(self) -> Networks | None:
        own = (type(self)._compute_actor_grad, type(self).hessian_vector_product)
        theirs = (sb3_contrib.TRPO._compute_actor_grad, sb3_contrib.TRPO.hessian_vector_product)
        networks = super()._plain_networks() if own == theirs else None
        if networks is None or not any(param.requires_grad for param in networks.actor.params):
            return None
        return networks

    def _stepped(self, networks: Networks) -> list[nn.Parameter]:
        return networks.critic.params

    @np.errstate(all="ignore")  # like torch, with which sb3-contrib computes this
    def _train_plain(self, networks: Networks) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self.policy.optimizer.zero_grad()
        with one_thread_if_small(networks.actor, self.rollout_buffer.rewards.size):
            step = self._policy_step()
        losses = self._fit_values(networks)
        self._n_updates += 1
        buffer, log = self.rollout_buffer, self.logger.record
        log("train/policy_objective", step.objective)
        log("train/value_loss", np.mean(losses))
        log("train/kl_divergence_loss", step.kl)
        log(
            "train/explained_variance",
            explained_variance(buffer.values, buffer.returns),
        )
        log("train/is_line_search_success", float(step.success))
        if hasattr(self.policy, "log_std"):
            log("train/std", torch.exp(self.policy.log_std).mean().item())
        log("train/n_updates", self._n_updates, exclude="tensorboard")

    def _policy_step(self) -> TrpoStep:
        rollout = next(self.rollout_buffer.get(batch_size=None))
        some = slice(None, None, self.sub_sampling_factor)
        advantages = rollout.advantages[some]
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return trpo_step(
            self.policy,
            rollout.observations[some],
            self._in_log_probs_form(rollout.actions)[some],
            rollout.old_log_prob[some],
            advantages,
            target_kl=self.target_kl,
            cg_max_steps=self.cg_max_steps,
            cg_damping=self.cg_damping,
            line_search_max_iter=self.line_search_max_iter,
            line_search_shrinking_factor=self.line_search_shrinking_factor,
        )

    def _fit_values(self, networks: Networks) -> list[float]:
        with one_thread_if_small(networks.critic, self.batch_size):
            return regress(networks.critic, self.policy.optimizer, self._critic_batches())  # type: ignore[arg-type]

    def _critic_batches(self) -> Iterator[tuple[Tensor, np.ndarray]]:
        """sb3-contrib's minibatches, each pass cut from one permuted copy."""
        for _ in range(self.n_critic_updates):
            rollout = next(self.rollout_buffer.get(batch_size=None))
            features = flat_features(self.policy, rollout.observations)
            returns = rollout.returns.numpy()
            for start in range(0, len(returns), self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield features[rows], returns[rows]


def _normalized(advantages: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1, (N,); NaN for a single sample, as in SB3's A2C."""
    tensor = torch.from_numpy(advantages)
    return ((tensor - tensor.mean()) / (tensor.std() + 1e-8)).numpy()


def _clip_norm(gradient: Tensor, max_norm: float) -> Tensor:
    """The gradient, shortened in place to ``max_norm``, as ``clip_grad_norm_`` does it."""
    array = gradient.numpy()
    norm = math.sqrt(array.dot(array))
    return gradient if norm + 1e-6 <= max_norm else gradient.mul_(max_norm / (norm + 1e-6))
