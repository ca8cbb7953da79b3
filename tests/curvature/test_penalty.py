"""Penalised steps: what they reach against brute force, and that they never lower the return."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.penalty import Aim, PenalisedAscent, adapted, penalty_for
from sb3_natural.curvature.solvers import ConjugateGradient, NoStepError
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.networks.parameters import assign_flat, flatten
from studies.exact.mdp import Mdp
from studies.exact.surrogate import lower_bound, proofs_penalty
from tests.curvature.random_mdp import all_pairs, probabilities, random_mdp, softmax_policy
from tests.helpers import ACTION_SPACES, make_observations, make_policy


class Problem:
    """L - C D of a policy on a batch, with what a penalised ascent needs."""

    def __init__(self, policy, batch, penalty, damping=1e-9, **options):
        observations, actions, old_log_prob, weights = batch
        self.policy, self.observations, self.actions = policy, observations, actions
        self.damping = damping
        fisher = self.fisher()
        self.theta = flatten(param.detach() for param in fisher.params)
        self.surrogate = Surrogate(fisher.distribution, actions, old_log_prob, weights)
        origin = fisher.jacobian.outputs
        self.ascent = PenalisedAscent(self.surrogate, origin, penalty, **options)

    def fisher(self):
        return FisherOperator(self.policy, self.observations, self.actions)

    def aim(self):
        fisher = self.fisher()
        gradient = fisher.jacobian.vjp(self.ascent.gradient(fisher.jacobian.outputs))
        damped = Damped(fisher, self.damping)
        x = ConjugateGradient(100, 1e-10).solve(damped, gradient).direction
        return Aim(fisher, fisher.jacobian, gradient, x, fisher.quadratic_form(x))

    def run(self):
        return self.ascent.run(self.aim(), self.aim)


def batch_of(policy, n=60, seed=0):
    """Random states, sampled actions, random advantages."""
    torch.manual_seed(seed)
    observations = make_observations(policy, n, seed)
    with torch.no_grad():
        distribution = policy.get_distribution(observations)
        actions = distribution.sample()
        log_prob = distribution.log_prob(actions)
    return observations, actions, log_prob, torch.randn(n, dtype=torch.float64)


@pytest.mark.parametrize("penalty", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_maximum_with_the_mean_divergence_is_that_of_a_brute_force_search(seed, penalty):
    """Of a tabular policy, with exact advantages and visits."""
    rng = np.random.default_rng(seed)
    mdp, table = random_mdp(rng, n_states=4, n_actions=3, gamma=0.8), np.eye(4)
    policy = softmax_policy(table, rng.normal(size=(4, 3)))
    pi = probabilities(policy, table)
    now = mdp.evaluate(pi)
    advantages, visits = now.advantages, now.occupancy / (1 - mdp.gamma)
    batch = all_pairs(table, visits, advantages, pi)
    problem = Problem(policy, batch, penalty, tolerance=1e-12, max_steps=1000)

    def loss(logits):
        new = np.exp(logits.reshape(pi.shape))
        new /= new.sum(axis=1, keepdims=True)
        kl = (pi * np.log(pi / new)).sum(axis=1)
        return -(visits @ (new * advantages).sum(axis=1) - penalty * kl.mean())

    best = minimize(loss, np.log(pi).reshape(-1), method="BFGS", options={"gtol": 1e-8})
    expected = np.exp(best.x.reshape(pi.shape))
    expected /= expected.sum(axis=1, keepdims=True)
    rise = problem.run()
    assert rise.objective == pytest.approx(-best.fun, rel=1e-6)
    np.testing.assert_allclose(probabilities(policy, table), expected, atol=2e-4)
    assert np.abs(expected - pi).max() > 1e-3


def updated(mdp, policy, features, share):
    """The gain in return of one update with that share of the proof's penalty."""
    now = mdp.evaluate(probabilities(policy, features))
    penalty = share * proofs_penalty(now)
    visits = now.occupancy / (1 - mdp.gamma)
    batch = all_pairs(features, visits, now.advantages, now.pi)
    rise = Problem(policy, batch, penalty, maximal=True).run()
    # The theorem's bound, computed from its definition.
    new = probabilities(policy, features)
    surrogate = visits @ ((new - now.pi) * now.advantages).sum(axis=1)
    bound = surrogate - penalty * (now.pi * np.log(now.pi / new)).sum(axis=1).max()
    assert rise.objective == pytest.approx(bound, rel=1e-4, abs=1e-10)
    assert bound > 0
    gain = mdp.evaluate(new).performance - now.performance
    if share == 1:
        assert bound == pytest.approx(lower_bound(now, new) - now.performance, abs=1e-10)
        assert gain >= bound - 1e-12
    return gain


