"""LSTD-Q(lambda) against exact values, exact natural gradients and explicit sums."""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from sb3_natural.curvature.solvers import NoStepError
from sb3_natural.nac.lstd import Lstd

CPU = torch.device("cpu")


def tensor(array):
    return torch.from_numpy(np.asarray(array, dtype=float))


def natural_gradient(pi, transitions, rewards, gamma, weights):
    """F^-1 g of a tabular softmax policy, from the Bellman equation; (S, A), rows summing to 0."""
    n_states, n_actions = pi.shape
    p_pi = np.einsum("sa,sat->st", pi, transitions)
    values = np.linalg.solve(np.eye(n_states) - gamma * p_pi, (pi * rewards).sum(axis=1))
    advantages = rewards + gamma * transitions @ values - values[:, None]
    fisher = np.zeros((n_states * n_actions,) * 2)
    gradient = np.zeros(n_states * n_actions)
    for s in range(n_states):
        for a in range(n_actions):
            row = score(pi, s, a)
            fisher += weights[s] * pi[s, a] * np.outer(row, row)
            gradient += weights[s] * pi[s, a] * row * advantages[s, a]
    return values, (np.linalg.pinv(fisher) @ gradient).reshape(pi.shape)


def score(pi, s, a):
    row = np.zeros_like(pi)
    row[s] = -pi[s]
    row[s, a] += 1
    return row.reshape(-1)


def tabular_psi(n_states, s):
    return np.concatenate([[1.0], np.eye(n_states)[s]])


def test_with_exact_expectations_w_is_the_exact_natural_gradient():
    """Every transition counts as often as it is likely; all probabilities are quarters."""
    rng = np.random.default_rng(0)
    n_states, n_actions, gamma = 4, 3, 0.9

    def quarters(*shape):
        return rng.multinomial(4, [1 / shape[-1]] * shape[-1], size=shape[:-1]) / 4

    pi = np.array([[1, 1, 2], [2, 1, 1], [1, 2, 1], [1, 1, 2]]) / 4
    transitions = quarters(n_states, n_actions, n_states)
    rewards = rng.normal(size=(n_states, n_actions))
    visits = np.array([1, 2, 3, 1])
    features, following, gained = [], [], []
    for s in range(n_states):
        for a in range(n_actions):
            for t in range(n_states):
                times = round(16 * visits[s] * pi[s, a] * transitions[s, a, t])
                row = np.concatenate([tabular_psi(n_states, s), score(pi, s, a)])
                features += times * [row]
                following += times * [tabular_psi(n_states, t)]
                gained += times * [rewards[s, a]]
    lstd = Lstd(CPU)
    lstd.prepare(1 + n_states + pi.size, 1)
    starts = torch.ones(len(gained), 1)
    lstd.add(
        tensor(features)[:, None], tensor(following)[:, None], tensor(gained)[:, None], starts,
        gamma, 0.0,
    )  # fmt: skip
    solution = lstd.solve(1e-9).numpy()
    values, expected = natural_gradient(pi, transitions, rewards, gamma, visits / visits.sum())
    v, w = solution[: 1 + n_states], solution[1 + n_states :].reshape(pi.shape)
    np.testing.assert_allclose(v[0] + v[1:], values, rtol=1e-5)
    np.testing.assert_allclose(w, expected, atol=1e-5)


