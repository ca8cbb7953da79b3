"""The number of threads that torch uses while this library computes.

Splitting a product among threads costs about ten microseconds, and far more on a busy machine
(during a sweep, for example). The products of the usual networks do not take that long.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sb3_natural.networks.mlp import Mlp

__all__ = ["one_thread_if_small"]

# Multiply-adds of one layer's product, about 0.7 ms on one core.
SMALL = 2**26


@contextmanager
def one_thread_if_small(mlp: Mlp | None, n_samples: int) -> Iterator[None]:
    """Use one thread inside the ``with`` block if more do not pay, and the user's number after it.

    :param mlp: the network; None stands for one that is not a plain MLP: nothing changes
    :param n_samples: number of samples in each batch
    """
    before = torch.get_num_threads()
    if mlp is None or before == 1 or n_samples * _widest(mlp) > SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _widest(mlp: Mlp) -> int:
    return max(layer.in_features * layer.out_features for layer in mlp.linears)
