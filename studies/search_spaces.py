"""The parameters that can be tuned of each algorithm, with their ranges and symbols."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.algorithms import ALGORITHMS, algorithm_class, check_algorithms, parameters_of
from benchmarks.errors import SpecError
from benchmarks.safe_yaml import check_keys, read_mapping
from benchmarks.zoo import model_arguments, schedule_start
from studies import nested
from studies.parameters import Parameter, Value, decode, encode, is_schedule, with_values


def _log(name: str, symbol: str, meaning: str, low: float, high: float, **more: Any) -> Parameter:
    return Parameter(name, symbol, meaning, low, high, log=True, **more)


def _extended(parameter: Parameter) -> Parameter:
    return replace(parameter, extended=True)


_KL = "KL divergence of an update [nats]"
_DELTA = _log("target_kl", "delta", _KL, 1e-3, 0.5, default="lin_0.04")
_STEP_SIZE = _log(
    "step_size", "step_size", "length of the natural gradient step", 1e-3, 1.0, default=0.05,
    excludes="target_kl",
)  # fmt: skip
_DAMPING = _log("cg_damping", "damping", "multiple of the identity added to F", 1e-3, 1.0)
_LAMBDA = Parameter("gae_lambda", "lambda", "decay of GAE's weights", 0.8, 1.0)
_LEARNING_RATE = _log("learning_rate", "learning_rate", "length of a gradient step", 1e-5, 1e-2)
_GAMMA = Parameter("gamma", "gamma", "discount factor", choices=(0.98, 0.99, 0.995, 0.999))
_EXPLORATION = Parameter(
    "exploration_fraction", "exploration_fraction", "share of training that explores", 0.05, 0.5
)

# Those marked _extended are tuned only if they are named, or with --extended.
SPACES: dict[str, tuple[Parameter, ...]] = {
    "npg": (
        _DELTA,
        _extended(_STEP_SIZE),
        _extended(_DAMPING),
        _extended(_LAMBDA),
        _extended(_GAMMA),
    ),
    "recurrent_npg": (
        _DELTA,
        _extended(_STEP_SIZE),
        _extended(_DAMPING),
        _extended(_LAMBDA),
        _extended(_GAMMA),
    ),
    "trpo": (
        _log("target_kl", "delta", _KL, 1e-3, 0.5),
        _extended(_DAMPING),
        _extended(_LEARNING_RATE),
        _extended(_LAMBDA),
        _extended(_GAMMA),
    ),
    "ppo": (
        _log("clip_range", "epsilon", "clip range of the probability ratio", 0.02, 0.8),
        _extended(_LEARNING_RATE),
        _extended(Parameter("n_epochs", "n_epochs", "passes over a rollout", 1, 20, integer=True)),
        _extended(_LAMBDA),
        _extended(_GAMMA),
    ),
    "acer": (
        _log("correction_term", "c", "where importance ratios are truncated", 0.5, 50.0),
        _log("delta", "delta", "KL divergence from the average policy [nats]", 0.01, 10.0),
        _extended(_LEARNING_RATE),
        _extended(
            Parameter("replay_ratio", "replay_ratio", "replayed updates for each new one", 0, 8)
        ),
        _extended(_log("ent_coef", "ent_coef", "weight of the entropy", 1e-4, 1e-1)),
        _extended(_GAMMA),
    ),
    "acktr": (
        _log("kfac_clip", "delta", "how far an update may go by K-FAC's model [nats]", 1e-5, 0.1),
        _extended(
            _log("learning_rate", "learning_rate", "longest multiple of the direction", 0.01, 1.0)
        ),
        _extended(_log("kfac_damping", "damping", "lambda, split between the factors", 1e-4, 0.1)),
        _extended(_LAMBDA),
        _extended(_GAMMA),
    ),
    "nac": (
        _log("target_kl", "delta", _KL, 1e-3, 0.5, default=0.01),
        _extended(_STEP_SIZE),
        _extended(Parameter("trace", "lambda", "decay of the eligibility traces", 0.0, 1.0)),
        _extended(Parameter("forgetting_factor", "beta", "what sums keep after a step", 0.0, 1.0)),
        _extended(_log("ridge", "ridge", "multiple of the identity added to A", 1e-5, 1e-1)),
        _extended(_GAMMA),
    ),
    "a2c": (
        _LEARNING_RATE,
        _extended(
            _log("max_grad_norm", "max_grad_norm", "norm of the gradient at most", 0.05, 5.0)
        ),
        _extended(_LAMBDA),
        _extended(_GAMMA),
    ),
    "dqn": (_LEARNING_RATE, _extended(_EXPLORATION), _extended(_GAMMA)),
    "natural_dqn": (
        _log("learning_rate", "learning_rate", "share of the natural gradient", 1e-3, 1.0),
        _log("max_q_change", "max_q_change", "change of Q in a step at most", 0.01, 1.0),
        _extended(
            _log("critic_damping", "damping", "multiple of the identity added to F", 1e-4, 1.0)
        ),
        _extended(_EXPLORATION),
        _extended(_GAMMA),
    ),
}


def space_for(
    algo: str, params: Sequence[str] = (), extended: bool = False
) -> tuple[Parameter, ...]:
    """The parameters to tune.

    :param algo: a name, or the path of a class; a subclass of one of ours has its parameters
    :param params: by name or symbol; empty for the most important, such as target_kl or clip_range
    :param extended: tune all of the algorithm's parameters, except those that exclude another
    :raises SpecError: an unknown algorithm or parameter, or a class whose ranges are not known
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
    """Check that the algorithm has these parameters: a user's own class may lack some."""
    for each in space:
        value = decode(each.choices[0]) if each.choices else each.low
        model_arguments(algo, with_values({}, {each: value}), "--algo")
    return tuple(space)


