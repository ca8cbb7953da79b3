"""RMSprop over all parameters as one vector.

Torch's goes through the parameters one by one, with five small operations for each. Copies between
the parameters and the vector are numpy's, whose calls cost a tenth of torch's.
"""

from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors
from torch.optim import Optimizer, RMSprop

from sb3_natural.updates.optimizers import is_usual, treats_alike

__all__ = ["FlatRmsProp", "fits"]


class FlatRmsProp:
    """Steps of an RMSprop optimiser, for flat gradients; they are as if it had taken them itself.

    :param optimizer: one that :func:`fits`
    :param params: the optimiser's parameters that have gradients, in the gradients' order. They
        must keep their memory.
    :ivar vector: all parameters as of the last :meth:`read`, (P,)
    """

    def __init__(self, optimizer: RMSprop | RMSpropTFLike, params: list[nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._params = params
        self._ids = list(map(id, optimizer.param_groups[0]["params"]))
        self._lengths = [param.numel() for param in params]
        self._rows = [_flat(param) for param in params]
        self.vector = torch.empty(sum(self._lengths))
        self._parts = _parts(self.vector, self._lengths)
        self._square_avg = np.empty(len(self.vector), dtype=np.float32)
        self._square_avg_parts = _parts(torch.from_numpy(self._square_avg), self._lengths)
        self._divisor = np.empty_like(self._square_avg)
        self._states = _States(optimizer, params)

    def fits(self, optimizer: Optimizer) -> bool:
        """Whether this optimiser is still the one, and still one that :func:`fits`."""
        if optimizer is not self._optimizer or not _has_usual_options(optimizer):
            return False
        (group,) = optimizer.param_groups
        if list(map(id, group["params"])) != self._ids:
            return False
        if not self._states.are_current(optimizer):
            if not fits(optimizer, self._params):
                return False
            self._states = _States(optimizer, self._params)
        return True

    def read(self) -> None:
        """Look at the parameters again."""
        np.concatenate(self._rows, out=self.vector.numpy())

    def step(self, gradient: Tensor) -> None:
        """Move the parameters from :attr:`vector`, and leave them their parts of the gradient.

        :param gradient: (P,); overwritten
        """
        (group,) = self._optimizer.param_groups
        square_avgs, square_avg = self._states.square_avgs, self._square_avg
        np.concatenate(square_avgs, out=square_avg)
        self._leave(gradient)
        vector, step = self.vector.numpy(), gradient.numpy()
        if group["weight_decay"] != 0:
            step += vector * np.float32(group["weight_decay"])
        alpha = group["alpha"]
        square_avg *= np.float32(alpha)
        divisor = np.multiply(step, step, out=self._divisor)
        divisor *= np.float32(1 - alpha)
        square_avg += divisor
        self._divide(step, np.float32(group["eps"]))
        step *= np.float32(group["lr"])
        vector -= step
        _copy(self._parts, self._rows)
        _copy(self._square_avg_parts, square_avgs)
        self._states.count()

    def _divide(self, step: np.ndarray, eps: np.float32) -> None:
        """Divide by the root of the averages."""
        divisor = self._divisor
        if type(self._optimizer) is RMSpropTFLike:
            np.add(self._square_avg, eps, out=divisor)
            np.sqrt(divisor, out=divisor)
        else:
            np.sqrt(self._square_avg, out=divisor)
            divisor += eps
        step /= divisor

    def _leave(self, gradient: Tensor) -> None:
        parts = _unflatten_dense_tensors(gradient.clone(), self._params)
        for param, part in zip(self._params, parts, strict=True):
            param.grad = part


class _States:
    """The optimiser's states of the parameters, begun if there are none yet."""

    def __init__(self, optimizer: RMSprop | RMSpropTFLike, params: Sequence[nn.Parameter]) -> None:
        for param in params:
            if param not in optimizer.state or not optimizer.state[param]:
                optimizer.state[param] = _initial(optimizer, param)
        states = [optimizer.state[param] for param in params]
        self._all = list(optimizer.state.values())
        self._tensors = [
            (state, name, value)
            for state in states
            for name, value in state.items()
            if isinstance(value, Tensor)
        ]
        self.square_avgs = [_flat(state["square_avg"]) for state in states]
        steps = [state["step"] for state in states]
        self._steps = [step.numpy() for step in steps if isinstance(step, Tensor)]
        self._counting = [state for state in states if not isinstance(state["step"], Tensor)]

    def are_current(self, optimizer: Optimizer) -> bool:
        """Whether nobody has exchanged states, as loading them does."""
        now = optimizer.state.values()
        return (
            len(now) == len(self._all)
            and all(map(is_, now, self._all))
            and all(state.get(name) is value for state, name, value in self._tensors)
        )

    def count(self) -> None:
        """There was another step."""
        for step in self._steps:
            step[()] = step[()] + 1
        for state in self._counting:
            state["step"] += 1


def _initial(optimizer: Optimizer, param: nn.Parameter) -> dict[str, Any]:
    """The state of a parameter before its first step."""
    if type(optimizer) is RMSpropTFLike:
        return {"step": 0, "square_avg": torch.ones_like(param)}
    return {"step": torch.zeros(()), "square_avg": torch.zeros_like(param)}


def _flat(tensor: Tensor) -> np.ndarray:
    """Its elements as a vector in the same memory."""
    return tensor.detach().view(-1).numpy()


def _parts(vector: Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
    return [part.numpy() for part in vector.split(list(lengths))]


def _copy(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target[...] = source


def fits(optimizer: Optimizer, params: Sequence[nn.Parameter]) -> bool:
    """Whether the optimiser is one of the two RMSprops, as A2C uses them, and treats these alike.

    :param params: all of them different
    """
    if type(optimizer) not in (RMSprop, RMSpropTFLike) or not treats_alike(optimizer, params):
        return False
    states = [optimizer.state[param] for param in params if param in optimizer.state]
    tensors = (*params, *(state["square_avg"] for state in states if state))
    return _has_usual_options(optimizer) and all(tensor.is_contiguous() for tensor in tensors)


def _has_usual_options(optimizer: Optimizer) -> bool:
    if not is_usual(optimizer):
        return False
    (group,) = optimizer.param_groups
    unusual = ("momentum", "centered", "maximize", "capturable")
    return not any(map(group.get, unusual))
