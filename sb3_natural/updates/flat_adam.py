"""Adam over all parameters as one vector.

Adam treats all numbers alike, so it need not know which tensor a number belongs to. Torch's Adam
goes through the parameters one by one, with a dozen small operations for each, which for the usual
networks takes longer than the arithmetic.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from sb3_natural.networks.parameters import flatten, split
from sb3_natural.updates.optimizers import treats_alike

__all__ = ["FlatAdam", "fits", "flat_adam"]

# These options of a parameter group choose among torch's implementations of the same step.
_IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable")


class FlatAdam:
    """The step of an Adam optimiser, for a flat gradient.

    :ivar vector: all parameters, (P,)
    """

    def __init__(self, optimizer: Adam, params: Sequence[nn.Parameter]) -> None:
        self._params = params
        self._optimizer = optimizer
        self._parameter = nn.Parameter(flatten(param.detach() for param in params))
        self.vector = self._parameter.detach()
        (group,) = optimizer.param_groups
        options = {
            name: value
            for name, value in group.items()
            if name in optimizer.defaults and name not in _IMPLEMENTATIONS
        }
        self._flat = Adam([self._parameter], **options, fused=True)
        states = [optimizer.state[param] for param in params if param in optimizer.state]
        if states:
            self._flat.state[self._parameter].update(
                step=states[0]["step"].clone(),
                **{
                    name: flatten(state[name] for state in states)
                    for name in states[0]
                    if name != "step"
                },
            )

    def step(self, gradient: Tensor) -> None:
        """Move the parameters; ``gradient`` has shape (P,)."""
        self._parameter.grad = gradient
        self._flat.step()

    def lend(self) -> list[Tensor]:
        """Make the parameters views of the vector; return the memory that they had."""
        before = [param.data for param in self._params]
        for param, part in zip(self._params, split(self.vector, self._params), strict=True):
            param.data = part
        return before

    def give_back(self, before: list[Tensor]) -> None:
        """Give back the parameters' memory and last gradient, and the optimiser's state."""
        grads = None
        if self._parameter.grad is not None:
            grads = list(split(self._parameter.grad, self._params))
        state = self._flat.state[self._parameter]
        parts = {
            name: list(split(value, self._params))
            for name, value in state.items()
            if name != "step"
        }
        for index, (param, own) in enumerate(zip(self._params, before, strict=True)):
            own.copy_(param.data)
            param.data = own
            if grads is not None:
                param.grad = grads[index].clone()
            if state:
                self._optimizer.state[param].update(
                    step=state["step"].clone(),
                    **{name: values[index].clone() for name, values in parts.items()},
                )


@contextmanager
def flat_adam(optimizer: Adam, params: Sequence[nn.Parameter]) -> Iterator[FlatAdam]:
    """Take many steps with flat gradients; afterwards all is as if ``optimizer`` had taken them.

    The results are the same up to rounding: torch's fused step computes in another order.

    :param optimizer: one that :func:`fits`
    :param params: the optimiser's parameters that have gradients, in the gradients' order
    """
    flat = FlatAdam(optimizer, params)
    before = flat.lend()
    try:
        yield flat
    finally:
        flat.give_back(before)


def fits(optimizer: Optimizer, params: Sequence[nn.Parameter]) -> bool:
    """Whether the optimiser is torch's own Adam, and treats these parameters alike."""
    if type(optimizer) is not Adam or len(set(params)) != len(params):
        return False
    return treats_alike(optimizer, params)
