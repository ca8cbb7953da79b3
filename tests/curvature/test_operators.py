"""The Fisher operator against independent computations, in float64."""

import copy

import pytest
import torch
from curvlinops import GGNLinearOperator
from stable_baselines3.common.distributions import (
    SquashedDiagGaussianDistribution,
    kl_divergence,
)
from torch import nn

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.jacobian import AutogradJacobian
from sb3_natural.curvature.operators import (
    CurvatureOperator,
    Damped,
    FisherOperator,
    GaussNewtonOperator,
)
from sb3_natural.networks.parameters import assign_flat, flatten, parameters_behind
from sb3_natural.observations import at
from tests.helpers import (
    ACTION_SPACES,
    DEVICES,
    OBSERVATION_SPACES,
    make_observations,
    make_policy,
)

CASES = [
    (actions, observations, shared)
    for actions in ACTION_SPACES
    for observations in OBSERVATION_SPACES
    for shared in (True, False)
    if shared or observations != "discrete"
]


def detached(distribution):
    """A copy of a torch distribution (or of a list of them) cut off from the graph."""
    if isinstance(distribution, list):
        return [detached(block) for block in distribution]
    params = {name: getattr(distribution, name).detach() for name in distribution.arg_constraints}
    if "logits" in params:
        params = {"logits": params["logits"]}
    return type(distribution)(**params)


def close(actual, expected, tol=1e-8):
    """Equal to ``tol`` relative to the largest element."""
    return (actual - expected).abs().max() <= tol * expected.abs().max().clamp(min=1.0)


class HessianOfMeanKl:
    """The Hessian of mean KL(old || new) at zero displacement, by differentiating twice.

    Uses SB3's own kl_divergence on SB3's own distributions: no code is shared with the operator.
    """

    def __init__(self, policy, observations, params):
        old = copy.copy(policy.get_distribution(observations))
        old.distribution = detached(old.distribution)
        kl = kl_divergence(old, policy.get_distribution(observations))
        # SB3 leaves the action dimensions of Gaussians and Bernoullis to the caller.
        kl = (kl.sum(dim=1) if kl.ndim > 1 else kl).mean()
        self.params = params
        self.grad = flatten(torch.autograd.grad(kl, params, create_graph=True))

    def __matmul__(self, vector):
        return flatten(torch.autograd.grad(self.grad @ vector, self.params, retain_graph=True))

    def dense(self):
        identity = torch.eye(len(self.grad), dtype=self.grad.dtype)
        return torch.stack([self @ basis_vector for basis_vector in identity])


@pytest.mark.parametrize(("actions", "observations", "shared"), CASES)
def test_product_equals_hessian_of_mean_kl(actions, observations, shared):
    policy = make_policy(actions, observations, shared)
    batch = make_observations(policy, 6)
    fisher = FisherOperator(policy, batch)
    hessian = HessianOfMeanKl(policy, batch, fisher.params)
    for probe in torch.randn(3, fisher.shape[0], dtype=torch.float64):
        assert close(fisher @ probe, hessian @ probe)
    if observations == "mlp":  # image networks have too many parameters to form the matrix
        assert close(fisher.dense(), hessian.dense())


class Statistics(nn.Module):
    """A policy as curvlinops wants it: observations in, distribution parameters out."""

    def __init__(self, policy, actions):
        super().__init__()
        self.policy = policy
        self.actions = actions

    def forward(self, observations):
        distribution = self.policy.get_distribution(observations).distribution
        if self.actions in ("gaussian", "gsde"):
            return torch.cat([distribution.loc, distribution.scale], dim=1)
        if self.actions == "multicategorical":
            return torch.cat([block.probs for block in distribution], dim=1)
        return distribution.probs


class MeanKl(nn.Module):
    """KL(old || new) written out, summed over action dimensions and averaged over samples."""

    reduction = "mean"

    def __init__(self, actions):
        super().__init__()
        self.actions = actions

    def forward(self, new, old):
        if self.actions in ("gaussian", "gsde"):
            (m, s), (m0, s0) = new.chunk(2, dim=1), old.chunk(2, dim=1)
            kl = torch.log(s / s0) + (s0**2 + (m0 - m) ** 2) / (2 * s**2) - 0.5
        elif self.actions == "bernoulli":
            kl = old * torch.log(old / new) + (1 - old) * torch.log((1 - old) / (1 - new))
        else:
            kl = old * torch.log(old / new)
        return kl.sum() / len(new)