def test_with_the_proofs_penalty_no_update_lowers_the_return():
    """Schulman et al. 2015, theorem 1, on 20 random problems and 160 updates.

    With a logit for each state and action, or with fewer features than states.
    """
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n_states, n_actions = int(rng.integers(3, 8)), int(rng.integers(2, 5))
        mdp = random_mdp(rng, n_states, n_actions, gamma=float(rng.uniform(0.3, 0.95)))
        features = np.eye(n_states) if seed % 2 else rng.normal(size=(n_states, 2))
        policy = softmax_policy(features, rng.normal(size=(features.shape[1], n_actions)))
        for _ in range(8):
            assert updated(mdp, policy, features, share=1.0) > 0, seed


@pytest.mark.parametrize(("share", "rises"), [(1.0, True), (1e-4, False)])
def test_a_trap_is_avoided_with_the_proofs_penalty_and_not_with_a_fraction(share, rises):
    """The rarer action pays at the start; where it leads, it costs more, and it is the same logit.

    The surrogate weighs states as the old policy visits them, and that one hardly goes there.
    """
    staying, leaving = [1.0, 0.0], [0.0, 1.0]
    mdp = Mdp(
        np.array([[staying, leaving], [staying, leaving]]),
        np.array([[0.9, 3.0], [0.0, -10.0]]),
        np.array([1.0, 0.0]),
        gamma=0.3,
    )
    features = np.ones((2, 1))
    policy = softmax_policy(features, np.log([[0.95, 0.05]]))
    assert (updated(mdp, policy, features, share) > 0) == rises


