"""ACER's projection is the solution of the quadratic programme that it stands for."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sb3_natural.curvature.trust_region import linearised_projection


def random_problem(n=64, k=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, k, generator=generator, dtype=torch.float64).to(dtype).unbind()


@pytest.mark.parametrize("delta", [0.0, 0.1, 1.0])
def test_projection_solves_the_quadratic_programme(delta):
    gradients, kl_gradients = random_problem(n=20, k=4)
    projected = linearised_projection(gradients, kl_gradients, delta).numpy()
    n_active = 0
    for g, k, z in zip(gradients.numpy(), kl_gradients.numpy(), projected, strict=True):
        solution = minimize(
            lambda x, g=g: ((x - g) ** 2).sum(),
            np.zeros_like(g),  # feasible
            jac=lambda x, g=g: 2 * (x - g),
            constraints={
                "type": "ineq",
                "fun": lambda x, k=k: delta - k @ x,
                "jac": lambda x, k=k: -k,
            },
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        assert solution.success
        np.testing.assert_allclose(z, solution.x, atol=1e-6)
        n_active += k @ g > delta
    assert 0 < n_active < 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("delta", [0.0, 0.3, 2.0])
def test_bound_holds_and_only_what_exceeds_it_moves(delta, dtype):
    g, k = random_problem(dtype=dtype)
    kept = g.clone(), k.clone()
    z = linearised_projection(g, k, delta)
    assert z.dtype == dtype
    assert torch.equal(g, kept[0])
    assert torch.equal(k, kept[1])
    slack = (k * g).sum(dim=1) <= delta
    assert 0 < slack.sum() < len(g)
    assert torch.equal(z[slack], g[slack])
    tolerance = 20 * torch.finfo(dtype).eps
    reached = (k * z).sum(dim=1)[~slack]
    torch.testing.assert_close(
        reached, torch.full_like(reached, delta), rtol=0, atol=tolerance * 10
    )
    # What is taken off is a positive multiple of k.
    multiple = ((g - z) / k)[~slack]
    assert (multiple > 0).all()
    torch.testing.assert_close(
        multiple, multiple.median(dim=1, keepdim=True)[0].expand_as(multiple), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_gradient_stays_where_the_kl_divergence_has_none(delta, dtype):
    g, k = random_problem(dtype=dtype)
    z = linearised_projection(g, torch.zeros_like(k), delta)
    assert torch.equal(z, g)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e-6, 1e6])
def test_projection_is_finite_however_long_k_is(scale):
    g, k = random_problem(dtype=torch.float32)
    z = linearised_projection(g, scale * k, 0.0)
    assert z.isfinite().all()
    assert (z.norm(dim=1) <= g.norm(dim=1) * (1 + 1e-6)).all()
    if scale > 1e-18:  # the square of any less is no number any more
        torch.testing.assert_close(z, linearised_projection(g, k, 0.0), rtol=1e-4, atol=1e-5)


def test_infinite_delta_changes_nothing():
    g, k = random_problem()
    assert torch.equal(linearised_projection(g, k, float("inf")), g)


def test_samples_are_independent():
    g, k = random_problem()
    together = linearised_projection(g, k, 0.1)
    for row in range(len(g)):
        alone = linearised_projection(g[row : row + 1], k[row : row + 1], 0.1)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-14)
    g2, k2 = g.clone(), k.clone()
    g2[3], k2[3] = torch.nan, 1e8
    others = torch.arange(len(g)) != 3
    assert torch.equal(linearised_projection(g2, k2, 0.1)[others], together[others])


def test_projecting_twice_is_projecting_once():
    g, k = random_problem()
    once = linearised_projection(g, k, 0.1)
    torch.testing.assert_close(linearised_projection(once, k, 0.1), once, rtol=0, atol=1e-14)
