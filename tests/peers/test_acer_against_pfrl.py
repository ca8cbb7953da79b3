"""ACER's update against PFRL's, on the same random numbers.

What agrees, to rounding: Retrace and Qopc, importance ratios and their truncation, both kinds of
correction, the critic's losses, and the gradient of the parameters without a trust region; the
projection itself, given the same g and k.

What is defined differently:

- *The statistics of a Categorical.* PFRL's are what torch.distributions holds: here, where the
  network puts out logits, the normalised log-probabilities l = log pi, as if they could be moved
  independently of each other. There k = -pi_a, where ours is pi - pi_a, and g's part of an action
  is e_a, where ours is e_a - pi. Back-propagated to the logits both are the same; but k^T g and
  |k|^2, and so which samples are bounded and by how much, are not. (A Categorical made of
  probabilities has these for statistics, which is the paper's choice.)
- *Those of a Gaussian* are its mean and standard deviation, ours mean and log_std. The
  projections agree where sigma = 1 and the derivatives with respect to both are the same.
- *The entropy bonus* is added after the projection; ours is a part of g.
- *The duelling network* draws new u_i whenever a Q is asked for: for the correction others than for
  the action taken. Here they are fixed.
- On-policy, PFRL takes rho = 1 without looking at the policy that acted.
"""

import math

import numpy as np
import pytest
import torch
from pfrl.action_value import DiscreteActionValue, SingleActionValue
from pfrl.agents import acer as pfrl_acer
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from sb3_natural.acer.loss import discrete_estimates
from sb3_natural.acer.retrace import correction_weight, trace, truncated_weight
from sb3_natural.curvature.trust_region import linearised_projection
from tests.acer.test_update import (
    GAMMA,
    assert_same,
    fix_samples,
    gradients,
    gradients_of,
    make_model,
    random_columns,
    stored,
)

# A target without axes beside an output with one, and a float of what has a gradient.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Using a target size", "ignore:Converting a tensor with requires_grad"
)

N = 12
ACTIONS = ("categorical", "gaussian")
EXACT = dict(rtol=1e-10, atol=1e-10)


@pytest.fixture(autouse=True)
def _float64():
    """PFRL makes tensors of numbers, in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class FixedSample(Independent):
    """A distribution whose next sample is known."""

    def sample(self, sample_shape=()):
        return self.next_sample


class Theirs:
    """PFRL's agent beside one of our models: same networks, same segment, same random numbers."""

    def __init__(self, model, column, drawn, replays=True, **kwargs):
        self.model, self.column, self.drawn, self.replays = model, column, drawn, replays
        self.agent = pfrl_acer.ACER(
            torch.nn.Identity(),
            None,
            t_max=N,
            gamma=GAMMA,
            replay_buffer=None,
            beta=model.ent_coef,
            Q_loss_coef=model.q_coef,
            use_trust_region=model.trust_region,
            trust_region_delta=model.delta,
            truncation_threshold=(
                model.correction_term if math.isfinite(model.correction_term) else None
            ),
            use_Q_opc=not model.policy.is_discrete,
            **kwargs,
        )
        self.evaluate()

    def evaluate(self):
        policy, column = self.model.policy, self.column
        seen = [step.observation for step in column] + [column[-1].next_observation]
        observations = torch.as_tensor(np.stack(seen))
        self.phi, self.latent = policy.statistics_and_latent(observations)
        self.values = policy.values_from(self.phi.detach(), self.latent)
        self.average = policy.average_statistics(observations)

    def distribution(self, phi, t):
        phi = phi[t : t + 1]
        if self.model.policy.is_discrete:
            return Categorical(logits=phi)
        mean, log_std = phi.chunk(2, dim=1)
        distribution = FixedSample(Normal(mean, log_std.exp()), 1)
        distribution.next_sample = self.drawn[-1, t : t + 1]
        return distribution

    def action_value(self, t):
        head, latent = self.model.policy.value_net, self.latent[t : t + 1]
        if self.model.policy.is_discrete:
            return DiscreteActionValue(head(latent))

        def evaluate(action):
            mean = head.advantage(latent, self.drawn[:-1, t : t + 1]).mean(dim=0)
            return head.value(latent) + head.advantage(latent, action[None])[0] - mean

        return SingleActionValue(evaluate)

    def mu(self, t):
        return self.distribution(torch.as_tensor(np.stack([s.mu for s in self.column])), t)

    def loss(self):
        self.evaluate()
        steps = range(len(self.column))
        last = 0.0 if self.column[-1].terminal else self.values[-1].item()
        return self.agent.compute_loss(
            t_start=0,
            t_stop=len(self.column),
            R=last,
            actions={t: self.column[t].action for t in steps},
            rewards={t: float(self.column[t].reward) for t in steps},
            values={t: self.values[t : t + 1] for t in steps},
            action_values={t: self.action_value(t) for t in steps},
            action_distribs={t: self.distribution(self.phi, t) for t in steps},
            action_distribs_mu={t: self.mu(t) for t in steps} if self.replays else None,
            avg_action_distribs={t: self.distribution(self.average, t) for t in steps},
        ).squeeze()