def _table(algo: str) -> tuple[Parameter, ...]:
    """The parameters of an algorithm, or of the one that a class is a subclass of."""
    check_algorithms("--algo", [algo])
    if algo in SPACES:
        return SPACES[algo]
    given = algorithm_class(algo)
    for name, table in SPACES.items():
        ours = algorithm_class(name)
        # Ours are subclasses of SB3's of the same names, and take the same arguments.
        if any(issubclass(given, each) for each in ours.__mro__ if each.__name__ == ours.__name__):
            return table
    return ()


_KEYS = ("low", "high", "log", "integer", "choices", "default", "symbol", "meaning")


def read_space(algo: str, path: Path) -> tuple[Parameter, ...]:
    """A user's own space: a YAML file with arguments of the algorithm and their values.

    ``gamma: {low: 0.9, high: 1.0}`` is a range; ``log: true`` makes it logarithmic, and
    ``integer: true`` one of integers. ``n_steps: {choices: [64, 128]}`` is a choice, whose values
    may also be lists and mappings. ``policy_kwargs.log_std_init`` is a parameter of the policy.

    :raises SpecError: naming the file, the key, the value and what is valid
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
    check_keys(fields, _KEYS, where)
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
        default=encode(fields["default"], where) if "default" in fields else known.default,
        extended=False,
    )
    values = list(parameter.choices or (parameter.low, parameter.high))
    if parameter.default is not None:
        is_number = isinstance(parameter.default, int | float) or is_schedule(parameter.default)
        if not parameter.choices and not is_number:
            raise SpecError(f"{where}: default: must be a number, got {parameter.default!r}")
        values.append(parameter.default)
    for value in values:
        written = {parameter.name: value} if is_schedule(value) else {}
        given = {} if written else {parameter: decode(value)}
        model_arguments(algo, with_values(written, given), str(path))
    return parameter


def _read_choices(known: Parameter, fields: Mapping[str, Any], where: str) -> Parameter:
    choices = fields["choices"]
    both = [key for key in ("low", "high", "log", "integer") if key in fields]
    if both:
        raise SpecError(f"{where}: choices: exclude {', '.join(both)}")
    held = [encode(choice, where) for choice in choices] if isinstance(choices, list) else []
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
    # Floats otherwise, so that an argument that takes integers alone refuses the range.
    kind = int if integer else float
    return replace(known, low=kind(low), high=kind(high), log=log, integer=integer, choices=())


def default_value(algo: str, parameter: Parameter, hyperparams: Mapping[str, Any]) -> Value:
    """A parameter's value in the hyperparameters, or else its default in the constructor.

    Of a schedule, it is the initial value. The constructor of a class given by its path is not
    looked at, since :func:`with_own_default` has done that.

    :raises SpecError: there is no such value, or the parameter may not take it
    """
    written = nested.get(hyperparams, parameter.name)
    if written is None and algo in ALGORITHMS:
        written = _constructors(algo, parameter.name, hyperparams)
    if written is None:
        written = decode(parameter.default)
    if is_schedule(written) and not any(is_schedule(choice) for choice in parameter.choices):
        written = schedule_start(str(written), parameter.name)
    if written is None and None in parameter.choices:
        return None
    allowed = float | int | str | list | dict if parameter.choices else float | int | str
    if not isinstance(written, allowed):
        raise SpecError(f"{parameter.name}: has no default; a space of your own can give one")
    if parameter.choices or isinstance(written, str):
        return decode(encode(written, parameter.name))
    # As Optuna stores it, since 1 and 1.0 would have different run folders.
    return int(written) if parameter.integer else float(written)


def with_own_default(algo: str, parameter: Parameter, hyperparams: Mapping[str, Any]) -> Parameter:
    """A parameter with the default in the constructor of a class given by its path.

    What a study stores is then complete: to read it, no class of the user's is imported.
    """
    own = None if algo in ALGORITHMS else _constructors(algo, parameter.name, hyperparams)
    return parameter if own is None else replace(parameter, default=encode(own, parameter.name))


def _constructors(algo: str, name: str, hyperparams: Mapping[str, Any]) -> Any:
    """The default in the signature of the algorithm or of its policy; None if there is none."""
    owner: type = algorithm_class(algo)
    if name.startswith("policy_kwargs."):
        # Nothing else of the hyperparameters, since wrappers would be imported.
        given = {key: hyperparams[key] for key in ("policy",) if key in hyperparams}
        policy = model_arguments(algo, given, algo).policy
        owner, name = owner.policy_aliases[policy], name.partition(".")[2]  # type: ignore[attr-defined]
    argument = parameters_of(owner).get(name)
    if argument is None or argument.default is inspect.Parameter.empty:
        return None
    return nested.text_of(argument.default)
