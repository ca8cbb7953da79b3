"""What is tuned: for each algorithm the parameters, their ranges and their symbols."""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from benchmarks.algorithms import ALGORITHMS, algorithm_class, check_algorithms, parameters_of
from benchmarks.errors import SpecError
from benchmarks.yamls import read_mapping
from benchmarks.zoo import model_arguments, schedule_start
from studies import nested

Scalar = float | int | str | bool | None
"""What Optuna holds."""
Value = Scalar | list[Any] | dict[str, Any]
"""What a hyperparameter may be."""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter with the values that it may take: a range, or choices.

    ``name`` may lead into another hyperparameter (``policy_kwargs.log_std_init``). ``default`` is
    taken where neither the hyperparameters nor the constructor say anything. ``choices`` and
    ``default`` are as Optuna holds them: lists and mappings are JSON (see :func:`encoded`).
    ``excludes`` names a parameter that the algorithm takes instead of this one.
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
        """What Optuna draws from."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.name} ({self.symbol})" if self.symbol != self.name else self.name


def _log(name: str, symbol: str, meaning: str, low: float, high: float, **more: Any) -> Parameter:
    return Parameter(name, symbol, meaning, low, high, log=True, **more)


def _also(parameter: Parameter) -> Parameter:
    return replace(parameter, extended=True)


_KL = "KL divergence of an update [nats]"
_DELTA = _log("target_kl", "delta", _KL, 1e-3, 0.5, default=0.02)
_STEP_SIZE = _log(
    "step_size", "step_size", "length of the natural gradient step", 1e-3, 1.0, default=0.05,
    excludes="target_kl",
)  # fmt: skip
_DAMPING = _log("cg_damping", "damping", "multiple of the identity added to F", 1e-3, 1.0)
_LAMBDA = Parameter("gae_lambda", "lambda", "decay of GAE's weights", 0.8, 1.0)
_LEARNING_RATE = _log("learning_rate", "learning_rate", "length of a gradient step", 1e-5, 1e-2)
_GAMMA = Parameter("gamma", "gamma", "discount factor", choices=(0.98, 0.99, 0.995, 0.999))

# The first of each are tuned unless others are named; --extended adds those marked _also.
SPACES: dict[str, tuple[Parameter, ...]] = {
    "npg": (_DELTA, _also(_STEP_SIZE), _also(_DAMPING), _also(_LAMBDA), _also(_GAMMA)),
    "trpo": (_DELTA, _also(_DAMPING), _also(_LEARNING_RATE), _also(_LAMBDA), _also(_GAMMA)),
    "ppo": (
        _log("clip_range", "epsilon", "clip range of the probability ratio", 0.02, 0.8),
        _also(_LEARNING_RATE),
        _also(Parameter("n_epochs", "n_epochs", "passes over a rollout", 1, 20, integer=True)),
        _also(_LAMBDA),
        _also(_GAMMA),
    ),
    "acer": (
        _log("correction_term", "c", "where importance ratios are truncated", 0.5, 50.0),
        _log("delta", "delta", "KL divergence from the average policy [nats]", 0.01, 10.0),
        _also(_LEARNING_RATE),
        _also(Parameter("replay_ratio", "replay_ratio", "replayed updates for each new one", 0, 8)),
        _also(_log("ent_coef", "ent_coef", "weight of the entropy", 1e-4, 1e-1)),
        _also(_GAMMA),
    ),
    "a2c": (
        _LEARNING_RATE,
        _also(_log("max_grad_norm", "max_grad_norm", "norm of the gradient at most", 0.05, 5.0)),
        _also(_LAMBDA),
        _also(_GAMMA),
    ),
}


def space_for(
    algo: str, params: Sequence[str] = (), extended: bool = False
) -> tuple[Parameter, ...]:
    """The parameters to tune.

    :param algo: a name, or the path of a class: one that is a kind of ours has the same parameters
    :param params: by name or symbol; none: the algorithm's own, such as target_kl and clip_range
    :param extended: tune all of the algorithm's parameters (but one of those that exclude others)
    :raises SpecError: an unknown algorithm or parameter, or a class that no ranges are known for
    """
    table = _table(algo)
    if not table:
        raise SpecError(f"--space: must be given, since no ranges are known for {algo!r}")
    if not params:
        return _usable(algo, [p for p in table if (extended and not p.excludes) or not p.extended])
    chosen: list[Parameter] = []
    for given in params:
        found = [parameter for parameter in table if given in (parameter.name, parameter.symbol)]
        if not found:
            allowed = ", ".join(str(parameter) for parameter in table)
            raise SpecError(f"--params: {given!r} is not one of {algo}'s parameters {allowed}")
        if found[0] in chosen:
            raise SpecError(f"--params: {given!r} is given twice")
        chosen += found
    return _usable(algo, chosen)


def _usable(algo: str, space: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Parameters of ours, which a class of somebody else may not have."""
    for each in space:
        value = decoded(each.choices[0]) if each.choices else each.low
        model_arguments(algo, with_values({}, {each: value}), "--algo")
    return tuple(space)


