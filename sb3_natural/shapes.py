"""Checking the shapes of arrays where a function takes them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

__all__ = ["check_shape"]


def check_shape(expected: Sequence[int], **arrays: Tensor | np.ndarray) -> None:
    """Check that all arrays have one shape. Looks at no values, so that no device is waited for.

    :param arrays: arrays or tensors by the names that the caller knows them by
    :raises ValueError: the first that has another shape; names it
    """
    expected = tuple(expected)
    for name, array in arrays.items():
        if array.shape != expected:
            raise ValueError(f"{name} must have shape {expected}, got shape {tuple(array.shape)}")
