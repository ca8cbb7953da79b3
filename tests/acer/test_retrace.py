"""Retrace against its definition, and truncated weights against what they leave out."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sb3_natural.acer.loss import discrete_estimates
from sb3_natural.acer.retrace import correction_weight, retrace, trace, truncated_weight

GAMMA = 0.9
ARRAYS = ("rewards", "next_values", "q_values", "traces")


def random_segments(shape=(12, 5), seed=0, p_terminal=0.15, p_limit=0.15):
    """What retrace takes, in float64; a third of the steps end an episode, one way or the other."""
    rng = np.random.default_rng(seed)
    kind = rng.random(shape)
    terminals = kind < p_terminal
    limits = (kind >= p_terminal) & (kind < p_terminal + p_limit)
    segments = {name: rng.normal(size=shape) for name in ARRAYS}
    segments["next_values"][terminals] = 0.0
    segments["traces"] = rng.uniform(size=shape)
    return {**segments, "continues": ~(terminals | limits)}


def definition(rewards, next_values, q_values, traces, continues, gamma):
    """Munos et al. 2016, equation 4: Q_t + sum_s gamma^(s - t) (c_{t+1} ... c_s) delta_s."""
    targets = np.empty(rewards.shape)
    deltas = rewards + gamma * next_values - q_values
    for t, *column in np.ndindex(rewards.shape):
        total = q_values[(t, *column)]
        for s in range(t, len(rewards)):
            if not all(continues[(i, *column)] for i in range(t, s)):
                break
            product = math.prod(traces[(i, *column)] for i in range(t + 1, s + 1))
            total += gamma ** (s - t) * product * deltas[(s, *column)]
        targets[(t, *column)] = total
    return targets


def as_tensors(segments):
    return {name: torch.tensor(array) for name, array in segments.items()}


def discounted(rewards, last_value, gamma=GAMMA):
    powers = gamma ** np.arange(len(rewards))
    return float(powers @ rewards + gamma ** len(rewards) * last_value)


@pytest.mark.parametrize("shape", [(12, 5), (30, 1), (1, 3), (2, 1), (6, 2, 3), (4, 2, 1, 2)])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_targets_are_the_definitions(shape, gamma):
    for seed in range(3):
        segments = random_segments(shape, seed)
        expected = definition(**segments, gamma=gamma)
        targets = retrace(**segments, gamma=gamma)
        assert targets.shape == shape
        np.testing.assert_allclose(targets, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [bool, np.float64])
def test_tensors_and_arrays_give_the_same(dtype):
    segments = random_segments()
    segments["continues"] = segments["continues"].astype(dtype)
    targets = retrace(**as_tensors(segments), gamma=GAMMA)
    assert isinstance(targets, torch.Tensor)
    assert targets.dtype == torch.float64
    expected = retrace(**segments, gamma=GAMMA)
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(targets.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("convert", [lambda segments: segments, as_tensors])
def test_float32_stays_float32(convert):
    segments = random_segments()
    single = {
        name: array if array.dtype == bool else array.astype(np.float32)
        for name, array in segments.items()
    }
    targets = retrace(**convert(single), gamma=GAMMA)
    assert targets.dtype in (np.float32, torch.float32)
    np.testing.assert_allclose(np.asarray(targets), definition(**segments, gamma=GAMMA), atol=1e-5)


@pytest.mark.parametrize("convert", [lambda segments: segments, as_tensors])
def test_inputs_are_not_modified(convert):
    given = convert(random_segments())
    targets = retrace(**given, gamma=GAMMA)
    for name, array in random_segments().items():
        np.testing.assert_array_equal(np.asarray(given[name]), array, err_msg=name)
    before = np.asarray(targets).copy()
    given["rewards"][:] = 7.0
    np.testing.assert_array_equal(np.asarray(targets), before)


def test_without_ends_traces_of_one_give_n_step_returns():
    rng = np.random.default_rng(0)
    n_steps, n_envs = 8, 3
    rewards = rng.normal(size=(n_steps, n_envs))
    values = rng.normal(size=(n_steps + 1, n_envs))
    ones = np.ones_like(rewards)
    targets = retrace(rewards, values[1:], values[:-1], ones, ones.astype(bool), GAMMA)
    for t, env in np.ndindex(rewards.shape):
        expected = discounted(rewards[t:, env], values[-1, env])
        assert targets[t, env] == pytest.approx(expected, abs=1e-10)


def test_on_policy_returns_reach_to_the_end_of_each_episode():
    segments = random_segments((25, 4))
    log_pi = torch.randn(25, 4, dtype=torch.float64)
    segments["traces"] = trace(log_pi - log_pi.clone()).numpy()
    # Q = V: what the critic says of a state before a step is what it said of it after the last.
    going_on = segments["continues"][:-1]
    segments["q_values"][1:][going_on] = segments["next_values"][:-1][going_on]
    targets = retrace(**segments, gamma=GAMMA)
    for t, env in np.ndindex(25, 4):
        ends = np.flatnonzero(~segments["continues"][t:, env])
        last = t + ends[0] if len(ends) else 24
        expected = discounted(
            segments["rewards"][t : last + 1, env], segments["next_values"][last, env]
        )
        assert targets[t, env] == pytest.approx(expected, abs=1e-10)


def test_terminals_and_time_limits_differ_by_the_value_of_the_last_observation():
    rewards = np.array([[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]])
    next_values = np.array([[5.0, 5.0], [0.0, 4.0], [8.0, 8.0]])
    q_values = np.full((3, 2), 5.0)
    ones = np.ones((3, 2))
    continues = np.array([[True, True], [False, False], [True, True]])
    targets = retrace(rewards, next_values, q_values, ones, continues, 0.5)
    np.testing.assert_allclose(targets[1], [10.0, 10.0 + 0.5 * 4.0])
    np.testing.assert_allclose(targets[0], [1 + 0.5 * 10, 1 + 0.5 * 12])
    np.testing.assert_allclose(targets[2], 100 + 0.5 * 8)


@pytest.mark.parametrize("convert", [lambda segments: segments, as_tensors])
def test_nothing_leaks_back_over_an_end(convert):
    end = 4  # the last step of the episode
    first, second = (random_segments(seed=0, p_terminal=0, p_limit=0) for _ in range(2))
    for name, array in random_segments(seed=1).items():
        second[name][end + 1 :] = array[end + 1 :] * (1 if name == "continues" else 1e6)
    for segments in (first, second):
        segments["continues"][end] = False
    before, after = (np.asarray(retrace(**convert(s), gamma=GAMMA)) for s in (first, second))
    np.testing.assert_array_equal(before[: end + 1], after[: end + 1])
    assert (before[end + 1 :] != after[end + 1 :]).all()


def test_no_gradient_flows_back_over_an_end():
    end = 4
    segments = as_tensors(random_segments(p_terminal=0, p_limit=0))
    segments["continues"][end] = False
    leaves = {name: segments[name].requires_grad_() for name in ("rewards", "next_values")}
    leaves["q_values"] = segments["q_values"].requires_grad_()
    retrace(**segments, gamma=GAMMA)[: end + 1].sum().backward()
    for name, leaf in leaves.items():
        assert (leaf.grad[end + 1 :] == 0).all(), name
        assert (leaf.grad[1 : end + 1] != 0).all(), name


def test_first_trace_first_q_value_and_last_continues_do_not_matter():
    segments = random_segments(p_terminal=0, p_limit=0)
    expected = retrace(**segments, gamma=GAMMA)
    for name, row in (("traces", 0), ("continues", -1), ("q_values", 0)):
        changed = {key: array.copy() for key, array in segments.items()}
        changed[name][row] = 0
        np.testing.assert_array_equal(retrace(**changed, gamma=GAMMA), expected, err_msg=name)


def test_every_env_is_on_its_own():
    segments = random_segments((9, 4, 2))
    together = retrace(**segments, gamma=GAMMA)
    for column in np.ndindex(4, 2):
        alone = {name: array[(slice(None), *column)] for name, array in segments.items()}
        np.testing.assert_array_equal(
            retrace(**alone, gamma=GAMMA), together[(slice(None), *column)]
        )


def test_one_step_is_a_one_step_target():
    segments = random_segments((1, 6))
    targets = retrace(**segments, gamma=GAMMA)
    np.testing.assert_array_equal(targets, segments["rewards"] + GAMMA * segments["next_values"])


LOG_RHO = torch.tensor([[-800.0, -3.0, -0.1], [0.0, 0.1, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize("n_dims", [1, 3, 17])
def test_trace_is_the_root_of_rho_up_to_one(n_dims):
    expected = [[min(1.0, math.exp(x) ** (1 / n_dims)) for x in row] for row in LOG_RHO.tolist()]
    # exp(-800) is 0, but its root need not be.
    expected[0][0] = math.exp(-800 / n_dims)
    torch.testing.assert_close(trace(LOG_RHO, n_dims), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("c", [0.5, 1.0, 10.0, math.inf])
def test_weights_are_their_definitions(c):
    for log_rho, truncated, correction in zip(
        LOG_RHO.flatten().tolist(),
        truncated_weight(LOG_RHO, c).flatten().tolist(),
        correction_weight(LOG_RHO, c).flatten().tolist(),
        strict=True,
    ):
        rho = math.exp(log_rho)
        assert truncated == pytest.approx(min(c, rho), abs=1e-14)
        assert correction == pytest.approx(1 - c / rho if rho > c else 0.0, abs=1e-14)


@pytest.mark.parametrize("c", [0.5, 1.0, 10.0, math.inf])
def test_weights_are_finite_however_far_the_policies_are_apart(c):
    far = torch.tensor([-1e4, 1e4])
    assert correction_weight(far, c).tolist() == [0.0, 0.0 if c == math.inf else 1.0]
    assert truncated_weight(far, c).tolist() == [0.0, c]
    assert trace(far).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("c", [0.0, 0.3, 1.0, 2.0, 10.0, math.inf])
def test_truncated_gradient_and_its_correction_are_the_policy_gradient(c):
    """The sum over all four actions of two states, instead of samples."""
    torch.manual_seed(0)
    phi, mu, q = 2 * torch.randn(3, 2, 4, dtype=torch.float64)
    pi, behaviour = phi.softmax(dim=1), mu.softmax(dim=1)
    log_rho = pi.log() - behaviour.log()
    assert log_rho.min() < 0 < math.log(2) < log_rho.max()
    scores = torch.eye(4, dtype=torch.float64) - pi[:, None, :]  # (state, action, K)

    def expectation(weights, values):
        return torch.einsum("sa,sa,sak->sk", weights, values, scores)

    exact = expectation(pi, q)
    corrected = expectation(pi * correction_weight(log_rho, c), q)
    truncated = expectation(behaviour * truncated_weight(log_rho, c), q)
    torch.testing.assert_close(truncated + corrected, exact, rtol=0, atol=1e-12)

    # The same with a baseline, the correction being the algorithm's own.
    critic = SimpleNamespace(value_net=lambda latent: latent)
    advantages = q - (pi * q).sum(dim=1, keepdim=True)
    parts = torch.zeros_like(exact)
    for action in range(4):
        estimates = discrete_estimates(critic, phi, q, mu, torch.full((2,), action), c)
        weight = truncated_weight(estimates.log_rho, c) * advantages[:, action]
        parts += (behaviour[:, action] * weight)[:, None] * scores[:, action]
    torch.testing.assert_close(parts + estimates.correction, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["next_values", "q_values", "traces", "continues"])
@pytest.mark.parametrize("as_what", [dict, as_tensors])
def test_an_array_of_another_shape_is_named(name, as_what):
    """Broadcasting would give targets that are wrong."""
    segments = random_segments((12, 5))
    segments[name] = segments[name][:, :1]
    with pytest.raises(ValueError, match=rf"{name} must have shape \(12, 5\), got shape \(12, 1\)"):
        retrace(**as_what(segments), gamma=GAMMA)
