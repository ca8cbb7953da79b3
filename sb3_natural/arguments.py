"""Checking the arguments of constructors: each against its annotation, and its range if it has one.

A decorator says what the annotations cannot say::

    >>> class Learner:
    ...     @checked(n_steps=at_least(1), gamma=between(0, 1))
    ...     def __init__(self, n_steps: int, gamma: float | None = None) -> None: ...
    >>> Learner(n_steps=512.0)
    Traceback (most recent call last):
    ValueError: n_steps must be an integer that is at least 1, got 512.0
    >>> check_argument(Learner, "gamma", 1.5)
    Traceback (most recent call last):
    ValueError: gamma must be between 0 and 1, or None, got 1.5

NaN is in no range. NumPy's scalars are taken for Python's, and converted to them.
"""

import collections.abc
import functools
import inspect
import math
import operator
import os
import types
import typing
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule

__all__ = [
    "DEVICE",
    "FINITE_AND_NOT_NEGATIVE",
    "POSITIVE",
    "POSITIVE_AND_FINITE",
    "SEED",
    "Range",
    "at_least",
    "between",
    "check_argument",
    "check_attributes",
    "checked",
    "one_of",
]

Function = TypeVar("Function", bound=Callable[..., Any])


class Range(NamedTuple):
    """Which values of the right type are valid."""

    text: str
    """after "must be" or "that is" """
    holds: Callable[[Any], bool]


def at_least(low: float) -> Range:
    """low or more."""
    return Range(f"at least {low}", lambda value: value >= low)


def between(low: float, high: float, ends: bool = True) -> Range:
    """From low to high.

    :param ends: whether low and high themselves are valid
    """
    if ends:
        return Range(f"between {low} and {high}", lambda value: low <= value <= high)
    return Range(f"between {low} and {high}, exclusive", lambda value: low < value < high)


def one_of(choices: Iterable[str]) -> Range:
    """One of some names."""
    names = list(choices)
    text = " or ".join(map(repr, names)) if len(names) == 2 else f"one of {', '.join(names)}"
    return Range(text, names.__contains__)


def _is_device(value: Any) -> bool:
    if value == "auto":
        return True
    try:
        torch.device(value)
    except RuntimeError:
        return False
    return True


POSITIVE = Range("positive", lambda value: value > 0)
POSITIVE_AND_FINITE = Range("positive and finite", lambda value: 0 < value < math.inf)
FINITE_AND_NOT_NEGATIVE = Range("finite and not negative", lambda value: 0 <= value < math.inf)
SEED = between(0, 2**32 - 1)  # what NumPy's generators take
DEVICE = Range("'auto' or a device of torch, such as 'cpu' or 'cuda:0'", _is_device)


