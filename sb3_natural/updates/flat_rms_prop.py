"""RMSprop over all parameters as one vector.

Torch's goes through the parameters one by one, with five small operations for each.
"""

from collections.abc import Sequence

import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn
from torch.optim import Optimizer, RMSprop

from sb3_natural.updates.optimizers import treats_alike

__all__ = ["FlatRmsProp", "fits"]


class FlatRmsProp:
    """Steps of an RMSprop optimiser, for flat gradients; they are as if it had taken them itself.

    :param optimizer: one that :func:`fits`
    :param params: the optimiser's parameters that have gradients, in the gradients' order. They
        must keep their memory.
    :ivar vector: all parameters as of the last :meth:`read`, (P,)
    """

    def __init__(self, optimizer: RMSprop | RMSpropTFLike, params: Sequence[nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._params = params
        self._rows = [param.detach().view(-1) for param in params]
        self._lengths = [len(row) for row in self._rows]
        self._shapes = [param.shape for param in params]
        self.vector = torch.cat(self._rows)
        self._square_avg = torch.empty_like(self.vector)

    def read(self) -> None:
        """Look at the parameters again."""
        torch.cat(self._rows, out=self.vector)

    def step(self, gradient: Tensor) -> None:
        """Move the parameters from :attr:`vector`, and leave them their parts of the gradient.

        :param gradient: (P,)
        """
        (group,) = self._optimizer.param_groups
        square_avgs = self._square_avgs()
        torch.cat(square_avgs, out=self._square_avg)
        self._leave(gradient)
        if group["weight_decay"] != 0:
            gradient = gradient.add(self.vector, alpha=group["weight_decay"])
        alpha = group["alpha"]
        self._square_avg.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
        self.vector.addcdiv_(gradient, self._divisor(group["eps"]), value=-group["lr"])
        torch._foreach_copy_(self._rows, self.vector.split(self._lengths))
        torch._foreach_copy_(square_avgs, self._square_avg.split(self._lengths))

    def _divisor(self, eps: float) -> Tensor:
        if type(self._optimizer) is RMSpropTFLike:
            return self._square_avg.add(eps).sqrt_()
        return self._square_avg.sqrt().add_(eps)

    def _square_avgs(self) -> list[Tensor]:
        """The optimiser's own averages, flat, after it has been told that there is another step."""
        states = [self._optimizer.state[param] for param in self._params]
        for state, param in zip(states, self._params, strict=True):
            if not state:
                state.update(_initial(self._optimizer, param))
        if isinstance(states[0]["step"], Tensor):
            torch._foreach_add_([state["step"] for state in states], 1)
        else:
            for state in states:
                state["step"] += 1
        return [state["square_avg"].view(-1) for state in states]

    def _leave(self, gradient: Tensor) -> None:
        parts = gradient.clone().split(self._lengths)
        for param, part, shape in zip(self._params, parts, self._shapes, strict=True):
            param.grad = part.view(shape)


def _initial(optimizer: Optimizer, param: nn.Parameter) -> dict[str, object]:
    """The state of a parameter before its first step."""
    if type(optimizer) is RMSpropTFLike:
        return {"step": 0, "square_avg": torch.ones_like(param)}
    return {"step": torch.zeros(()), "square_avg": torch.zeros_like(param)}


def fits(optimizer: Optimizer, params: Sequence[nn.Parameter]) -> bool:
    """Whether the optimiser is one of the two RMSprops, as A2C uses them, and steps these alike."""
    if type(optimizer) not in (RMSprop, RMSpropTFLike) or not treats_alike(optimizer, params):
        return False
    (group,) = optimizer.param_groups
    if group["momentum"] > 0 or group["centered"]:
        return False
    if group.get("maximize") or group.get("capturable"):
        return False
    states = [optimizer.state[param] for param in params if param in optimizer.state]
    return all(
        tensor.is_contiguous()
        for tensor in (*params, *(state["square_avg"] for state in states if state))
    )
