"""Gradients of single samples: row by row, and the sums of their squares."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sb3_natural.curvature.tape import LayerCall, LayerTape
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
    with LayerTape(module) as tape:
        outputs = function(observations)
    squares: dict[Tensor, Tensor] = {param: torch.zeros_like(param) for param in params}
    calls = _with_outer_products(tape.calls, params)
    for cotangent in cotangents.unbind(dim=1) if calls else ():
        grads = torch.autograd.grad(
            outputs, [call.output for call in calls], cotangent, retain_graph=True
        )
        for call, grad in zip(calls, grads, strict=True):
            _add_squares(squares, call, grad)
    covered = {param for call in calls for param in call.layer.parameters()}
    rest = [param for param in params if param not in covered]
    if rest:
        per_chunk = [
            rows.square().sum(dim=(0, 1))
            for rows in per_sample_vjp(function, (observations,), cotangents, rest)
        ]
        for param, part in zip(rest, split(torch.stack(per_chunk).sum(dim=0), rest), strict=True):
            squares[param] += part
    return flatten(squares[param] for param in params)


def _with_outer_products(
    calls: Sequence[LayerCall], params: Sequence[nn.Parameter]
) -> list[LayerCall]:
    """The calls in which a sample's gradient is the outer product of two vectors.

    These are of Linear layers, on a batch of vectors; of layers that are called once, all of whose
    parameters are wanted, and that share them with no other.
    """
    wanted = set(params)
    uses = Counter(param for call in calls for param in call.layer.parameters())
    return [
        call
        for call in calls
        if type(call.layer) is nn.Linear
        and call.inputs.ndim == 2
        and all(param in wanted and uses[param] == 1 for param in call.layer.parameters())
    ]


def _add_squares(squares: dict[Tensor, Tensor], call: LayerCall, grad: Tensor) -> None:
    """Add the sum over samples of the squared gradients; ``grad`` is that of the output."""
    squared = grad.square()
    squares[call.layer.weight] += squared.T @ call.inputs.square()
    if call.layer.bias is not None:
        squares[call.layer.bias] += squared.sum(dim=0)
