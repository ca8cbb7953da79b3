"""Off-policy targets and truncated importance weights (Munos et al. 2016; Wang et al. 2017).

Pure functions. Arrays are time-major, of shape (n_steps, n_envs) with any number of trailing axes,
either numpy arrays or torch tensors; the results are of the same kind.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sb3_natural.shapes import check_shape

__all__ = ["correction_weight", "retrace", "trace", "truncated_weight"]

Array = TypeVar("Array", np.ndarray, Tensor)


def retrace(
    rewards: Array,
    next_values: Array,
    q_values: Array,
    traces: Array,
    continues: Array,
    gamma: float,
) -> Array:
    """Retrace's targets for Q(s_t, a_t), computed backwards over a segment.

    With n_t = 1 where step t + 1 belongs to the same episode and 0 elsewhere, the target is::

        Qret_t = r_t + gamma [V_{t+1} + n_t c_{t+1} (Qret_{t+1} - Q(s_{t+1}, a_{t+1}))],

    without the second term at the last step. Source: Munos et al. 2016, equation 4, in the form of
    Wang et al. 2017, section 3.1; with all traces one it is Wang's Qopc.

    :param rewards: r_t, shape (n_steps, n_envs, ...); all other arrays have the same shape
    :param next_values: V of the state that the action led to: 0 where the episode terminated, the
        value of the true last observation where a time limit ended it
    :param q_values: Q(s_t, a_t)
    :param traces: c_t, usually ``min(1, rho_t)``
    :param continues: n_t; the last is not used
    :param gamma: discount factor, from 0 to 1
    :return: Qret_t, of the rewards' shape and kind (numpy array or torch tensor)
    :raises ValueError: an array has another shape than the rewards; the message names it
    """
    check_shape(
        rewards.shape,
        next_values=next_values,
        q_values=q_values,
        traces=traces,
        continues=continues,
    )
    targets = rewards + gamma * next_values
    decays = gamma * (continues[:-1] * traces[1:])
    targets[:-1] -= decays * q_values[1:]
    for t in range(len(rewards) - 2, -1, -1):
        targets[t] += decays[t] * targets[t + 1]
    return targets


def trace(log_rho: Tensor, n_dims: int = 1) -> Tensor:
    """The share of later errors that passes a step: ``min(1, rho^(1 / n_dims))``.

    :param log_rho: logarithm of the importance ratio, ``log pi(a|s) - log mu(a|s)``, of any shape
    :param n_dims: dimensions of the action, 1 for Discrete (Wang et al. 2017, section 5.2)
    :return: c, of the same shape
    """
    return (log_rho / n_dims).clamp(max=0.0).exp()


def truncated_weight(log_rho: Tensor, c: float) -> Tensor:
    """The weight of an action that was taken: ``min(c, rho)``.

    :param log_rho: as for :func:`trace`
    :param c: where the weight is truncated, positive; ``math.inf`` for never
    :return: of the same shape as ``log_rho``
    """
    return log_rho.exp().clamp(max=c)


def correction_weight(log_rho: Tensor, c: float) -> Tensor:
    """The weight, under pi, of what truncation at c leaves out: ``max(0, 1 - c / rho)``.

    :param log_rho: as for :func:`trace`
    :param c: as for :func:`truncated_weight`
    :return: of the same shape as ``log_rho``
    """
    if c == float("inf"):
        return torch.zeros_like(log_rho)
    return (1 - c * torch.exp(-log_rho)).clamp(min=0.0)
