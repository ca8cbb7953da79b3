"""How much of a policy gradient is signal, and how much is noise.

The gradient g of a rollout is the true one plus noise, and most of it is noise at the usual sizes
of rollouts. Its squared length g^T F^-1 g in the metric of the Fisher information F says what an
update of a given KL divergence seems to gain, and counts the noise in. Two halves of the rollout
have the same signal and different noise, so g1^T F^-1 g2 counts the signal alone: this is what
:func:`signal_share` estimates, and :class:`SignalCallback` logs.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from sb3_natural.arguments import FINITE_AND_NOT_NEGATIVE, at_least, checked
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solution import solved
from sb3_natural.curvature.solvers import ConjugateGradient, NoStepError
from sb3_natural.networks.mlp import actor_mlp
from sb3_natural.networks.threads import one_thread_if_small
from sb3_natural.observations import mapped
from sb3_natural.rollouts.collection import forget_graph
from sb3_natural.shapes import check_shape

__all__ = [
    "Signal",
    "SignalCallback",
    "as_log_prob_takes",
    "normalised",
    "sample_gradients",
    "signal_share",
]


class Signal(NamedTuple):
    """The squared length ``g^T F^-1 g`` of a policy gradient, with and without its noise.

    The advantages have a standard deviation of 1. A natural-gradient step of KL divergence delta
    then gains ``sqrt(2 delta s)`` standard deviations of the advantage per action, where s is the
    squared length of the true gradient.
    """

    signal: float
    """``g1^T F^-1 g2`` of two halves: unbiased, and therefore negative at times."""
    total: float
    """``g^T F^-1 g`` of the whole: signal and noise."""

    @property
    def share(self) -> float:
        """``signal / total``, NaN if the total is 0.

        As a ratio of two estimates it is biased, and noisy in a single rollout: average each of the
        two over many rollouts first.
        """
        return self.signal / self.total if self.total else float("nan")


@checked(damping=FINITE_AND_NOT_NEGATIVE, cg_max_steps=at_least(1))
def signal_share(
    policy: ActorCriticPolicy,
    rollout_buffer: RolloutBuffer,
    damping: float = 0.1,
    cg_max_steps: int = 10,
) -> Signal:
    """The signal in the policy gradient of one rollout.

    The gradient g is the mean of g1 and g2, those of the earlier and of the later steps of all
    environments. Their difference has the noise of g and no signal. With ``d = (g1 - g2) / 2``, and
    ``F^-1`` short for ``(F + damping I)^-1``, the signal is::

        g1^T F^-1 g2 = g^T F^-1 g - d^T F^-1 d.

    For a given F, the mean of this over rollouts is that of the true gradient: it is unbiased as
    far as the halves' noise is independent. (It nearly is: the advantages of the first half's last
    ``1 / (1 - gamma gae_lambda)`` steps use rewards of the second.)

    Draws no random numbers, and changes neither the policy nor the buffer. Takes about as long as
    two updates of NPG's policy.

    :param policy: the policy that collected the rollout
    :param rollout_buffer: the buffer as collecting leaves it, with arrays of shape
        (n_steps, n_envs, ...); an update flattens them
    :param damping: multiple of the identity added to F, as NPG's ``cg_damping``; not negative
    :param cg_max_steps: iterations of conjugate gradient for each half, at least 1
    :return: a :class:`~sb3_natural.signal.Signal`: ``signal``, ``total``, and their ratio ``share``
    :raises ValueError: the buffer is not full, already flattened, or of fewer than two steps; or an
        argument is out of range
    :raises NoStepError: the gradient is not finite
    """
    buffer = rollout_buffer
    if buffer.generator_ready or not buffer.full:
        state = "flattened by an update" if buffer.generator_ready else "not full"
        raise ValueError(f"rollout_buffer must be full and not yet used, got one that is {state}")
    if buffer.buffer_size < 2:
        raise ValueError(f"rollout_buffer must have at least 2 steps, got {buffer.buffer_size}")

    def flat(array: np.ndarray) -> Tensor:
        """Samples in the order of time."""
        return buffer.to_torch(array.reshape(-1, *array.shape[2:]))

    observations = mapped(flat, buffer.observations)
    actions = as_log_prob_takes(policy, flat(buffer.actions))
    advantages = normalised(flat(buffer.advantages))
    n_first = buffer.buffer_size // 2 * buffer.n_envs
    solver = ConjugateGradient(cg_max_steps)
    with one_thread_if_small(actor_mlp(policy), len(advantages)):
        masks = None
        if isinstance(buffer, MaskableRolloutBuffer | MaskableDictRolloutBuffer):
            masks = flat(buffer.action_masks) > 0.5
        fisher = FisherOperator(policy, observations, actions, masks=masks)
        first = sample_gradients(fisher, advantages)
        second = first.clone()
        first[n_first:], second[:n_first] = 0, 0
        g1 = fisher.jacobian.vjp(first / n_first)
        g2 = fisher.jacobian.vjp(second / (len(advantages) - n_first))
        damped = Damped(fisher, damping)
        x1, x2 = (solved(solver, damped, gradient).direction.double() for gradient in (g1, g2))
    forget_graph(policy)
    # Each solution meets the other half's gradient, of whose noise it knows nothing.
    signal = 0.5 * (g1.double() @ x2 + g2.double() @ x1).item()
    noisy = (g1.double() @ x1).item(), (g2.double() @ x2).item()
    part = n_first / len(advantages)
    total = part**2 * noisy[0] + (1 - part) ** 2 * noisy[1] + 2 * part * (1 - part) * signal
    return Signal(signal, total)


def normalised(advantages: Tensor) -> Tensor:
    """Advantages of mean 0 and standard deviation 1, or all 0 if they are all equal."""
    centred = advantages - advantages.mean()
    deviation = centred.square().mean().sqrt()
    # Equal advantages deviate by rounding errors, which dividing would blow up.
    if deviation <= 1e-6 * advantages.abs().max():
        return advantages.new_zeros(advantages.shape)
    return centred / deviation


def as_log_prob_takes(policy: ActorCriticPolicy, actions: Tensor) -> Tensor:
    """Stored actions, shape (N, ...), in the form that the distribution's ``log_prob`` takes."""
    if isinstance(policy.action_space, spaces.Discrete):
        return actions.long().flatten()
    return actions.float()  # SB3 stores them as the action space has them


