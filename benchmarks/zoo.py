"""Hyperparameters in RL Baselines3 Zoo's format, checked and turned into constructor arguments.

The format has keys of its own, ``policy``, ``n_envs``, ``n_timesteps``, ``normalize``,
``env_wrapper`` and ``frame_stack``, and ``noise_type`` and ``noise_std`` for algorithms that take
action noise; every other key is an argument of the algorithm's constructor. Three kinds of values
are written as strings: linear schedules (``lin_0.001`` falls from 0.001 to zero over the training),
keyword arguments (``"dict(log_std_init=-2, activation_fn=nn.ReLU)"``) and the class of a replay
buffer (``HerReplayBuffer``); a pair is written as a list (``train_freq: [1, "episode"]``).
"""

from __future__ import annotations

import ast
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from benchmarks.algorithms import ALGORITHMS, algorithm_class, hyperparams_file, parameters_of
from benchmarks.environments import Wrapper, check_wrappers, is_atari
from benchmarks.errors import SpecError
from benchmarks.safe_yaml import MAY_BE_INFINITE, check_keys, check_values, read_mapping

# torch and Stable-Baselines3 take seconds to import, and reading hyperparameters needs neither.
if TYPE_CHECKING:
    from stable_baselines3.common.noise import ActionNoise

_ZOO_KEYS = ("policy", "n_envs", "n_timesteps", "normalize", "env_wrapper", "frame_stack")
_NOISE_KEYS = ("noise_type", "noise_std")  # instead of the argument action_noise
_NOISES = {  # of stable_baselines3.common.noise
    "normal": "NormalActionNoise",
    "ornstein-uhlenbeck": "OrnsteinUhlenbeckActionNoise",
}
_UNITS = ("step", "episode")
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
    "frame_stack",
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
# Keys whose values may be written as Python code.
_PYTHON = ("policy_kwargs", "normalize", "replay_buffer_class", "replay_buffer_kwargs")
_NORMALIZE_TYPES: dict[str, type] = {
    **dict.fromkeys(("norm_obs", "norm_reward"), bool),
    **dict.fromkeys(("clip_obs", "clip_reward", "gamma", "epsilon"), float),
}
_MOST_ENVS = 100_000
_LONGEST_PYTHON = 10_000  # characters
# How hyperparameters write the modules of classes, and the modules' names.
_CLASS_MODULES = {
    "nn": "torch.nn",
    "th.nn": "torch.nn",
    "torch.nn": "torch.nn",
    "th.optim": "torch.optim",
    "torch.optim": "torch.optim",
}
# The classes that the Zoo imports by name, and their modules.
_CLASSES = {
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like",
    "HerReplayBuffer": "stable_baselines3",
}


@dataclass(frozen=True)
class ModelArguments:
    """What a run builds its environments and its model from."""

    policy: str
    n_envs: int
    normalize: dict[str, Any] | None  # VecNormalize's arguments; None: no VecNormalize
    constructor: dict[str, Any]
    wrappers: list[Wrapper]
    frame_stack: int | None
    noise: tuple[str, float] | None = None  # its kind and its standard deviation


def hyperparams_for(algo: str, env_id: str, file: Path | None = None) -> dict[str, Any]:
    """An algorithm's hyperparameters for an environment, as written in a file.

    They are the environment's own entry if there is one, else the entry ``atari`` if it is an
    Atari game, else the entry ``default``. An algorithm given by its path, without a file, has the
    defaults of its constructor.

    :param file: replaces the algorithm's own file
    :raises SpecError: a key or a value that the algorithm cannot use
    """
    if file is None and algo not in ALGORITHMS:
        return {}
    path = file or hyperparams_file(algo)
    entries = read_mapping(path)
    candidates = [env_id, *(["atari"] if is_atari(env_id) else []), "default"]
    name = next((name for name in candidates if name in entries), None)
    if name is None:
        raise SpecError(f"{path}: has no entry {' or '.join(map(repr, candidates))}")
    hyperparams = entries[name]
    if not isinstance(hyperparams, dict):
        raise SpecError(f"{path}: {name}: must be a mapping, got {hyperparams!r}")
    model_arguments(algo, hyperparams, f"{path}: {name}")
    return hyperparams


def model_arguments(algo: str, hyperparams: Mapping[str, Any], source: str) -> ModelArguments:
    """Check hyperparameters, and turn strings into the values that they stand for.

    :param source: where the hyperparameters were written, for error messages
    :raises SpecError: naming the source, the key, the value and what is allowed
    """
    annotations = _constructor_annotations(algo)
    own = (*_ZOO_KEYS, *(_NOISE_KEYS if "action_noise" in annotations else ()))
    allowed = [*own, *(key for key in annotations if key not in own)]
    converted: dict[str, Any] = {}
    for key, value in hyperparams.items():
        if key not in allowed:
            raise SpecError(
                f"{source}: {key}: {value!r} is for a hyperparameter that {algo} does not have; "
                f"it has {', '.join(allowed)}"
            )
        where = f"{source}: {key}"
        converted[key] = _converted(key, value, where)
        if key not in own:
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
        policy=converted.get("policy", _usual_policy(algo)),
        n_envs=converted.get("n_envs", 1),
        normalize=None if normalize is False else normalize,
        constructor={key: value for key, value in converted.items() if key not in own},
        wrappers=as_list(converted.get("env_wrapper")),
        frame_stack=converted.get("frame_stack"),
        noise=_noise(converted, source),
    )


