"""Rescaled networks and their updates, against plain torch and NumPy."""

import numpy as np
import pytest
import torch

from studies.claims.rescaled import Problem, apart, network, stepped

PROBLEM = Problem.drawn(0)
UNITS = (10.0, 0.1)


def test_units_change_the_parameters_and_not_the_policy():
    usual, other = network(3, (1.0, 1.0)), network(3, UNITS)
    torch.testing.assert_close(other(PROBLEM.states), usual(PROBLEM.states))
    for found, expected, unit in zip(
        other.parameters(), usual.parameters(), (10, 10, 0.1, 0.1), strict=True
    ):
        torch.testing.assert_close(found * unit, expected)


@pytest.mark.parametrize("gradient", ["plain", "natural"])
def test_a_step_in_other_units_is_that_of_scaled_gradient_and_fisher(gradient):
    """By autograd and NumPy, in units of 1: with d theta = c dz, g_z = c g and F_z = c F c."""
    policy, kl, damping = network(PROBLEM.seed, (1.0, 1.0)), 1e-6, 1e-3
    names = [name for name, _ in policy.named_parameters()]
    start = torch.cat([each.detach().reshape(-1) for each in policy.parameters()])

    def logits(theta):
        sizes = [each.numel() for each in policy.parameters()]
        parts = theta.split(sizes)
        given = {
            name: part.view_as(own)
            for name, part, own in zip(names, parts, policy.parameters(), strict=True)
        }
        return torch.func.functional_call(policy, given, PROBLEM.states)

    jacobian = torch.autograd.functional.jacobian(logits, start).numpy()  # (N, A, P)
    pi = logits(start).softmax(dim=1).detach().numpy()
    mean = np.einsum("na,nap->np", pi, jacobian)
    scores = jacobian - mean[:, None]
    fisher = np.einsum("na,nap,naq->pq", pi, scores, scores) / len(pi)
    gradient_of = np.einsum("na,nap->p", pi * PROBLEM.advantages.numpy(), scores) / len(pi)
    units = np.repeat(UNITS, [9, 12])
    g, metric = units * gradient_of, units[:, None] * fisher * units
    step = g if gradient == "plain" else np.linalg.solve(metric + damping * np.eye(21), g)
    step = units * step * np.sqrt(2 * kl / (step @ metric @ step))
    expected = logits(start + torch.as_tensor(step))
    found = stepped(PROBLEM, UNITS, gradient, damping, kl)

    def centred(phi):
        return (phi - phi.mean(dim=1, keepdim=True)).detach().numpy()

    np.testing.assert_allclose(centred(found), centred(expected), atol=1e-9)


def test_plain_steps_part_and_undamped_natural_ones_do_not():
    assert apart(PROBLEM, "natural", 1e-12, 1e-8) < 1e-4
    assert 0.05 < apart(PROBLEM, "plain", 0.0, 1e-8) < 4