def sample_gradients(fisher: FisherOperator, advantages: Tensor) -> Tensor:
    """A grad_phi log pi(a) for every sample, shape (N, K): J^T of their mean is the gradient.

    :param fisher: of N states, with the actions taken there
    :param advantages: A, shape (N,)
    :raises ValueError: the operator has no actions, or the shapes differ
    """
    if fisher.actions is None:
        raise ValueError("fisher must be FisherOperator(policy, observations, actions)")
    check_shape((fisher.n_samples,), advantages=advantages)
    score = fisher.family.score(fisher.distribution, fisher.statistics, fisher.actions)
    return score * advantages[:, None]


class SignalCallback(BaseCallback):
    """Logs how much signal there is in each rollout's policy gradient (:func:`signal_share`).

    It is for on-policy algorithms with a rollout buffer (NPG, TRPO, PPO, A2C) and policies without
    a memory. ``train/signal`` is the mean signal of the latest rollouts, ``train/signal_share``
    that mean divided by the mean total. Training is the same with and without it, to the last bit.

    >>> from sb3_natural import NPG
    >>> model = NPG("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
    >>> model = model.learn(128, callback=SignalCallback())

    :param damping: as for :func:`signal_share`
    :param cg_max_steps: as for :func:`signal_share`
    :param window: how many of the latest rollouts are averaged, at least 1
    :param verbose: SB3's level of messages; this callback has none
    :raises ValueError: an argument is out of range, the algorithm has no rollout buffer, or its
        policy has a memory
    """

    @checked(damping=FINITE_AND_NOT_NEGATIVE, cg_max_steps=at_least(1), window=at_least(1))
    def __init__(
        self, damping: float = 0.1, cg_max_steps: int = 10, window: int = 10, verbose: int = 0
    ) -> None:
        super().__init__(verbose)
        self.damping = damping
        self.cg_max_steps = cg_max_steps
        self._latest: deque[Signal] = deque(maxlen=window)

    def _init_callback(self) -> None:
        if not isinstance(self.model, OnPolicyAlgorithm) or not isinstance(
            self.model.rollout_buffer, RolloutBuffer
        ):
            raise ValueError(
                "SignalCallback is for on-policy algorithms with a RolloutBuffer (NPG, TRPO, PPO, "
                f"A2C), got {type(self.model).__name__}"
            )
        if isinstance(self.model.policy, RecurrentActorCriticPolicy):
            raise ValueError(
                "SignalCallback is for policies with no memory, got a "
                f"{type(self.model.policy).__name__}"
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        try:
            found = signal_share(
                self.model.policy, self.model.rollout_buffer, self.damping, self.cg_max_steps
            )
        except NoStepError:  # which the algorithm will find, and report, itself
            return
        self._latest.append(found)
        signal, total = np.mean(self._latest, axis=0).tolist()
        self.logger.record("train/signal", signal)
        self.logger.record("train/signal_share", Signal(signal, total).share)
