"""Batches of observations: an array or a tensor, or a dict of them for Dict spaces."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["at", "batch_length", "first_sample", "mapped", "pairs", "stacked"]


def mapped(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """What a function makes of observations: a dict, key by key, where they are dicts.

    :param others: further observations, whose parts are further arguments of the function
    """
    if isinstance(first, dict):
        return {key: function(part, *(o[key] for o in others)) for key, part in first.items()}
    return function(first, *others)


def pairs(first: Any, second: Any) -> Sequence[tuple[Any, Any]]:
    """The parts of two observations that belong together."""
    if isinstance(first, dict):
        return [(part, second[key]) for key, part in first.items()]
    return ((first, second),)


def batch_length(observations: Any) -> int:
    """The number of samples."""
    return len(
        next(iter(observations.values())) if isinstance(observations, dict) else observations
    )


def at(observations: Any, index: Any) -> Any:
    """The samples at an index, a slice or several indices; of tensors, these are on the CPU."""
    return mapped(lambda part: part[index], observations)


def first_sample(observations: Any) -> Any:
    """The first sample, as a batch of one."""
    return at(observations, slice(1))


def stacked(observations: Sequence[Any]) -> Any:
    """Single observations, in arrays, as a batch."""
    return mapped(lambda *samples: np.stack(samples), *observations)
