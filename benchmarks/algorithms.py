"""The algorithms by name, their classes, and the files with their hyperparameters."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import SpecError, check_distinct
from benchmarks.safe_yaml import read_mapping

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ALGORITHMS: dict[str, str] = {
    "npg": "sb3_natural:NPG",
    "trpo": "sb3_natural:TRPO",
    "ppo": "sb3_natural:PPO",
    "acer": "sb3_natural:ACER",
    "a2c": "sb3_natural:A2C",
    "acktr": "sb3_natural:ACKTR",
    "nac": "sb3_natural:NAC",
    "recurrent_npg": "sb3_natural:RecurrentNPG",
    "natural_dqn": "sb3_natural:NaturalDQN",
    "dqn": "stable_baselines3:DQN",
}
# Those of a sweep that names none: for every task.
USUAL = ("npg", "trpo", "ppo", "acer", "a2c")
_KNOWN_PACKAGES = ("sb3_natural", "stable_baselines3", "sb3_contrib")
HYPERPARAMS = Path(__file__).parent / "hyperparams"
# Those of our own algorithms ship with the plugin, for RL Zoo's command line.
PLUGIN_HYPERPARAMS = Path(__file__).parents[1] / "sb3_natural" / "hyperparams"


def algorithm_class(algo: str) -> type[BaseAlgorithm]:
    """The class of an algorithm, given by its name or by its path: ``module:Class``.

    ``module.Class`` is understood, too.

    :raises SpecError: neither a known name nor the path of a subclass of SB3's BaseAlgorithm
    """
    # Slow to import, and not needed where the names are enough.
    from stable_baselines3.common.base_class import BaseAlgorithm

    from benchmarks.environments import load_module

    path = ALGORITHMS.get(algo, algo)
    module, _, name = path.rpartition(":" if ":" in path else ".")
    if not module:
        raise SpecError(
            f"{algo!r} is not one of {', '.join(ALGORITHMS)}, nor the path of a class such as "
            "sbx:PPO"
        )
    try:
        found = getattr(load_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{algo!r} cannot be imported: {error}") from None
    if not isinstance(found, type) or not issubclass(found, BaseAlgorithm):
        raise SpecError(f"{algo!r} is not a subclass of SB3's BaseAlgorithm")
    return found


def known_class(algo: str) -> type[BaseAlgorithm] | None:
    """The class behind a name or path found in a file, if it belongs to this project or to SB3.

    No other is imported: a file from a stranger could have any module executed that way.
    """
    package = ALGORITHMS.get(algo, algo).partition(":")[0].partition(".")[0]
    try:
        return algorithm_class(algo) if package in _KNOWN_PACKAGES else None
    except SpecError:  # the file is from another version
        return None


def check_algorithms(option: str, chosen: Sequence[str]) -> None:
    """Check names and paths of algorithms that an option was given.

    :raises SpecError: one that cannot be imported, one given twice, or none
    """
    check_distinct(option, chosen, list(ALGORITHMS))
    for name in chosen:
        try:
            algorithm_class(name)
        except SpecError as error:
            raise SpecError(f"{option}: {error}") from None


def parameters_of(cls: type, method: str = "__init__") -> dict[str, inspect.Parameter]:
    """The named parameters of a method, including those of the overridden methods that it calls.

    The latter count where the method passes them on as ``**kwargs``.
    """
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if method not in vars(base):
            continue
        _, *parameters = inspect.signature(vars(base)[method]).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def hyperparams_file(algo: str) -> Path:
    """The file with an algorithm's hyperparameters: the plugin's or else the suite's."""
    shipped = PLUGIN_HYPERPARAMS / f"{algo}.yml"
    return shipped if shipped.exists() else HYPERPARAMS / f"{algo}.yml"


def has_own_entry(algo: str, env_id: str) -> bool:
    """Whether an environment has an entry of its own in an algorithm's file."""
    return env_id in read_mapping(hyperparams_file(algo))
