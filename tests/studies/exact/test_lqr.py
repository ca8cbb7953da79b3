"""The regulator's closed forms, against finite differences, simulation and a Riccati solver."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are
from scipy.optimize import approx_fprime

from studies.exact.lqr import AFTER_PETERS_AND_SCHAAL, BOUNDED_NOISE, PARAMETERISATIONS, Lqr

REGULATORS = [
    Lqr(),
    Lqr(a=1.1, b=-0.5, q=2.0, r=0.5, noise=0.3, gamma=0.8, start=4.0),
    AFTER_PETERS_AND_SCHAAL,
]
THETA = np.array([-0.3, -0.5])


@pytest.mark.parametrize("lqr", REGULATORS)
def test_return_and_moments_are_those_of_a_simulation_of_moments(lqr):
    theta = THETA * np.sign(lqr.b)
    k, variance = theta[0], np.exp(2 * theta[1])
    moment, eta, total = lqr.start, 0.0, 0.0
    for t in range(3000):
        eta -= lqr.gamma**t * ((lqr.q + lqr.r * k**2) * moment + lqr.r * variance)
        total += (1 - lqr.gamma) * lqr.gamma**t * moment
        moment = (lqr.a + lqr.b * k) ** 2 * moment + lqr.b**2 * variance + lqr.noise**2
    assert lqr.performance(theta) == pytest.approx(eta)
    assert lqr.second_moment(theta) == pytest.approx(total)


@pytest.mark.parametrize("lqr", REGULATORS)
def test_the_gradient_is_that_of_the_return(lqr):
    theta = THETA * np.sign(lqr.b)
    by_hand = approx_fprime(theta, lqr.performance)
    np.testing.assert_allclose(lqr.gradient(theta), by_hand, rtol=1e-4)


@pytest.mark.parametrize("lqr", REGULATORS)
def test_fisher_is_the_curvature_of_the_mean_kl(lqr):
    k, log_sigma = theta = THETA * np.sign(lqr.b)

    def mean_kl(other):
        shift = (k - other[0]) ** 2 * lqr.second_moment(theta)
        ratio = np.exp(2 * (log_sigma - other[1]))
        return 0.5 * (ratio - 1 - np.log(ratio) + shift / np.exp(2 * other[1]))

    step = 1e-4
    for direction in np.random.default_rng(0).normal(size=(3, 2)):
        there = mean_kl(theta + step * direction) + mean_kl(theta - step * direction)
        form = direction @ lqr.fisher(theta) @ direction
        assert form == pytest.approx(there / step**2, rel=1e-4)


@pytest.mark.parametrize("lqr", REGULATORS)
def test_the_best_gain_is_that_of_the_riccati_equation(lqr):
    root = np.sqrt(lqr.gamma)
    matrices = [np.array([[each]]) for each in (root * lqr.a, root * lqr.b, lqr.q, lqr.r)]
    weight = solve_discrete_are(*matrices)[0, 0]
    gain = -lqr.gamma * weight * lqr.a * lqr.b / (lqr.r + lqr.gamma * weight * lqr.b**2)
    assert lqr.best_gain() == pytest.approx(gain)
    assert lqr.gradient(np.array([gain, -1.0]))[0] == pytest.approx(0, abs=1e-9)
    assert lqr.performance(np.array([10.0, 0.0])) == -np.inf


def test_the_gradient_by_bounded_noise_is_that_of_the_return():
    lqr, z = AFTER_PETERS_AND_SCHAAL, np.array([-0.5, 1.0])
    theta = BOUNDED_NOISE.theta(z)
    assert np.exp(theta[1]) == pytest.approx(0.1 + 1 / (1 + np.e))
    gradient = BOUNDED_NOISE.jacobian(z).T @ lqr.gradient(theta)
    by_hand = approx_fprime(z, lambda z: lqr.performance(BOUNDED_NOISE.theta(z)))
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4)


@pytest.mark.parametrize("chart", [*PARAMETERISATIONS, BOUNDED_NOISE], ids=lambda chart: chart.name)
def test_charts_and_their_jacobians(chart):
    z = chart.z(THETA)
    np.testing.assert_allclose(chart.theta(z), THETA)
    by_hand = [approx_fprime(z, lambda z, i=i: chart.theta(z)[i]) for i in range(2)]
    np.testing.assert_allclose(chart.jacobian(z), by_hand, rtol=1e-4, atol=1e-6)
