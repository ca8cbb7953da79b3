"""A multilayer perceptron's outputs and gradient for many small batches in a row.

:class:`~sb3_natural.curvature.jacobian.MlpJacobian` is made for few large batches; with some dozen
samples at a time, making room anew takes longer than the products. Here room is made once, and what
is done element by element is done in numpy, whose calls cost a fifth of torch's.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sb3_natural.networks.mlp import Mlp
from sb3_natural.networks.parameters import split

__all__ = ["Backprop"]


class Backprop:
    """Forward and backward passes of an MLP in float32 on the CPU.

    :param mlp: one that :meth:`fits`
    :param theta: its parameters as one vector, layer by layer, weights before biases; (P,)
    :param gradient: where :meth:`backward` puts the gradient, (P,)
    """

    def __init__(self, mlp: Mlp, theta: Tensor, gradient: Tensor) -> None:
        shapes = [param.detach() for param in mlp.params]
        own, grads = list(split(theta, shapes)), list(split(gradient, shapes))
        self._weights, self._biases = own[::2], own[1::2]
        self._weight_grads = grads[::2]
        self._bias_grads = [part.numpy() for part in grads[1::2]]
        self._activations = [_ACTIVATIONS[type(activation)] for activation in mlp.activations]
        self._rooms: dict[int, _Room] = {}

    @staticmethod
    def fits(mlp: Mlp) -> bool:
        """Whether all activations are known here."""
        return all(type(activation) in _ACTIVATIONS for activation in mlp.activations)

    def forward(self, features: Tensor) -> Tensor:
        """The outputs, (N, K), in memory that the next call with as many samples uses again."""
        room = self._rooms.get(len(features))
        if room is None:
            room = self._rooms[len(features)] = _Room(self._weights, len(features))
        h = features
        for index, bias in enumerate(self._biases):
            out = room.outputs[index]
            torch.addmm(bias, h, self._weights[index].t(), out=out)
            if index < len(self._activations):
                self._activations[index][0](room.arrays[index])
            h = out
        self._features, self._room = features, room
        return h

    def backward(self, cotangent: Tensor) -> None:
        """Put J^T u, summed over the samples of the last :meth:`forward`, into the gradient.

        :param cotangent: u, (N, K)
        """
        room, delta = self._room, cotangent
        for index in range(len(self._weights) - 1, -1, -1):
            inputs = room.outputs[index - 1] if index else self._features
            torch.mm(delta.t(), inputs, out=self._weight_grads[index])
            np.sum(delta.numpy(), axis=0, out=self._bias_grads[index])
            if index:
                out = room.deltas[index - 1]
                torch.mm(delta, self._weights[index], out=out)
                self._activations[index - 1][1](out.numpy(), room.arrays[index - 1])
                delta = out


class _Room:
    """Memory for N samples: of each layer the outputs, of each hidden one their derivatives."""

    def __init__(self, weights: list[Tensor], n_samples: int) -> None:
        self.outputs = [weight.new_empty(n_samples, len(weight)) for weight in weights]
        self.arrays = [output.numpy() for output in self.outputs]
        self.deltas = [torch.empty_like(output) for output in self.outputs[:-1]]


def _tanh(x: np.ndarray) -> None:
    np.tanh(x, out=x)


def _tanh_slope(grad: np.ndarray, out: np.ndarray) -> None:
    slope = np.square(out)
    np.subtract(1, slope, out=slope)
    grad *= slope


def _relu(x: np.ndarray) -> None:
    np.maximum(x, 0, out=x)


def _relu_slope(grad: np.ndarray, out: np.ndarray) -> None:
    grad *= out > 0


_ACTIVATIONS: dict[
    type[nn.Module],
    tuple[Callable[[np.ndarray], None], Callable[[np.ndarray, np.ndarray], None]],
] = {
    nn.Tanh: (_tanh, _tanh_slope),
    nn.ReLU: (_relu, _relu_slope),
}
"""In place: the function, and (grad, output) -> grad f'."""
