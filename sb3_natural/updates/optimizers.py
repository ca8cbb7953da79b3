"""Whether all parameters of an optimiser may be stepped as one vector."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim import optimizer as optim_hooks

__all__ = ["is_usual", "treats_alike"]


def is_usual(optimizer: Optimizer) -> bool:
    """Whether the optimiser has one group with a plain learning rate, and nobody watches it."""
    if len(optimizer.param_groups) != 1:
        return False
    (group,) = optimizer.param_groups
    return not (
        isinstance(group["lr"], Tensor)
        or group.get("differentiable")
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or optim_hooks._global_optimizer_pre_hooks
        or optim_hooks._global_optimizer_post_hooks
    )


def treats_alike(optimizer: Optimizer, params: Sequence[nn.Parameter]) -> bool:
    """Whether the optimiser is a usual one, and treats these parameters alike.

    It may have others, which keep their values and states as long as they have no gradient.

    :param params: all of them different
    """
    if not is_usual(optimizer):
        return False
    (group,) = optimizer.param_groups
    if not set(map(id, params)) <= set(map(id, group["params"])):
        return False
    if any(param.dtype != torch.float32 or not param.is_cpu for param in params):
        return False
    states = [optimizer.state[param] for param in params if param in optimizer.state]
    if not states:
        return True
    return len(states) == len(params) and len({float(state["step"]) for state in states}) == 1
