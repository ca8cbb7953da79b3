"""Forward and backward passes of plain multilayer perceptrons, without modules or autograd.

:func:`hidden_outputs` is the forward pass in torch, up to the last layer, which callers multiply by
in different ways. :func:`numpy_forward` is the forward pass in numpy. :class:`Backprop` has both
directions. All of them use the parameters' values at the time of the call.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from sb3_natural.networks.activations import Activation, known
from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.parameters import split

__all__ = [
    "Backprop",
    "fast_functions",
    "hidden_layers",
    "hidden_outputs",
    "numpy_fits",
    "numpy_forward",
    "torch_forward",
]

# Up to so many samples, numpy's products take less time than torch's, calls included.
_FEW = 16

Function = Callable[[Tensor], Tensor]
Layer = tuple[Tensor, Tensor, Function]


def hidden_layers(
    weights: Sequence[Tensor], biases: Sequence[Tensor], functions: Sequence[Function]
) -> list[Layer]:
    """Bias, transposed weight and activation of each hidden layer.

    :param weights: of all layers, detached
    :param biases: of all layers, detached
    :param functions: the activations, one fewer, since the last layer has none
    """
    return [
        (bias, weight.t(), function)
        for weight, bias, function in zip(weights, biases, functions, strict=False)
    ]


def hidden_outputs(
    hidden: Sequence[Layer], features: Tensor, buffers: Iterable[Tensor] | None = None
) -> Tensor:
    """The outputs of the last hidden layer, (N, width); the features if there is no hidden layer.

    :param hidden: from :func:`hidden_layers`
    :param buffers: tensors for the outputs of each hidden layer, which a backward pass needs. All
        activations must work in place, as those in the table do. By default, outputs are not kept.
    """
    h = features
    # The loop below with out=None would do, but picking an action would take up to 4% longer.
    if buffers is None:
        for bias, weight, function in hidden:
            h = function(torch.addmm(bias, h, weight))
        return h
    for (bias, weight, function), buffer in zip(hidden, buffers, strict=True):
        h = function(torch.addmm(bias, h, weight, out=buffer))
    return h


def fast_functions(functions: Iterable[Activation], device: torch.device) -> list[Function]:
    """The activations in the form that is fastest for many samples; equal up to rounding."""
    return [
        _on_tensors(activation.numpy_forward)
        if activation.numpy_is_faster and activation.numpy_forward and device.type == "cpu"
        else activation.forward
        for activation in functions
    ]


def _on_tensors(numpy_function: Callable[[np.ndarray, np.ndarray], object]) -> Function:
    def function(x: Tensor) -> Tensor:
        array = x.numpy()
        numpy_function(array, array)
        return x

    return function


def torch_forward(mlp: Mlp) -> Callable[[Tensor], Tensor]:
    """A function from features (N, n_features) to outputs (N, K), detached, in torch."""
    weights, biases = mlp.weights, mlp.biases
    device = weights[0].device
    hidden = hidden_layers(weights, biases, fast_functions(mlp.functions, device))
    head_bias, head_weight = biases[-1][:, None], weights[-1]

    def outputs(features: Tensor) -> Tensor:
        h = hidden_outputs(hidden, features)
        # Transposed: a product with few rows and N columns takes half the time.
        return torch.addmm(head_bias, head_weight, h.t()).t()

    return outputs


def numpy_fits(mlp: Mlp) -> bool:
    """Whether numpy can compute all activations."""
    return all(activation.numpy_forward is not None for activation in mlp.functions)


def numpy_forward(mlp: Mlp) -> Callable[[np.ndarray], np.ndarray]:
    """A function from features (N, n_features) to outputs (N, K), in numpy.

    Numpy's calls cost less than torch's. The outputs are equal up to rounding.

    :param mlp: a network in float32 on the CPU, for which :func:`numpy_fits` is true
    """
    weights = [weight.numpy().T for weight in mlp.weights]
    biases = [bias.numpy() for bias in mlp.biases]
    functions = known([activation.numpy_forward for activation in mlp.functions])
    hidden = list(zip(biases, weights, functions, strict=False))
    head_bias, head_weight = biases[-1], weights[-1]

    def outputs(h: np.ndarray) -> np.ndarray:
        for bias, weight, function in hidden:
            h = h.dot(weight)
            h += bias
            function(h, h)
        h = h.dot(head_weight)
        h += head_bias
        return h

    return outputs


class Backprop:
    """Forward and backward passes for many small batches in a row; float32, on the CPU.

    With a few dozen samples, allocating memory takes longer than the products. Therefore, buffers
    are reused for each batch, and elementwise functions run in numpy, whose calls cost a fifth of
    torch's. With even fewer samples, so do products.
    :class:`~sb3_natural.curvature.jacobian.MlpJacobian` is for a few large batches.

    :param mlp: a network that :meth:`fits`
    :param theta: its parameters as one vector, layer by layer, weights before biases; shape (P,)
    :param gradient: the vector that :meth:`backward` writes the gradient to, shape (P,)
    """

    def __init__(self, mlp: Mlp, theta: Tensor, gradient: Tensor) -> None:
        shapes = [param.detach() for param in mlp.params]
        own, grads = list(split(theta, shapes)), list(split(gradient, shapes))
        self._weights = own[::2]
        self._arrays = [part.numpy() for part in own[::2]]
        self._transposed = [array.T for array in self._arrays]
        self._bias_arrays = [part.numpy() for part in own[1::2]]
        self._weight_grads = [part.numpy() for part in grads[::2]]
        self._bias_grads = [part.numpy() for part in grads[1::2]]
        self._functions = known([activation.numpy_forward for activation in mlp.functions])
        self._hidden = hidden_layers(
            own[::2], own[1::2], [_on_tensors(function) for function in self._functions]
        )
        self._head = own[-1], own[-2].t()
        self._slopes = known([activation.numpy_slope for activation in mlp.functions])
        self._buffers: dict[int, _Buffers] = {}

    @staticmethod
    def fits(mlp: Mlp) -> bool:
        """Whether numpy can compute all activations and their slopes."""
        return numpy_fits(mlp) and all(
            activation.numpy_slope is not None for activation in mlp.functions
        )

    def forward(self, features: np.ndarray) -> np.ndarray:
        """The outputs, shape (N, K). The next call with as many samples overwrites them.

        :param features: shape (N, n_features)
        """
        buffers = self._buffers.get(len(features))
        if buffers is None:
            buffers = self._buffers[len(features)] = _Buffers(self._weights, len(features))
        self._features, self._current = features, buffers
        if len(features) <= _FEW:
            self._forward_few(features, buffers)
        else:
            bias, weight = self._head
            h = hidden_outputs(self._hidden, torch.from_numpy(features), buffers.hidden)
            torch.addmm(bias, h, weight, out=buffers.outputs)
        return buffers.arrays[-1]

    def _forward_few(self, h: np.ndarray, buffers: "_Buffers") -> None:
        last = len(self._functions)
        for index, out in enumerate(buffers.arrays):
            np.dot(h, self._transposed[index], out=out)
            out += self._bias_arrays[index]
            if index < last:
                self._functions[index](out, out)
            h = out

    def backward(self, cotangent: np.ndarray) -> None:
        """Write J^T u, summed over the samples of the last :meth:`forward`, to the gradient.

        :param cotangent: u, shape (N, K)
        """
        product = _numpy_product if len(cotangent) <= _FEW else _torch_product
        buffers, delta = self._current, cotangent
        for index in range(len(self._weights) - 1, -1, -1):
            inputs = buffers.arrays[index - 1] if index else self._features
            product(delta.T, inputs, self._weight_grads[index])
            np.add.reduce(delta, axis=0, out=self._bias_grads[index])
            if index:
                out = buffers.deltas[index - 1]
                product(delta, self._arrays[index], out)
                self._slopes[index - 1](out, buffers.arrays[index - 1])
                delta = out


def _numpy_product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    np.dot(left, right, out=out)


def _torch_product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    torch.mm(torch.from_numpy(left), torch.from_numpy(right), out=torch.from_numpy(out))


class _Buffers:
    """Room for the outputs of each layer and for derivatives by those of hidden layers."""

    def __init__(self, weights: list[Tensor], n_samples: int) -> None:
        *self.hidden, self.outputs = [
            weight.new_empty(n_samples, len(weight)) for weight in weights
        ]
        self.arrays = [tensor.numpy() for tensor in (*self.hidden, self.outputs)]
        self.deltas = [np.empty_like(array) for array in self.arrays[:-1]]
