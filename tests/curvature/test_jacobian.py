"""The Jacobians against each other and against torch's own, in float64."""

import copy
from itertools import pairwise

import pytest
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sb3_natural.curvature import jacobian as module
from sb3_natural.curvature.families import CategoricalFamily
from sb3_natural.curvature.jacobian import AutogradJacobian, MlpJacobian, ScalarMlpJacobian
from sb3_natural.curvature.operators import (
    FisherOperator,
    GaussNewtonOperator,
    statistics_jacobian,
)
from sb3_natural.curvature.value_fit import value_jacobian
from sb3_natural.networks.activations import ACTIVATIONS, activation_of
from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.parameters import assign_flat, flatten
from tests.helpers import DEVICES, make_observations, make_policy

N = 13


def plain(policy, copied=True):
    """The same policy, with the features extractor that plain policies have."""
    policy = copy.deepcopy(policy) if copied else policy
    extractor = FlattenExtractor(policy.observation_space)
    policy.features_extractor = extractor
    policy.pi_features_extractor = policy.vf_features_extractor = extractor
    return policy


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.fixture(params=[1, 5, 100], ids=lambda rows: f"{rows}rows")
def blocks(request, monkeypatch):
    """Blocks of one sample, of some, of all."""
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(module, "_MIN_ROWS", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("observations", ["mlp", "discrete"])
@pytest.mark.parametrize("actions", ["categorical", "gaussian", "multicategorical", "bernoulli"])
def test_mlp_products_equal_autograds(actions, observations):
    policy = make_policy(actions, observations)
    plain_policy = plain(policy)
    batch = make_observations(policy, N)
    family, slow = statistics_jacobian(policy, batch)
    assert isinstance(slow, AutogradJacobian)
    fast_family, fast = statistics_jacobian(plain_policy, batch)
    assert isinstance(fast, MlpJacobian)
    assert type(fast_family) is type(family)
    v = torch.randn(fast.n_params, dtype=torch.float64)
    fast_fisher = FisherOperator(plain_policy, batch)
    slow_fisher = FisherOperator(policy, batch)
    assert_equal(fast_fisher @ v, slow_fisher @ v)
    assert fast_fisher.quadratic_form(v) == pytest.approx(slow_fisher.quadratic_form(v))
    if isinstance(family, CategoricalFamily):
        # torch normalises logits, an MLP does not: the same distribution, other coordinates.
        taken = torch.stack([torch.zeros(N), torch.ones(N)], dim=1)
        taken = taken[:, 1] if len(family.sizes) == 1 else taken
        log_probs = [
            family.log_prob(policy.action_dist, jacobian.outputs, taken)
            for jacobian in (fast, slow)
        ]
        assert_equal(*log_probs)
    else:
        assert_same_jacobian(fast, slow)


def assert_same_jacobian(fast, slow):
    assert [p.shape for p in fast.params] == [p.shape for p in slow.params]
    assert_equal(fast.outputs, slow.outputs)
    v = torch.randn(fast.n_params, dtype=torch.float64)
    u = torch.randn_like(slow.outputs)
    assert_equal(fast.jvp(v), slow.jvp(v))
    assert_equal(fast.vjp(u), slow.vjp(u))
    # What was returned is not overwritten by the next product.
    first, kept = fast.jvp(v), fast.vjp(u)
    before = first.clone(), kept.clone()
    fast.jvp(2 * v), fast.vjp(2 * u)
    assert torch.equal(first, before[0])
    assert torch.equal(kept, before[1])
    for jacobian in (fast, slow):
        theta = flatten(p.detach() for p in jacobian.params)
        assign_flat(jacobian.params, theta + 0.1 * v)
    assert_equal(fast.evaluate(), slow.evaluate())
    assert not torch.allclose(fast.evaluate(), fast.outputs)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("activation", [cls for cls in ACTIVATIONS if activation_of(cls()).slope])
@pytest.mark.parametrize("kind", [MlpJacobian, ScalarMlpJacobian])
@pytest.mark.parametrize("sizes", [[3], [3, 7], [4, 6, 3, 5]])
def test_any_depth_and_activation_against_torch_func(sizes, kind, activation):
    torch.manual_seed(0)
    sizes = [*sizes, 1 if kind is ScalarMlpJacobian else 2]
    linears = [nn.Linear(*pair).double() for pair in pairwise(sizes)]
    activations = [activation() for _ in linears[1:]]
    chain = zip(linears, [*activations, nn.Identity()], strict=True)
    network = nn.Sequential(*[layer for pair in chain for layer in pair])
    features = torch.randn(N, sizes[0], dtype=torch.float64)
    mlp = Mlp(tuple(linears), tuple(activations))
    assert kind.fits(mlp)
    fast = kind(mlp, features)

    named = dict(network.named_parameters())

    def function(params):
        return torch.func.functional_call(network, params, (features,))

    v = torch.randn(fast.n_params, dtype=torch.float64)
    tangents = dict(zip(named, module.split(v, fast.params), strict=True))
    outputs, pushed = torch.func.jvp(function, (named,), (tangents,))
    assert_equal(fast.outputs, outputs)
    assert_equal(fast.jvp(v), pushed)
    u = torch.randn_like(outputs)
    (pulled,) = torch.func.vjp(function, named)[1](u)
    assert_equal(fast.vjp(u), flatten(pulled[name] for name in named))


def test_values_have_a_fast_jacobian_too():
    policy = make_policy("gaussian")
    batch = make_observations(policy, N)
    plain_policy = plain(policy)
    slow, fast = (value_jacobian(p, values_of(p), batch) for p in (policy, plain_policy))
    assert isinstance(slow, AutogradJacobian)
    assert isinstance(fast, ScalarMlpJacobian)
    assert_same_jacobian(fast, slow)


@pytest.mark.usefixtures("blocks")
def test_the_critics_curvature_against_the_dense_matrix():
    policy = make_policy("gaussian")
    batch = make_observations(policy, N)
    rows = [
        flatten(
            torch.autograd.grad(policy.predict_values(state[None]).squeeze(), values_of(policy))
        )
        for state in batch
    ]
    jacobian = torch.stack(rows)
    plain_policy = plain(policy)
    operator = GaussNewtonOperator(plain_policy, values_of(plain_policy), batch)
    assert isinstance(operator.jacobian, ScalarMlpJacobian)
    assert_equal(operator.dense(), jacobian.t() @ jacobian / N)


def values_of(policy):
    return [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]


def test_two_outputs_are_not_one():
    mlp = Mlp((nn.Linear(3, 2),), ())
    with pytest.raises(ValueError, match=r"last layer's bias must have shape \(1,\), got"):
        ScalarMlpJacobian(mlp, torch.randn(N, 3))


def test_what_is_not_a_plain_mlp_takes_autograd():
    def kind(policy, fast=True):
        batch = make_observations(policy, 2)
        return type(statistics_jacobian(policy, batch, fast)[1])

    def policy(**kwargs):
        return plain(make_policy("gaussian", **kwargs)).float()

    assert kind(policy()) is MlpJacobian
    assert kind(policy(), fast=False) is AutogradJacobian
    assert kind(policy(activation_fn=nn.GELU)) is AutogradJacobian
    assert kind(plain(make_policy("gsde"), copied=False).float()) is AutogradJacobian
    frozen = policy()
    frozen.log_std.requires_grad_(False)
    assert kind(frozen) is AutogradJacobian
    frozen = policy()
    frozen.mlp_extractor.policy_net[0].bias.requires_grad_(False)
    assert kind(frozen) is AutogradJacobian
    hooked = policy()
    hooked.action_net.register_forward_hook(lambda *_: None)
    assert kind(hooked) is AutogradJacobian
    assert kind(policy(net_arch=())) is MlpJacobian


@pytest.mark.parametrize("fast", [True, False])
def test_products_after_a_move_are_refused(fast):
    policy = plain(make_policy("gaussian")).float()
    _, jacobian = statistics_jacobian(policy, make_observations(policy, 3), fast)
    v = torch.randn(jacobian.n_params)
    assign_flat(jacobian.params, v)
    with pytest.raises(RuntimeError, match=r"have changed since|modified by an inplace operation"):
        jacobian.jvp(v)


def test_products_of_one_output_after_a_move_are_refused_too():
    mlp = Mlp((nn.Linear(3, 4), nn.Linear(4, 1)), (nn.Tanh(),))
    jacobian = ScalarMlpJacobian(mlp, torch.randn(N, 3))
    assign_flat(jacobian.params, torch.randn(jacobian.n_params))
    with pytest.raises(RuntimeError, match="have changed since"):
        jacobian.jvp(torch.randn(jacobian.n_params))
    with pytest.raises(RuntimeError, match="have changed since"):
        jacobian.vjp(torch.randn(N, 1))


@pytest.mark.parametrize("device", DEVICES)
def test_float32_agrees_with_float64_on_every_device(device):
    policy = make_policy("gaussian", net_arch=(64, 64))
    plain_policy = plain(policy).float().to(device)
    batch = make_observations(policy, 500)
    _, exact = statistics_jacobian(policy, batch)
    _, single = statistics_jacobian(plain_policy, batch.to(device))
    assert isinstance(single, MlpJacobian)
    v = torch.randn(exact.n_params, dtype=torch.float64)
    expected, actual = exact.jvp(v), single.jvp(v.to(device)).cpu().double()
    assert (actual - expected).norm() < 1e-5 * expected.norm()
    u = torch.randn_like(expected)
    expected, actual = exact.vjp(u), single.vjp(u.float().to(device)).cpu().double()
    assert (actual - expected).norm() < 1e-5 * expected.norm()


def test_outputs_without_parameters_are_refused():
    with pytest.raises(ValueError, match="none of the 1 given parameters influences"):
        AutogradJacobian(lambda: torch.ones(3, 1), [nn.Parameter(torch.ones(1))])
