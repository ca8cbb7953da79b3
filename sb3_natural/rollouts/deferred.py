"""A tensor that is computed when it is first used."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

__all__ = ["Deferred"]


class Deferred:
    """Stands for the tensor that a function without arguments returns.

    The first use as a tensor (a method, an operator, an argument of a torch or numpy function)
    calls the function, without recording gradients; this and all later uses get the result. Making
    one costs a tenth of making a tensor.

    >>> deferred = Deferred(lambda: torch.ones(2, 3))
    >>> isinstance(deferred, Tensor), deferred.shape
    (True, torch.Size([2, 3]))
    >>> 2 * deferred + 1
    tensor([[3., 3., 3.],
            [3., 3., 3.]])
    """

    __slots__ = ("_compute", "_result")

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self._compute = compute
        self._result: Tensor | None = None

    def resolve(self) -> Tensor:
        """The tensor itself."""
        if self._result is None:
            with torch.no_grad():
                self._result = self._compute()
        return self._result

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance() looks at this
        return Tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(cls, cls.resolve, (args, kwargs or {}))
        return func(*args, **kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.resolve().__array__(dtype), copy=copy)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.resolve(), name)


def _forward(name: str) -> Any:
    return lambda self, *args, **kwargs: getattr(self.resolve(), name)(*args, **kwargs)


# Python looks these up on the class, past __getattr__.
_OPERATORS = """
    abs add and bool contains complex deepcopy eq float floordiv format ge getitem gt hash
    index int invert iter le len lt matmul mod mul ne neg or pos pow radd rand reduce_ex repr
    rfloordiv rmatmul rmod rmul ror rpow rsub rtruediv rxor setitem str sub truediv xor
"""
for _name in _OPERATORS.split():
    setattr(Deferred, f"__{_name}__", _forward(f"__{_name}__"))
