"""A linear-quadratic regulator of one dimension, with a Gaussian policy: all in closed form.

    x' = a x + b u + w,  w ~ N(0, noise^2);    reward  -(q x^2 + r u^2);    u ~ N(k x, sigma^2)

The policy's parameters are theta = (k, log sigma). With c = a + b k, the second moments of the
state, weighted by (1 - gamma) gamma^t, and the weight P of V(s) = -P x^2 - const are

    M = ((1 - gamma) m_0 + gamma (b^2 sigma^2 + noise^2)) / (1 - gamma c^2),
    P = (q + r k^2) / (1 - gamma c^2),

which are finite where gamma c^2 < 1. With Q from P, and the scores of a Gaussian,

    d eta / dk = -2 M (r k + gamma P b c) / (1 - gamma),
    d eta / dlog sigma = -2 sigma^2 (r + gamma P b^2) / (1 - gamma),
    F = diag(M / sigma^2, 2).

Sources: Kakade 2001 (section 5 has such a regulator); Peters & Schaal 2008 (section 4.1); Bradtke
1993 (the optimal gain from Q).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from studies.exact.policies import Chart

__all__ = ["AFTER_PETERS_AND_SCHAAL", "BOUNDED_NOISE", "PARAMETERISATIONS", "Lqr"]


@dataclass(frozen=True)
class Lqr:
    """A linear-quadratic regulator of one dimension: states x, actions u.

    The dynamics, rewards and policies, with ``theta = (k, log sigma)``, are::

        x' = a x + b u + w,  w ~ N(0, noise^2)
        reward = -(q x^2 + r u^2)
        u ~ N(k x, sigma^2)

    :param a: factor of the state in the next state
    :param b: factor of the action in the next state
    :param q: cost of the squared state
    :param r: cost of the squared action
    :param noise: standard deviation of w
    :param gamma: discount factor, from 0 to below 1
    :param start: m_0, the second moment of the first state
    """

    a: float = 0.7
    b: float = 1.0
    q: float = 1.0
    r: float = 0.1
    noise: float = 1.0
    gamma: float = 0.95
    start: float = 1.0

    def performance(self, theta: np.ndarray) -> float:
        """eta, the expected discounted return; minus infinity where it is not finite.

        :param theta: ``(k, log sigma)``, (2,)
        """
        k, sigma = theta[0], math.exp(theta[1])
        if not self._is_stable(k):
            return -math.inf
        costs = (self.q + self.r * k**2) * self.second_moment(theta) + self.r * sigma**2
        return -costs / (1 - self.gamma)

    def second_moment(self, theta: np.ndarray) -> float:
        """M, the second moment of the states, weighted by ``(1 - gamma) gamma^t``.

        :param theta: ``(k, log sigma)``, (2,), with ``gamma (a + b k)^2 < 1``
        """
        k, sigma = theta[0], math.exp(theta[1])
        enters = self.b**2 * sigma**2 + self.noise**2
        total = (1 - self.gamma) * self.start + self.gamma * enters
        return total / (1 - self.gamma * self._closed_loop(k) ** 2)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """The policy gradient: that of eta with respect to theta, (2,).

        :param theta: as for :meth:`second_moment`
        """
        k, sigma = theta[0], math.exp(theta[1])
        c = self._closed_loop(k)
        weight = (self.q + self.r * k**2) / (1 - self.gamma * c**2)
        by_k = self.second_moment(theta) * (self.r * k + self.gamma * weight * self.b * c)
        by_log_sigma = sigma**2 * (self.r + self.gamma * weight * self.b**2)
        return -2 / (1 - self.gamma) * np.array([by_k, by_log_sigma])

    def fisher(self, theta: np.ndarray) -> np.ndarray:
        """The Fisher information of the policy over the states that it visits, (2, 2).

        :param theta: as for :meth:`second_moment`
        """
        return np.diag([self.second_moment(theta) / math.exp(2 * theta[1]), 2.0])

    def best_gain(self) -> float:
        """The k with the largest return for any sigma, by the Riccati equation."""
        weight = self.q
        for _ in range(10_000):
            gain = (
                -self.gamma * weight * self.a * self.b / (self.r + self.gamma * weight * self.b**2)
            )
            c = self._closed_loop(gain)
            following = self.q + self.r * gain**2 + self.gamma * weight * c**2
            if abs(following - weight) <= 1e-15 * weight:
                break
            weight = following
        return gain

    def _closed_loop(self, k: float) -> float:
        return self.a + self.b * k

    def _is_stable(self, k: float) -> bool:
        return self.gamma * self._closed_loop(k) ** 2 < 1


# After the regulator in Peters & Schaal's papers on natural actor-critic: little noise, and with
# BOUNDED_NOISE a policy whose own stays above 0.1. The constants have not been compared with the
# papers; the discount factor and the start are ours.
AFTER_PETERS_AND_SCHAAL = Lqr(a=0.7, b=1.0, q=1.0, r=0.1, noise=0.1, gamma=0.95, start=0.1)


def _scaled(by: np.ndarray) -> Chart:
    """theta = by * z, entry by entry."""
    of = ", ".join(f"{each:g}" for each in by)
    return Chart(f"scaled by {of}", lambda z: by * z, lambda z: np.diag(by), lambda t: t / by)


def _natural_theta(z: np.ndarray) -> np.ndarray:
    return np.array([z[0] / z[1], -0.5 * math.log(z[1])])


def _natural_jacobian(z: np.ndarray) -> np.ndarray:
    return np.array([[1 / z[1], -z[0] / z[1] ** 2], [0.0, -0.5 / z[1]]])


def _natural_z(theta: np.ndarray) -> np.ndarray:
    precision = math.exp(-2 * theta[1])
    return np.array([theta[0] * precision, precision])


# One policy in three ways. The last are the natural parameters of the Gaussian, k / sigma^2 and
# 1 / sigma^2.
PARAMETERISATIONS = [
    Chart("k, log sigma", lambda z: z, lambda z: np.eye(2), lambda theta: theta),
    _scaled(np.array([0.1, 3.0])),
    Chart("k / sigma^2, 1 / sigma^2", _natural_theta, _natural_jacobian, _natural_z),
]

_LEAST = 0.1  # sigma


def _bounded_theta(z: np.ndarray) -> np.ndarray:
    return np.array([z[0], math.log(_LEAST + expit(-z[1]))])


def _bounded_jacobian(z: np.ndarray) -> np.ndarray:
    slope = -expit(-z[1]) * expit(z[1]) / (_LEAST + expit(-z[1]))
    return np.diag([1.0, slope])


def _bounded_z(theta: np.ndarray) -> np.ndarray:
    return np.array([theta[0], -logit(math.exp(theta[1]) - _LEAST)])


# For policies with sigma between 0.1 and 1.1.
BOUNDED_NOISE = Chart(
    "k, eta with sigma = 0.1 + 1 / (1 + exp eta)", _bounded_theta, _bounded_jacobian, _bounded_z
)
