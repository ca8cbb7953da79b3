"""How much of the plain and of the natural gradient of a batch is signal."""

from typing import NamedTuple

import numpy as np
import torch

from benchmarks.signal.measure import across
from benchmarks.signal.samples import collect, estimates, fisher_of, values_of
from sb3_natural import NPG
from sb3_natural.curvature.operators import Damped
from sb3_natural.curvature.solvers import ConjugateGradient
from sb3_natural.signal import normalised, sample_gradients

__all__ = ["BATCH", "DAMPING", "NORMS", "Measured", "share_of_signal", "signal_shares"]

BATCH = 2_048  # samples, as in NPG's trainings
DAMPING = 0.1  # TRPO's usual one
NORMS = ("Euclidean", "Fisher")


class Measured(NamedTuple):
    """Where directions are compared: the policy of a training that is stopped early."""

    env_id: str
    seed: int
    steps: int
    batches: int
    """of 2,048 samples each, from which directions are computed"""
    target_kl: float


def signal_shares(at: Measured) -> list[tuple[str, str, int, int, str, float]]:
    """The share of signal in the plain and in the natural gradient, in either norm.

    Independent batches of one policy give g and x = (F + DAMPING I)^-1 g, each with its own F. The
    Fisher norm is that of one batch more, which gives no direction.

    :return: rows of task, gradient, seed, steps, norm and share
    """
    model = NPG("MlpPolicy", at.env_id, seed=at.seed, device="cpu", target_kl=at.target_kl)
    model.learn(at.steps)
    samples = collect(model, (at.batches + 1) * BATCH)
    values = values_of(model.policy, samples, model.gamma)
    directions: dict[str, list[torch.Tensor]] = {name: [] for name in ("plain", "natural")}
    for start in range(0, at.batches * BATCH, BATCH):
        stop = start + BATCH
        advantages, _ = estimates(samples, values, start, stop, model.gamma, model.gae_lambda)
        fisher = fisher_of(model.policy, samples, start, stop)
        per_sample = sample_gradients(fisher, normalised(advantages))
        gradient = fisher.jacobian.vjp(per_sample / BATCH)
        solver = ConjugateGradient(model.cg_max_steps, model.cg_tol)
        natural = solver.solve(Damped(fisher, DAMPING), gradient).direction
        directions["plain"].append(gradient)
        directions["natural"].append(natural)
    last = at.batches * BATCH
    norm = fisher_of(model.policy, samples, last, last + BATCH)
    rows = []
    for name, found in directions.items():
        vectors = torch.stack(found)
        products = torch.stack([norm @ vector for vector in found])
        for what, other in zip(NORMS, (vectors, products), strict=True):
            share = share_of_signal((vectors.double() @ other.double().T).numpy())
            rows.append((at.env_id, name, at.seed, at.steps, what, share))
    return rows


def share_of_signal(forms: np.ndarray) -> float:
    """The squared norm of the mean direction, of the mean squared norm of a direction.

    The former is estimated from pairs of different directions, in which noise does not count, and
    is without bias therefore; it may be negative.

    :param forms: inner products of directions with independent noise, shape ``(n, n)``
    """
    return across(forms)[0] / float(np.diagonal(forms).mean())
