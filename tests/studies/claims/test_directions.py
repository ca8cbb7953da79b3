"""Directions and their measures, against plain linear algebra."""

import math

import numpy as np
import pytest
import torch

from sb3_natural.curvature.operators import Damped
from sb3_natural.curvature.solvers import Empirical
from studies.claims.approximations import _solved
from studies.claims.directions import Checkpoint, checkpoints, fisher_cosine, prefer_one, small_npg
from studies.claims.empirical_fisher import empirical_direction


@pytest.fixture(scope="module")
def checkpoint():
    return next(checkpoints("CartPole-v1", 0, [1], 2_048))


def test_gains_and_cosines_are_those_of_the_matrix(checkpoint):
    batch = checkpoint.batch(0, 256)
    matrix = batch.fisher.dense().double().numpy()
    x, y = torch.randn(2, len(matrix))
    a, b, g = (each.double().numpy() for each in (x, y, batch.gradient))
    cosine = a @ matrix @ b / math.sqrt((a @ matrix @ a) * (b @ matrix @ b))
    assert fisher_cosine(batch.fisher, x, y) == pytest.approx(cosine, abs=1e-4)
    assert batch.gain(x) == pytest.approx(g @ a / math.sqrt(a @ matrix @ a), rel=1e-4)


def test_the_exact_direction_is_that_of_a_general_solver(checkpoint):
    batch = checkpoint.batch(0, 256)
    matrix = batch.fisher.dense().double()
    wanted = np.linalg.solve(matrix.numpy() + 0.1 * np.eye(len(matrix)), batch.gradient.numpy())
    np.testing.assert_allclose(_solved(matrix, 0.1, batch.gradient), wanted, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_the_mean_of_scores_times_advantages(checkpoint):
    batch = checkpoint.batch(0, 256)
    wanted = (batch.fisher.scores() * batch.advantages[:, None]).mean(dim=0)
    torch.testing.assert_close(batch.gradient, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("n_samples", [64, 2_048])  # fewer than parameters, and more
def test_the_empirical_direction_is_the_solvers(checkpoint, n_samples):
    batch = checkpoint.batch(0, n_samples)
    wanted = Empirical().solve(Damped(batch.fisher, 0.01), batch.gradient).direction
    found = empirical_direction(batch.fisher.scores(), batch.gradient, 0.01)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_kfac_has_seen_the_training(checkpoint):
    assert checkpoint.kfac.state_dict()["n_updates"] == checkpoint.updates == 1


def test_a_policy_prefers_one_action_as_told():
    model = small_npg("CartPole-v1", 0)
    prefer_one(model.policy, 0.99)
    actions = Checkpoint.of(model, 2_048).samples.actions
    assert np.mean(actions == 0) == pytest.approx(0.99, abs=0.01)
