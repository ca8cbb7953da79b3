"""Activation functions: one table, which holds all that this library knows about each of them.

To support another activation, add an entry to :data:`ACTIVATIONS`. The code that acts, multiplies
by Jacobians or backpropagates looks up the function that it needs; where the entry lacks it, that
code falls back to a more general and slower method.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ACTIVATIONS", "Activation", "activation_of", "known"]

T = TypeVar("T")

_aten = torch.ops.aten


class Activation(NamedTuple):
    """An elementwise function f, with the parameters of one module.

    All functions work in place; tensors must not require gradients. A function that is None is
    unknown.
    """

    forward: Callable[[Tensor], Tensor]
    """x -> f(x), bit for bit what the module returns."""
    slope: Callable[[Tensor, Tensor], Tensor] | None = None
    """(grad, f(x)) -> grad * f'(x). None if f(x) does not determine f'(x)."""
    numpy_forward: Callable[[np.ndarray, np.ndarray], object] | None = None
    """(x, out): write f(x) to ``out``, which may be x. A ufunc will do."""
    numpy_slope: Callable[[np.ndarray, np.ndarray], object] | None = None
    """(grad, f(x)): multiply ``grad`` by f'(x)."""
    numpy_is_faster: bool = False
    """Whether numpy computes f faster than torch on large tensors, and as exactly."""


def activation_of(module: nn.Module) -> Activation:
    """The table's entry for a module. For an unknown one, nothing but its forward pass.

    The forward pass of an unknown module does not work in place.
    """
    entry = ACTIVATIONS.get(type(module))
    return Activation(module) if entry is None else entry(module)


def known(functions: Sequence[T | None]) -> list[T]:
    """The functions, none of which may be None."""
    found = [function for function in functions if function is not None]
    assert len(found) == len(functions)
    return found


def _without_parameters(*args: Any, **kwargs: Any) -> Callable[[nn.Module], Activation]:
    activation = Activation(*args, **kwargs)
    return lambda _: activation


def _tanh_slope(grad: Tensor, out: Tensor) -> Tensor:
    return _aten.tanh_backward.grad_input(grad, out, grad_input=grad)


def _numpy_tanh_slope(grad: np.ndarray, out: np.ndarray) -> None:
    factor = np.square(out)
    np.subtract(1, factor, out=factor)
    grad *= factor


def _relu_slope(grad: Tensor, out: Tensor) -> Tensor:
    return _aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)


def _numpy_relu(x: np.ndarray, out: np.ndarray) -> None:
    np.maximum(x, 0, out=out)


def _numpy_relu_slope(grad: np.ndarray, out: np.ndarray) -> None:
    grad *= out > 0


def _leaky_relu(module: nn.LeakyReLU) -> Activation:
    def forward(x: Tensor) -> Tensor:
        return functional.leaky_relu(x, module.negative_slope, inplace=True)

    def slope(grad: Tensor, out: Tensor) -> Tensor:
        return _aten.leaky_relu_backward.grad_input(
            grad, out, module.negative_slope, True, grad_input=grad
        )

    def numpy_forward(x: np.ndarray, out: np.ndarray) -> None:
        below = np.minimum(x, 0)
        below *= module.negative_slope
        np.maximum(x, 0, out=out)
        out += below

    # If the negative slope is not positive, two inputs share an output.
    return Activation(forward, slope if module.negative_slope > 0 else None, numpy_forward)


def _elu(module: nn.ELU) -> Activation:
    def forward(x: Tensor) -> Tensor:
        return functional.elu(x, module.alpha, inplace=True)

    def slope(grad: Tensor, out: Tensor) -> Tensor:
        return _elu_slope(grad, out, module.alpha, 1)

    def numpy_forward(x: np.ndarray, out: np.ndarray) -> None:
        _numpy_elu(x, out, module.alpha)

    # If alpha is not positive, two inputs share an output.
    return Activation(forward, slope if module.alpha > 0 else None, numpy_forward)


def _elu_slope(grad: Tensor, out: Tensor, alpha: float, scale: float) -> Tensor:
    return _aten.elu_backward.grad_input(grad, alpha, scale, 1, True, out, grad_input=grad)


def _numpy_elu(x: np.ndarray, out: np.ndarray, alpha: float) -> None:
    below = np.minimum(x, 0)  # so that the exponential cannot overflow
    np.expm1(below, out=below)
    below *= alpha
    np.maximum(x, 0, out=out)
    out += below


# Of SELU, from Klambauer et al. 2017; torch has the same.
_ALPHA, _SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _selu_slope(grad: Tensor, out: Tensor) -> Tensor:
    return _elu_slope(grad, out, _ALPHA, _SCALE)


def _numpy_selu(x: np.ndarray, out: np.ndarray) -> None:
    _numpy_elu(x, out, _ALPHA)
    out *= _SCALE


def _numpy_selu_slope(grad: np.ndarray, out: np.ndarray) -> None:
    factor = np.minimum(out, 0)
    factor += _ALPHA * _SCALE
    grad *= np.where(out > 0, _SCALE, factor)


def _sigmoid_slope(grad: Tensor, out: Tensor) -> Tensor:
    return _aten.sigmoid_backward.grad_input(grad, out, grad_input=grad)


def _numpy_sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    # By way of tanh, which cannot overflow.
    np.tanh(np.multiply(x, 0.5, out), out)
    np.multiply(np.add(out, 1, out), 0.5, out)


def _silu(x: Tensor) -> Tensor:
    return functional.silu(x, inplace=True)


def _numpy_silu(x: np.ndarray, out: np.ndarray) -> None:
    gate = np.empty_like(x)
    _numpy_sigmoid(x, gate)
    np.multiply(x, gate, out)


# PPO leaves its update to SB3 where a numpy_slope is missing. LeakyReLU, ELU and Sigmoid lack it so
# that, with these, a seed gives the same parameters as SB3's update, bit for bit.
ACTIVATIONS: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.Tanh: _without_parameters(
        torch.tanh_, _tanh_slope, np.tanh, _numpy_tanh_slope, numpy_is_faster=True
    ),
    nn.ReLU: _without_parameters(torch.relu_, _relu_slope, _numpy_relu, _numpy_relu_slope),
    nn.LeakyReLU: _leaky_relu,
    nn.ELU: _elu,
    nn.SELU: _without_parameters(torch.selu_, _selu_slope, _numpy_selu, _numpy_selu_slope),
    nn.Sigmoid: _without_parameters(torch.sigmoid_, _sigmoid_slope, _numpy_sigmoid),
    nn.SiLU: _without_parameters(_silu, numpy_forward=_numpy_silu),
}
"""Of each class, a function of a module. A derived class is unknown: it may compute anything."""