def checked(**ranges: Range) -> Callable[[Function], Function]:
    """Decorate a constructor (or another function) to check its arguments before it runs.

    ``env`` is left to SB3, which takes environments of several libraries.

    :param ranges: by argument, which values are valid among those of its annotation
    """

    def decorate(function: Function) -> Function:
        """The function, checking its arguments."""
        signature = inspect.signature(function)
        rules = {
            name: _Rule(name, parameter.annotation, ranges.get(name))
            for name, parameter in signature.parameters.items()
            if name != "env" and parameter.annotation is not parameter.empty
        }
        assert ranges.keys() <= rules.keys(), ranges.keys() - rules.keys()

        @functools.wraps(function)
        def checking(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                if name in rules:
                    bound.arguments[name] = rules[name].checked(value)
            return function(*bound.args, **bound.kwargs)

        checking._rules = rules  # type: ignore[attr-defined]
        return checking  # type: ignore[return-value]

    return decorate


def check_no_memory(policy_class: type) -> None:
    """Check that a policy is none with an LSTM.

    :raises ValueError: it is; names its class
    """
    if issubclass(policy_class, RecurrentActorCriticPolicy):
        raise ValueError(
            f"policy must have no memory, got {policy_class.__name__}: RecurrentNPG trains "
            "recurrent policies"
        )


def check_argument(algorithm: Any, name: str, value: Any) -> None:
    """Check one value as the constructor would.

    :param algorithm: an object or a class whose constructor is :func:`checked`
    :raises ValueError: naming the argument, the value, and what is valid
    """
    _rules_of(algorithm)[name].checked(value)


def check_attributes(algorithm: Any) -> None:
    """Check all arguments of the constructor that one of SB3's algorithms keeps as attributes.

    Costs next to nothing if none has been assigned since the last check.

    :raises ValueError: the first that is not valid; names it
    """
    rules, values = _rules_of(algorithm), vars(algorithm)
    if "observation_space" not in values:
        raise ValueError("env must be an environment or the id of one, got None")
    held = [values.get(_KEPT_AS.get(name, name), _ABSENT) for name in rules]
    last = _last_checked.get(algorithm, ())
    if len(last) == len(held) and all(map(operator.is_, last, held)):
        return
    for rule, value in zip(rules.values(), held, strict=True):
        if value is not _ABSENT:
            rule.checked(value)
    _last_checked[algorithm] = held


def _rules_of(algorithm: Any) -> "dict[str, _Rule]":
    """Those of the constructor that checks: a derived class may have its own in front of it."""
    cls = algorithm if isinstance(algorithm, type) else type(algorithm)
    found = (getattr(vars(base).get("__init__"), "_rules", None) for base in cls.__mro__)
    return next(rules for rules in found if rules is not None)


_ABSENT = object()
_last_checked: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
# Where SB3 keeps an argument under another name.
_KEPT_AS = {"policy": "policy_class", "stats_window_size": "_stats_window_size"}


class _Kind(NamedTuple):
    """One of the types that an annotation allows."""

    text: str
    accepts: Callable[[Any], bool]
    is_ranged: bool = False
    """Whether the argument's range applies to values of this type."""


class _Rule:
    """What one argument may be.

    :param name: of the argument
    :param hint: its annotation
    :param within: its range, if it has one
    """

    def __init__(self, name: str, hint: Any, within: Range | None) -> None:
        self._name = name
        self._kinds = _kinds(hint)
        self._range = within

    def checked(self, value: Any) -> Any:
        """The value; a NumPy scalar as Python's own.

        :raises ValueError: it is not valid
        """
        if isinstance(value, np.generic):
            value = value.item()
        kind = next((kind for kind in self._kinds if kind.accepts(value)), None)
        if kind is None or (self._range and kind.is_ranged and not self._range.holds(value)):
            valid = ", or ".join(self._described(other, kind) for other in self._kinds)
            raise ValueError(f"{self._name} must be {valid}, got {_shown(value)}")
        return value

    def _described(self, kind: _Kind, found: _Kind | None) -> str:
        if self._range is None or not kind.is_ranged:
            return kind.text
        return self._range.text if kind is found else f"{kind.text} that is {self._range.text}"


def _shown(value: Any) -> str:
    text = value.__name__ if isinstance(value, type) else repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _kinds(hint: Any) -> list[_Kind]:
    """The types that an annotation allows; of a union, in its order."""
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return [kind for part in parts for kind in _kinds(part)]
    if origin is typing.Literal:
        choice = one_of(parts)
        return [_Kind(choice.text, lambda value: isinstance(value, str) and choice.holds(value))]
    if origin is collections.abc.Callable:
        return [_Kind("a schedule" if hint == Schedule else "a function", callable)]
    if origin is type:
        base = parts[0]
        text = f"a class derived from {base.__name__}"
        return [_Kind(text, lambda value: isinstance(value, type) and issubclass(value, base))]
    if origin in _PLAIN:
        return [_PLAIN[origin]]
    return [_Kind(f"a {origin.__name__}", lambda value: isinstance(value, origin))]


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_PLAIN: dict[Any, _Kind] = {
    bool: _Kind("True or False", lambda value: isinstance(value, bool)),
    int: _Kind("an integer", lambda value: _is_number(value, int), is_ranged=True),
    float: _Kind("a number", lambda value: _is_number(value, int | float), is_ranged=True),
    # A path is as good as its name.
    str: _Kind("a string", lambda value: isinstance(value, str | os.PathLike), is_ranged=True),
    types.NoneType: _Kind("None", lambda value: value is None),
}