@pytest.mark.parametrize(("actions", "observations", "shared"), CASES)
def test_product_equals_curvlinops(actions, observations, shared):
    """The Gauss-Newton matrix of the mean KL at zero displacement is the Fisher information."""
    policy = make_policy(actions, observations, shared)
    batch = make_observations(policy, 6)
    fisher = FisherOperator(policy, batch)
    network = Statistics(policy, actions)
    with torch.no_grad():
        old = network(batch)
    ggn = GGNLinearOperator(
        network,
        MeanKl(actions),
        fisher.params,
        [(batch, old)],
        check_deterministic=False,
        batch_size_fn=lambda _: 6,
    )
    for probe in torch.randn(2, fisher.shape[0], dtype=torch.float64):
        assert close(fisher @ probe, ggn @ probe)


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_metric_factor_and_kl_agree_with_each_other(actions):
    policy = make_policy(actions)
    distribution = policy.get_distribution(make_observations(policy, 5))
    family = family_of(distribution)
    phi = family.statistics(distribution).detach()
    factor = family.factor(phi)
    metric = factor @ factor.transpose(1, 2)
    for column in range(phi.shape[1]):
        unit = torch.zeros_like(phi)
        unit[:, column] = 1
        assert close(family.fisher_at(phi)(unit), metric[:, :, column], 1e-12)
    hessian = torch.autograd.functional.hessian(lambda other: family.kl(phi, other).sum(), phi)
    samples = torch.arange(len(phi))
    assert close(metric, hessian[samples, :, samples, :], 1e-10)


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_kl_equals_monte_carlo_estimate(actions):
    policy = make_policy(actions)
    batch = make_observations(policy, 1)
    n = 200_000
    distribution = policy.get_distribution(batch)
    family = family_of(distribution)
    p = copy.copy(distribution)
    phi_p = family.statistics(p).detach()
    with torch.no_grad():
        if actions == "multicategorical":
            samples = torch.stack([d.sample((n,)).squeeze(1) for d in p.distribution], dim=1)
        else:
            samples = p.distribution.sample((n,)).squeeze(1)
        log_p = p.log_prob(samples).clone()
        for param in policy.action_net.parameters():
            param += 0.3 * torch.randn_like(param)
        q = policy.get_distribution(batch)
        difference = log_p - q.log_prob(samples)
    kl = family.kl(phi_p, family.statistics(q)).item()
    assert abs(difference.mean().item() - kl) < 5 * difference.std().item() / n**0.5


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_bernoulli_closed_form(p):
    """With p = theta itself the Fisher is 1/theta + 1/(1 - theta): 11.11, 4, 11.11."""
    policy = make_policy("bernoulli")
    family = family_of(policy.action_dist)
    theta = nn.Parameter(torch.tensor([[p]], dtype=torch.float64))
    jacobian = AutogradJacobian(lambda: torch.log(theta / (1 - theta)), [theta])
    fisher = CurvatureOperator(jacobian, family.fisher_at(jacobian.outputs))
    assert fisher.dense().item() == pytest.approx(1 / p + 1 / (1 - p), rel=1e-12)


def test_gaussian_closed_form():
    """A linear Gaussian policy: E[s s^T] / sigma^2 for the mean's weights, 2 for log sigma."""
    policy = make_policy("gaussian", net_arch=())
    batch = make_observations(policy, 50)
    fisher = FisherOperator(policy, batch)
    states = torch.cat([batch.double(), torch.ones(50, 1).double()], dim=1)
    moment = states.T @ states / 50
    variance = policy.log_std.detach().exp() ** 2
    expected = torch.block_diag(*(moment / v for v in variance), 2 * torch.eye(2).double())
    # The operator orders the parameters as the policy does: log_std, weight, bias.
    assert [tuple(p.shape) for p in fisher.params] == [(2,), (2, 4), (2,)]
    order = torch.tensor([10, 11, 0, 1, 2, 3, 5, 6, 7, 8, 4, 9])
    assert close(fisher.dense(), expected[order][:, order], 1e-12)


@pytest.mark.parametrize(("actions", "observations", "shared"), CASES)
def test_diagonal_is_exact(actions, observations, shared):
    policy = make_policy(actions, observations, shared)
    fisher = FisherOperator(policy, make_observations(policy, 3))
    diagonal = fisher.diagonal()
    some = torch.randperm(fisher.shape[0])[:60]
    for index in some:
        unit = torch.zeros(fisher.shape[0], dtype=torch.float64)
        unit[index] = 1
        assert diagonal[index].item() == pytest.approx((fisher @ unit)[index].item(), abs=1e-9)


