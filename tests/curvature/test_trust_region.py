"""Step lengths: the quadratic model, its error, and the line search."""

import math

import pytest
import torch

from sb3_natural.curvature.operators import Damped, FisherOperator
from sb3_natural.curvature.solvers import Dense, NoStepError
from sb3_natural.curvature.trust_region import (
    backtracking_line_search,
    kl_normalised_length,
    shortened_step,
)
from sb3_natural.networks.parameters import assign_flat, flatten
from tests.helpers import ACTION_SPACES, make_observations, make_policy


@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_predicted_kl_equals_measured_kl_to_second_order(actions):
    """The ratio's error falls linearly with the step, that is with the square root of delta."""
    policy = make_policy(actions)
    # SB3 stops the gradient from sigma(s) into the features; with it the quadratic model is whole.
    policy.action_dist.learn_features = True
    batch = make_observations(policy, 50)
    with torch.no_grad():
        taken = policy.get_distribution(batch).sample()
    fisher = FisherOperator(policy, batch, taken)
    gradient = fisher.scores().T @ torch.randn(50, dtype=torch.float64) / 50
    x = Dense().solve(Damped(fisher, 0.1), gradient).direction
    theta = flatten(p.detach() for p in fisher.params)
    old = fisher.statistics
    quadratic_form = fisher.quadratic_form(x)
    errors = []
    for delta in (1e-5, 1e-7, 1e-9):
        length = kl_normalised_length(quadratic_form, delta)
        assign_flat(fisher.params, theta + length * x)
        with torch.no_grad():
            new = fisher.family.statistics(policy.get_distribution(batch))
        errors.append(abs(fisher.family.kl(old, new).mean().item() / delta - 1))
    assert errors[0] < 0.02
    # delta falls by 100, the step by 10, and so does the error.
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.15)
    assert errors[2] == pytest.approx(errors[1] / 10, rel=0.15)


@pytest.mark.parametrize("quadratic_form", [0.0, -1.0, math.nan, math.inf])
def test_no_length_for_a_direction_that_has_no_kl(quadratic_form):
    with pytest.raises(NoStepError, match="quadratic model"):
        kl_normalised_length(quadratic_form, 0.01)


def quadratic_world(length):
    """A surrogate with its maximum at 1 and a KL divergence of length^2."""
    return length * (2 - length), length**2


def test_line_search_takes_the_first_length_that_improves_within_delta():
    found = backtracking_line_search(
        quadratic_world, 8.0, objective=0.0, target_kl=1.0, shrinking_factor=0.5, max_steps=10
    )
    assert found == (1.0, 1.0, 1.0, 3)


def test_line_search_gives_up_after_max_steps():
    with pytest.raises(NoStepError, match="no improvement within target_kl"):
        backtracking_line_search(
            quadratic_world, 8.0, objective=0.0, target_kl=1.0, shrinking_factor=0.5, max_steps=3
        )


@pytest.mark.parametrize("measured", [(math.nan, 0.0), (1.0, math.nan)])
def test_line_search_never_accepts_nan(measured):
    with pytest.raises(NoStepError, match="no improvement within target_kl"):
        backtracking_line_search(
            lambda length: measured, 1.0, 0.0, 1.0, shrinking_factor=0.5, max_steps=3
        )


def test_a_step_within_bounds_is_taken_as_it_is():
    assert shortened_step(lambda length: (2.0, length**2), 1.2, 1.0) == (1.2, 2.0, 1.44, 0)


def test_a_step_far_beyond_delta_goes_to_where_the_parabola_has_delta():
    step = shortened_step(lambda length: (-5.0, 4 * length**2), 0.8, 1.0)
    assert step == pytest.approx((0.5, -5.0, 1.0, 1))  # whatever the surrogate says
    assert shortened_step(lambda length: (-5.0, 4 * length**2), 8.0, 1.0) == (0.5, -5.0, 1.0, 4)


@pytest.mark.parametrize("steepness", [1, 3, 6])
def test_divergences_of_any_shape_come_within_bounds(steepness):
    """As |length|^steepness, from far outside: each try is another parabola."""
    step = shortened_step(lambda length: (0.0, length**steepness), 50.0, 0.02)
    assert step.kl == step.length**steepness
    assert 1.5 * 0.02 / 2**steepness < step.kl <= 1.5 * 0.02
    assert step.shortenings >= 5


@pytest.mark.parametrize("beyond", [math.inf, math.nan])
def test_lengths_at_which_nothing_is_known_are_halved(beyond):
    def overflowing(length):
        return (0.0, length**2) if length < 3 else (beyond, beyond)

    assert shortened_step(overflowing, 8.0, 4.0) == (2.0, 0.0, 4.0, 2)
    # A finite divergence alone is not enough.
    objective_overflows = shortened_step(
        lambda length: (0.0 if length < 3 else beyond, length**2 / 16), 8.0, 4.0
    )
    assert objective_overflows == (2.0, 0.0, 0.25, 2)


def test_no_step_where_shortening_does_not_help():
    with pytest.raises(NoStepError, match=r"3 nats after 20 shortenings.*target_kl is 0\.02"):
        shortened_step(lambda length: (0.0, 3.0), 1.0, 0.02)


def test_rounding_is_no_divergence():
    assert shortened_step(lambda length: (0.0, 4e-7), 1.0, 1e-9).shortenings == 0
    assert shortened_step(lambda length: (0.0, 0.0), 0.0, 0.0) == (0.0, 0.0, 0.0, 0)
