"""A whole rollout as one batch."""

from typing import NamedTuple

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer

__all__ = ["Rollout", "is_usual", "whole_rollout"]

# Those that RolloutBuffer.get flattens.
_COLUMNS = ("observations", "actions", "values", "log_probs", "advantages", "returns")


class Rollout(NamedTuple):
    """N steps of all environments; the arrays are the buffer's."""

    observations: np.ndarray
    """(N, ...)"""
    actions: np.ndarray
    """(N, n_dims), floats"""
    advantages: np.ndarray
    """(N,)"""
    returns: np.ndarray
    """(N,)"""


def is_usual(buffer: RolloutBuffer) -> bool:
    """Whether the buffer makes batches as SB3's own does."""
    methods = ("get", "_get_samples", "swap_and_flatten", "to_torch")
    return "get" not in vars(buffer) and all(
        getattr(type(buffer), name) is getattr(RolloutBuffer, name) for name in methods
    )


def whole_rollout(buffer: RolloutBuffer) -> Rollout:
    """The batch of ``buffer.get(batch_size=None)``, but in order.

    For sums over all samples, the order does not matter. Buffer and numpy's random numbers are left
    as ``get`` leaves them.

    :param buffer: full, and :func:`is_usual`
    """
    assert buffer.full
    np.random.permutation(buffer.buffer_size * buffer.n_envs)  # noqa: NPY002 - the one that SB3 uses
    if not buffer.generator_ready:
        for name in _COLUMNS:
            setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
        buffer.generator_ready = True
    return Rollout(
        buffer.observations,
        buffer.actions.astype(np.float32, copy=False),
        buffer.advantages.reshape(-1),
        buffer.returns.reshape(-1),
    )
