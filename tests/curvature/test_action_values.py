"""The Gauss-Newton matrix of action values."""

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch.nn import functional as F

from sb3_natural.curvature.action_values import ActionValueCurvature
from sb3_natural.curvature.jacobian import AutogradJacobian, MlpJacobian
from sb3_natural.curvature.layers import layer_factors
from sb3_natural.networks.parameters import flatten
from tests.helpers import FlattenExtractor64

N_ACTIONS = 3


def make_q_net(plain, net_arch=(5, 4)):
    torch.manual_seed(0)
    # SB3's own extractor gives float32 alone, and is the one whose networks need no autograd.
    extractor = FlattenExtractor if plain else FlattenExtractor64
    policy = DQNPolicy(
        spaces.Box(-1, 1, (4,)),
        spaces.Discrete(N_ACTIONS),
        lambda _: 1e-3,
        net_arch=list(net_arch),
        activation_fn=torch.nn.Tanh,
        features_extractor_class=extractor,
    )
    return policy.q_net if plain else policy.q_net.double()


def make_batch(n=20):
    random = torch.Generator().manual_seed(1)
    observations = torch.rand(n, 4, generator=random) * 2 - 1
    return observations, torch.randint(N_ACTIONS, (n,), generator=random)


def rows_by_autograd(q_net, observations, actions):
    """grad Q(s, a) of each sample, (N, P)."""
    rows = []
    for observation, action in zip(observations, actions, strict=True):
        value = q_net(observation[None])[0, action]
        rows.append(flatten(torch.autograd.grad(value, list(q_net.parameters()))))
    return torch.stack(rows)


@pytest.mark.parametrize("plain", [True, False])
def test_matrix_and_diagonal_are_those_of_the_values_of_the_actions_taken(plain):
    q_net, (observations, actions) = make_q_net(plain), make_batch()
    curvature = ActionValueCurvature(q_net, observations, actions)
    assert isinstance(curvature.jacobian, MlpJacobian if plain else AutogradJacobian)
    assert set(curvature.params) == set(q_net.parameters())
    rows = rows_by_autograd(q_net, observations, actions)
    matrix = rows.T @ rows / len(rows)
    torch.testing.assert_close(curvature.dense(), matrix)
    torch.testing.assert_close(curvature.diagonal(), matrix.diagonal())


@pytest.mark.parametrize("plain", [True, False])
def test_the_gradient_is_that_of_the_loss(plain):
    q_net, (observations, actions) = make_q_net(plain), make_batch()
    values = q_net(observations).gather(1, actions[:, None])[:, 0]
    targets = torch.linspace(-3, 3, len(actions), dtype=values.dtype)
    loss = F.smooth_l1_loss(values, targets)
    expected = flatten(torch.autograd.grad(loss, list(q_net.parameters())))

    curvature = ActionValueCurvature(q_net, observations, actions)
    torch.testing.assert_close(curvature.values, values.detach())
    errors = (curvature.values - targets).clamp(-1, 1)
    torch.testing.assert_close(curvature.gradient(errors / len(errors)), expected)


@pytest.mark.parametrize("plain", [True, False])
def test_kronecker_factors_of_a_linear_network(plain):
    q_net, (observations, actions) = make_q_net(plain, net_arch=()), make_batch()
    (layer,) = layer_factors(ActionValueCurvature(q_net, observations, actions))
    inputs = torch.cat([observations, torch.ones(len(observations), 1)], dim=1).to(layer.a.dtype)
    torch.testing.assert_close(layer.a, inputs.T @ inputs / len(inputs))
    # The derivative by the pre-activations is one-hot: how often each action was taken.
    shares = actions.bincount(minlength=N_ACTIONS) / len(actions)
    torch.testing.assert_close(layer.g, torch.diag(shares).to(layer.g.dtype))
