"""Every entry of the table against torch's modules and autograd, and against its callers."""

import inspect

import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sb3_natural.curvature.jacobian import MlpJacobian
from sb3_natural.curvature.operators import statistics_jacobian
from sb3_natural.networks.activations import ACTIVATIONS, activation_of, known
from sb3_natural.rollouts.actors import MlpActor, NumpyActor, make_actor
from sb3_natural.updates.plain_networks import plain_networks
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES, make_observations

DTYPES = {torch.float32: 1e-6, torch.float64: 1e-14}


def instances(cls):
    """A module with its default parameters and, if some are numbers, one with other numbers."""
    numbers = {
        name: 1.7 * parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if isinstance(parameter.default, float)
    }
    return [cls(), cls(**numbers)] if numbers else [cls()]


class OwnTanh(nn.Tanh):
    def forward(self, x):
        return 2 * super().forward(x)


MODULES = [module for cls in ACTIVATIONS for module in instances(cls)]
WITHOUT_SLOPE = [nn.ELU(-0.5), nn.ELU(0), nn.LeakyReLU(-0.1), nn.LeakyReLU(0)]
UNKNOWN = [nn.GELU(), nn.Softplus(), nn.Hardtanh(), OwnTanh()]


def each(function):
    """All modules for which the table has the function."""
    having = [module for module in MODULES if getattr(activation_of(module), function) is not None]
    return pytest.mark.parametrize("module", having, ids=repr)


each_form = pytest.mark.parametrize("form", ["rows", "columns", "every other", "empty"])
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def inputs(dtype, form):
    """A matrix with zeros and with moderate and large numbers of both signs."""
    magnitudes = [1e-30, 1e-5, 0.1, 0.5, 1, 2, 5, 12, 30, 100, 1e4, 1e30]
    x = torch.tensor([0.0, *magnitudes, *[-number for number in magnitudes], 0.3, -0.3, -0.0])
    x = x.to(dtype).view(4, 7)
    if form == "columns":
        return x.t()
    if form == "every other":
        return x.repeat_interleave(2, dim=1)[:, ::2]
    return x[:0] if form == "empty" else x


def same_layout(tensor, like):
    """A copy of the tensor in its own memory, with the strides of ``like``."""
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype).copy_(tensor)


def with_autograd(module, x):
    """f(x), a gradient with respect to f(x), and the gradient with respect to x."""
    x = x.clone().requires_grad_()
    out = module(x)
    torch.manual_seed(0)
    grad = torch.randn_like(out)
    (product,) = torch.autograd.grad(out, x, grad)
    return out.detach(), grad, product


def assert_close(actual, expected, dtype):
    torch.testing.assert_close(
        torch.as_tensor(actual), expected, rtol=DTYPES[dtype], atol=DTYPES[dtype]
    )


@each("forward")
@each_form
@each_dtype
def test_forward_equals_the_module_bit_for_bit_and_works_in_place(module, form, dtype):
    x = inputs(dtype, form)
    expected = module(x)
    room = same_layout(x, x)
    assert activation_of(module).forward(room) is room
    assert torch.equal(room, expected)


@each("slope")
@each_form
@each_dtype
def test_slope_equals_autograd_and_works_in_place(module, form, dtype):
    x = inputs(dtype, form)
    out, grad, expected = with_autograd(module, x)
    room = same_layout(grad, x)
    assert activation_of(module).slope(room, same_layout(out, x)) is room
    assert_close(room, expected, dtype)


@each("numpy_forward")
@each_form
@each_dtype
def test_numpy_forward_equals_the_module(module, form, dtype):
    numpy_forward = activation_of(module).numpy_forward
    x = inputs(dtype, form)
    expected = module(x)
    array, other = same_layout(x, x).numpy(), same_layout(0 * x, x).numpy()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        numpy_forward(array, other)
        assert_close(array, x, dtype)
        numpy_forward(array, array)
    assert array.dtype == x.numpy().dtype
    assert_close(array, expected, dtype)
    assert_close(other, expected, dtype)


@each("numpy_slope")
@each_form
@each_dtype
def test_numpy_slope_equals_autograd(module, form, dtype):
    x = inputs(dtype, form)
    out, grad, expected = with_autograd(module, x)
    array, kept = same_layout(grad, x).numpy(), same_layout(out, x)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        activation_of(module).numpy_slope(array, kept.numpy())
    assert_close(array, expected, dtype)
    assert torch.equal(kept, out)


@pytest.mark.parametrize("module", [nn.ELU(0.5), nn.LeakyReLU(0.5)], ids=repr)
def test_parameters_of_a_module_may_change(module):
    """A callback may anneal them between two steps of a rollout."""
    activation = activation_of(module)
    for name in ("alpha", "negative_slope"):
        if hasattr(module, name):
            setattr(module, name, 0.25)
    x = torch.linspace(-2, 2, 9)
    expected, array = module(x), x.clone().numpy()
    activation.numpy_forward(array, array)
    assert_close(array, expected, torch.float32)
    assert torch.equal(activation.forward(x.clone()), expected)


@pytest.mark.parametrize("module", WITHOUT_SLOPE, ids=repr)
def test_there_is_no_slope_where_two_inputs_share_an_output(module):
    activation = activation_of(module)
    assert activation.slope is None
    assert activation.numpy_slope is None
    assert activation.numpy_forward is not None


@pytest.mark.parametrize("module", UNKNOWN, ids=repr)
def test_an_unknown_module_has_nothing_but_a_forward_pass(module):
    forward, *others = activation_of(module)
    x = torch.linspace(-2, 2, 9)
    assert torch.equal(forward(x), module(x))
    assert not any(others)


def test_what_each_activation_has_had_so_far():
    def having(function):
        return {cls for cls in ACTIVATIONS if getattr(activation_of(cls()), function)}

    assert having("forward") == set(ACTIVATIONS)
    assert having("slope") >= {nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.Sigmoid}
    assert having("numpy_forward") >= having("slope") | {nn.SiLU}
    assert having("numpy_slope") >= {nn.Tanh, nn.ReLU, nn.SELU}
    assert nn.Tanh in having("numpy_is_faster") <= having("numpy_forward")


def test_known_functions_are_not_none():
    assert known([abs, min]) == [abs, min]
    with pytest.raises(AssertionError):
        known([abs, None])


@pytest.mark.parametrize("module", [*MODULES, *WITHOUT_SLOPE, *UNKNOWN], ids=repr)
def test_each_caller_accepts_what_the_table_has(module):
    policy = ActorCriticPolicy(
        OBSERVATION_SPACES["mlp"],
        ACTION_SPACES["gaussian"],
        lambda _: 1e-3,
        activation_fn=lambda: module,
    )
    activation = activation_of(module)
    in_numpy = activation.numpy_forward is not None
    assert isinstance(make_actor(policy, "torch"), MlpActor)
    assert isinstance(make_actor(policy, "numpy"), NumpyActor) == in_numpy
    _, jacobian = statistics_jacobian(policy, make_observations(policy, 3))
    assert isinstance(jacobian, MlpJacobian) == (activation.slope is not None)
    backwards_too = in_numpy and activation.numpy_slope is not None
    assert (plain_networks(policy) is not None) == backwards_too
