"""Passes without modules or autograd equal those with them."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from sb3_natural.networks.activations import ACTIVATIONS, activation_of
from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.parameters import flatten
from sb3_natural.networks.passes import (
    Backprop,
    fast_functions,
    hidden_layers,
    hidden_outputs,
    numpy_fits,
    numpy_forward,
    torch_forward,
)
from tests.helpers import DEVICES

SIZES = [[3, 2], [3, 7, 2], [4, 6, 3, 5, 1]]
KNOWN = list(ACTIVATIONS)
UNKNOWN = [nn.GELU, nn.Softmax]
BACKWARDS = [cls for cls in KNOWN if activation_of(cls()).numpy_slope is not None]
N = 29


def make(sizes, activation, dtype=torch.float32, device="cpu"):
    """The same network as an Mlp and as modules, and features for it."""
    torch.manual_seed(0)
    linears = [nn.Linear(*pair) for pair in pairwise(sizes)]
    activations = [activation() for _ in linears[1:]]
    chain = zip(linears, [*activations, nn.Identity()], strict=True)
    network = nn.Sequential(*[layer for pair in chain for layer in pair]).to(device, dtype)
    features = torch.randn(N, sizes[0], dtype=dtype, device=device)
    return Mlp(tuple(linears), tuple(activations)), network, features


def move(mlp):
    with torch.no_grad():
        for param in mlp.params:
            param.mul_(1.5)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
@pytest.mark.parametrize("activation", KNOWN + UNKNOWN)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_forward_pass_equals_the_modules_bit_for_bit(sizes, activation):
    mlp, network, features = make(sizes, activation)
    functions = [function.forward for function in mlp.functions]
    hidden = hidden_layers(mlp.weights, mlp.biases, functions)
    for _ in range(2):
        h = hidden_outputs(hidden, features)
        assert not h.requires_grad
        assert torch.equal(h, network[:-2](features))
        move(mlp)


@pytest.mark.parametrize("activation", KNOWN)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_forward_pass_keeps_what_a_backward_pass_needs(sizes, activation):
    mlp, network, features = make(sizes, activation)
    hidden = hidden_layers(mlp.weights, mlp.biases, fast_functions(mlp.functions, features.device))
    buffers = [features.new_empty(N, width) for width in sizes[1:-1]]
    h = hidden_outputs(hidden, features, buffers)
    assert h is ([features, *buffers][-1])
    for index, buffer in enumerate(buffers):
        torch.testing.assert_close(buffer, network[: 2 * index + 2](features))


@pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", KNOWN + UNKNOWN)
@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_equal_the_modules(sizes, activation, dtype, device):
    mlp, network, features = make(sizes, activation, dtype, device)
    outputs = torch_forward(mlp)(features)
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, network(features))


@pytest.mark.parametrize("activation", KNOWN)
@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_of_numpy_equal_the_modules(sizes, activation):
    mlp, network, features = make(sizes, activation)
    assert numpy_fits(mlp)
    outputs = numpy_forward(mlp)
    for _ in range(2):
        kept = features.clone()
        found = torch.from_numpy(outputs(features.numpy()))
        torch.testing.assert_close(found, network(features))
        assert torch.equal(features, kept)
        move(mlp)


def test_unknown_activations_do_not_fit():
    mlp, *_ = make([3, 7, 2], nn.GELU)
    assert not numpy_fits(mlp)
    assert not Backprop.fits(mlp)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", BACKWARDS)
@pytest.mark.parametrize("sizes", SIZES)
def test_backpropagated_gradients_equal_autograd(sizes, activation, dtype):
    mlp, network, features = make(sizes, activation, dtype)
    assert Backprop.fits(mlp)
    theta = flatten(param.detach() for param in mlp.params)
    gradient = torch.full_like(theta, torch.nan)
    backprop = Backprop(mlp, theta, gradient)
    for n_samples in (N, 5, N, 1):
        batch = torch.randn_like(features)[:n_samples]
        expected = network(batch)
        outputs = torch.from_numpy(backprop.forward(batch.numpy()))
        torch.testing.assert_close(outputs, expected)
        cotangent = torch.randn_like(outputs)
        backprop.backward(cotangent.numpy())
        by_autograd = torch.autograd.grad(expected, mlp.params, cotangent)
        torch.testing.assert_close(gradient, flatten(by_autograd))
        move(mlp)
        theta.mul_(1.5)