def make_pair(actions, monkeypatch, on_policy=False, seed=0, **kwargs):
    """One of our models, what PFRL makes of the same, and the segment; no episode ends within."""
    arguments = dict(average_differs=True, correction_term=1.3, trust_region=False, ent_coef=0.05)
    model = make_model(actions, **{**arguments, **kwargs})
    (column,) = random_columns(model, N, 1, seed=seed, p_terminal=0, p_limit=0)
    if on_policy:
        seen = torch.as_tensor(np.stack([step.observation for step in column]))
        phi = model.policy.statistics_and_latent(seen)[0].detach().numpy()
        column = [step._replace(mu=mu) for step, mu in zip(column, phi, strict=True)]
    drawn = torch.randn(
        model.n_sdn_samples + 1, N, 2, generator=torch.Generator().manual_seed(seed)
    )
    if actions == "gaussian":
        fix_samples(model, monkeypatch, drawn)
    return model, Theirs(model, column, drawn, replays=not on_policy), column


@pytest.mark.parametrize("end", [None, "terminal", "limit"])
@pytest.mark.parametrize("on_policy", [False, True])
@pytest.mark.parametrize("correction_term", [1.3, math.inf])
@pytest.mark.parametrize("actions", ACTIONS)
def test_gradient_without_trust_region_is_pfrls(
    actions, correction_term, on_policy, end, monkeypatch
):
    model, theirs, column = make_pair(
        actions, monkeypatch, on_policy=on_policy, correction_term=correction_term
    )
    if end:
        column[-1] = column[-1]._replace(terminal=end == "terminal", limit=end == "limit")
    update = model._update(stored(model, [column]))
    assert_same(gradients(model), gradients_of(model, theirs.loss()))
    truncated = update.estimates.log_rho.exp() > correction_term
    assert truncated.any() == (math.isfinite(correction_term) and not on_policy)
    assert (update.estimates.correction != 0).any() == truncated.any()


@pytest.mark.parametrize("actions", ACTIONS)
def test_targets_are_pfrls(actions, monkeypatch):
    model, theirs, column = make_pair(actions, monkeypatch)
    update = model._update(stored(model, [column]))
    fitted, goals = [], []
    squared_error, pi_loss = torch.nn.functional.mse_loss, theirs.agent.compute_one_step_pi_loss

    def logged_error(target, output):
        fitted.append(target.item())
        return squared_error(target, output)

    def logged_loss(advantage, v, **kwargs):
        goals.append(advantage)
        return pi_loss(advantage=advantage, v=v, **kwargs)

    with monkeypatch.context() as logging:
        logging.setattr(pfrl_acer.nn.functional, "mse_loss", logged_error)
        logging.setattr(theirs.agent, "compute_one_step_pi_loss", logged_loss)
        theirs.loss()
    # Backwards in time; for Box Q's target, then V's.
    per_step = torch.tensor(fitted).reshape(N, -1).flip(0)
    torch.testing.assert_close(update.targets, per_step[:, 0], **EXACT)
    torch.testing.assert_close(update.advantages, torch.tensor(goals[::-1]), **EXACT)
    assert per_step.shape[1] == (1 if model.policy.is_discrete else 2)
    if not model.policy.is_discrete:
        estimates = update.estimates
        errors = truncated_weight(estimates.log_rho, 1.0) * (update.targets - estimates.q)
        ours = (estimates.values[:N] + errors).detach()
        torch.testing.assert_close(ours, per_step[:, 1], **EXACT)


@pytest.mark.parametrize("actions", ACTIONS)
def test_importance_ratios_are_pfrls(actions, monkeypatch):
    model, theirs, column = make_pair(actions, monkeypatch)
    estimates = model._update(stored(model, [column])).estimates
    n_dims = 1 if model.policy.is_discrete else 2
    for t, step in enumerate(column):
        pi, mu = theirs.distribution(theirs.phi, t), theirs.mu(t)
        rho = pfrl_acer.compute_importance(pi, mu, torch.as_tensor(step.action)[None])
        assert estimates.log_rho[t].exp().item() == pytest.approx(rho, rel=1e-10)
        assert trace(estimates.log_rho, n_dims)[t].item() == pytest.approx(
            min(1.0, rho ** (1 / n_dims)), rel=1e-10
        )


class Critic:
    """A stub of a policy, of which discrete_estimates wants this."""

    def __init__(self, q_values):
        self.q_values = q_values

    def value_net(self, latent):
        return self.q_values


