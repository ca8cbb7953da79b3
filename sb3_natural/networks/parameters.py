"""A policy's parameters as one flat vector, and those that an output depends on."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

__all__ = ["assign_flat", "flatten", "parameters_behind", "split"]


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """All elements of the tensors as one vector, in order.

    :param tensors: of any shapes, at least one
    :return: shape (P,), P the number of elements
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def split(vector: Tensor, params: Sequence[Tensor]) -> Iterator[Tensor]:
    """The inverse of :func:`flatten`: views of the vector in the shapes of the parameters.

    :param vector: shape (P,)
    :param params: tensors with P elements together
    """
    parts = vector.split([param.numel() for param in params])
    return (part.view_as(param) for part, param in zip(parts, params, strict=True))


def assign_flat(params: Sequence[nn.Parameter], vector: Tensor) -> None:
    """Copy a flat vector into the parameters: in order, in place.

    :param params: parameters with P elements together
    :param vector: shape (P,)
    """
    with torch.no_grad():
        for param, part in zip(params, split(vector, params), strict=True):
            param.copy_(part)


def parameters_behind(output: Tensor, module: nn.Module) -> list[nn.Parameter]:
    """The module's trainable parameters that ``output`` depends on, in the module's order.

    Found through autograd, whatever the parameters' names.

    :raises ValueError: ``output`` depends on none of them
    """
    params = [param for param in module.parameters() if param.requires_grad]
    if output.requires_grad and params:
        grads = torch.autograd.grad(output.sum(), params, allow_unused=True, retain_graph=True)
        params = [param for param, grad in zip(params, grads, strict=True) if grad is not None]
        if params:
            return params
    raise ValueError(
        f"No trainable parameter of {type(module).__name__} influences the output of shape "
        f"{tuple(output.shape)}: is it detached, or are all parameters frozen?"
    )
