"""AutogradFamily against the families that have formulas of their own."""

import pytest
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from torch.distributions import Bernoulli, Beta, Categorical, Normal

from sb3_natural.curvature.autograd_family import AutogradFamily
from sb3_natural.curvature.families import (
    BernoulliFamily,
    CategoricalFamily,
    GaussianFamily,
    family_of,
)


class Gaussian(AutogradFamily):
    def parts(self, distribution):
        return [distribution.distribution.mean, distribution.distribution.stddev.log()]

    def torch_distribution(self, phi):
        mean, log_std = phi.chunk(2, dim=1)
        return Normal(mean, log_std.exp(), validate_args=False)


class Softmax(AutogradFamily):
    def parts(self, distribution):
        return [distribution.distribution.logits]

    def torch_distribution(self, phi):
        return Categorical(logits=phi, validate_args=False)


class Coins(AutogradFamily):
    def parts(self, distribution):
        return [distribution.distribution.logits]

    def torch_distribution(self, phi):
        return Bernoulli(logits=phi, validate_args=False)


class Betas(AutogradFamily):
    def parts(self, distribution):
        raise NotImplementedError("no distribution of SB3's is read here")

    def torch_distribution(self, phi):
        return Beta(*phi.chunk(2, dim=1), validate_args=False)


FAMILIES = {
    "gaussian": (Gaussian(), GaussianFamily(), DiagGaussianDistribution(2)),
    "categorical": (Softmax(), CategoricalFamily([4]), CategoricalDistribution(4)),
    "bernoulli": (Coins(), BernoulliFamily(), BernoulliDistribution(4)),
}


@pytest.fixture(params=FAMILIES)
def pair(request):
    torch.manual_seed(0)
    return FAMILIES[request.param]


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_it_is_the_family_with_formulas(pair):
    ours, theirs, distribution = pair
    p, q, u = random(6, 4), random(6, 4), random(6, 4)
    actions = theirs.sample(distribution, p, 1)[0]
    for result, expected in [
        (ours.fisher_at(p)(u), theirs.fisher_at(p)(u)),
        (ours.kl(p, q), theirs.kl(p, q)),
        (ours.kl_gradient(p, q), theirs.kl_gradient(p, q)),
        (ours.entropy(p), theirs.entropy(p)),
        (ours.entropy_gradient(p), theirs.entropy_gradient(p)),
        (ours.log_prob(distribution, p, actions), theirs.log_prob(distribution, p, actions)),
        (ours.score(distribution, p, actions), theirs.score(distribution, p, actions)),
    ]:
        assert not result.requires_grad
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


def test_its_factor_is_a_root_of_m_even_where_that_is_singular(pair):
    ours, theirs, _ = pair
    p = random(6, 4)
    factor, expected = ours.factor(p), theirs.factor(p)
    torch.testing.assert_close(
        factor @ factor.transpose(1, 2), expected @ expected.transpose(1, 2), rtol=0, atol=1e-12
    )


def test_its_statistics_are_attached_and_lead_back_to_the_distribution(pair):
    ours, theirs, distribution = pair
    phi = random(3, 4).requires_grad_()
    statistics = ours.statistics(ours.at(distribution, phi))
    assert statistics.requires_grad
    torch.testing.assert_close(ours.kl(phi, statistics), torch.zeros(3, dtype=torch.float64))
    assert theirs.statistics(theirs.at(distribution, phi)).shape == statistics.shape


def test_samples_have_the_shape_and_the_mean_of_those_with_formulas(pair):
    ours, theirs, distribution = pair
    phi, n = random(3, 4), 20_000
    drawn, expected = (each.sample(distribution, phi, n).double() for each in (ours, theirs))
    assert drawn.shape == expected.shape
    error = (drawn.var(dim=0) / n + expected.var(dim=0) / n).sqrt()
    assert ((drawn.mean(dim=0) - expected.mean(dim=0)).abs() < 5 * error + 1e-12).all()


def test_the_fisher_information_of_a_beta_is_that_of_the_textbooks():
    phi = 0.5 + 3 * torch.rand(7, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    trigamma = torch.special.polygamma
    own, both = trigamma(1, phi), trigamma(1, phi.sum(dim=1))
    expected = torch.diag_embed(own) - both[:, None, None]
    columns = [Betas().fisher_at(phi)(unit.expand(7, 2)) for unit in torch.eye(2).double()]
    torch.testing.assert_close(torch.stack(columns, dim=2), expected)


def test_it_works_where_gradients_are_switched_off(pair):
    ours, theirs, _ = pair
    p, u = random(6, 4), random(6, 4)
    with torch.no_grad():
        product = ours.fisher_at(p)(u)
    torch.testing.assert_close(product, theirs.fisher_at(p)(u), rtol=1e-9, atol=1e-12)


def test_nan_in_the_statistics_is_nan_in_the_divergence():
    phi = torch.tensor([[1.0, 2.0], [torch.nan, 2.0]])
    assert Betas().kl(torch.ones(2, 2), phi).isnan().tolist() == [False, True]


def test_a_registered_distribution_and_those_derived_from_it_have_their_family():
    class Mine(CategoricalDistribution):
        pass

    class Derived(Mine):
        pass

    assert isinstance(family_of(Mine(3)), CategoricalFamily)  # derived from SB3's
    family_of.register(Mine, lambda distribution: Softmax())
    assert isinstance(family_of(Mine(3)), Softmax)
    assert isinstance(family_of(Derived(3)), Softmax)
    assert isinstance(family_of(CategoricalDistribution(3)), CategoricalFamily)
