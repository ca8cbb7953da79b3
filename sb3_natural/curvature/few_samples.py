"""Likelihoods of a few samples, in numpy where that is possible.

The functions of :class:`~sb3_natural.curvature.families.ActionFamily` are for any number of
samples; with a handful of them, torch's calls take longer than the arithmetic.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution

from sb3_natural.curvature.families import family_of

__all__ = ["Likelihood", "likelihood", "log_probs"]

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


class Likelihood(NamedTuple):
    """What a policy gradient needs to know about N actions."""

    log_prob: np.ndarray
    """log pi(a|s), (N,)"""
    score: np.ndarray
    """Its gradient with respect to phi, (N, K)"""
    entropy: np.ndarray
    """In nats, (N,)"""


def log_probs(distribution: Distribution, phi: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """log pi(a) for every sample, shape (N,).

    :param distribution: an SB3 distribution; its current state is not used
    :param phi: its statistics, (N, K)
    :param actions: as the distribution's ``log_prob`` takes them
    """
    if type(distribution) is not DiagGaussianDistribution:
        on_phi = torch.from_numpy(phi)
        family = family_of(distribution)
        return family.log_prob(distribution, on_phi, torch.from_numpy(actions)).numpy()
    mean, log_std = _halves(phi)
    return _gaussian(log_std, (actions - mean) * np.exp(-log_std))


def likelihood(distribution: Distribution, phi: np.ndarray, actions: np.ndarray) -> Likelihood:
    """Log-probability, score and entropy; arguments as for :func:`log_probs`."""
    if type(distribution) is not DiagGaussianDistribution:
        family, on_phi, taken = (
            family_of(distribution),
            torch.from_numpy(phi),
            torch.from_numpy(actions),
        )
        return Likelihood(
            family.log_prob(distribution, on_phi, taken).numpy(),
            family.score(distribution, on_phi, taken).numpy(),
            family.entropy(on_phi).numpy(),
        )
    mean, log_std = _halves(phi)
    precision = np.exp(-log_std)
    z = (actions - mean) * precision
    score = np.empty_like(phi)
    by_mean, by_log_std = _halves(score)
    np.multiply(z, precision, out=by_mean)
    np.multiply(z, z, out=by_log_std)
    by_log_std -= 1
    entropy = np.add.reduce(log_std, axis=1) + np.float32(mean.shape[1] * (_HALF_LOG_2_PI + 0.5))
    return Likelihood(_gaussian(log_std, z), score, entropy)


def _gaussian(log_std: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Log-densities, (N,), of standardised deviations z, (N, n_dims)."""
    terms = z * z
    terms *= np.float32(0.5)
    terms += log_std
    terms += np.float32(_HALF_LOG_2_PI)
    return -np.add.reduce(terms, axis=1)


def _halves(phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = phi.shape[1] // 2
    return phi[:, :middle], phi[:, middle:]