def _table(algo: str) -> tuple[Parameter, ...]:
    """What is known of an algorithm, or of the one that a class is a kind of."""
    check_algorithms("--algo", [algo])
    if algo in SPACES:
        return SPACES[algo]
    given = algorithm_class(algo)
    for name, table in SPACES.items():
        ours = algorithm_class(name)
        # Ours are kinds of SB3's of the same names, with the same arguments.
        if any(issubclass(given, each) for each in ours.__mro__ if each.__name__ == ours.__name__):
            return table
    return ()


_KEYS = ("low", "high", "log", "integer", "choices", "default", "symbol", "meaning")


def read_space(algo: str, path: Path) -> tuple[Parameter, ...]:
    """A space of one's own: a YAML file with the algorithm's arguments and their values.

    ``gamma: {low: 0.9, high: 1.0}`` is a range, with ``log: true`` a logarithmic one, with
    ``integer: true`` one of integers; ``n_steps: {choices: [64, 128]}`` is a choice, whose values
    may be lists and mappings, too. ``policy_kwargs.log_std_init`` is a parameter of the policy.

    :raises SpecError: naming the file, the key, the value and what is allowed
    """
    known = {each.name: each for each in _table(algo)}
    content = {str(name): fields for name, fields in read_mapping(path).items()}
    if not content:
        raise SpecError(f"{path}: must name at least one parameter")
    for name in content:
        outer = [each for each in content if name.startswith(f"{each}.")]
        if outer:
            raise SpecError(f"{path}: {name}: is within {outer[0]}, which is given, too")
    return tuple(
        _read(algo, known.get(name, Parameter(name, name, "")), fields, path)
        for name, fields in content.items()
    )


def _read(algo: str, known: Parameter, fields: Any, path: Path) -> Parameter:
    name = known.name
    where = f"{path}: {name}"
    if not isinstance(fields, dict):
        raise SpecError(f"{where}: must be a mapping such as {{low: 0.1, high: 1}}, got {fields!r}")
    for key, value in fields.items():
        if key not in _KEYS:
            raise SpecError(
                f"{where}: {key}: {value!r} is for an unknown key; allowed are {', '.join(_KEYS)}"
            )
    if name == "n_timesteps":
        raise SpecError(f"{where}: is the same for all trials; use --steps")
    if "choices" in fields:
        parameter = _read_choices(known, fields, where)
    else:
        parameter = _read_range(known, fields, where)
    parameter = replace(
        parameter,
        symbol=str(fields.get("symbol", known.symbol)),
        meaning=str(fields.get("meaning", known.meaning)),
        default=encoded(fields["default"], where) if "default" in fields else known.default,
        extended=False,
    )
    values = list(parameter.choices or (parameter.low, parameter.high))
    if parameter.default is not None:
        if not parameter.choices and not isinstance(parameter.default, int | float):
            raise SpecError(f"{where}: default: must be a number, got {parameter.default!r}")
        values.append(parameter.default)
    for value in values:
        model_arguments(algo, with_values({}, {parameter: decoded(value)}), str(path))
    return parameter


def _read_choices(known: Parameter, fields: Mapping[str, Any], where: str) -> Parameter:
    choices = fields["choices"]
    both = [key for key in ("low", "high", "log", "integer") if key in fields]
    if both:
        raise SpecError(f"{where}: choices: exclude {', '.join(both)}")
    held = [encoded(choice, where) for choice in choices] if isinstance(choices, list) else []
    if len(set(map(repr, held))) < max(2, len(held)):
        raise SpecError(
            f"{where}: choices: must be a list of two or more different values, got {choices!r}"
        )
    return replace(known, choices=tuple(held), low=0.0, high=0.0, log=False, integer=False)


def _read_range(known: Parameter, fields: Mapping[str, Any], where: str) -> Parameter:
    for key in ("low", "high"):
        value = fields.get(key)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
        ):
            raise SpecError(f"{where}: {key}: must be a finite number, got {value!r}")
    for key in ("log", "integer"):
        if not isinstance(fields.get(key, False), bool):
            raise SpecError(f"{where}: {key}: must be true or false, got {fields[key]!r}")
    low, high, log = fields["low"], fields["high"], fields.get("log", False)
    integer = fields.get("integer", False)
    if not low < high:
        raise SpecError(f"{where}: low: must be below high, got {low} and {high}")
    if log and low <= 0:
        raise SpecError(f"{where}: low: must be positive on a logarithmic range, got {low}")
    if integer and (low != int(low) or high != int(high)):
        raise SpecError(f"{where}: integer: low and high must be integers, got {low} and {high}")
    # So that what takes integers alone refuses a range of fractions.
    kind = int if integer else float
    return replace(known, low=kind(low), high=kind(high), log=log, integer=integer, choices=())