@pytest.mark.parametrize("trace", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("end", ["never", "termination", "time limit"])
def test_in_a_deterministic_world_every_trace_finds_the_exact_natural_gradient(trace, end):
    """There the advantages are exactly linear in the scores: no error is left for the traces."""
    rng = np.random.default_rng(1)
    n_states, n_actions, gamma, length = 4, 2, 0.8, 9
    leads_to = np.array([[1, 2], [3, 0], [0, 3], [2, 1]])
    transitions = np.eye(n_states)[leads_to]
    rewards = rng.normal(size=(n_states, n_actions))
    pi = rng.dirichlet(np.ones(n_actions), size=n_states)
    if end == "termination":  # of whatever leads to state 3
        transitions[leads_to == 3] = 0
    features, following, gained, starts = [], [], [], []
    s, age = 0, 0
    for _ in range(4_000):
        a = rng.choice(n_actions, p=pi[s])
        t = leads_to[s, a]
        terminated = end == "termination" and t == 3
        features.append(np.concatenate([tabular_psi(n_states, s), score(pi, s, a)]))
        following.append(0.0 * tabular_psi(n_states, t) if terminated else tabular_psi(n_states, t))
        gained.append(rewards[s, a])
        starts.append(age == 0)
        age += 1
        cut_off = end == "time limit" and age == length
        s, age = (rng.integers(3), 0) if terminated or cut_off else (t, age)
    lstd = Lstd(CPU)
    lstd.prepare(1 + n_states + pi.size, 1)
    columns = tensor(features)[:, None], tensor(following)[:, None], tensor(gained)[:, None]
    lstd.add(*columns, torch.tensor(starts)[:, None], gamma, trace)
    solution = lstd.solve(1e-10).numpy()
    values, expected = natural_gradient(pi, transitions, rewards, gamma, np.full(n_states, 0.25))
    seen = slice(0, 3 if end == "termination" else n_states)
    np.testing.assert_allclose((solution[0] + solution[1 : 1 + n_states])[seen], values[seen],
                               atol=1e-5)  # fmt: skip
    w = solution[1 + n_states :].reshape(pi.shape)
    np.testing.assert_allclose(w[seen], expected[seen], atol=1e-5)


A, B, Q, R, GAMMA, SIGMA = 0.9, 0.5, 1.0, 0.3, 0.95, 0.4


def regulator_solution(gain):
    """[v, w] by LSTD of u ~ N(gain x, sigma^2), x' = A x + B u, r = -(Q x^2 + R u^2).

    The expectations over x and u are exact: Gauss-Hermite quadrature of polynomials.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(8)
    x, noise = (part.reshape(-1) for part in np.meshgrid(nodes, nodes))
    mass = np.outer(masses, masses).reshape(-1)
    u = gain * x + SIGMA * noise
    following = A * x + B * u
    features = np.stack([np.ones_like(x), x**2, x * noise / SIGMA], axis=1)
    next_psi = np.stack([np.ones_like(x), following**2], axis=1)
    root = np.sqrt(mass / mass.sum())[:, None]  # a step's weight, since A is quadratic in it
    lstd = Lstd(CPU)
    lstd.prepare(3, 1)
    rewards = -(Q * x**2 + R * u**2)[:, None]
    columns = (tensor(root * part)[:, None] for part in (features, next_psi))
    lstd.add(*columns, tensor(root * rewards), torch.ones(len(x), 1), GAMMA, 0.0)
    return lstd.solve(0.0).numpy()


@pytest.mark.parametrize("gain", [0.0, -0.5, -1.2])
def test_the_natural_gradient_of_a_linear_quadratic_regulator(gain):
    """V = -P x^2 + const and w = -2 sigma^2 (R k + gamma P B (A + B k)), known in closed form."""
    p = (Q + R * gain**2) / (1 - GAMMA * (A + B * gain) ** 2)
    expected = -2 * SIGMA**2 * (R * gain + GAMMA * p * B * (A + B * gain))
    _, curvature, w = regulator_solution(gain)
    assert curvature == pytest.approx(-p, rel=1e-8)
    assert w == pytest.approx(expected, rel=1e-8)


def test_natural_gradient_steps_end_at_the_optimal_gain_of_the_regulator():
    root = np.sqrt(GAMMA)
    p = solve_discrete_are(root * A * np.eye(1), root * B * np.eye(1), Q * np.eye(1), R * np.eye(1))
    optimum = -(GAMMA * B * A * p / (R + GAMMA * B**2 * p)).item()
    gain = 0.0
    for _ in range(200):
        gain += 0.5 * regulator_solution(gain)[2]
    assert gain == pytest.approx(optimum, rel=1e-6)


def random_steps(n_steps=12, n_envs=3, n_features=5, n_psi=2, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n_steps, n_envs, n_features)),
        rng.normal(size=(n_steps, n_envs, n_psi)),
        rng.normal(size=(n_steps, n_envs)),
        rng.random((n_steps, n_envs)) < 0.3,
    )


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_sums_are_those_over_all_pairs_of_steps_of_an_episode(trace):
    """In one piece, or in pieces: episodes may go on in the next rollout."""
    features, next_psi, rewards, starts = random_steps()
    n_steps, n_envs, n_features = features.shape
    gamma = 0.9
    a, b = np.zeros((n_features, n_features)), np.zeros(n_features)
    for env in range(n_envs):
        for t in range(n_steps):
            tilde = np.concatenate([next_psi[t, env], np.zeros(n_features - 2)])
            for k in range(t, -1, -1):
                weight = (gamma * trace) ** (t - k)
                a += weight * np.outer(features[k, env], features[t, env] - gamma * tilde)
                b += weight * features[k, env] * rewards[t, env]
                if starts[k, env]:
                    break
    for pieces in ([slice(0, 12)], [slice(0, 5), slice(5, 6), slice(6, 12)]):
        lstd = Lstd(CPU)
        lstd.prepare(n_features, n_envs)
        for piece in pieces:
            columns = (tensor(part[piece]) for part in (features, next_psi, rewards, starts))
            lstd.add(*columns, gamma, trace)
        np.testing.assert_allclose(lstd.a.numpy(), a, atol=1e-12)
        np.testing.assert_allclose(lstd.b.numpy(), b, atol=1e-12)
        assert lstd.count == n_steps * n_envs


def filled(**kwargs):
    steps = random_steps(**kwargs)
    lstd = Lstd(CPU)
    lstd.prepare(steps[0].shape[2], steps[0].shape[1])
    lstd.add(*map(tensor, steps), 0.9, 0.5)
    return lstd


def test_forgetting_scales_sums_and_traces_alike():
    lstd, before = filled(), filled()
    solution = lstd.solve(0.1)
    lstd.forget(0.25)
    for name in Lstd.VARIABLES:
        torch.testing.assert_close(getattr(lstd, name), 0.25 * getattr(before, name))
    torch.testing.assert_close(lstd.solve(0.1), solution)


def test_the_ridge_is_added_to_the_mean_over_steps_and_spares_the_constant():
    lstd = filled()
    matrix = (lstd.a / lstd.count).numpy() + 0.1 * np.diag([0, 1, 1, 1, 1])
    expected = np.linalg.solve(matrix, (lstd.b / lstd.count).numpy())
    np.testing.assert_allclose(lstd.solve(0.1).numpy(), expected, atol=1e-10)


def test_other_features_start_anew_and_other_environments_keep_the_sums():
    lstd, before = filled(), filled()
    lstd.prepare(5, 2)
    assert torch.equal(lstd.a, before.a)
    assert torch.equal(lstd.traces, torch.zeros(2, 5).double())
    lstd.prepare(6, 2)
    assert torch.equal(lstd.a, torch.zeros(6, 6).double())
    assert lstd.count == 0


def test_a_singular_system_is_no_step_and_one_that_is_not_finite_starts_anew():
    lstd = Lstd(CPU)
    lstd.prepare(3, 1)
    row = torch.tensor([[[1.0, 2.0, 3.0]]])
    lstd.add(row, torch.zeros(1, 1, 1), torch.ones(1, 1), torch.ones(1, 1), 0.9, 0.0)
    before = lstd.a.clone()
    with pytest.raises(NoStepError, match="ridge"):
        lstd.solve(0.0)
    assert torch.equal(lstd.a, before), "more steps may make it regular"
    lstd.a[1, 1] = torch.nan
    with pytest.raises(NoStepError, match="ridge"):
        lstd.solve(0.1)
    assert torch.equal(lstd.a, torch.zeros(3, 3).double())


@pytest.mark.parametrize("wrong", ["features", "next_psi", "rewards", "starts"])
def test_wrong_shapes_are_named(wrong):
    names = ("features", "next_psi", "rewards", "starts")
    columns = dict(zip(names, map(tensor, random_steps()), strict=True))
    columns[wrong] = columns[wrong][:, :2] if wrong == "features" else columns[wrong][:-1]
    lstd = Lstd(CPU)
    lstd.prepare(5, 3)
    with pytest.raises(ValueError, match="traces" if wrong == "features" else wrong):
        lstd.add(*columns.values(), 0.9, 0.5)
