"""The critics against least squares, and that they leave the policy alone."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_natural.curvature.operators import GaussNewtonOperator, value_jacobian
from sb3_natural.curvature.solvers import ConjugateGradient, Dense, NoStepError, Solver
from sb3_natural.curvature.value_fit import AdamFit, GaussNewtonFit, descend
from sb3_natural.networks.parameters import assign_flat, flatten
from tests.helpers import make_observations, make_policy


def filled_buffer(policy, n=64, scale=1.0):
    """A rollout buffer whose returns are a smooth function of the observations."""
    buffer = RolloutBuffer(n, policy.observation_space, policy.action_space, device="cpu", n_envs=1)
    observations = make_observations(policy, n).numpy()
    zero = torch.zeros(1)
    for observation in observations:
        buffer.add(observation[None], np.zeros((1, 2)), np.zeros(1), np.zeros(1), zero, zero)
    buffer.returns = scale * np.sin(observations.sum(axis=1, keepdims=True)).astype(np.float32)
    return buffer


def critic_params(policy):
    return [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]


def test_gauss_newton_solves_a_linear_critic_in_one_step():
    policy = make_policy("gaussian", net_arch=())
    buffer = filled_buffer(policy)
    params = list(policy.value_net.parameters())
    loss = GaussNewtonFit(1, ConjugateGradient(50), damping=0.0).fit(policy, params, buffer)
    states = np.c_[buffer.observations.reshape(64, 4), np.ones(64)].astype(float)
    returns = buffer.returns.flatten().astype(float)
    weights, *_ = np.linalg.lstsq(states, returns, rcond=None)
    np.testing.assert_allclose(
        torch.cat([policy.value_net.weight.flatten(), policy.value_net.bias]).detach(),
        weights,
        rtol=1e-4,
        atol=1e-5,
    )
    assert loss == pytest.approx(np.mean((states @ weights - returns) ** 2), rel=1e-4)


@pytest.mark.parametrize("solver", [ConjugateGradient(200), Dense()], ids=["cg", "dense"])
def test_gauss_newton_step_equals_dense_levenberg_marquardt(solver):
    policy = make_policy("gaussian")
    buffer = filled_buffer(policy)
    params = critic_params(policy)
    batch = next(buffer.get())
    jacobian = torch.stack(
        [
            flatten(torch.autograd.grad(policy.predict_values(observation[None]).sum(), params))
            for observation in batch.observations
        ]
    )
    errors = batch.returns - policy.predict_values(batch.observations).flatten()
    matrix = jacobian.T @ jacobian / 64 + 0.01 * torch.eye(jacobian.shape[1]).double()
    step = torch.linalg.solve(matrix, jacobian.T @ errors.detach() / 64)
    before = flatten(p.detach() for p in params)
    GaussNewtonFit(1, solver, damping=0.01).fit(policy, params, buffer)
    after = flatten(p.detach() for p in params)
    torch.testing.assert_close(after - before, step, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("n_samples", [64, 20])
def test_curvature_of_some_samples_and_the_gradient_of_all(n_samples):
    policy = make_policy("gaussian")
    buffer = filled_buffer(policy)
    params = critic_params(policy)
    before = flatten(p.detach() for p in params)

    class Checked(Solver):
        def solve(self, operator, b):
            self.seen = (operator.operator.n_samples, operator.dense(), b)
            return ConjugateGradient(300).solve(operator, b)

    np.random.seed(0)  # noqa: NPY002  (SB3's buffer shuffles with it)
    batch = next(buffer.get())
    everything = value_jacobian(policy, params, batch.observations)
    errors = batch.returns[:, None] - everything.outputs
    gradient = everything.vjp(errors / 64)
    torch.manual_seed(0)
    drawn = torch.randperm(64)[:n_samples] if n_samples < 64 else slice(None)
    some = value_jacobian(policy, params, batch.observations[drawn])
    rows = torch.stack([some.vjp(unit[:, None]) for unit in torch.eye(n_samples).double()])
    matrix = rows.T @ rows / n_samples + 0.01 * torch.eye(rows.shape[1]).double()
    step = torch.linalg.solve(matrix, gradient)

    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    solver = Checked()
    GaussNewtonFit(1, solver, 0.01, n_curvature_samples=n_samples).fit(policy, params, buffer)
    assert solver.seen[0] == n_samples
    torch.testing.assert_close(solver.seen[1], matrix)
    torch.testing.assert_close(solver.seen[2], gradient)
    moved = flatten(p.detach() for p in params) - before
    # Of the step that 20 samples ask for, as much as lowers the error of all 64.
    length = float(moved @ step / (step @ step))
    assert (length == pytest.approx(1.0, rel=1e-2)) if n_samples == 64 else 0 < length < 0.5
    torch.testing.assert_close(moved, length * step, rtol=1e-2, atol=1e-4)


def on_a_line(policy, params, buffer, direction, length):
    """The squared error some way along a direction, in float64; the parameters stay."""
    batch = next(buffer.get())
    here = flatten(p.detach() for p in params).clone()
    assign_flat(params, here + length * direction)
    values = policy.predict_values(batch.observations).flatten().double()
    error = float((values - batch.returns.double()).square().mean().detach())
    assign_flat(params, here)
    return error


def linear_problem():
    """A critic that is linear, so that the error along a line is a parabola."""
    policy = make_policy("gaussian", net_arch=())
    params = list(policy.value_net.parameters())
    buffer = filled_buffer(policy)
    batch = next(buffer.get())
    jacobian = value_jacobian(policy, params, batch.observations)
    returns = batch.returns[:, None]
    gradient = jacobian.vjp((returns - jacobian.outputs) / len(returns))
    return policy, params, buffer, jacobian, returns, gradient


def test_a_step_that_is_too_long_ends_at_the_lowest_point_of_the_line():
    policy, params, buffer, jacobian, returns, gradient = linear_problem()
    direction = 100.0 * gradient
    found = minimize_scalar(lambda x: on_a_line(policy, params, buffer, direction, x))
    assert 0 < found.x < 0.1
    before = flatten(p.detach() for p in params).clone()

    loss = descend(jacobian, direction, gradient, returns)

    moved = flatten(p.detach() for p in params) - before
    torch.testing.assert_close(moved, found.x * direction, rtol=1e-3, atol=1e-5)
    assert loss == pytest.approx(found.fun, rel=1e-4)


def test_a_step_that_lowers_the_error_is_taken_whole():
    policy, params, buffer, jacobian, returns, gradient = linear_problem()
    direction = 0.01 * gradient
    before = flatten(p.detach() for p in params).clone()

    loss = descend(jacobian, direction, gradient, returns)

    torch.testing.assert_close(flatten(p.detach() for p in params), before + direction)
    assert loss == pytest.approx(on_a_line(policy, params, buffer, direction, 0.0), rel=1e-5)


def test_no_step_is_made_where_none_lowers_the_error():
    _, params, _, jacobian, returns, gradient = linear_problem()
    before = flatten(p.detach() for p in params).clone()
    error = float((jacobian.outputs - returns).square().mean())

    loss = descend(jacobian, -gradient, gradient, returns)

    assert torch.equal(flatten(p.detach() for p in params), before)
    assert loss == pytest.approx(error)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_a_network_is_not_thrown_far_off_its_returns(size):
    """By directions that a nonlinear network cannot follow, even those that overflow."""
    policy = PPO("MlpPolicy", "Pendulum-v1", device="cpu", seed=0).policy
    params = critic_params(policy)
    rng = np.random.default_rng(0)
    observations = torch.from_numpy(rng.normal(size=(64, 3)).astype(np.float32))
    returns = torch.from_numpy(rng.normal(size=(64, 1)).astype(np.float32))
    jacobian = value_jacobian(policy, params, observations)
    gradient = jacobian.vjp((returns - jacobian.outputs) / 64)
    before = float((jacobian.outputs - returns).square().mean())

    loss = descend(jacobian, size * gradient, gradient, returns)

    after = float((policy.predict_values(observations) - returns).square().mean())
    assert loss == pytest.approx(after)
    assert after <= before


def test_samples_unlike_all_others_do_not_throw_the_critic_off():
    """Curvature from samples without a rare, large feature knows nothing of its direction."""
    policy = PPO("MlpPolicy", "Pendulum-v1", device="cpu", seed=0).policy
    params = critic_params(policy)
    buffer = RolloutBuffer(512, policy.observation_space, policy.action_space, device="cpu")
    rng = np.random.default_rng(0)
    zero = torch.zeros(1)
    for i in range(512):
        observation = 0.1 * rng.normal(size=(1, 3)).astype(np.float32)
        observation[0, 2] = 10.0 if i % 100 == 0 else 0.0
        buffer.add(observation, np.zeros((1, 1)), np.zeros(1), np.zeros(1), zero, zero)
    buffer.returns = 3.0 * rng.normal(size=(512, 1)).astype(np.float32)
    error = float(np.mean(buffer.returns**2))
    critic = GaussNewtonFit(2, ConjugateGradient(), damping=0.01, n_curvature_samples=16)

    losses = [critic.fit(policy, params, buffer) for _ in range(20)]

    assert losses[0] <= error * 1.1  # V begins near zero
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < error


def test_gauss_newton_matrix_is_the_fisher_of_a_unit_variance_gaussian():
    """J^T J / N is the Hessian of half the mean squared error where the errors are zero."""
    policy = make_policy("gaussian")
    observations = make_observations(policy, 10)
    params = critic_params(policy)
    values = policy.predict_values(observations)
    operator = GaussNewtonOperator(policy, params, observations)
    half_mse = 0.5 * (policy.predict_values(observations) - values.detach()).square().mean()
    grad = flatten(torch.autograd.grad(half_mse, params, create_graph=True))
    v = torch.randn_like(grad)
    hessian_product = flatten(torch.autograd.grad(grad @ v, params))
    torch.testing.assert_close(operator @ v, hessian_product, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "critic",
    [AdamFit(n_epochs=20, batch_size=16), GaussNewtonFit(2, ConjugateGradient(), 0.01)],
    ids=["adam", "gauss_newton"],
)
def test_critic_learns_and_moves_nothing_but_its_own(critic):
    policy = make_policy("gaussian")
    policy.optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    buffer = filled_buffer(policy)
    buffer.returns = buffer.returns.astype(
        np.float64
    )  # as the policy: PyTorch 2.8 does not mix them
    params = critic_params(policy)
    own = {id(p) for p in params}
    others = [p for p in policy.parameters() if id(p) not in own]
    before = [p.detach().clone() for p in others]
    observations = make_observations(policy, 64)
    returns = torch.as_tensor(buffer.returns.flatten()).double()

    def error():
        with torch.no_grad():
            return (policy.predict_values(observations).flatten() - returns).square().mean().item()

    start = error()
    critic.fit(policy, params, buffer)
    assert error() < start / 2
    assert all(torch.equal(p, old) for p, old in zip(others, before, strict=True))


def test_a_gauss_newton_step_that_overflows_is_taken_back():
    policy = PPO("MlpPolicy", "Pendulum-v1", device="cpu", seed=0).policy
    n = 8
    buffer = RolloutBuffer(n, policy.observation_space, policy.action_space, device="cpu")
    for _ in range(n):
        zero = torch.zeros(1)
        buffer.add(
            np.ones((1, 3), np.float32), np.zeros((1, 1)), np.zeros(1), np.zeros(1), zero, zero
        )
    buffer.returns = np.full((n, 1), 3e38, np.float32)
    params = critic_params(policy)
    before = flatten(p.detach() for p in params).clone()
    with pytest.raises(NoStepError):
        GaussNewtonFit(1, ConjugateGradient(), damping=0.0).fit(policy, params, buffer)
    assert torch.equal(flatten(p.detach() for p in params), before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamFit(0, 32), "n_epochs must be an integer of at least 1, got 0"),
        (lambda: AdamFit(1, 0), "batch_size must be an integer of at least 1, got 0"),
        (lambda: GaussNewtonFit(0, Dense(), 0.1), "n_steps must be an integer"),
        (lambda: GaussNewtonFit(2, 10, 0.1), "solver must be a Solver, got 10"),
        (lambda: GaussNewtonFit(2, Dense(), -0.1), "damping must be finite and not negative"),
        (lambda: GaussNewtonFit(2, Dense(), 0.1, 0), "n_curvature_samples must be an integer"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
