"""What a policy consists of, to notice cheaply that something about it has changed.

Finding out whether a policy is two plain multilayer perceptrons takes a walk through its modules,
about 0.1 ms: as long as ten steps of acting. With short rollouts that is a large part of the time,
and the answer is nearly always the one of the last time.
"""

from collections.abc import Callable, Hashable
from itertools import chain
from operator import attrgetter, is_
from typing import Any, TypeVar

from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

__all__ = ["Remembered", "Structure"]

T = TypeVar("T")

# Of the policy's class: methods that decide what the networks are used for.
_methods = attrgetter(
    "forward",
    "evaluate_actions",
    "get_distribution",
    "predict_values",
    "extract_features",
    "_get_action_dist_from_latent",
    "set_training_mode",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


class Structure:
    """All objects that a policy consists of: modules, their attributes, parameters and buffers.

    :param policy: is to have no hooks, or it never counts as unchanged
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy
        self._modules = list(policy.modules())
        self._types = list(map(type, self._modules))
        self._methods = _methods(type(policy))
        self._own = [vars(module) for module in self._modules]
        parts = ("_modules", "_parameters", "_buffers")
        self._dicts = self._own + [own[part] for own in self._own for part in parts]
        self._hooks = [own[name] for own in self._own for name in _HOOKS]
        values = self._current_values()
        self._values = {mode: self._with_mode(values, mode) for mode in (False, True)}
        # They keep the memory in use: at the same place there can be no other tensor's.
        tensors = [value for value in values if isinstance(value, Tensor)]
        self._tensors = [(tensor, tensor.detach()) for tensor in tensors]
        self._plain_modes = self._methods[-1] is ActorCriticPolicy.set_training_mode and all(
            type(module).train is nn.Module.train and "train" not in vars(module)
            for module in self._modules
        )

    def _with_mode(self, values: list[Any], training: bool) -> list[Any]:
        """The values, as they are in training mode or outside it."""
        names = chain.from_iterable(self._dicts)
        owners = chain.from_iterable([own] * len(own) for own in self._dicts)
        is_own = set(map(id, self._own))
        return [
            training if name == "training" and id(owner) in is_own else value
            for name, owner, value in zip(names, owners, values, strict=True)
        ]

    def is_current(self, policy: nn.Module) -> bool:
        """Whether it is this policy, and all its parts are the same objects in the same memory.

        False as well if there is a hook, or if some modules are in training mode and others not.
        """
        return (
            policy is self._policy
            and _are_same(self._current_values(), self._values[policy.training])
            and list(map(type, self._modules)) == self._types
            and _methods(type(policy)) == self._methods
            and not any(self._hooks)
            and not any(map(vars(global_hooks).get, _GLOBAL_HOOKS))
            and all(tensor.is_set_to(before) for tensor, before in self._tensors)
        )

    def _current_values(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._dicts)))

    def set_training_mode(self, mode: bool) -> None:
        """``policy.set_training_mode``, for a structure that is current."""
        if not self._plain_modes:
            self._policy.set_training_mode(mode)
            return
        for own in self._own:
            own["training"] = mode


def _are_same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(map(is_, left, right))


class Remembered:
    """Results of functions of a policy, kept as long as its structure is current.

    Copies are empty, since they would describe a policy other than their own.
    """

    def __init__(self) -> None:
        self._structure: Structure | None = None
        self._results: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[type["Remembered"], tuple[()]]:
        return Remembered, ()

    def recall(
        self,
        key: Hashable,
        policy: nn.Module,
        make: Callable[[], T],
        is_worth_it: Callable[[T], bool],
    ) -> T:
        """What ``make`` returned for this key and this policy, or what it returns now.

        :param is_worth_it: whether a result depends on nothing but the policy's structure and the
            key, and is to be remembered
        """
        if self._structure is not None and not self._structure.is_current(policy):
            self.forget()
        if key in self._results:
            return self._results[key]
        result = make()
        if isinstance(policy, ActorCriticPolicy) and is_worth_it(result):
            if self._structure is None:
                self._structure = Structure(policy)
            self._results[key] = result
        return result

    def recall_again(self, key: Hashable) -> Any:
        """The result for another key and the same policy, right after :meth:`recall`, or None."""
        return self._results.get(key)

    def note(self, key: Hashable, result: object) -> None:
        """Remember a result, right after :meth:`recall` of one that is worth it."""
        self._results[key] = result

    def forget(self) -> None:
        """Forget all results."""
        self._structure = None
        self._results.clear()

    def set_training_mode(self, policy: Any, mode: bool) -> None:
        """``policy.set_training_mode(mode)``, to be called right after :meth:`recall`."""
        if self._structure is None:
            policy.set_training_mode(mode)
        else:
            self._structure.set_training_mode(mode)