def test_diagonal_is_exact_with_shared_layers_and_inplace_activations():
    policy = make_policy("gaussian", net_arch=(4, 4))
    layer = nn.Linear(4, 4).double()
    # One layer used twice, one activation in place: the outer-product rule does not hold there.
    policy.mlp_extractor.policy_net = nn.Sequential(
        layer, nn.Tanh(), layer, nn.LeakyReLU(inplace=True), nn.Linear(4, 4).double(), nn.Tanh()
    )
    fisher = FisherOperator(policy, make_observations(policy, 5))
    assert close(fisher.diagonal(), fisher.dense().diagonal(), 1e-12)


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_scores_are_per_sample_gradients_of_log_prob(actions):
    policy = make_policy(actions)
    batch = make_observations(policy, 70)  # more than one chunk
    with torch.no_grad():
        taken = policy.get_distribution(batch).sample()
    fisher = FisherOperator(policy, batch, taken)
    scores = fisher.scores()
    assert scores.shape == (70, fisher.shape[0])
    for i in (0, 1, 69):
        log_prob = policy.get_distribution(batch[i : i + 1]).log_prob(taken[i : i + 1])
        assert close(scores[i], flatten(torch.autograd.grad(log_prob.sum(), fisher.params)), 1e-12)


@pytest.mark.parametrize("actions", [*ACTION_SPACES, "squashed", "squashed gsde"])
def test_family_knows_log_prob_and_its_gradient_by_the_statistics(actions):
    if actions == "squashed":
        distribution = SquashedDiagGaussianDistribution(2).proba_distribution(
            torch.randn(9, 2).double(), torch.randn(2).double()
        )
    else:
        kwargs = {"squash_output": True} if actions == "squashed gsde" else {}
        policy = make_policy(actions.removeprefix("squashed "), **kwargs)
        with torch.no_grad():
            distribution = policy.get_distribution(make_observations(policy, 9))
    family = family_of(distribution)
    taken = distribution.sample().detach()
    phi = family.statistics(distribution).detach().requires_grad_()
    log_prob = family.log_prob(distribution, phi, taken)
    assert close(log_prob, distribution.log_prob(taken), 1e-12)
    (expected,) = torch.autograd.grad(log_prob.sum(), phi)
    score = family.score(distribution, phi.detach(), taken)
    assert close(score, expected, 1e-12)


def test_expected_outer_product_of_scores_is_the_fisher():
    """Enumerate the actions of a categorical policy: sum_a pi(a) s_a s_a^T = F."""
    policy = make_policy("categorical")
    batch = make_observations(policy, 6)
    fisher = FisherOperator(policy, batch)
    total = torch.zeros(fisher.shape, dtype=torch.float64)
    with torch.no_grad():
        probs = policy.get_distribution(batch).distribution.probs
    for action in range(3):
        scores = FisherOperator(policy, batch, torch.full((6,), action)).scores()
        total += (scores * probs[:, action : action + 1]).T @ scores / 6
    assert close(fisher.dense(), total, 1e-12)


def operators(policy, batch):
    critic = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
    yield FisherOperator(policy, batch)
    yield GaussNewtonOperator(policy, critic, batch)


def test_damping_adds_a_multiple_of_the_identity_in_every_respect():
    policy = make_policy("gaussian")
    for plain in operators(policy, make_observations(policy, 5)):
        damped = Damped(plain, 0.3)
        twice = Damped(Damped(plain, 0.1), 0.2)
        matrix = plain.dense() + 0.3 * torch.eye(plain.shape[0], dtype=torch.float64)
        v = torch.randn(plain.shape[0], dtype=torch.float64)
        for operator in (damped, twice):
            assert operator.shape == plain.shape
            assert close(operator @ v, matrix @ v, 1e-13)
            assert close(operator.dense(), matrix, 1e-14)
            assert close(operator.diagonal(), matrix.diagonal(), 1e-14)
            assert operator.quadratic_form(v) == pytest.approx((v @ matrix @ v).item(), rel=1e-12)
        assert plain.quadratic_form(v) == pytest.approx((v @ (plain @ v)).item(), rel=1e-12)
        assert torch.equal(Damped(plain, 0.0) @ v, plain @ v)


