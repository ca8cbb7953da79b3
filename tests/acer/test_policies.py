"""ACER's networks: the critic of actions, and the average policy."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from sb3_natural.acer import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_natural.acer.loss import duelling_estimates
from sb3_natural.acer.policies import DuellingHead
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, make_observations

ACTIONS = [name for name in ACTION_SPACES if name != "gsde"]
DUELLING = [name for name in ACTIONS if name != "categorical"]
POLICIES = {
    "mlp": (MlpPolicy, {}),
    "discrete": (MlpPolicy, {}),
    "cnn": (CnnPolicy, dict(features_extractor_kwargs=dict(features_dim=7))),
    "dict": (MultiInputPolicy, dict(features_extractor_kwargs=dict(cnn_output_dim=7))),
}
N = 6


def make_policy(actions="categorical", observations="mlp", share=True, **kwargs):
    """A small policy whose outputs are far from zero."""
    torch.manual_seed(0)
    cls, extractor = POLICIES[observations]
    policy = cls(
        OBSERVATION_SPACES[observations],
        ACTION_SPACES[actions],
        lambda _: 1e-3,
        net_arch=[8, 8],
        share_features_extractor=share,
        **extractor,
        **kwargs,
    )
    with torch.no_grad():
        policy.action_net.weight.normal_()
        if hasattr(policy, "log_std"):
            policy.log_std.normal_(-0.5, 0.3)
    policy.set_training_mode(False)
    return policy


def actor_parameters(policy):
    """What the average policy follows, in the order of its own parameters."""
    modules = [policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net]
    return [parameter for module in modules for parameter in module.parameters()]


def average_parameters(policy):
    return list(policy.average.parameters())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("observations", POLICIES)
@pytest.mark.parametrize("actions", ACTIONS)
@torch.no_grad()
def test_methods_agree_with_each_other(actions, observations, share):
    policy = make_policy(actions, observations, share)
    obs = make_observations(policy, N)
    taken, values, log_prob = policy(obs)
    assert taken.shape == (N, *ACTION_SPACES[actions].shape)
    assert values.shape == (N, 1)
    assert log_prob.shape == (N,)
    again, log_prob_again, entropy = policy.evaluate_actions(obs, taken)
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(log_prob_again, log_prob)
    torch.testing.assert_close(policy.predict_values(obs), values)
    phi, latent = policy.statistics_and_latent(obs)
    assert latent.shape == (N, 8)
    torch.testing.assert_close(policy.values_from(phi, latent)[:, None], values)
    distribution = policy.action_dist
    torch.testing.assert_close(policy.family.log_prob(distribution, phi, taken), log_prob)
    torch.testing.assert_close(policy.family.entropy(phi), entropy)
    best = policy(obs, deterministic=True)[0]
    assert torch.equal(best, policy(obs, deterministic=True)[0])
    assert torch.equal(best, policy.get_distribution(obs).mode().reshape(best.shape))


@pytest.mark.parametrize("observations", POLICIES)
@torch.no_grad()
def test_values_of_discrete_actions_are_the_mean_of_q(observations):
    policy = make_policy("categorical", observations)
    obs = make_observations(policy, N)
    _, latent = policy.statistics_and_latent(obs)
    q = policy.value_net(latent)
    expected = torch.zeros(N)
    for action in range(3):
        log_prob = policy.get_distribution(obs).log_prob(torch.full((N,), action))
        expected += log_prob.exp() * q[:, action]
    assert q.std() > 0.01
    torch.testing.assert_close(policy.predict_values(obs)[:, 0], expected)


def estimates_at_one_state(policy, actions, n_samples):
    """Of many actions, (M, ...), all taken in the same state."""
    obs = make_observations(policy, 1)
    phi, latent = (out.expand(len(actions), -1) for out in policy.statistics_and_latent(obs))
    taken = actions.reshape(len(actions), -1)
    return duelling_estimates(policy, phi, latent, phi, taken, 10.0, n_samples)


@pytest.mark.parametrize("actions", DUELLING)
@torch.no_grad()
def test_values_of_other_actions_are_the_mean_of_q(actions):
    policy, m = make_policy(actions), 20_000
    with torch.no_grad():
        policy.value_net.advantage_layer.weight.mul_(5)
    phi, _ = policy.statistics_and_latent(make_observations(policy, 1))
    drawn = policy.family.sample(policy.action_dist, phi, m)[:, 0]
    estimates = estimates_at_one_state(policy, drawn, n_samples=5)
    error = estimates.q - estimates.values
    assert error.std() > 0.1
    assert abs(error.mean()) < 4 * error.std() / m**0.5


@pytest.mark.parametrize("actions", DUELLING)
@torch.no_grad()
def test_q_over_the_very_samples_of_its_mean_is_the_value(actions, monkeypatch):
    policy, m = make_policy(actions), 12
    family, distribution = policy.family, policy.action_dist
    phi, _ = policy.statistics_and_latent(make_observations(policy, 1))
    drawn = family.sample(distribution, phi, m)  # (m, 1, n_dims)
    same = drawn.expand(m, m, drawn.shape[2])
    # One more than n_samples: the action of the correction.
    monkeypatch.setattr(family, "sample", lambda *_: torch.cat([same, same[:1]]))
    estimates = estimates_at_one_state(policy, drawn[:, 0], n_samples=m)
    assert estimates.q.std() > 1e-3
    torch.testing.assert_close(estimates.q.mean(), estimates.values[0])


@pytest.mark.parametrize("alpha", [0.0, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("observations", ["mlp", "dict"])
@pytest.mark.parametrize("actions", ["categorical", "gaussian"])
def test_the_average_follows_by_alpha(actions, observations, alpha):
    policy = make_policy(actions, observations)

    def pair():
        average, current = average_parameters(policy), actor_parameters(policy)
        if actions == "gaussian":
            average, current = [*average, policy.average_log_std], [*current, policy.log_std]
        return average, current

    with torch.no_grad():
        for parameter in pair()[0]:
            parameter.normal_()
    start = [parameter.clone() for parameter in pair()[0]]
    theta = [parameter.clone() for parameter in pair()[1]]
    for k in range(1, 6):
        policy.update_average(alpha)
        average, current = pair()
        assert all(torch.equal(one, other) for one, other in zip(current, theta, strict=True))
        for one, first, goal in zip(average, start, theta, strict=True):
            expected = alpha**k * first + (1 - alpha**k) * goal
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("observations", POLICIES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_the_average_starts_as_the_policy(actions, observations):
    cls, extractor = POLICIES[observations]
    policy = cls(
        OBSERVATION_SPACES[observations], ACTION_SPACES[actions], lambda _: 1e-3, **extractor
    )
    policy.set_training_mode(False)
    obs = make_observations(policy, N)
    phi, _ = policy.statistics_and_latent(obs)
    average = policy.average_statistics(obs)
    assert phi.requires_grad
    assert not average.requires_grad
    assert torch.equal(average, phi)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("observations", POLICIES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_the_optimizer_leaves_the_average_alone(actions, observations, share):
    policy = make_policy(actions, observations, share)
    held = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    average = average_parameters(policy)
    if actions == "gaussian":
        average.append(policy.average_log_std)
    assert held == {id(parameter) for parameter in policy.trained}
    assert not held & {id(parameter) for parameter in average}
    every = {id(parameter) for parameter in policy.parameters()}
    assert every == held | {id(parameter) for parameter in average}

    obs = make_observations(policy, N)
    before, before_average = policy.statistics_and_latent(obs)[0], policy.average_statistics(obs)
    phi, latent = policy.statistics_and_latent(obs)
    values = policy.values_from(phi, latent)
    loss = (phi - policy.average_statistics(obs)).square().sum() + values.square().sum()
    loss.backward()
    assert all(parameter.grad is None for parameter in average)
    assert not any(parameter.requires_grad for parameter in average)
    policy.optimizer.step()
    assert not torch.allclose(policy.statistics_and_latent(obs)[0], before)
    assert torch.equal(policy.average_statistics(obs), before_average)


def test_the_optimizer_is_the_papers_unless_told_otherwise():
    policy = make_policy()
    assert type(policy.optimizer) is torch.optim.RMSprop
    assert policy.optimizer.defaults["alpha"] == 0.99
    assert policy.optimizer.defaults["eps"] == 1e-5
    assert isinstance(policy.mlp_extractor.policy_net[1], nn.ReLU)
    adam = make_policy(optimizer_class=torch.optim.Adam, activation_fn=nn.Tanh)
    assert type(adam.optimizer) is torch.optim.Adam
    assert isinstance(adam.mlp_extractor.policy_net[1], nn.Tanh)
    other = make_policy(optimizer_kwargs=dict(alpha=0.5))
    assert other.optimizer.defaults["alpha"] == 0.5


@pytest.mark.parametrize("observations", POLICIES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_a_policy_is_saved_and_loaded_alone(actions, observations, tmp_path):
    policy = make_policy(actions, observations)
    policy.update_average(0.5)
    policy.save(tmp_path / "policy")
    loaded = type(policy).load(tmp_path / "policy")
    loaded.set_training_mode(False)
    ours, theirs = policy.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert any(key.startswith("average") for key in ours)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(loaded.trained) == len(policy.trained)
    obs = make_observations(policy, N)
    for one, other in zip(policy(obs, True), loaded(obs, True), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(policy.average_statistics(obs), loaded.average_statistics(obs))


def encode(space, actions):
    """What the duelling network sees of one action."""
    head = DuellingHead(4, space, nn.ReLU)
    encoded = head._encode(torch.as_tensor(np.asarray(actions))[None, None])[0, 0]
    assert encoded.shape == (head.action_layer.in_features,)
    assert encoded.dtype == torch.float32
    return encoded.tolist()


def test_boxes_are_encoded_as_the_environment_sees_them():
    inf = np.inf
    space = spaces.Box(
        np.array([-2, -inf, 0, -inf, 3], np.float32), np.array([4, inf, inf, 1, 3], np.float32)
    )
    f = np.float32
    #                bounded, unbounded, half bounded twice, a single value
    assert encode(space, f([1, 7, 5, -9, 3])) == [0, 7, 5, -9, 3]
    assert encode(space, f([4, 0, 0, 1, 3])) == [1, 0, 0, 1, 3]
    assert encode(space, f([100, -100, -3, 8, 8])) == [1, -100, 0, 1, 3]
    assert encode(space, f([-100, 0, 0, 0, 0])) == [-1, 0, 0, 0, 3]


def test_boxes_of_every_shape_are_flattened():
    space = spaces.Box(-2, 2, (2, 3))
    head = DuellingHead(4, space, nn.ReLU)
    actions = torch.arange(6.0).reshape(1, 1, 2, 3) - 3
    expected = (torch.arange(6.0) - 3).clamp(-2, 2) / 2
    assert torch.equal(head._encode(actions)[0, 0], expected)
    assert torch.equal(head._encode(actions.flatten(2))[0, 0], expected)


def test_boxes_as_wide_as_floats_go_are_not_lost():
    limit = np.finfo(np.float32).max
    encoded = encode(spaces.Box(-limit, limit, (2,)), np.float32([1.0, -2.0]))
    assert np.isfinite(encoded).all()
    head = DuellingHead(4, spaces.Box(-limit, limit, (2,)), nn.ReLU)
    assert torch.isfinite(head.half_width).all()


def test_multi_discrete_actions_are_one_hot():
    space = spaces.MultiDiscrete([2, 3, 4])
    assert encode(space, [1, 0, 3]) == [0, 1, 1, 0, 0, 0, 0, 0, 1]
    assert encode(space, [0, 2, 1]) == [1, 0, 0, 0, 1, 0, 1, 0, 0]
    # As floats, which is what some buffers hold.
    assert encode(space, np.float32([0, 2, 1])) == [1, 0, 0, 0, 1, 0, 1, 0, 0]


def test_multi_binary_actions_are_what_they_are():
    assert encode(spaces.MultiBinary(3), np.int8([1, 0, 1])) == [1, 0, 1]


@pytest.mark.parametrize("actions", DUELLING)
def test_advantages_are_those_of_each_action(actions):
    policy, m = make_policy(actions), 5
    head, latent = policy.value_net, torch.randn(N, 8)
    ACTION_SPACES[actions].seed(0)
    taken = np.stack([[ACTION_SPACES[actions].sample() for _ in range(N)] for _ in range(m)])
    together = head.advantage(latent, torch.as_tensor(taken))
    assert together.shape == (m, N)
    assert head.value(latent).shape == (N,)
    for i in range(m):
        for n in range(N):
            alone = head.advantage(latent[n : n + 1], torch.as_tensor(taken[i, n])[None, None])
            torch.testing.assert_close(alone[0, 0], together[i, n])
