"""Gradients of single samples: row by row, and the sums of their squares."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sb3_natural.networks.parameters import flatten, split
from sb3_natural.observations import at

__all__ = ["per_sample_vjp", "sum_of_squares"]

# Samples per backward pass. Work grows with it, overhead shrinks with it: between 16 and 64 the
# time for 2,048 samples of a 64-64 network hardly changes.
_CHUNK = 32


def per_sample_vjp(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    cotangents: Tensor,
    params: Sequence[nn.Parameter],
) -> Iterator[Tensor]:
    """J(s)^T u for every sample s and each of its m cotangents u, without the sum over samples.

    :param function: maps a batch of each input to outputs of shape (batch, K)
    :param inputs: observations (and actions) of N samples
    :param cotangents: shape (N, m, K)
    :param params: the P parameters to differentiate by
    :return: chunks of shape (n, m, P), whose n add up to N
    """
    for start in range(0, len(cotangents), _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, len(cotangents)))
        own = cotangents[rows]
        n, m, k = own.shape
        # One backward pass per sample and cotangent, with zeros for the chunk's other samples;
        # torch runs them as one batch. Mapping the forward pass over samples would save the zeros,
        # but fails for policies whose forward pass looks at values (one-hot encoding does).
        padded = own.new_zeros(n, m, n, k)
        padded[range(n), :, range(n)] = own
        outputs = function(*(at(part, rows) for part in inputs))
        grads = torch.autograd.grad(
            outputs, list(params), padded.view(n * m, n, k), is_grads_batched=True
        )
        yield torch.cat([grad.flatten(1) for grad in grads], dim=1).view(n, m, -1)


def sum_of_squares(
    module: nn.Module,
    function: Callable[[Any], Tensor],
    observations: Any,
    cotangents: Tensor,
    params: Sequence[nn.Parameter],
) -> Tensor:
    """The sum over samples s and cotangents u of the squares of J(s)^T u, shape (P,).

    For a Linear layer a sample's gradient is the outer product of its output gradient and its
    input, so the squares are a matrix product of squares, and one backward pass per cotangent is
    enough. Other parameters (log_std, convolutions) go through per-sample gradients.

    :param module: holds the layers that ``function`` uses
    :param function: maps N observations to outputs of shape (N, K)
    :param cotangents: shape (N, m, K)
    :param params: the P parameters to differentiate by
    """
    with _LinearTape(module, params) as tape:
        outputs = function(observations)
    squares: dict[Tensor, Tensor] = {param: torch.zeros_like(param) for param in params}
    layers = tape.layers()
    for cotangent in cotangents.unbind(dim=1) if layers else ():
        grads = torch.autograd.grad(
            outputs, [layer.output for layer in layers], cotangent, retain_graph=True
        )
        for layer, grad in zip(layers, grads, strict=True):
            layer.add_squares(squares, grad)
    covered = {param for layer in layers for param in layer.parameters()}
    rest = [param for param in params if param not in covered]
    if rest:
        per_chunk = [
            rows.square().sum(dim=(0, 1))
            for rows in per_sample_vjp(function, (observations,), cotangents, rest)
        ]
        for param, part in zip(rest, split(torch.stack(per_chunk).sum(dim=0), rest), strict=True):
            squares[param] += part
    return flatten(squares[param] for param in params)


class _LinearCall:
    """Input and output of one Linear layer in one forward pass."""

    def __init__(self, layer: nn.Linear, inputs: Tensor, output: Tensor) -> None:
        self.layer = layer
        self.inputs = inputs
        self.output = output

    def parameters(self) -> list[nn.Parameter]:
        return list(self.layer.parameters())

    def add_squares(self, squares: dict[Tensor, Tensor], grad: Tensor) -> None:
        """Add the sum over samples of the squared gradients; ``grad`` is that of the output."""
        squared = grad.square()
        squares[self.layer.weight] += squared.T @ self.inputs.detach().square()
        if self.layer.bias is not None:
            squares[self.layer.bias] += squared.sum(dim=0)


class _LinearTape:
    """Records the Linear layers that a forward pass inside its ``with`` block uses.

    A layer counts only where the outer-product rule holds: it is called once, on a batch of
    vectors, all its parameters are wanted, and no other layer shares them.
    """

    def __init__(self, module: nn.Module, params: Sequence[nn.Parameter]) -> None:
        self._wanted = set(params)
        self._modules = [layer for layer in module.modules() if type(layer) is nn.Linear]
        self._calls: list[_LinearCall] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "_LinearTape":
        self._handles = [layer.register_forward_hook(self._record) for layer in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        self._calls.append(_LinearCall(layer, inputs[0], output))
        # An activation that works in place must not overwrite what was recorded.
        return output.clone()

    def layers(self) -> list[_LinearCall]:
        """The calls for which the outer-product rule holds."""
        uses: dict[nn.Parameter, int] = {}
        for call in self._calls:
            for param in call.parameters():
                uses[param] = uses.get(param, 0) + 1
        return [
            call
            for call in self._calls
            if call.inputs.ndim == 2
            and all(p in self._wanted and uses[p] == 1 for p in call.parameters())
        ]
