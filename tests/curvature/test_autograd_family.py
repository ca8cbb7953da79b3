"""AutogradFamily against the families that have formulas of their own, and what it refuses."""

import pytest
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    Gumbel,
    Laplace,
    Normal,
    Poisson,
    Uniform,
)
from torch.nn.functional import softplus

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


# What is checked at the first use


class Held(DiagGaussianDistribution):
    """An SB3 distribution that holds any of torch's."""

    def log_prob(self, actions):
        return self.distribution.log_prob(actions).reshape(len(actions), -1).sum(dim=1)


def held(torch_distribution, phi):
    distribution = Held(2)
    distribution.distribution = torch_distribution(phi)
    return distribution


def gaussian(phi):
    mean, log_std = phi.chunk(2, dim=1)
    return Normal(mean, log_std.exp(), validate_args=False)


def gaussian_parts(normal):
    return [normal.loc, normal.scale.log()]


def family(parts, torch_distribution):
    """A family of a class of its own, so that it is checked anew."""

    class Tested(AutogradFamily):
        def parts(self, distribution):
            return parts(distribution.distribution)

        def torch_distribution(self, phi):
            return torch_distribution(phi)

    return Tested()


def positive(torch_class):
    """With two positive parameters, all in one tensor."""
    return lambda phi: torch_class(*phi.chunk(2, dim=1), validate_args=False)


def positive_parts(*names):
    return lambda held: [torch.cat([getattr(held, name) for name in names], dim=1)]


def location_scale(torch_class):
    def at(phi):
        location, log_scale = phi.chunk(2, dim=1)
        return torch_class(location, log_scale.exp(), validate_args=False)

    return at


SOUND = {
    "normal": (gaussian_parts, gaussian),
    "gumbel": (gaussian_parts, location_scale(Gumbel)),
    "gamma": (positive_parts("concentration", "rate"), positive(Gamma)),
    "beta": (positive_parts("concentration1", "concentration0"), positive(Beta)),
    "poisson": (lambda held: [held.rate], lambda phi: Poisson(phi, validate_args=False)),
    "categorical": (
        lambda held: [held.logits],
        lambda phi: Categorical(logits=phi, validate_args=False),
    ),
    "bernoulli": (lambda held: (held.logits,), lambda phi: Bernoulli(logits=phi)),
}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("n_states", [1, 200])
@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_passes_the_check_which_changes_no_random_state(name, n_states, scale):
    parts, at = SOUND[name]
    phi = torch.randn(n_states, 4, generator=torch.manual_seed(0))
    if name in ("normal", "gumbel"):
        phi = phi * torch.tensor([scale, scale, 1.0, 1.0])
    elif name in ("gamma", "beta", "poisson"):
        phi = 1e-2 + softplus(scale * phi)
    else:
        phi = scale * phi
    distribution = held(at, phi.requires_grad_())
    before = torch.get_rng_state()
    statistics = family(parts, at).statistics(distribution)
    assert torch.equal(torch.get_rng_state(), before)
    assert statistics.requires_grad
    assert statistics.shape == phi.shape


@pytest.mark.parametrize("n_states", [1, 50])
@pytest.mark.parametrize("n_statistics", [4, 40])
@pytest.mark.parametrize("torch_class", [Laplace, Gumbel])
def test_a_divergence_with_a_kink_is_refused(torch_class, n_states, n_statistics):
    at = location_scale(torch_class)
    phi = torch.randn(n_states, n_statistics, generator=torch.manual_seed(2))
    tested, distribution = family(gaussian_parts, at), held(at, phi)
    if torch_class is Gumbel:
        assert tested.statistics(distribution).shape == phi.shape
    else:
        with pytest.raises(ValueError, match="of Tested is not the second derivative of its KL"):
            tested.statistics(distribution)


def test_a_uniform_distribution_is_refused():
    def at(phi):
        return Uniform(*phi.chunk(2, dim=1), validate_args=False)

    phi = torch.rand(20, 4, generator=torch.manual_seed(0)) + torch.tensor([0.0, 0.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="is not the second derivative of its KL divergence"):
        family(positive_parts("low", "high"), at).statistics(held(at, phi))


def averaged(phi):
    return gaussian(phi.mean(dim=0, keepdim=True).expand(phi.shape))


def of_fixed_spread(phi):
    return Normal(phi, 0.7, validate_args=False)


def transposed(phi):
    mean, log_std = phi.chunk(2, dim=1)
    return Normal(mean.T, log_std.exp().T, validate_args=False)


WRONG = {
    "swapped": (lambda held: gaussian_parts(held)[::-1], gaussian, ValueError, "must be what the"),
    "doubled": (gaussian_parts, lambda phi: gaussian(2 * phi), ValueError, "must be what the Held"),
    "averaged": (gaussian_parts, averaged, ValueError, "from its own row of phi"),
    "transposed": (gaussian_parts, transposed, ValueError, "must be what the Held"),
    "partial": (lambda held: [held.loc], of_fixed_spread, ValueError, "log_prob of a sampled"),
    "detached": (lambda held: [held.loc.detach()], gaussian, ValueError, "they are detached"),
    "not a list": (lambda held: held.loc, gaussian, TypeError, "list of tensors, not Tensor"),
    "no part": (lambda held: [], gaussian, TypeError, "not an empty one"),
    "a number": (lambda held: [held.loc, 0.5], gaussian, TypeError, "in it is a float"),
    "one row": (lambda held: [held.loc.mean(dim=0)], gaussian, ValueError, r"are \(2,\)"),
    "unequal": (lambda held: [held.loc, held.scale[1:]], gaussian, ValueError, r"\(N, k\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_to_the_distribution_is_refused_by_name(name):
    parts, at, error, message = WRONG[name]
    # All states alike, as at the start of training: only "averaged" is right there.
    phi = torch.tensor([0.3, -0.2, -0.5, 0.1]).repeat(7, 1).requires_grad_()
    with pytest.raises(error, match=message) as raised:
        family(parts, at).statistics(held(gaussian, phi))
    assert "Tested" in str(raised.value)


def test_swapped_parts_are_refused_even_where_they_are_equal():
    at = positive(Beta)
    swapped = positive_parts("concentration0", "concentration1")
    for n_states in (1, 5):
        with pytest.raises(ValueError, match="in their order"):
            family(swapped, at).statistics(held(at, torch.full((n_states, 4), 1.7)))


def test_detached_parts_are_refused_after_a_rollout_without_gradients():
    detached = family(lambda held: [part.detach() for part in gaussian_parts(held)], gaussian)
    distribution = held(gaussian, torch.randn(3, 4).requires_grad_())
    with torch.no_grad():
        detached.statistics(distribution)
    with pytest.raises(ValueError, match="they are detached"):
        detached.statistics(distribution)


def test_a_class_is_checked_once_but_not_by_a_network_that_has_diverged():
    products = []

    class Counted(Gaussian):
        def fisher_at(self, phi):
            products.append(phi)
            return super().fisher_at(phi)

    phi = torch.randn(3, 4)
    nan = torch.where(torch.arange(4) == 1, torch.nan, phi)
    assert Counted().statistics(held(gaussian, nan)).isnan().any()
    assert len(products) == 0
    for _ in range(3):
        Counted().statistics(held(gaussian, phi))
    assert len(products) == 1
    Counted().statistics(held(gaussian, torch.randn(3, 6)))
    assert len(products) == 2
