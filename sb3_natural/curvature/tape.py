"""Inputs and outputs of a network's layers in one forward pass."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["LayerCall", "LayerTape"]

_LAYERS = (nn.Linear, nn.Conv2d)


class LayerCall(NamedTuple):
    """One call of a Linear or Conv2d layer."""

    layer: nn.Linear | nn.Conv2d
    inputs: Tensor
    """detached"""
    output: Tensor
    """attached to the graph"""


class LayerTape:
    """Records the calls of Linear and Conv2d layers inside its ``with`` block.

    Layers of derived classes are left out, since they may do more, and so are those whose weights
    are computed from other parameters, or whose outputs a hook may change.

    :param module: holds the layers
    :ivar calls: in their order
    """

    def __init__(self, module: nn.Module) -> None:
        self._modules = [layer for layer in module.modules() if _is_plain(layer)]
        self._handles: list[RemovableHandle] = []
        self.calls: list[LayerCall] = []

    def __enter__(self) -> "LayerTape":
        self._handles = [layer.register_forward_hook(self._record) for layer in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, _LAYERS)
        self.calls.append(LayerCall(layer, inputs[0].detach(), output))
        # An activation that works in place must not overwrite what was recorded.
        return output.clone()


def _is_plain(layer: nn.Module) -> bool:
    return (
        type(layer) in _LAYERS
        and set(layer._parameters) == {"weight", "bias"}
        and not layer._forward_hooks
    )
