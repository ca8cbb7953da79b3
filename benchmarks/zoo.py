"""Hyperparameters in RL Baselines3 Zoo's format: checked, and made into constructor arguments.

The format has four keys of its own, ``policy``, ``n_envs``, ``n_timesteps`` and ``normalize``;
every other key is an argument of the algorithm's constructor. Two kinds of values are written as
strings: linear schedules (``lin_0.001`` falls from 0.001 to zero over the training) and Python
keyword arguments (``"dict(log_std_init=-2, activation_fn=nn.ReLU)"``).
"""

import ast
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from benchmarks.yamls import SpecError, read_mapping

ALGORITHMS: dict[str, str] = {
    "npg": "sb3_natural:NPG",
    "trpo": "sb3_natural:TRPO",
    "ppo": "sb3_natural:PPO",
    "acer": "sb3_natural:ACER",
    "a2c": "sb3_natural:A2C",
}
HYPERPARAMS = Path(__file__).parent / "hyperparams"

_ZOO_KEYS = ("policy", "n_envs", "n_timesteps", "normalize")
# Arguments that a run sets itself, and those whose values cannot be written in YAML.
_NOT_HYPERPARAMS = {
    "env",
    "seed",
    "verbose",
    "tensorboard_log",
    "stats_window_size",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "_init_setup_model",
}
_SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf", "target_kl", "step_size")
_POSITIVE = {
    *_SCHEDULES,
    "n_envs",
    "n_timesteps",
    "n_steps",
    "batch_size",
    "n_epochs",
    "n_critic_updates",
    "cg_max_steps",
    "sub_sampling_factor",
    "gamma",
    "gae_lambda",
    "max_grad_norm",
    "buffer_size",
    "correction_term",
    "n_sdn_samples",
    "replay_batch_size",
}
# Where infinity means "never".
_MAY_BE_INFINITE = {"correction_term"}
_NORMALIZE_KEYS = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")
_CLASS_MODULES = {
    "nn": torch.nn,
    "th.nn": torch.nn,
    "torch.nn": torch.nn,
    "th.optim": torch.optim,
    "torch.optim": torch.optim,
}


@dataclass(frozen=True)
class ModelArguments:
    """What a run builds its environments and its model from."""

    policy: str
    n_envs: int
    normalize: dict[str, Any] | None  # VecNormalize's arguments; None: no VecNormalize
    constructor: dict[str, Any]


def algorithm_class(algo: str) -> type[BaseAlgorithm]:
    """The class behind an algorithm's name.

    :raises SpecError: unknown name
    """
    if algo not in ALGORITHMS:
        raise SpecError(f"algorithm {algo!r} is not one of {', '.join(ALGORITHMS)}")
    module, _, name = ALGORITHMS[algo].partition(":")
    return getattr(import_module(module), name)


def hyperparams_file(algo: str) -> Path:
    """The file with an algorithm's hyperparameters."""
    return HYPERPARAMS / f"{algo}.yml"


def has_own_entry(algo: str, env_id: str) -> bool:
    """Whether the environment has an entry of its own, or takes the file's ``default``."""
    return env_id in read_mapping(hyperparams_file(algo))


def hyperparams_for(algo: str, env_id: str) -> dict[str, Any]:
    """An algorithm's hyperparameters for an environment, as written in its file.

    The environment's own entry if there is one, else the entry ``default``.

    :raises SpecError: a key or a value that the algorithm cannot use
    """
    path = hyperparams_file(algo)
    entries = read_mapping(path)
    name = env_id if env_id in entries else "default"
    if name not in entries:
        raise SpecError(f"{path}: has no entry {env_id!r} and no entry 'default'")
    hyperparams = entries[name]
    if not isinstance(hyperparams, dict):
        raise SpecError(f"{path}: {name}: must be a mapping, got {hyperparams!r}")
    model_arguments(algo, hyperparams, f"{path}: {name}")
    return hyperparams


def model_arguments(algo: str, hyperparams: Mapping[str, Any], source: str) -> ModelArguments:
    """Check hyperparameters and turn strings into what they stand for.

    :param source: where they were written, for error messages
    :raises SpecError: naming the source, the key, the value and what is allowed
    """
    annotations = _constructor_annotations(algo)
    allowed = [*_ZOO_KEYS, *(key for key in annotations if key not in _ZOO_KEYS)]
    converted: dict[str, Any] = {}
    for key, value in hyperparams.items():
        if key not in allowed:
            raise SpecError(
                f"{source}: {key}: {value!r} is for a hyperparameter that {algo} does not have; "
                f"it has {', '.join(allowed)}"
            )
        where = f"{source}: {key}"
        converted[key] = _converted(key, value, where)
        if key not in _ZOO_KEYS:
            _check_type(converted[key], annotations[key], where, value)
        _check_range(key, value, where)
    _check_zoo_keys(algo, converted, source)
    normalize = converted.get("normalize", False)
    if normalize is True:
        normalize = {}
    if normalize is not False and "gamma" in converted:
        # The returns whose variance scales the rewards are those that the algorithm maximises.
        normalize = {**normalize, "gamma": converted["gamma"]}
    return ModelArguments(
        policy=converted.get("policy", "MlpPolicy"),
        n_envs=converted.get("n_envs", 1),
        normalize=None if normalize is False else normalize,
        constructor={key: value for key, value in converted.items() if key not in _ZOO_KEYS},
    )


