"""The solvers against dense linear algebra."""

import numpy as np
import pytest
import torch

from sb3_natural import NPG
from sb3_natural.curvature.operators import (
    Damped,
    FisherOperator,
    GaussNewtonOperator,
    Operator,
)
from sb3_natural.curvature.solvers import (
    SOLVERS,
    ConjugateGradient,
    Dense,
    Diagonal,
    Empirical,
    Identity,
    NoStepError,
    Solution,
    Solver,
    conjugate_gradient,
)
from tests.helpers import make_observations, make_policy


def make_fisher(damping=0.1, n=40, actions="gaussian"):
    policy = make_policy(actions)
    batch = make_observations(policy, n)
    with torch.no_grad():
        taken = policy.get_distribution(batch).sample()
    return Damped(FisherOperator(policy, batch, taken), damping)


def random_spd(size, condition, seed=0):
    """A symmetric positive definite matrix with the given condition number."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q @ torch.diag(torch.logspace(0, np.log10(condition), size).double()) @ q.T


@pytest.fixture
def gradient():
    return torch.randn(make_fisher().shape[0], dtype=torch.float64)


def test_dense_equals_numpy(gradient):
    fisher = make_fisher()
    expected = np.linalg.solve(fisher.dense().numpy(), gradient.numpy())
    np.testing.assert_allclose(Dense().solve(fisher, gradient).direction, expected, rtol=1e-9)


def test_cg_at_convergence_equals_dense(gradient):
    fisher = make_fisher()
    solution = ConjugateGradient(max_steps=500, tol=1e-12).solve(fisher, gradient)
    expected = Dense().solve(fisher, gradient).direction
    torch.testing.assert_close(solution.direction, expected, rtol=1e-9, atol=1e-10)
    assert solution.iterations < 500


def test_cg_reports_the_true_residual_and_stops_at_the_tolerance(gradient):
    fisher = make_fisher(damping=1e-3)
    for max_steps, tol in [(3, 0.0), (500, 1e-3)]:
        solution = ConjugateGradient(max_steps, tol).solve(fisher, gradient)
        residual = (fisher @ solution.direction - gradient).norm() / gradient.norm()
        assert solution.residual == pytest.approx(residual.item(), rel=1e-6)
    assert 3 < solution.iterations < 500
    assert solution.residual <= 1e-3


def test_cg_equals_scipy_step_by_step():
    from scipy.sparse.linalg import cg

    matrix, b = random_spd(30, 1e3), torch.randn(30, dtype=torch.float64)
    for steps in (1, 5, 12):
        expected, _ = cg(matrix.numpy(), b.numpy(), rtol=0.0, atol=0.0, maxiter=steps)
        actual = conjugate_gradient(matrix, b, steps, tol=0.0)
        np.testing.assert_allclose(actual.direction, expected, rtol=1e-8)
        assert actual.iterations == steps


def test_float32_products_with_float64_recurrences_reach_float32_accuracy():
    matrix, x = random_spd(30, 100), torch.randn(30, dtype=torch.float64)
    b = (matrix @ x).float()
    solution = conjugate_gradient(matrix.float(), b, 200, 1e-7)
    assert solution.direction.dtype == torch.float32
    torch.testing.assert_close(solution.direction.double(), x, rtol=1e-3, atol=1e-4)


def test_diagonal_preconditioner_saves_steps_where_scales_differ():
    scale = torch.logspace(0, 3, 40, dtype=torch.float64)
    matrix = scale[:, None] * random_spd(40, 10) * scale[None, :]
    b = torch.randn(40, dtype=torch.float64)
    inverse_diagonal = 1 / matrix.diagonal()
    plain = conjugate_gradient(matrix, b, 2000, 1e-8)
    scaled = conjugate_gradient(matrix, b, 2000, 1e-8, lambda r: inverse_diagonal * r)
    assert scaled.iterations < plain.iterations / 2
    torch.testing.assert_close(scaled.direction, torch.linalg.solve(matrix, b), rtol=1e-3, atol=0)


def test_preconditioned_solver_solves_the_same_system(gradient):
    fisher = make_fisher()
    diagonal = fisher.diagonal()
    solver = ConjugateGradient(500, 1e-12, preconditioner=lambda r: r / diagonal)
    solution = solver.solve(fisher, gradient)
    expected = Dense().solve(fisher, gradient).direction
    torch.testing.assert_close(solution.direction, expected, rtol=1e-8, atol=1e-10)


def test_cg_refuses_non_positive_curvature_and_non_finite_products():
    with pytest.raises(NoStepError, match="non-positive curvature"):
        conjugate_gradient(-torch.eye(3), torch.ones(3))
    with pytest.raises(NoStepError, match="not finite"):
        conjugate_gradient(torch.full((3, 3), torch.nan), torch.ones(3))
    with pytest.raises(NoStepError, match="not finite"):
        conjugate_gradient(torch.eye(3), torch.full((3,), torch.inf))


def test_cg_of_zero_is_zero():
    solution = conjugate_gradient(torch.eye(3), torch.zeros(3))
    assert torch.equal(solution.direction, torch.zeros(3))
    assert solution.iterations == 0


def test_diagonal_divides_by_the_diagonal(gradient):
    fisher = make_fisher()
    expected = gradient / fisher.dense().diagonal()
    torch.testing.assert_close(Diagonal().solve(fisher, gradient).direction, expected)


def test_empirical_equals_the_dense_inverse_of_its_matrix(gradient):
    """Both with fewer samples than parameters and with more."""
    for n in (10, 200):
        fisher = make_fisher(damping=0.05, n=n)
        scores = fisher.operator.scores()
        matrix = scores.T @ scores / n + 0.05 * torch.eye(fisher.shape[0], dtype=torch.float64)
        expected = torch.linalg.solve(matrix, gradient)
        actual = Empirical().solve(fisher, gradient).direction
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-9)


def test_compatible_function_approximation():
    """Kakade 2001: the w that minimises mean((w^T s - A)^2) is the natural gradient.

    The minimiser is found by least squares, with the advantages of actions that were taken and a
    vanishing ridge: the empirical Fisher's damping.
    """
    n, damping = 300, 1e-8
    fisher = make_fisher(damping=damping, n=n, actions="categorical")
    scores = fisher.operator.scores()
    advantages = torch.randn(n, dtype=torch.float64)
    policy_gradient = scores.T @ advantages / n
    natural = Empirical().solve(fisher, policy_gradient).direction
    ridge = (damping * n) ** 0.5 * torch.eye(fisher.shape[0], dtype=torch.float64)
    rows = torch.cat([scores, ridge])
    targets = torch.cat([advantages, torch.zeros(fisher.shape[0], dtype=torch.float64)])
    w = torch.linalg.lstsq(rows, targets, driver="gelsd").solution
    # Compare what w predicts: directions that no score spans are free.
    torch.testing.assert_close(scores @ natural, scores @ w, rtol=1e-5, atol=1e-6)


def test_identity_is_the_gradient(gradient):
    assert torch.equal(Identity().solve(make_fisher(), gradient).direction, gradient)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("actions", ["gaussian", "categorical", "gsde"])
def test_direction_is_within_90_degrees_of_the_gradient(name, actions):
    fisher = make_fisher(damping=0.01, actions=actions)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        g = torch.randn(fisher.shape[0], generator=generator, dtype=torch.float64)
        assert SOLVERS[name]().solve(fisher, g).direction @ g > 0


def test_singular_systems_are_refused():
    g = torch.randn(make_fisher().shape[0], dtype=torch.float64)
    with pytest.raises(ValueError, match="needs damping > 0; got damping=0"):
        Empirical().solve(make_fisher(damping=0.0), g)
    # Two identical states leave most directions without curvature.
    policy = make_policy("categorical")
    with torch.no_grad():
        policy.action_net.weight.zero_()
    fisher = FisherOperator(policy, torch.zeros(2, 4))
    with pytest.raises(NoStepError, match="not positive definite"):
        Dense().solve(fisher, torch.randn(fisher.shape[0], dtype=torch.float64))
    with pytest.raises(NoStepError, match="diagonal"):
        Diagonal().solve(fisher, torch.randn(fisher.shape[0], dtype=torch.float64))


def test_perfect_preconditioner_needs_one_step():
    matrix, b = random_spd(30, 1e4), torch.randn(30, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    solution = conjugate_gradient(matrix, b, 200, 1e-6, lambda r: inverse @ r)
    assert solution.iterations == 1
    torch.testing.assert_close(solution.direction, inverse @ b, rtol=1e-5, atol=1e-8)
    assert solution.curvature == pytest.approx((b @ inverse @ b).item(), rel=1e-6)


def gauss_newton(damping=0.1):
    policy = make_policy()
    critic = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
    return Damped(GaussNewtonOperator(policy, critic, make_observations(policy, 40)), damping)


@pytest.mark.parametrize("name", ["cg", "diagonal", "dense", "identity"])
def test_solvers_serve_the_critic_as_they_serve_the_policy(name):
    operator = gauss_newton()
    b = torch.randn(operator.shape[0], dtype=torch.float64)
    matrix = {
        "diagonal": torch.diag(operator.dense().diagonal()),
        "identity": torch.eye(len(b), dtype=torch.float64),
    }.get(name, operator.dense())
    solver = ConjugateGradient(500, 1e-12) if name == "cg" else SOLVERS[name]()
    expected = torch.linalg.solve(matrix, b)
    torch.testing.assert_close(solver.solve(operator, b).direction, expected, rtol=1e-8, atol=1e-9)


def test_empirical_says_what_it_needs():
    b = torch.randn(make_fisher().shape[0], dtype=torch.float64)
    for operator in (gauss_newton(), make_fisher().operator):
        b = torch.randn(operator.shape[0], dtype=torch.float64)
        with pytest.raises(ValueError, match=r"must be Damped\(FisherOperator.*got a "):
            Empirical().solve(operator, b)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("shape", [(3,), (3, 1), ()])
def test_right_hand_sides_of_another_shape_are_refused(name, shape):
    operator = make_fisher()
    with pytest.raises(ValueError, match=rf"b must have shape \({operator.shape[0]},\), got shape"):
        SOLVERS[name]().solve(operator, torch.ones(shape, dtype=torch.float64))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        ConjugateGradient(max_steps=0)
    with pytest.raises(ValueError, match="tol must not be negative, got -1"):
        ConjugateGradient(tol=-1)


class Fixed(Operator):
    """A matrix that hands out itself."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix

    @property
    def shape(self):
        return tuple(self.matrix.shape)

    def __matmul__(self, vector):
        return self.matrix @ vector

    def quadratic_form(self, vector):
        return (vector @ self.matrix @ vector).item()

    def diagonal(self):
        return self.matrix.diagonal()

    def dense(self):
        return self.matrix


