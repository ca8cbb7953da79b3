"""A family's functions of phi, against autograd, SB3's distributions and its own samples."""

import itertools

import pytest
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from torch.distributions import Independent, Normal

from sb3_natural.curvature.families import family_of

GAUSSIANS = {
    "gaussian": lambda n_dims=2: DiagGaussianDistribution(n_dims),
    "squashed": lambda n_dims=2: SquashedDiagGaussianDistribution(n_dims),
    "gsde": lambda n_dims=2: StateDependentNoiseDistribution(n_dims),
    "squashed gsde": lambda n_dims=2: StateDependentNoiseDistribution(n_dims, squash_output=True),
}
# Each with K and all of its actions.
DISCRETE = {
    "categorical": (CategoricalDistribution(4), 4, range(4)),
    "one block": (MultiCategoricalDistribution([3]), 3, [[0], [1], [2]]),
    "blocks": (
        MultiCategoricalDistribution([2, 4, 3]),
        9,
        list(itertools.product(range(2), range(4), range(3))),
    ),
    "bernoulli": (BernoulliDistribution(3), 3, list(itertools.product([0.0, 1.0], repeat=3))),
}
ALL = {
    **{name: (make(), 4) for name, make in GAUSSIANS.items()},
    **{name: case[:2] for name, case in DISCRETE.items()},
}


def random_phi(n, n_statistics):
    return torch.randn(n, n_statistics, dtype=torch.float64)


def sb3_at(distribution, phi):
    """SB3's own distribution with statistics phi."""
    if isinstance(distribution, StateDependentNoiseDistribution):
        # Its proba_distribution computes sigma from features, which there are none of here.
        mean, log_std = phi.chunk(2, dim=1)
        distribution.distribution = Normal(mean, log_std.exp())
        return distribution
    if isinstance(distribution, DiagGaussianDistribution):
        return distribution.proba_distribution(*phi.chunk(2, dim=1))
    return distribution.proba_distribution(phi)


def gradient(function, phi):
    """Of each row's value with respect to that row."""
    phi = phi.clone().requires_grad_()
    return torch.autograd.grad(function(phi).sum(), phi)[0]


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