def _constructor_annotations(algo: str) -> dict[str, Any]:
    parameters = inspect.signature(algorithm_class(algo)).parameters
    return {
        name: parameter.annotation
        for name, parameter in parameters.items()
        if name not in _NOT_HYPERPARAMS
    }


def _converted(key: str, value: Any, where: str) -> Any:
    if key in _SCHEDULES and isinstance(value, str):
        return LinearSchedule(schedule_start(value, where), 0.0, 1.0)
    if key in ("policy_kwargs", "normalize") and isinstance(value, str):
        return parse_python(value, where)
    return value


def schedule_start(value: str, where: str) -> float:
    """The initial value of a linear schedule such as ``lin_0.001``.

    :raises SpecError: not of that form, or the initial value is not positive
    """
    kind, _, start = value.partition("_")
    try:
        number = float(start)
    except ValueError:
        number = math.nan
    if kind != "lin" or not 0 < number < math.inf:
        raise SpecError(
            f"{where}: must be a number or a linear schedule such as 'lin_0.001', got {value!r}"
        )
    return number


def parse_python(text: str, where: str) -> Any:
    """The value of ``dict(key=value, ...)``, read without being executed.

    Literals, ``dict(...)``, and classes of ``torch.nn`` and ``torch.optim``, written ``nn.ReLU``
    or ``th.optim.Adam``, are understood.

    :raises SpecError: anything else
    """
    try:
        return _python_value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise SpecError(
            f"{where}: cannot be read: {error}; allowed are literals, dict(...) and classes such "
            f"as nn.ReLU or torch.optim.Adam, got {text!r}"
        ) from None


def _python_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("dict(...) takes key=value only")
        return {str(keyword.arg): _python_value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            ast.literal_eval(key): _python_value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.List | ast.Tuple):
        items = [_python_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Attribute):
        module = _CLASS_MODULES.get(ast.unparse(node.value))
        found = getattr(module, node.attr, None)
        if not isinstance(found, type):
            raise ValueError(f"{ast.unparse(node)} is not known")
        return found
    return ast.literal_eval(node)


def _check_type(value: Any, annotation: Any, where: str, written: Any) -> None:
    if not _accepts(annotation, value):
        raise SpecError(f"{where}: must be {_describe(annotation)}, got {written!r}")


def _accepts(annotation: Any, value: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, value) for part in typing.get_args(annotation))
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is Callable:
        return callable(value)
    if isinstance(origin, type):
        return isinstance(value, origin)
    # Not a type that can be looked at here (a string, Any): left to the constructor.
    return True


def _describe(annotation: Any) -> str:
    origin = typing.get_origin(annotation) or annotation
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(part) for part in typing.get_args(annotation))
    names: dict[Any, str] = {
        float: "a number",
        int: "an integer",
        bool: "true or false",
        str: "a string",
        dict: 'a mapping or "dict(...)"',
        type(None): "null",
        Callable: "a linear schedule such as 'lin_0.001'",
    }
    return names.get(origin, str(origin))


def _check_range(key: str, value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value) and not (key in _MAY_BE_INFINITE and value > 0):
        raise SpecError(f"{where}: must be finite, got {value}")
    if key in _POSITIVE and value <= 0:
        raise SpecError(f"{where}: must be positive, got {value}")
    if key in ("gamma", "gae_lambda") and value > 1:
        raise SpecError(f"{where}: must be at most 1, got {value}")


def _check_zoo_keys(algo: str, converted: Mapping[str, Any], source: str) -> None:
    if "n_envs" in converted:
        _check_type(converted["n_envs"], int, f"{source}: n_envs", converted["n_envs"])
    policies = list(algorithm_class(algo).policy_aliases)
    if converted.get("policy", policies[0]) not in policies:
        raise SpecError(
            f"{source}: policy: must be one of {', '.join(policies)}, got {converted['policy']!r}"
        )
    steps = converted.get("n_timesteps", 1)
    # The Zoo writes !!float 1e6.
    if isinstance(steps, bool) or not isinstance(steps, int | float) or steps != int(steps):
        raise SpecError(f"{source}: n_timesteps: must be an integer, got {steps!r}")
    normalize = converted.get("normalize", False)
    if not isinstance(normalize, bool | dict):
        raise SpecError(
            f'{source}: normalize: must be true, false, a mapping or "dict(...)", got {normalize!r}'
        )
    if isinstance(normalize, dict):
        for key, value in normalize.items():
            if key not in _NORMALIZE_KEYS:
                raise SpecError(
                    f"{source}: normalize: {key}: {value!r} is for an unknown key; "
                    f"allowed are {', '.join(_NORMALIZE_KEYS)}"
                )