def encoded(value: Any, where: str = "") -> Scalar:
    """A value as Optuna holds it, which takes single values alone: lists and mappings as JSON.

    :param where: it was written, for the error message
    :raises SpecError: JSON has no such value
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


def decoded(held: Scalar) -> Value:
    """The value that Optuna holds; a text that is a list or mapping in JSON stands for that."""
    if isinstance(held, str) and held.startswith(("[", "{")):
        try:
            value: Value = json.loads(held)
        except ValueError:
            return held
        return value
    return held


def default_value(algo: str, parameter: Parameter, hyperparams: Mapping[str, Any]) -> Value:
    """What the hyperparameters say of a parameter, or else the constructor; a schedule's start.

    A class given by its path is not looked at: :func:`with_own_default` has done so.

    :raises SpecError: there is no such value, or it is one that the parameter may not take
    """
    written = nested.get(hyperparams, parameter.name)
    if written is None and algo in ALGORITHMS:
        written = _constructors(algo, parameter.name, hyperparams)
    if written is None:
        written = decoded(parameter.default)
    if is_schedule(written) and not any(is_schedule(choice) for choice in parameter.choices):
        written = schedule_start(str(written), parameter.name)
    if written is None and None in parameter.choices:
        return None
    allowed = float | int | str | list | dict if parameter.choices else float | int | str
    if not isinstance(written, allowed):
        raise SpecError(f"{parameter.name}: has no default; a space of your own can give one")
    if parameter.choices or isinstance(written, str):
        return decoded(encoded(written, parameter.name))
    # As Optuna stores it: 1 and 1.0 would be run folders of their own.
    return int(written) if parameter.integer else float(written)


def with_own_default(algo: str, parameter: Parameter, hyperparams: Mapping[str, Any]) -> Parameter:
    """A class's parameter with the default of its constructor.

    What is stored of a study is complete then: to read it, no class of the user's is imported.
    """
    own = None if algo in ALGORITHMS else _constructors(algo, parameter.name, hyperparams)
    return parameter if own is None else replace(parameter, default=encoded(own, parameter.name))


def _constructors(algo: str, name: str, hyperparams: Mapping[str, Any]) -> Any:
    """The default in the signature of the algorithm, or of its policy; None if there is none."""
    owner: type = algorithm_class(algo)
    if name.startswith("policy_kwargs."):
        # Nothing else of them: wrappers would be imported.
        given = {key: hyperparams[key] for key in ("policy",) if key in hyperparams}
        policy = model_arguments(algo, given, algo).policy
        owner, name = owner.policy_aliases[policy], name.partition(".")[2]  # type: ignore[attr-defined]
    argument = parameters_of(owner).get(name)
    if argument is None or argument.default is inspect.Parameter.empty:
        return None
    return nested.text_of(argument.default)


def including(parameter: Parameter, values: Sequence[Value]) -> Parameter:
    """The parameter, with its range or its choices widened to values outside of them."""
    if parameter.choices:
        held = dict.fromkeys(map(encoded, values))
        absent = [value for value in held if value not in parameter.choices]
        return replace(parameter, choices=(*parameter.choices, *absent))
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    low, high = min(parameter.low, *numbers), max(parameter.high, *numbers)
    # Zero often means "none of it", and has no place on a logarithmic scale.
    return replace(parameter, low=low, high=high, log=parameter.log and low > 0)


def suggest(trial: Trial, space: Sequence[Parameter]) -> dict[Parameter, Value]:
    """A value for each parameter; of those that exclude each other, for one."""
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
        return decoded(trial.suggest_categorical(parameter.name, parameter.choices))
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
        scheduled = is_schedule(written) and isinstance(value, float | int)
        changed = nested.put(changed, parameter.name, f"lin_{value!r}" if scheduled else value)
        if parameter.excludes:
            changed.pop(parameter.excludes, None)
    return changed


def to_dict(parameter: Parameter) -> dict[str, Any]:
    """What a study stores of a parameter: all that decides which values are tried."""
    fields = asdict(parameter)
    fields["choices"] = list(parameter.choices)
    return fields


def from_dict(fields: Mapping[str, Any]) -> Parameter:
    """The parameter that :func:`to_dict` has made into a dictionary."""
    return Parameter(**{**fields, "choices": tuple(fields["choices"])})
