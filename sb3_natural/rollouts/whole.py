"""A whole rollout as one batch."""

from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

__all__ = ["Rollout", "whole_rollout"]

# Those that RolloutBuffer.get flattens.
_COLUMNS = ("observations", "actions", "values", "log_probs", "advantages", "returns")


class Rollout(NamedTuple):
    """N steps of all environments; the tensors share the buffer's memory."""

    observations: Tensor
    """(N, ...)"""
    actions: Tensor
    """(N, n_dims), floats"""
    advantages: Tensor
    """(N,)"""
    returns: Tensor
    """(N,)"""


def whole_rollout(buffer: RolloutBuffer) -> Rollout:
    """The batch of ``buffer.get(batch_size=None)``, on the CPU, but in order.

    For sums over all samples, the order does not matter. Buffer and numpy's random numbers are left
    as ``get`` leaves them.

    :param buffer: full, with SB3's own ``get``
    """
    assert buffer.full
    np.random.permutation(buffer.buffer_size * buffer.n_envs)  # noqa: NPY002 - the one that SB3 uses
    if not buffer.generator_ready:
        for name in _COLUMNS:
            setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
        buffer.generator_ready = True
    return Rollout(
        torch.from_numpy(buffer.observations),
        torch.from_numpy(buffer.actions.astype(np.float32, copy=False)),
        torch.from_numpy(buffer.advantages.reshape(-1)),
        torch.from_numpy(buffer.returns.reshape(-1)),
    )
