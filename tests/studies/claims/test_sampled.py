"""What is said of a sampled direction, against its definition."""

import numpy as np
import pytest

from studies.claims.sampled import apart_from_exact
from studies.exact.problems import garnet


def problem():
    mdp = garnet(np.random.default_rng(1), n_states=4, n_actions=3)
    theta = np.random.default_rng(2).normal(size=12)
    logits = theta.reshape(4, 3)
    pi = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return mdp, theta, mdp.evaluate(pi)


def test_the_advantages_of_a_tabular_policy_are_its_natural_gradient():
    mdp, theta, now = problem()
    distance, angle = apart_from_exact(mdp, theta, now.advantages.reshape(-1))
    assert distance == pytest.approx(0, abs=1e-8)
    assert angle == pytest.approx(0, abs=1e-4)


def test_distance_and_angle_are_those_of_centred_logits_under_visits_and_policy():
    mdp, theta, now = problem()
    found = np.random.default_rng(3).normal(size=(4, 3))
    weights = now.occupancy[:, None] * now.pi
    centred = found - (now.pi * found).sum(axis=1, keepdims=True)

    def inner(x, y):
        return (weights * x * y).sum()

    off, exact = centred - now.advantages, now.advantages
    length = np.sqrt(inner(exact, exact))
    cosine = inner(centred, exact) / length / np.sqrt(inner(centred, centred))
    distance, angle = apart_from_exact(mdp, theta, found.reshape(-1))
    assert distance == pytest.approx(np.sqrt(inner(off, off)) / length)
    assert angle == pytest.approx(np.degrees(np.arccos(cosine)))
