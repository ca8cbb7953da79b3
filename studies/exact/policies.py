"""Policies as functions of a parameter vector, with their scores.

The score is grad_theta log pi(a|s).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import softmax

__all__ = ["Chart", "Policy", "Reparameterised", "Softmax", "tabular"]


class Policy(Protocol):
    """Probabilities and scores of P parameters."""

    def probabilities(self, theta: np.ndarray) -> np.ndarray:
        """pi(a|s), (S, A), for theta of shape (P,)."""
        ...

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """grad_theta log pi(a|s), (S, A, P)."""
        ...


@dataclass(frozen=True)
class Softmax:
    """pi(a|s) ~ exp(theta^T phi(s, a)).

    :param features: phi, (S, A, P). With one feature for each pair of state and action this is any
        policy; with fewer, states share parameters
    """

    features: np.ndarray

    @property
    def n_params(self) -> int:
        """P."""
        return self.features.shape[2]

    def probabilities(self, theta: np.ndarray) -> np.ndarray:
        """See :meth:`Policy.probabilities`."""
        return softmax(self.features @ theta, axis=1)

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """See :meth:`Policy.scores`: phi(s, a) less its mean over actions."""
        mean = np.einsum("sa,sap->sp", self.probabilities(theta), self.features)
        return self.features - mean[:, None]


def tabular(n_states: int, n_actions: int) -> Softmax:
    """The softmax policy with a logit for each pair, theta[s * A + a]."""
    n_pairs = n_states * n_actions
    return Softmax(np.eye(n_pairs).reshape(n_states, n_actions, n_pairs))


class Chart(NamedTuple):
    """Other parameters z, of which theta is a smooth function."""

    name: str
    theta: Callable[[np.ndarray], np.ndarray]
    """theta(z), (P,)"""
    jacobian: Callable[[np.ndarray], np.ndarray]
    """d theta / d z, (P, Z)"""
    z: Callable[[np.ndarray], np.ndarray]
    """A z with this theta, (Z,)"""


@dataclass(frozen=True)
class Reparameterised:
    """The same policies with the parameters of a chart."""

    policy: Policy
    chart: Chart

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """See :meth:`Policy.probabilities`."""
        return self.policy.probabilities(self.chart.theta(z))

    def scores(self, z: np.ndarray) -> np.ndarray:
        """See :meth:`Policy.scores`: the chain rule."""
        return self.policy.scores(self.chart.theta(z)) @ self.chart.jacobian(z)