def random_categoricals(k=4, seed=0):
    return torch.randn(3, N, k, generator=torch.Generator().manual_seed(seed)).unbind()


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
def test_full_correction_is_pfrls(c):
    logits, mu, q_values = random_categoricals()
    ours = discrete_estimates(Critic(q_values), logits, logits, mu, torch.zeros(N), c)
    log_rho = logits.log_softmax(dim=1) - mu.log_softmax(dim=1)
    assert (correction_weight(log_rho, c) > 0).any()
    for t in range(N):
        leaf = logits[t : t + 1].clone().requires_grad_()
        pi, acted = Categorical(logits=leaf), Categorical(logits=mu[t : t + 1])
        torch.testing.assert_close(
            pfrl_acer.compute_full_importance(pi, acted)[0], log_rho[t].exp(), **EXACT
        )
        loss = pfrl_acer.compute_policy_gradient_full_correction(
            pi, acted, DiscreteActionValue(q_values[t : t + 1]), ours.values[t].item(), c
        )
        (gradient,) = torch.autograd.grad(-loss, leaf)
        torch.testing.assert_close(ours.correction[t], gradient[0], **EXACT)
        assert ours.correction_objective[t].item() == pytest.approx(-loss.item(), abs=1e-10)


def test_sample_correction_is_pfrls(monkeypatch):
    model, theirs, column = make_pair("gaussian", monkeypatch)
    estimates = model._update(stored(model, [column])).estimates
    n_corrected = 0
    for t in range(N):
        leaf = theirs.phi[t : t + 1].detach().requires_grad_()
        loss = pfrl_acer.compute_policy_gradient_sample_correction(
            theirs.distribution(leaf.expand(N, -1), t),
            theirs.mu(t),
            theirs.action_value(t),
            theirs.values[t].item(),
            model.correction_term,
        )
        if not loss.requires_grad:  # rho of the sample is below c
            assert (estimates.correction[t] == 0).all()
            continue
        n_corrected += 1
        (gradient,) = torch.autograd.grad(-loss, leaf)
        torch.testing.assert_close(estimates.correction[t], gradient[0], **EXACT)
    assert 0 < n_corrected < N


# The trust region.


def projected(distribution, average, loss, delta, leaf):
    """PFRL's z with respect to the network's outputs: what minimising its loss would add to."""
    bounded, _ = pfrl_acer.compute_loss_with_kl_constraint(distribution, average, loss, delta)
    (gradient,) = torch.autograd.grad(-bounded, leaf)
    return gradient[0]


@pytest.mark.parametrize("delta", [0.01, 0.1, 1e6])
def test_projection_of_a_categorical_is_pfrls_in_log_probabilities(delta):
    logits, averages, weights = random_categoricals()
    n_bounded = n_differ = 0
    for t in range(N):
        leaf = logits[t : t + 1].clone().requires_grad_()
        distribution = Categorical(logits=leaf)
        average = Categorical(logits=averages[t : t + 1])
        (statistics,) = pfrl_acer.get_params_of_distribution(distribution)
        assert statistics is distribution.logits  # normalised
        loss = -(weights[t] * distribution.logits).sum()  # any g
        theirs = projected(distribution, average, loss, delta, leaf)

        pi, pi_average = distribution.probs.detach(), average.probs
        z = linearised_projection(weights[t : t + 1], -pi_average, delta)
        through_softmax = z - pi * z.sum(dim=1, keepdim=True)
        torch.testing.assert_close(theirs, through_softmax[0], **EXACT)

        # With respect to logits: the same g and k, but other products of them.
        g = weights[t : t + 1] - pi * weights[t].sum()
        k = pi - pi_average
        ours = linearised_projection(g, k, delta)[0]
        removed = g[0] - theirs
        n_bounded += removed.abs().max().item() > 1e-9
        n_differ += not torch.allclose(ours, theirs)
        multiple = (removed @ k[0]) / (k[0] @ k[0])
        torch.testing.assert_close(removed, multiple * k[0], **EXACT)
        assert multiple >= -1e-10
    assert (n_bounded > 0) == (n_differ > 0) == (delta < 1)
    assert n_bounded < N


def test_statistics_of_a_categorical_made_of_probabilities_are_these():
    """The paper's choice; the projection is then that of k = -pi_a / pi."""
    logits, averages, weights = random_categoricals()
    for t in range(N):
        leaf = logits[t : t + 1].softmax(dim=1).requires_grad_()
        distribution = Categorical(probs=leaf)
        average = Categorical(logits=averages[t : t + 1])
        (statistics,) = pfrl_acer.get_params_of_distribution(distribution)
        assert statistics is distribution.probs
        loss = -(weights[t] * statistics).sum()
        bounded, _ = pfrl_acer.compute_loss_with_kl_constraint(distribution, average, loss, 0.01)
        (z,) = torch.autograd.grad(-bounded, statistics)
        ours = linearised_projection(weights[t : t + 1], -average.probs / statistics.detach(), 0.01)
        torch.testing.assert_close(z, ours, **EXACT)