def test_a_damped_operator_leaves_the_matrix_of_its_operator_alone():
    damped = Damped(Fixed(torch.eye(3)), 1.0)
    for _ in range(2):
        direction = Dense().solve(damped, torch.ones(3)).direction
        torch.testing.assert_close(direction, torch.full((3,), 0.5))


def test_a_preconditioner_works_in_the_precision_of_the_right_hand_side():
    matrix = torch.diag(torch.tensor([1.0, 10.0, 100.0]))
    solver = ConjugateGradient(3, 0.0, preconditioner=lambda r: torch.eye(3) @ r)
    solution = solver.solve(Fixed(matrix), torch.ones(3))
    torch.testing.assert_close(solution.direction, 1 / matrix.diagonal())
    changing = ConjugateGradient(3, 0.0, preconditioner=lambda r: r.mul_(2))
    torch.testing.assert_close(
        changing.solve(Fixed(matrix), torch.ones(3)).direction, 1 / matrix.diagonal()
    )
    with pytest.raises(ValueError, match="the preconditioner's result must have shape"):
        ConjugateGradient(preconditioner=lambda r: r[:2]).solve(Fixed(matrix), torch.ones(3))
    with pytest.raises(ValueError, match="preconditioner must be a function, got True"):
        ConjugateGradient(preconditioner=True)


