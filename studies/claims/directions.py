"""What the claims about directions share: policies on their way, and batches of their samples."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.signal.samples import Samples, Values, collect, estimates, fisher_of, values_of
from sb3_natural import NPG
from sb3_natural.curvature.operators import FisherOperator, Operator
from sb3_natural.curvature.solvers import KFAC, ConjugateGradient, Solution, Solver
from sb3_natural.signal import normalised, sample_gradients

__all__ = [
    "Batch",
    "Checkpoint",
    "checkpoints",
    "fisher_cosine",
    "policy_gradient",
    "prefer_one",
    "small_npg",
]


class Batch(NamedTuple):
    """The policy gradient of some samples, and what it is made of."""

    fisher: FisherOperator
    advantages: Tensor
    """Of mean 0 and standard deviation 1, shape (N,)"""
    gradient: Tensor
    """Shape (P,)"""

    def gain(self, direction: Tensor) -> float:
        """g^T x / sqrt(x^T F x): the gain for a step of a small KL divergence, by its root."""
        form = self.fisher.quadratic_form(direction)
        return float(self.gradient.double() @ direction.double()) / math.sqrt(form)


@dataclass(frozen=True)
class Checkpoint:
    """A policy in the course of its training, with samples of it.

    :param updates: how many it has had
    :param kfac: with the averages of these updates
    """

    updates: int
    model: NPG
    samples: Samples
    values: Values
    kfac: KFAC

    @staticmethod
    def of(model: NPG, n_samples: int, updates: int = 0, kfac: KFAC | None = None) -> "Checkpoint":
        """Sample the policy, which stays as it is."""
        samples = collect(model, n_samples)
        values = values_of(model.policy, samples, model.gamma)
        return Checkpoint(updates, model, samples, values, copy.deepcopy(kfac or KFAC()))

    def batch(self, start: int, stop: int) -> Batch:
        """The samples from ``start`` to before ``stop``, as a rollout."""
        fisher = fisher_of(self.model.policy, self.samples, start, stop)
        gamma, gae_lambda = self.model.gamma, self.model.gae_lambda
        found, _ = estimates(self.samples, self.values, start, stop, gamma, gae_lambda)
        advantages = normalised(found)
        return Batch(fisher, advantages, policy_gradient(fisher, advantages))


class _Followed(Solver):
    """Conjugate gradient, with K-FAC's averages beside, as if K-FAC were the solver."""

    def __init__(self) -> None:
        self.kfac = KFAC()

    def solve(self, operator: Operator, b: Tensor) -> Solution:
        """See :meth:`Solver.solve`."""
        self.kfac.solve(operator, b)
        return ConjugateGradient().solve(operator, b)


def small_npg(env_id: str, seed: int, **settings: Any) -> NPG:
    """NPG with two layers of 32 units, so small that F can be formed."""
    given: dict[str, Any] = {"policy_kwargs": {"net_arch": [32, 32]}, "device": "cpu", "seed": seed}
    return NPG("MlpPolicy", env_id, target_kl=0.01, **given, **settings)


def checkpoints(
    env_id: str, seed: int, after: Sequence[int], n_samples: int
) -> Iterator[Checkpoint]:
    """The policy of a training after so many updates; each is to be used before the next.

    :param n_samples: of each, a multiple of the 2,048 of an update
    """
    followed, done = _Followed(), 0
    model = small_npg(env_id, seed, fisher_solver=followed)
    for updates in after:
        if updates > done:
            model.learn((updates - done) * model.n_steps, reset_num_timesteps=False)
        done = updates
        yield Checkpoint.of(model, n_samples, updates, followed.kfac)


def policy_gradient(fisher: FisherOperator, advantages: Tensor) -> Tensor:
    """mean(A grad log pi), shape (P,)."""
    per_sample = sample_gradients(fisher, advantages)
    return fisher.jacobian.vjp(per_sample / len(per_sample))


def fisher_cosine(fisher: Operator, x: Tensor, y: Tensor) -> float:
    """The cosine of two directions where lengths are sqrt(x^T F x)."""
    mixed = float(x.double() @ (fisher @ y).double())
    return mixed / math.sqrt(fisher.quadratic_form(x) * fisher.quadratic_form(y))


@torch.no_grad()
def prefer_one(policy: Any, probability: float) -> None:
    """Have a policy of two actions take the first with about this probability in every state."""
    odds = torch.tensor([math.log(probability / (1 - probability)), 0.0])
    policy.action_net.bias.copy_(odds)
