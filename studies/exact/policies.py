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
    """A policy with P parameters theta: a protocol, which classes of your own may follow, too."""

    def probabilities(self, theta: np.ndarray) -> np.ndarray:
        """The probabilities pi(a|s), (S, A).

        :param theta: the parameters, (P,)
        """
        ...

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """The scores ``grad_theta log pi(a|s)``, (S, A, P).

        :param theta: the parameters, (P,)
        """
        ...


@dataclass(frozen=True)
class Softmax:
    """The softmax policy: pi(a|s) is proportional to ``exp(theta^T phi(s, a))``.

    :param features: phi, (S, A, P). With one feature for each pair of state and action every policy
        without zeros can be represented; with fewer, states share parameters
    """

    features: np.ndarray

    @property
    def n_params(self) -> int:
        """P, the number of parameters."""
        return self.features.shape[2]

    def probabilities(self, theta: np.ndarray) -> np.ndarray:
        """The probabilities pi(a|s), (S, A).

        :param theta: the parameters, (P,)
        """
        return softmax(self.features @ theta, axis=1)

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """The scores, (S, A, P): phi(s, a) less its mean over actions.

        :param theta: the parameters, (P,)
        """
        mean = np.einsum("sa,sap->sp", self.probabilities(theta), self.features)
        return self.features - mean[:, None]


def tabular(n_states: int, n_actions: int) -> Softmax:
    """The softmax policy with a logit for each pair of state and action, ``theta[s * A + a]``.

    :param n_states: S, the number of states
    :param n_actions: A, the number of actions
    """
    n_pairs = n_states * n_actions
    return Softmax(np.eye(n_pairs).reshape(n_states, n_actions, n_pairs))


class Chart(NamedTuple):
    """Other parameters z, of which theta is a smooth function."""

    name: str
    """What tables and figures call it."""
    theta: Callable[[np.ndarray], np.ndarray]
    """Maps z, (Z,), to theta, (P,)."""
    jacobian: Callable[[np.ndarray], np.ndarray]
    """Maps z, (Z,), to ``d theta / d z``, (P, Z)."""
    z: Callable[[np.ndarray], np.ndarray]
    """Maps theta, (P,), to a z with this theta, (Z,)."""


@dataclass(frozen=True)
class Reparameterised:
    """The same policies with other parameters, those of a chart.

    :param policy: the policies as functions of theta
    :param chart: theta as a function of z
    """

    policy: Policy
    chart: Chart

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """The probabilities pi(a|s), (S, A).

        :param z: the chart's parameters, (Z,)
        """
        return self.policy.probabilities(self.chart.theta(z))

    def scores(self, z: np.ndarray) -> np.ndarray:
        """The scores ``grad_z log pi(a|s)``, (S, A, Z), by the chain rule.

        :param z: the chart's parameters, (Z,)
        """
        return self.policy.scores(self.chart.theta(z)) @ self.chart.jacobian(z)