@pytest.mark.parametrize("delta", [0.01, 0.3, 1e6])
def test_projection_of_a_gaussian_is_pfrls_in_standard_deviations(delta, monkeypatch):
    model = make_model("gaussian")
    family, draw = model.policy.family, torch.Generator().manual_seed(0)
    means, averages, weights, log_stds = torch.randn(4, N, 2, generator=draw).unbind()
    n_bounded = n_differ = 0
    for t in range(N):
        # Where sigma is one, log_std and sigma have the same derivatives.
        for log_std in (torch.zeros(2), 0.5 * log_stds[t]):
            leaf = torch.cat([means[t], log_std])[None].requires_grad_()
            phi_average = torch.cat([averages[t], log_stds[(t + 1) % N]])[None]
            mean, sigma = leaf[:, :2], leaf[:, 2:].exp()
            distribution = Independent(Normal(mean, sigma), 1)
            average = Independent(Normal(phi_average[:, :2], phi_average[:, 2:].exp()), 1)
            action = means[t] + 0.7
            loss = -weights[t, 0] * distribution.log_prob(action)
            kl = kl_divergence(average, distribution)
            (autograd,) = torch.autograd.grad(kl, leaf, retain_graph=True)
            theirs = projected(distribution, average, loss, delta, leaf)

            g = weights[t, 0] * family.score(model.policy.action_dist, leaf.detach(), action[None])
            k = family.kl_gradient(phi_average, leaf.detach())
            torch.testing.assert_close(k, autograd, **EXACT)
            ours = linearised_projection(g, k, delta)[0]
            scale = torch.cat([torch.ones(2), log_std.exp()])
            in_sigmas = scale * linearised_projection(g / scale, k / scale, delta)[0]
            torch.testing.assert_close(theirs, in_sigmas, **EXACT)
            if (log_std == 0).all():
                torch.testing.assert_close(theirs, ours, **EXACT)
                n_bounded += not torch.allclose(theirs, g[0])
            n_differ += not torch.allclose(theirs, ours)
    assert (n_bounded > 0) == (n_differ > 0) == (delta < 1)
    assert n_bounded < N


def test_whole_update_with_trust_region_is_pfrls_where_sigma_is_one(monkeypatch):
    model, theirs, column = make_pair(
        "gaussian", monkeypatch, trust_region=True, delta=0.1, ent_coef=0.0
    )
    with torch.no_grad():
        model.policy.log_std.zero_()
    update = model._update(stored(model, [column]))
    assert_same(gradients(model), gradients_of(model, theirs.loss()))
    n_bounded = (update.bounded != update.gradient).any(dim=1).sum()
    assert 0 < n_bounded < N


@pytest.mark.parametrize("actions", ACTIONS)
def test_whole_update_is_pfrls_where_no_sample_reaches_the_trust_region(actions, monkeypatch):
    model, theirs, column = make_pair(actions, monkeypatch, trust_region=True, delta=1e6)
    model._update(stored(model, [column]))
    assert_same(gradients(model), gradients_of(model, theirs.loss()))


def test_entropy_bonus_is_inside_the_trust_region_and_outside_pfrls(monkeypatch):
    """The bonus alone, bounded at 0 along k, where PFRL's is not bounded."""
    model, theirs, column = make_pair(
        "gaussian", monkeypatch, trust_region=True, delta=0.0, ent_coef=10.0
    )
    model.policy.update_average(0.1)
    with torch.no_grad():
        model.policy.log_std.zero_()
        model.policy.average_log_std.fill_(-1.0)
    update = model._update(stored(model, [column]))
    theirs_bonus = 10.0 * model.policy.family.entropy_gradient(update.phi)
    kl_gradient = model.policy.family.kl_gradient(update.average, update.phi)
    assert ((update.bounded * kl_gradient).sum(dim=1) <= 1e-9).all()
    z = linearised_projection(update.gradient - theirs_bonus, kl_gradient, 0.0) + theirs_bonus
    assert ((z * kl_gradient).sum(dim=1) > 0.1).any()
    loss = theirs.loss()
    seen = torch.as_tensor(np.stack([step.observation for step in column]))
    phi, _ = model.policy.statistics_and_latent(seen)
    difference = gradients_of(model, loss)
    ours = gradients(model)
    expected = gradients_of(model, -((update.bounded - z) * phi).sum() / N)
    assert_same({name: ours[name] - difference[name] for name in ours}, expected, tolerance=1e-9)