@pytest.mark.parametrize("case", ALL)
def test_kl_score_is_the_gradient_of_the_kl_divergence(case):
    distribution, k = ALL[case]
    family = family_of(distribution)
    p, q = random_phi(6, k), random_phi(6, k)
    expected = gradient(lambda phi: family.kl(p, phi), q)
    assert expected.abs().sum(dim=1).min() > 0.1
    torch.testing.assert_close(family.kl_gradient(p, q), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(family.kl_gradient(p, p), torch.zeros_like(p), rtol=0, atol=1e-15)


@pytest.mark.parametrize("case", ALL)
def test_kl_is_torchs(case):
    """What kl_gradient is compared with."""
    distribution, k = ALL[case]
    p, q = random_phi(6, k), random_phi(6, k)

    def torch_distributions(phi):
        held = sb3_at(distribution, phi).distribution
        return held if isinstance(held, list) else [held]

    per_part = [
        torch.distributions.kl_divergence(left, right)
        for left, right in zip(torch_distributions(p), torch_distributions(q), strict=True)
    ]
    expected = sum(part.reshape(6, -1).sum(dim=1) for part in per_part)
    torch.testing.assert_close(family_of(distribution).kl(p, q), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ALL)
def test_entropy_is_sb3s(case):
    distribution, k = ALL[case]
    phi = random_phi(6, k)
    at_phi = sb3_at(distribution, phi)
    expected = at_phi.entropy()
    if "squashed" in case:
        assert expected is None  # there is no formula for it; ours is the Gaussian's
        expected = Independent(at_phi.distribution, 1).entropy()
    entropy = family_of(distribution).entropy(phi)
    assert entropy.shape == (6,)
    torch.testing.assert_close(entropy, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ALL)
def test_entropy_score_is_the_gradient_of_the_entropy(case):
    distribution, k = ALL[case]
    family, phi = family_of(distribution), random_phi(6, k)
    expected = gradient(family.entropy, phi)
    assert expected.abs().sum(dim=1).min() > 0.01
    torch.testing.assert_close(family.entropy_gradient(phi), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", DISCRETE)
def test_gradients_stay_finite_where_one_action_is_nearly_certain(case):
    distribution, k, _ = DISCRETE[case]
    family = family_of(distribution)
    p, q = (1e4 * random_phi(6, k).float() for _ in range(2))
    for result in (family.kl_gradient(p, q), family.entropy(p), family.entropy_gradient(p)):
        assert result.isfinite().all()
    assert family.entropy(p).abs().max() < 1e-6


@pytest.mark.parametrize("case", ALL)
def test_log_prob_and_score_are_sb3s_for_samples(case):
    distribution, k = ALL[case]
    family, phi = family_of(distribution), random_phi(6, k)
    drawn = family.sample(distribution, phi, 3)
    for actions in drawn:
        expected = sb3_at(distribution, phi).log_prob(actions)
        log_prob = family.log_prob(distribution, phi, actions)
        assert log_prob.shape == (6,)
        torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=1e-12)
        by_autograd = gradient(lambda phi: family.log_prob(distribution, phi, actions), phi)  # noqa: B023
        torch.testing.assert_close(
            family.score(distribution, phi, actions), by_autograd, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("case", ["categorical", "one block", "blocks"])
def test_categorical_log_prob_is_sb3s_for_every_action(case):
    distribution, k, actions = DISCRETE[case]
    family, phi = family_of(distribution), random_phi(5, k)
    at_phi = sb3_at(distribution, phi)
    for dtype in (torch.int64, torch.float32):  # rollout buffers hold floats
        total = 0.0
        for action in actions:
            taken = torch.tensor(action, dtype=dtype).expand(5, *torch.tensor(action).shape)
            log_prob = family.log_prob(distribution, phi, taken)
            expected = at_phi.log_prob(taken)
            torch.testing.assert_close(log_prob, expected, rtol=1e-12, atol=1e-13)
            shifted = family.log_prob(distribution, phi + 3, taken)
            torch.testing.assert_close(shifted, expected, rtol=1e-12, atol=1e-13)
            total += log_prob.exp()
        torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("case", ["categorical", "blocks"])
def test_categorical_log_prob_is_nan_where_phi_is(case):
    distribution, k, actions = DISCRETE[case]
    phi = random_phi(3, k)
    phi[1, 0] = torch.nan
    taken = torch.tensor(actions[0]).expand(3, *torch.tensor(actions[0]).shape)
    log_prob = family_of(distribution).log_prob(distribution, phi, taken)
    assert log_prob.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("case", ALL)
def test_samples_have_the_shape_of_sb3s(case):
    distribution, k = ALL[case]
    phi = random_phi(6, k).float()
    drawn = family_of(distribution).sample(distribution, phi, 5)
    if "gsde" in case:
        shape, dtype = (6, 2), torch.float32
    else:
        theirs = sb3_at(distribution, phi).sample()
        shape, dtype = theirs.shape, theirs.dtype
    assert drawn.shape == (5, *shape)
    assert drawn.dtype == dtype


@pytest.mark.parametrize("case", DISCRETE)
def test_actions_are_as_frequent_as_likely(case):
    distribution, k, actions = DISCRETE[case]
    n = 40_000
    family, phi = family_of(distribution), random_phi(2, k)
    drawn = family.sample(distribution, phi, n)
    total = 0.0
    for action in actions:
        taken = torch.tensor(action)
        p = family.log_prob(distribution, phi, taken.expand(2, *taken.shape)).exp()
        frequency = (drawn == taken).reshape(n, 2, -1).all(dim=2).double().mean(dim=0)
        assert ((frequency - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
        total += p
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("case", GAUSSIANS)
def test_gaussian_actions_are_as_frequent_as_likely(case):
    """The chance of an interval is the integral of the density over it."""
    distribution = GAUSSIANS[case](n_dims=1)
    n, n_bins, per_bin = 40_000, 12, 200
    family, phi = family_of(distribution), torch.tensor([[0.3, -0.5], [-0.6, -1.0]]).double()
    drawn = family.sample(distribution, phi, n)
    bound = 1.0 if "squashed" in case else 1.5
    edges = torch.linspace(-bound, bound, n_bins + 1, dtype=torch.float64)
    width = 2 * bound / n_bins
    within = (torch.arange(per_bin, dtype=torch.float64) + 0.5) / per_bin * width
    for row in range(2):
        grid = (edges[:-1, None] + within).reshape(-1, 1)
        density = family.log_prob(distribution, phi[[row]].expand(len(grid), 2), grid).exp()
        p = density.reshape(n_bins, per_bin).mean(dim=1) * width
        assert p.sum() > 0.97
        frequency = torch.histc(drawn[:, row, 0], n_bins, -bound, bound) / n
        assert ((frequency - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


@pytest.mark.parametrize("case", GAUSSIANS)
def test_gaussian_samples_have_the_right_moments(case):
    distribution, k = ALL[case]
    n, phi = 40_000, random_phi(3, k) / 2
    drawn = family_of(distribution).sample(distribution, phi, n)
    if "squashed" in case:
        assert drawn.abs().max() <= 1
        drawn = torch.atanh(drawn)
    mean, log_std = phi.chunk(2, dim=1)
    noise = ((drawn - mean) / log_std.exp()).reshape(n, -1)
    assert noise.mean(dim=0).abs().max() < 5 / n**0.5
    # Neither the rows nor the dimensions know of each other.
    covariance = noise.T @ noise / n
    assert (covariance - torch.eye(6, dtype=torch.float64)).abs().max() < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize("case", ALL)
def test_scores_of_samples_average_to_zero(case):
    """E grad log pi = 0, and E[log pi] is minus the entropy: sample, score and log_prob agree."""
    distribution, k = ALL[case]
    family, phi = family_of(distribution), random_phi(1, k) / 2
    n = 20_000
    actions = family.sample(distribution, phi, n)[:, 0]
    scores = family.score(distribution, phi.expand(n, k), actions)
    assert (scores.mean(dim=0).abs() < 5 * scores.std(dim=0) / n**0.5).all()
    if "squashed" not in case:
        surprise = -family.log_prob(distribution, phi.expand(n, k), actions)
        error = surprise.mean() - family.entropy(phi)[0]
        assert error.abs() < 5 * surprise.std() / n**0.5
