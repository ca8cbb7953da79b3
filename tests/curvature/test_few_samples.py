"""Likelihoods in numpy are those of the families."""

import numpy as np
import pytest
import torch

from sb3_natural.curvature.families import family_of
from sb3_natural.curvature.few_samples import likelihood, log_probs
from tests.helpers import make_observations, make_policy


@pytest.mark.parametrize("n_samples", [1, 7])
@pytest.mark.parametrize("actions", ["categorical", "gaussian", "multicategorical", "bernoulli"])
def test_likelihoods_are_the_families(actions, n_samples):
    policy = make_policy(actions)
    with torch.no_grad():
        distribution = policy.get_distribution(make_observations(policy, n_samples).double())
        family = family_of(distribution)
        phi, taken = family.statistics(distribution), distribution.sample()
        expected = [
            family.log_prob(distribution, phi, taken),
            family.score(distribution, phi, taken),
            family.entropy(phi),
        ]
        torch.testing.assert_close(expected[0], distribution.log_prob(taken))
    found = likelihood(distribution, phi.numpy(), taken.numpy())
    for left, right in zip(found, expected, strict=True):
        # Constants are in single precision.
        np.testing.assert_allclose(left, right.numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(log_probs(distribution, phi.numpy(), taken.numpy()), found[0])