@pytest.mark.parametrize("observations", OBSERVATION_SPACES)
@pytest.mark.parametrize("n_samples", [None, 4])
def test_gauss_newton_is_that_of_curvlinops_and_its_diagonal_is_exact(observations, n_samples):
    """curvlinops: the Gauss-Newton matrix of the mean squared error, which has a factor of 2."""
    policy = make_policy("gaussian", observations, share_features_extractor=False)
    batch = make_observations(policy, 6)
    params = parameters_behind(policy.predict_values(batch), policy)
    torch.manual_seed(3)
    operator = GaussNewtonOperator(policy, params, batch, n_samples)
    if n_samples:
        torch.manual_seed(3)
        batch = at(batch, torch.randperm(6)[:n_samples])
    n = n_samples or 6
    assert operator.n_samples == n

    class Values(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = policy

        def forward(self, observations):
            return self.policy.predict_values(observations)

    ggn = GGNLinearOperator(
        Values(),
        nn.MSELoss(),
        params,
        [(batch, torch.zeros(n, 1, dtype=torch.float64))],
        check_deterministic=False,
        batch_size_fn=lambda _: n,
    )
    v = torch.randn(operator.shape[0], dtype=torch.float64)
    assert close(operator @ v, ggn @ v / 2)
    diagonal = operator.diagonal()
    for index in torch.randperm(operator.shape[0])[:60]:
        unit = torch.zeros_like(v)
        unit[index] = 1
        assert diagonal[index].item() == pytest.approx((operator @ unit)[index].item(), abs=1e-9)


def test_subsample_uses_that_many_states_of_the_batch():
    policy = make_policy("gaussian", net_arch=())
    batch = make_observations(policy, 40)
    torch.manual_seed(3)
    fisher = FisherOperator(policy, batch, n_samples=10)
    torch.manual_seed(3)
    chosen = batch[torch.randperm(40)[:10]]
    assert fisher.n_samples == 10
    assert close(fisher.dense(), FisherOperator(policy, chosen).dense(), 1e-14)
    assert FisherOperator(policy, batch, n_samples=400).n_samples == 40


def test_frozen_and_critic_parameters_are_left_out():
    policy = make_policy("gaussian")
    policy.log_std.requires_grad_(False)
    fisher = FisherOperator(policy, make_observations(policy, 3))
    assert policy.log_std not in set(fisher.params)
    assert not {*policy.value_net.parameters()} & set(fisher.params)
    assert not {*policy.mlp_extractor.value_net.parameters()} & set(fisher.params)


@pytest.mark.parametrize("device", DEVICES)
def test_operator_works_in_float32_on_every_device(device):
    policy = make_policy("gaussian").float().to(device)
    policy.features_extractor = policy.pi_features_extractor = nn.Flatten()
    batch = make_observations(policy, 20).to(device)
    fisher = FisherOperator(policy, batch)
    v = torch.randn(fisher.shape[0], device=device)
    assert (fisher @ v).device.type == device
    assert (fisher @ v).dtype == torch.float32
    assert close(fisher.dense() @ v, fisher @ v, 1e-5)


def test_bad_arguments_are_named():
    policy = make_policy("gaussian")
    batch = make_observations(policy, 3)
    with pytest.raises(ValueError, match=r"damping must be finite and not negative, got -1"):
        Damped(FisherOperator(policy, batch), -1)
    with pytest.raises(ValueError, match=r"n_samples must be at least 1, got 0"):
        FisherOperator(policy, batch, n_samples=0)
    fisher = FisherOperator(policy, batch)
    with pytest.raises(ValueError, match=rf"\({fisher.shape[0]},\).*got shape \(2,\)"):
        fisher @ torch.ones(2)
    with pytest.raises(ValueError, match=rf"vector .*\({fisher.shape[0]},\).*got shape \(1, 2\)"):
        Damped(fisher, 0.1).quadratic_form(torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"cotangent must have shape \(3, 4\), got shape \(4, 3\)"):
        fisher.jacobian.vjp(torch.ones(4, 3))
    with pytest.raises(ValueError, match="scores need the actions"):
        fisher.scores()
    with pytest.raises(ValueError, match="No trainable parameter"):
        parameters_behind(torch.ones(1), policy)


def test_assign_flat_is_the_inverse_of_flatten():
    policy = make_policy("gaussian")
    params = list(policy.parameters())
    vector = torch.randn_like(flatten(params))
    assign_flat(params, vector)
    assert torch.equal(flatten(p.detach() for p in params), vector)