@pytest.mark.parametrize("maximal", [False, True])
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_the_gradient_is_autograds(actions, maximal):
    policy = make_policy(actions)
    batch = batch_of(policy)
    problem = Problem(policy, batch, penalty=1.7, maximal=maximal)
    observations, taken, old_log_prob, weights = batch
    distribution = policy.get_distribution(observations)
    family = family_of(distribution)
    origin = family.statistics(distribution).detach()
    torch.manual_seed(3)
    phi = (origin + 0.3 * torch.randn_like(origin)).requires_grad_(True)
    kls = family.kl(origin, phi)
    ratio = torch.exp(family.log_prob(distribution, phi, taken) - old_log_prob)
    objective = (ratio * weights).mean() - 1.7 * (kls.max() if maximal else kls.mean())
    (expected,) = torch.autograd.grad(objective, phi)
    gradient = problem.ascent.gradient(phi.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("maximal", [False, True])
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_no_step_lowers_the_objective_of_any_policy(actions, maximal):
    """Whatever the penalty: measured with SB3's own distributions."""
    for penalty in (1e-3, 0.1, 10.0, 1e4):
        policy = make_policy(actions)
        batch = batch_of(policy)
        problem = Problem(policy, batch, penalty, damping=0.01, maximal=maximal)
        observations, taken, old_log_prob, weights = batch
        family = problem.fisher().family
        with torch.no_grad():
            before = family.statistics(policy.get_distribution(observations)).clone()
        rise = problem.run()
        with torch.no_grad():
            distribution = policy.get_distribution(observations)
            after = family.statistics(distribution)
            surrogate = ((distribution.log_prob(taken) - old_log_prob).exp() * weights).mean()
        kls = family.kl(before, after)
        kl = (kls.max() if maximal else kls.mean()).item()
        objective = surrogate.item() - penalty * kl
        assert rise.objective == pytest.approx(objective, rel=1e-9)
        assert objective > weights.mean().item()
        torch.testing.assert_close(rise.phi, after)


def test_the_first_step_is_the_natural_gradient_over_the_penalty():
    """Kakade's fixed step with step_size = 1/C, where C is so large that the model is exact."""
    policy = make_policy("categorical")
    problem = Problem(policy, batch_of(policy), penalty=1e4, max_steps=1)
    aim = problem.aim()
    rise = problem.run()
    assert rise.n_steps == 1
    assert rise.taken.length == pytest.approx(1e-4, rel=1e-4)
    moved = flatten(param.detach() for param in problem.fisher().params) - problem.theta
    torch.testing.assert_close(moved, 1e-4 * aim.direction, rtol=1e-4, atol=1e-12)
    assert rise.kl_predicted == pytest.approx(rise.taken.kl, rel=1e-2)


def test_damping_does_not_shorten_the_step():
    """The length is the best along the direction: damped so much that x is g / damping."""
    policy = make_policy("categorical")
    batch = batch_of(policy)
    gains = {}
    for damping in (1e3, 1e5):
        problem = Problem(make_policy("categorical"), batch, 1e3, damping=damping, max_steps=1)
        gains[damping] = problem.run().objective - batch[3].mean().item()
    assert gains[1e5] == pytest.approx(gains[1e3], rel=1e-2)


def test_more_steps_gain_more_and_end_when_little_is_gained():
    policy = make_policy("categorical")
    batch = batch_of(policy)
    gains, counts = [], []
    for options in ({"max_steps": 1}, {}, {"tolerance": 1e-4, "max_steps": 100}):
        problem = Problem(make_policy("categorical"), batch, 0.5, damping=0.1, **options)
        rise = problem.run()
        gains.append(rise.objective)
        counts.append(rise.n_steps)
    assert gains[0] < gains[1] < gains[2]
    assert 1 == counts[0] < counts[1] <= 10 < counts[2] < 100


def test_all_steps_together_keep_the_bound_on_noise():
    policy = make_policy("gaussian")
    batch = batch_of(policy)
    n_dims = policy.log_std.numel()
    moved, n_steps = {}, {}
    for bound in (math.inf, 0.02):
        policy = make_policy("gaussian")
        options = dict(noise=slice(0, n_dims), max_noise_change=bound, tolerance=1e-6)
        problem = Problem(policy, batch, 0.3, damping=0.01, **options)
        before = policy.log_std.detach().clone()
        n_steps[bound] = problem.run().n_steps
        change = policy.log_std.detach() - before
        moved[bound] = change.square().mean().sqrt().item()
    assert moved[math.inf] > 0.04
    assert 0.01 < moved[0.02] <= 0.02 * (1 + 1e-9)
    assert n_steps[0.02] > 1


def test_where_nothing_rises_there_is_no_step_and_the_policy_stays():
    policy = make_policy("categorical")
    problem = Problem(policy, batch_of(policy), penalty=1.0)
    aim = problem.aim()
    for backwards in (aim._replace(direction=-aim.direction), aim._replace(quadratic_form=0.0)):
        with pytest.raises(NoStepError, match="no maximum along the direction"):
            problem.ascent.run(backwards, problem.aim)
    lying = aim._replace(gradient=-1e-3 * aim.direction, direction=-aim.direction)
    with pytest.raises(NoStepError, match="by more than its divergence costs"):
        problem.ascent.run(lying, problem.aim)
    now = flatten(param.detach() for param in problem.fisher().params)
    assert torch.equal(now, problem.theta)


def test_a_later_step_that_fails_leaves_the_policy_where_the_earlier_ones_led():
    policy = make_policy("categorical")
    problem = Problem(policy, batch_of(policy), penalty=0.3, tolerance=0.0)
    one = problem.run()  # to the maximum
    assign_flat(problem.fisher().params, problem.theta)

    def fails():
        raise NoStepError("the policy gradient vanishes")

    first = problem.ascent.run(problem.aim(), fails)
    assert first.n_steps == 1 < one.n_steps
    torch.testing.assert_close(problem.fisher().statistics, first.phi)


@pytest.mark.parametrize(
    ("kl", "expected"), [(0.0, 2.0), (0.0066, 2.0), (0.0067, 4.0), (0.0149, 4.0), (0.0151, 8.0)]
)
def test_the_penalty_doubles_and_halves(kl, expected):
    assert adapted(4.0, kl, 0.01) == expected


def test_the_adapted_penalty_stays_a_positive_number():
    low = high = 1.0
    for _ in range(3000):
        low, high = adapted(low, 0.0, 0.01), adapted(high, 1.0, 0.01)
    assert 0 < low < high < math.inf


@pytest.mark.parametrize("maximal", [False, True])
def test_the_penalty_for_a_target_makes_the_model_spend_it(maximal):
    policy = make_policy("categorical")
    batch = batch_of(policy)
    # Damped, since along directions that F hardly sees no step is short enough for the model.
    aim = Problem(policy, batch, penalty=1.0, damping=0.1).aim()
    penalty = penalty_for(aim, 1e-6, maximal)
    options = dict(damping=0.1, maximal=maximal, max_steps=1)
    rise = Problem(policy, batch, penalty, **options).run()
    assert rise.taken.kl == pytest.approx(1e-6, rel=1e-2)
