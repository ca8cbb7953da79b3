"""The parameters that a study tunes, and their values as Optuna and as a run's hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks.errors import SpecError
from studies import nested

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Scalar = float | int | str | bool | None
"""A value that Optuna can hold."""
Value = Scalar | list[Any] | dict[str, Any]
"""A value that a hyperparameter can have."""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter with the values that it may take: a range, or choices.

    ``name`` may lead into another hyperparameter (``policy_kwargs.log_std_init``). ``default`` is
    the value where neither the hyperparameters nor the constructor give one; if it is a schedule,
    the values that are tried begin one like it. ``choices`` and ``default`` are encoded for Optuna:
    lists and mappings are JSON (see :func:`encode`).
    ``excludes`` names a parameter that the algorithm takes instead of this one. An ``extended``
    parameter is tuned only if it is named, or if all are.
    """

    name: str
    symbol: str
    meaning: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Scalar, ...] = ()
    default: Scalar = None
    excludes: str = ""
    extended: bool = False

    @property
    def distribution(self) -> BaseDistribution:
        """Optuna's description of the values."""
        # Imported here, since whoever only names parameters starts faster without Optuna.
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def to_dict(self) -> dict[str, Any]:
        """What a study stores of the parameter: all that decides which values are tried."""
        return {**asdict(self), "choices": list(self.choices)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Parameter:
        """The parameter that :meth:`to_dict` has made into a dictionary."""
        return cls(**{**fields, "choices": tuple(fields["choices"])})

    def widened(self, values: Sequence[Value]) -> Parameter:
        """The parameter with its range or its choices extended to these values."""
        if self.choices:
            held = dict.fromkeys(map(encode, values))
            absent = [value for value in held if value not in self.choices]
            return replace(self, choices=(*self.choices, *absent))
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        low, high = min(self.low, *numbers), max(self.high, *numbers)
        # Zero often switches something off, and has no place on a logarithmic scale.
        return replace(self, low=low, high=high, log=self.log and low > 0)

    def __str__(self) -> str:
        return f"{self.name} ({self.symbol})" if self.symbol != self.name else self.name


def encode(value: Any, where: str = "") -> Scalar:
    """A value for Optuna, which holds scalars alone: lists and mappings become JSON.

    :param where: it was written, for the error message
    :raises SpecError: the value has no JSON
    """
    if value is None or isinstance(value, float | int | str):
        return value
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        lossless = json.loads(text) == value
    except (TypeError, ValueError):
        lossless = False
    if not lossless:
        raise SpecError(
            f"{where}: must be a number, a text, true, false, null, or a list or mapping of these, "
            f"got {value!r}"
        )
    return text


def decode(held: Scalar) -> Value:
    """The value that :func:`encode` was given; a text that is a JSON list or mapping is that."""
    if isinstance(held, str) and held.startswith(("[", "{")):
        try:
            value: Value = json.loads(held)
        except ValueError:
            return held
        return value
    return held


def suggest(trial: Trial, space: Sequence[Parameter]) -> dict[Parameter, Value]:
    """A value for each parameter; of two that exclude each other, for one."""
    names = {parameter.name for parameter in space}
    left_out = set()
    for parameter in space:
        if parameter.excludes in names:
            pair = (parameter.excludes, parameter.name)
            chosen = trial.suggest_categorical(rule_name(parameter), pair)
            left_out.add(pair[chosen == pair[0]])
    return {
        parameter: _suggest(trial, parameter)
        for parameter in space
        if parameter.name not in left_out
    }


def rule_name(parameter: Parameter) -> str:
    """The name of the choice between a parameter and the one that it excludes."""
    return f"{parameter.excludes}_or_{parameter.name}"


def _suggest(trial: Trial, parameter: Parameter) -> Value:
    if parameter.choices:
        return decode(trial.suggest_categorical(parameter.name, parameter.choices))
    if parameter.integer:
        low, high = int(parameter.low), int(parameter.high)
        return trial.suggest_int(parameter.name, low, high, log=parameter.log)
    return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=parameter.log)


def is_schedule(written: Any) -> bool:
    """Whether a hyperparameter is written as a schedule, such as ``lin_0.05``."""
    return isinstance(written, str) and written.startswith("lin_")


def with_values(
    hyperparams: Mapping[str, Any], values: Mapping[Parameter, Value]
) -> dict[str, Any]:
    """The hyperparameters with other values; a schedule stays one, with another initial value."""
    changed = dict(hyperparams)
    for parameter, value in values.items():
        written = nested.get(hyperparams, parameter.name)
        written = parameter.default if written is None else written
        scheduled = is_schedule(written) and isinstance(value, float | int)
        changed = nested.put(changed, parameter.name, f"lin_{value!r}" if scheduled else value)
        if parameter.excludes:
            changed.pop(parameter.excludes, None)
    return changed