def action_noise(noise: tuple[str, float], action_space: spaces.Space) -> ActionNoise:
    """The noise that is added to the actions in training: of mean 0, as in the Zoo.

    :param noise: its kind, ``normal`` or ``ornstein-uhlenbeck``, and its standard deviation
    :raises SpecError: the actions are not numbers
    """
    kind, std = noise
    if not isinstance(action_space, spaces.Box):
        raise SpecError(f"noise_type: {kind!r} is for continuous actions only, not {action_space}")
    ones = np.ones(action_space.shape[0])
    noise_class = getattr(import_module("stable_baselines3.common.noise"), _NOISES[kind])
    made: ActionNoise = noise_class(mean=0.0 * ones, sigma=std * ones)
    return made


def _noise(converted: Mapping[str, Any], source: str) -> tuple[str, float] | None:
    kind, std = converted.get("noise_type"), converted.get("noise_std")
    if kind is None:
        if std is not None:
            raise SpecError(f"{source}: noise_std: {std!r} needs a noise_type beside it")
        return None
    name = kind.strip() if isinstance(kind, str) else None
    if name is None or name not in _NOISES:
        raise SpecError(f"{source}: noise_type: must be one of {', '.join(_NOISES)}, got {kind!r}")
    if std is None or not _accepts(float, std) or std < 0:
        raise SpecError(f"{source}: noise_std: must be a number of at least 0, got {std!r}")
    return name, float(std)


def _usual_policy(algo: str) -> str:
    """MlpPolicy, or the first policy of an algorithm that has no MlpPolicy."""
    policies = list(algorithm_class(algo).policy_aliases)
    return policies[0] if policies and "MlpPolicy" not in policies else "MlpPolicy"


def as_list(wrappers: Any) -> list[Wrapper]:
    """A list of wrappers: the Zoo writes a single one without a list, and none as null."""
    if wrappers is None:
        return []
    return wrappers if isinstance(wrappers, list) else [wrappers]


def _constructor_annotations(algo: str) -> dict[str, Any]:
    return {
        name: parameter.annotation
        for name, parameter in parameters_of(algorithm_class(algo)).items()
        if name not in _NOT_HYPERPARAMS
    }


def _converted(key: str, value: Any, where: str) -> Any:
    if key in _SCHEDULES and isinstance(value, str):
        from stable_baselines3.common.utils import LinearSchedule

        return LinearSchedule(schedule_start(value, where), 0.0, 1.0)
    if key in _PYTHON and isinstance(value, str):
        return parse_python(value, where)
    if key == "train_freq" and isinstance(value, list):
        number, *unit = value or [None]
        if not _accepts(int, number) or number < 1 or unit not in ([each] for each in _UNITS):
            raise SpecError(
                f"{where}: must be an integer, or one with {' or '.join(_UNITS)} in a list, "
                f"got {value!r}"
            )
        return tuple(value)
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
    """The value of ``dict(key=value, ...)``, which is read but not executed.

    Literals, ``dict(...)``, and classes of ``torch.nn`` and ``torch.optim``, written ``nn.ReLU``
    or ``th.optim.Adam``, are understood.

    :raises SpecError: anything else
    """
    try:
        if len(text) > _LONGEST_PYTHON:
            raise ValueError(f"is longer than {_LONGEST_PYTHON:,} characters")
        return _python_value(ast.parse(text.strip(), mode="eval").body)
    # TypeError is raised by odd keys, the last two by deep nesting.
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
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
    if isinstance(node, ast.Name) and node.id in _CLASSES:
        return getattr(import_module(_CLASSES[node.id]), node.id)
    if isinstance(node, ast.Attribute):
        module = _CLASS_MODULES.get(ast.unparse(node.value))
        found = getattr(import_module(module), node.attr, None) if module else None
        if not isinstance(found, type):
            raise ValueError(f"{ast.unparse(node)} is not known")
        return found
    value = ast.literal_eval(node)
    check_values(value, "")
    return value


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
    if isinstance(origin, type) and origin is not inspect.Parameter.empty:
        return isinstance(value, origin)
    # Other annotations (a string, Any, none at all) cannot be checked here, but by the constructor.
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
    if not math.isfinite(value) and not (key in MAY_BE_INFINITE and value > 0):
        raise SpecError(f"{where}: must be finite, got {value}")
    if key in _POSITIVE and value <= 0:
        raise SpecError(f"{where}: must be positive, got {value}")
    if key in ("gamma", "gae_lambda") and value > 1:
        raise SpecError(f"{where}: must be at most 1, got {value}")


def _check_zoo_keys(algo: str, converted: Mapping[str, Any], source: str) -> None:
    for key in ("n_envs", "frame_stack"):
        if key in converted:
            _check_type(converted[key], int, f"{source}: {key}", converted[key])
            if converted[key] > _MOST_ENVS:
                raise SpecError(f"{source}: {key}: must be at most {_MOST_ENVS:,}")
    check_wrappers(as_list(converted.get("env_wrapper")), f"{source}: env_wrapper")
    policies = list(algorithm_class(algo).policy_aliases)
    if "policy" in converted and converted["policy"] not in policies:
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
        check_keys(normalize, _NORMALIZE_TYPES, f"{source}: normalize")
        for key, value in normalize.items():
            where = f"{source}: normalize: {key}"
            _check_type(value, _NORMALIZE_TYPES[key], where, value)
            _check_range(key, value, where)