def test_the_empirical_fisher_adds_up_what_damps_it(gradient):
    fisher = make_fisher().operator
    twice = Empirical().solve(Damped(Damped(fisher, 0.1), 0.2), gradient)
    once = Empirical().solve(Damped(fisher, 0.1 + 0.2), gradient)
    torch.testing.assert_close(twice.direction, once.direction)


@pytest.mark.parametrize("damping", ["0.1", None, -1.0, float("nan")])
def test_a_damping_that_is_none_is_refused_by_name(damping):
    with pytest.raises(ValueError, match="damping must be finite and not negative, got"):
        Damped(make_fisher().operator, damping)
    with pytest.raises(ValueError, match="operator must be an Operator"):
        Damped(0.1, make_fisher())


def test_an_operator_of_no_samples_is_refused():
    policy = make_policy("gaussian")
    with pytest.raises(ValueError, match="observations must have at least one sample"):
        FisherOperator(policy, make_observations(policy, 4)[:0])


class Returning(Solver):
    """A solver of somebody's own."""

    def __init__(self, result):
        self.result = result

    def solve(self, operator, b):
        return self.result(b)


@pytest.mark.parametrize("argument", ["fisher_solver", "critic_solver"])
@pytest.mark.parametrize(
    ("result", "error", "said"),
    [
        (lambda b: b, TypeError, "Returning.solve must return a Solution"),
        (lambda b: Solution(b.numpy()), TypeError, "as direction, and returned a ndarray"),
        (lambda b: Solution(b[1:]), ValueError, "the direction of Returning.solve must have shape"),
        (lambda b: Solution(b.double()), TypeError, "in the precision of b, torch.float32, and"),
    ],
)
def test_what_a_solver_of_ones_own_returns_is_checked(argument, result, error, said):
    model = NPG(
        "MlpPolicy", "CartPole-v1", n_steps=32, device="cpu", **{argument: Returning(result)}
    )
    with pytest.raises(error, match=said):
        model.learn(32)
