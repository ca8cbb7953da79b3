"""Batches of observations: an array or a tensor, or a dict of them for Dict spaces."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["batch_length", "first_sample", "mapped", "stacked", "take"]


def mapped(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """The function of the observations, part by part where they are dicts.

    :param others: further arguments of the function, with the parts of ``first``
    """
    if isinstance(first, dict):
        return {key: function(part, *(o[key] for o in others)) for key, part in first.items()}
    return function(first, *others)


def batch_length(observations: Any) -> int:
    """The number of samples."""
    return len(
        next(iter(observations.values())) if isinstance(observations, dict) else observations
    )


def take(observations: Any, rows: torch.Tensor) -> Any:
    """Some of the samples.

    :param observations: tensors
    :param rows: their numbers, on any device
    """
    return mapped(lambda tensor: tensor[rows.to(tensor.device)], observations)


def first_sample(observations: Any) -> Any:
    """The first sample, as a batch of one."""
    return mapped(lambda tensor: tensor[:1], observations)


def stacked(observations: Sequence[Any]) -> Any:
    """Single observations, in arrays, as a batch."""
    return mapped(lambda *parts: np.stack(parts), *observations)
