"""Exact quantities of small decision processes, against finite differences and simulation."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from studies.exact import gradients, problems, surrogate
from studies.exact.mdp import Mdp
from studies.exact.policies import Chart, Reparameterised, Softmax, tabular
from studies.exact.steps import (
    conservative_step,
    evaluated,
    multiplicative_step,
    natural_step,
    soft_multiplicative_step,
    soft_values,
    trust_region_step,
)

PROBLEMS = {
    "two states": problems.two_states(),
    "chain": problems.chain(),
    "grid world": problems.grid_world(3),
    "garnet": problems.garnet(np.random.default_rng(0)),
    "bandit": problems.bandit(np.array([0.1, 0.7, 0.3])),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def policies(mdp):
    """A tabular one, one whose states share parameters, and the latter with other parameters."""
    features = rng(1).normal(size=(mdp.n_states, mdp.n_actions, 5))
    linear, mixing = Softmax(features), 0.3 * np.linalg.qr(rng(2).normal(size=(5, 5)))[0]
    cubes = Chart(
        "cubes",
        lambda z: mixing @ z**3,
        lambda z: mixing * (3 * z**2),
        lambda theta: np.cbrt(np.linalg.solve(mixing, theta)),
    )
    return {
        "tabular": (tabular(mdp.n_states, mdp.n_actions), mdp.n_states * mdp.n_actions),
        "linear": (linear, 5),
        "cubes": (Reparameterised(linear, cubes), 5),
    }


def cases():
    for problem, mdp in PROBLEMS.items():
        for name, (policy, n_params) in policies(mdp).items():
            theta = rng(3).uniform(0.5, 1.5, n_params) * rng(4).choice([-1, 1], n_params)
            yield pytest.param(mdp, policy, theta, id=f"{problem}, {name}")


@pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS)
def test_values_visits_and_return_are_those_of_many_steps(mdp):
    pi = rng().dirichlet(np.ones(mdp.n_actions), size=mdp.n_states)
    found = mdp.evaluate(pi)
    values, visits, at = np.zeros(mdp.n_states), np.zeros(mdp.n_states), mdp.start
    for t in range(2000):
        values = (pi * (mdp.rewards + mdp.gamma * mdp.transitions @ values)).sum(axis=1)
        visits += (1 - mdp.gamma) * mdp.gamma**t * at
        at = np.einsum("s,sa,sat->t", at, pi, mdp.transitions)
    np.testing.assert_allclose(found.values, values, atol=1e-10)
    np.testing.assert_allclose(found.occupancy, visits, atol=1e-12)
    assert found.occupancy.sum() == pytest.approx(1)
    assert found.performance == pytest.approx(mdp.start @ values)
    np.testing.assert_allclose((pi * found.advantages).sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS)
def test_no_policy_is_better_than_the_best(mdp):
    best = mdp.best().values
    for pi in rng().dirichlet(np.full(mdp.n_actions, 0.3), size=(50, mdp.n_states)):
        assert (mdp.evaluate(pi).values <= best + 1e-9).all()
    np.testing.assert_allclose(mdp.best().action_values.max(axis=1), best)  # Bellman's equation


@pytest.mark.parametrize(("mdp", "policy", "theta"), list(cases()))
def test_scores_gradient_and_fisher_agree_with_finite_differences(mdp, policy, theta):
    def log_pi(z):
        return np.log(policy.probabilities(z)).reshape(-1)

    by_hand = np.array(
        [approx_fprime(theta, lambda z, i=i: log_pi(z)[i]) for i in range(log_pi(theta).size)]
    )
    scores = policy.scores(theta)
    np.testing.assert_allclose(scores.reshape(by_hand.shape), by_hand, atol=1e-4, rtol=1e-4)
    now = evaluated(mdp, policy, theta)
    gradient = approx_fprime(theta, lambda z: evaluated(mdp, policy, z).performance)
    found = gradients.policy_gradient(now, scores)
    np.testing.assert_allclose(found, gradient, atol=1e-4, rtol=1e-4)
    of_surrogate = approx_fprime(theta, lambda z: surrogate.surrogate(now, policy.probabilities(z)))
    np.testing.assert_allclose(found, of_surrogate, atol=1e-4, rtol=1e-4)
    # F is the curvature of the mean KL: along any direction, by a second difference.
    fisher, step = gradients.fisher(now, scores), 1e-4
    for direction in rng(4).normal(size=(3, len(theta))):
        there = [
            surrogate.mean_kl(now, policy.probabilities(theta + s * direction))
            for s in (step, -step)
        ]
        assert direction @ fisher @ direction == pytest.approx(sum(there) / step**2, rel=1e-4)


@pytest.mark.parametrize(("mdp", "policy", "theta"), list(cases()))
def test_the_natural_gradient_is_the_compatible_functions_weight(mdp, policy, theta):
    now, scores = evaluated(mdp, policy, theta), policy.scores(theta)
    x = gradients.natural_gradient(now, scores)
    w = gradients.compatible_weights(now, scores)
    np.testing.assert_allclose(w, (1 - mdp.gamma) * x, atol=1e-8, rtol=1e-8)
    np.testing.assert_allclose(
        gradients.fisher(now, scores) @ x, gradients.policy_gradient(now, scores), atol=1e-10
    )


@pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS)
def test_two_policies_differ_by_the_old_advantages_under_the_new_visits(mdp):
    for old, new in rng().dirichlet(np.full(mdp.n_actions, 0.5), size=(20, 2, mdp.n_states)):
        was, now = mdp.evaluate(old), mdp.evaluate(new)
        difference = surrogate.performance_difference(was, now)
        assert difference == pytest.approx(now.performance - was.performance, abs=1e-10)
        assert now.performance >= surrogate.lower_bound(was, new) - 1e-12


@pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS)
def test_a_tabular_natural_step_is_multiplicative(mdp):
    policy, n_params = policies(mdp)["tabular"]
    theta = rng().normal(size=n_params)
    stepped = policy.probabilities(natural_step(mdp, policy, theta, 0.1))
    expected = multiplicative_step(mdp, np.log(policy.probabilities(theta)), 0.1)
    np.testing.assert_allclose(np.log(stepped), expected, atol=1e-6)


@pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS)
def test_soft_policy_iteration_ends_at_the_soft_optimum(mdp):
    temperature = 0.2
    log_pi = np.log(np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions))
    for _ in range(60):
        log_pi = soft_multiplicative_step(mdp, log_pi, (1 - mdp.gamma) / temperature, temperature)
    values = np.zeros(mdp.n_states)
    for _ in range(3000):  # soft value iteration
        q = mdp.rewards + mdp.gamma * mdp.transitions @ values
        values = temperature * np.logaddexp.reduce(q / temperature, axis=1)
    np.testing.assert_allclose(soft_values(mdp, log_pi, temperature)[0], values, atol=1e-9)


@pytest.mark.parametrize("maximal", [False, True])
@pytest.mark.parametrize(("mdp", "policy", "theta"), list(cases()))
def test_a_trust_region_step_keeps_its_bound_and_raises_the_surrogate(mdp, policy, theta, maximal):
    now, delta = evaluated(mdp, policy, theta), 0.01
    pi = policy.probabilities(trust_region_step(mdp, policy, theta, delta, maximal))
    moved = surrogate.kl(now.pi, pi).max() if maximal else surrogate.mean_kl(now, pi)
    assert 0 < moved <= delta
    assert surrogate.surrogate(now, pi) > now.performance
    # Of a small step without a search the KL is delta.
    tiny = policy.probabilities(trust_region_step(mdp, policy, theta, 1e-8, search=False))
    assert surrogate.mean_kl(now, tiny) == pytest.approx(1e-8, rel=0.02)


@pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS)
def test_conservative_iteration_gains_at_least_what_it_promises(mdp):
    now = mdp.evaluate(rng().dirichlet(np.ones(mdp.n_actions), size=mdp.n_states))
    gains = []
    for _ in range(20):
        pi, promised = conservative_step(now)
        following = mdp.evaluate(pi)
        assert following.performance - now.performance >= promised - 1e-12
        gains.append(promised)
        now = following
    assert gains[0] > 0
    assert min(gains) >= 0


def test_the_plateau_of_two_states():
    """Where the first state is hardly ever left, the plain gradient of leaving it vanishes."""
    mdp, policy = problems.two_states(), tabular(2, 2)
    theta = np.array([4.0, 0.0, 0.0, 0.0])
    now, scores = evaluated(mdp, policy, theta), policy.scores(theta)
    plain, natural = (
        f(now, scores) for f in (gradients.policy_gradient, gradients.natural_gradient)
    )
    # By A of leaving, times d pi (1 - pi) and alone.
    advantage = now.advantages[0, 1]
    p = now.pi[0, 1]
    assert plain[1] == pytest.approx(now.occupancy[0] * p * advantage / (1 - mdp.gamma))
    assert natural[1] - natural[0] == pytest.approx(
        (now.advantages[0, 1] - now.advantages[0, 0]) / (1 - mdp.gamma)
    )
    assert mdp.best().performance == pytest.approx(0.2 * 2 / 0.05 + 0.8 * 0.95 * 2 / 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transitions": np.ones((2, 2, 2))}, "transitions must be probabilities"),
        ({"transitions": np.ones((2, 1, 2)) / 2}, r"transitions must have the shape \(2, 2, 2\)"),
        ({"start": np.ones(3) / 3}, "start must have the shape"),
        ({"rewards": np.full((2, 2), np.nan)}, "rewards must be finite"),
        ({"gamma": 1.0}, "gamma must be from 0 to below 1, got 1.0"),
    ],
)
def test_what_is_no_process_is_refused(change, message):
    fine = problems.two_states()
    parts = {name: getattr(fine, name) for name in ("transitions", "rewards", "start", "gamma")}
    with pytest.raises(ValueError, match=message):
        Mdp(**parts | change)
    with pytest.raises(ValueError, match=r"pi must have the shape \(2, 2\), got \(1, 2\)"):
        fine.evaluate(np.ones((1, 2)) / 2)
