"""Products of a batch with a layer's weights, by the library that is fastest for them.

On AMD's processors MKL, which torch multiplies with, leaves AVX-512 unused. oneDNN, which torch has
for compiled models, uses it, at up to twice the rate. It is taken for large products in float32 on
CPUs with AVX-512; all else is torch's own product. The two are equal up to rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["add_gram", "add_outer", "add_product", "affine", "product"]

# The shortest side of the weights, and the number of multiply-adds, from which it pays: a call
# costs about 8 microseconds more.
_SIDE, _WORK = 32, 2**22


def _found() -> Any:
    """The operator of compiled linear layers, rows @ weight.T + bias; None if it is not for us."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    try:
        operator = torch.ops.mkldnn._linear_pointwise
        rows, weight, bias = torch.arange(6.0).view(3, 2), torch.ones(4, 2), torch.arange(4.0)
        affine = operator(rows, weight, bias, "none", [], "")
        doubled = operator.binary(rows, affine, weight, bias, "add")
    # It is not part of torch's public interface, so another version may not have it like this.
    except (AttributeError, RuntimeError, TypeError):
        return None
    expected = torch.addmm(bias, rows, weight.t())
    are_right = torch.equal(affine, expected) and torch.equal(doubled, 2 * expected)
    return operator if are_right else None


_linear = _found()


def _fits(rows: Tensor, weight: Tensor) -> bool:
    return (
        _linear is not None
        and len(rows) * weight.numel() >= _WORK
        and min(weight.shape) >= _SIDE
        and rows.dtype == torch.float32
        and rows.device.type == "cpu"
    )


def affine(rows: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """``rows @ weight.T + bias``, shape (N, n_out), in ``out`` or in a new tensor.

    :param rows: shape (N, n_in)
    :param weight: shape (n_out, n_in)
    """
    if _fits(rows, weight):
        return _linear(rows, weight, bias, "none", [], "")
    return torch.addmm(bias, rows, weight.t(), out=out)


def add_product(total: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """``total + rows @ weight.T``, shape (N, n_out), in ``total`` or in a new tensor."""
    if _fits(rows, weight):
        return _linear.binary(rows, total, weight, None, "add")
    return total.addmm_(rows, weight.t())


def product(rows: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """``rows @ weight`` for rows (N, n_out), shape (N, n_in), in ``out`` or in a new tensor."""
    if _fits(rows, weight):
        return _linear(rows, weight.t(), None, "none", [], "")
    return torch.mm(rows, weight, out=out)


def add_gram(total: Tensor, rows: Tensor) -> None:
    """``total += rows.T @ rows``, shapes (n, n), (N, n).

    On the CPU by numpy, which knows that the result is symmetric and computes half of it.
    """
    if rows.device.type != "cpu":
        total.addmm_(rows.t(), rows)
        return
    array = rows.numpy()
    total += torch.from_numpy(array.T.dot(array))


def add_outer(
    total: Tensor, delta: Tensor, inputs: Tensor, transposed: Callable[[], Tensor]
) -> None:
    """``total += delta.T @ inputs``, shapes (n_out, n_in), (N, n_out), (N, n_in).

    :param transposed: gives a contiguous copy of ``inputs.T``, which oneDNN needs
    """
    if _fits(delta, total):
        total.add_(_linear(transposed(), delta.t(), None, "none", [], "").t())
    elif inputs.shape[1] < delta.shape[1]:
        # A product with few columns takes twice the time of the transposed one.
        total.add_(torch.mm(inputs.t(), delta).t())
    else:
        total.addmm_(delta.t(), inputs)
