"""SB3's PPO and A2C and sb3-contrib's TRPO, faster: with fast rollouts, and PPO with a fast update.

Their results are the same, and models saved by either load into the other.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from sb3_natural.networks.mlp import flat_features
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.rollouts.collection import FastRollouts
from sb3_natural.updates.clipped_surrogate import (
    ClippedSurrogate,
    Losses,
    Minibatch,
    Networks,
    plain_networks,
)
from sb3_natural.updates.flat_adam import FlatAdam, fits, flat_adam

__all__ = ["A2C", "PPO", "TRPO"]


class PPO(FastRollouts, stable_baselines3.PPO):
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

    def _plain_networks(self) -> Networks | None:
        """The networks if the update can do without autograd; None if SB3's own is needed."""
        if self.rollout_path != "numpy":
            return None
        if type(self.rollout_buffer).get is not RolloutBuffer.get:
            return None
        networks = plain_networks(self.policy)
        if networks is None or not fits(self.policy.optimizer, networks.params):
            return None
        return networks

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
        actions = rollout.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
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
            explained_variance(buffer.values.flatten(), buffer.returns.flatten()),
        )
        if hasattr(self.policy, "log_std"):
            log("train/std", torch.exp(self.policy.log_std).mean().item())
        log("train/n_updates", self._n_updates, exclude="tensorboard")
        log("train/clip_range", clip_range)
        if clip_range_vf is not None:
            log("train/clip_range_vf", clip_range_vf)


class A2C(FastRollouts, stable_baselines3.A2C):
    """``stable_baselines3.A2C`` with :class:`~sb3_natural.rollouts.collection.FastRollouts`."""


class TRPO(FastRollouts, sb3_contrib.TRPO):
    """``sb3_contrib.TRPO`` with :class:`~sb3_natural.rollouts.collection.FastRollouts`.

    An update whose step is not a number is undone, with a warning. The curvature is a second
    derivative in single precision; with observations in the thousands it can come out negative
    along the direction.

    ``train/kl_divergence_loss`` is logged under NPG's name ``train/kl`` as well. For Box and
    MultiBinary actions it is the mean over an action's dimensions, while NPG's is the sum.
    """

    def train(self) -> None:
        """Update policy and critic from the rollout buffer."""
        params = list(self.policy.parameters())
        before = [param.detach().clone() for param in params]
        try:
            super().train()
        except ValueError as error:
            if all(torch.isfinite(param).all() for param in params):
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


def _clip_norm(gradient: Tensor, max_norm: float) -> Tensor:
    """The gradient, shortened in place to ``max_norm``, as ``clip_grad_norm_`` does it."""
    norm = float(np.linalg.norm(gradient.numpy()))
    return gradient if norm + 1e-6 <= max_norm else gradient.mul_(max_norm / (norm + 1e-6))
