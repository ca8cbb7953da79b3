"""The surrogate and its gradient, against autograd."""

import pytest
import torch

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.surrogate import Surrogate
from tests.helpers import ACTION_SPACES, make_observations, make_policy


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_gradient_is_autograds(actions):
    policy = make_policy(actions)
    observations = make_observations(policy, 20)
    with torch.no_grad():
        distribution = policy.get_distribution(observations)
        taken = distribution.sample()
        old_log_prob = distribution.log_prob(taken) + 0.3 * torch.randn(20, dtype=torch.float64)
        phi = family_of(distribution).statistics(distribution)
    advantages = torch.randn(20, dtype=torch.float64)
    surrogate = Surrogate(distribution, taken, old_log_prob, advantages)

    phi.requires_grad_(True)
    held = family_of(distribution).log_prob(distribution, phi, taken)
    expected = (torch.exp(held - old_log_prob) * advantages).mean()
    (by_autograd,) = torch.autograd.grad(expected, phi)
    with torch.no_grad():
        objective, gradient = surrogate.with_gradient(phi)
        assert objective == surrogate(phi) == pytest.approx(expected.item(), rel=1e-12)
        torch.testing.assert_close(gradient, by_autograd, rtol=1e-9, atol=1e-12)
