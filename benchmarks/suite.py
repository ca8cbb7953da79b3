"""Suites: environments, their budgets, and how runs on them are evaluated."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import check_environment, check_wrappers
from benchmarks.errors import SpecError
from benchmarks.folder_names import check_name
from benchmarks.records import Evaluation
from benchmarks.safe_yaml import check_keys, read_mapping

SUITES = Path(__file__).parent / "suites"
_ENV_KEYS = ("n_timesteps", "kwargs", "wrappers", "frame_stack")


@dataclass(frozen=True)
class SuiteEnv:
    """An environment of a suite.

    :param env_id: its id in Gymnasium, after ``module:`` if a module has to be imported first
    :param n_timesteps: steps of training of each run; None leaves them to the hyperparameters
    :param options: what the suite gives of ``kwargs``, ``wrappers`` and ``frame_stack``
    """

    env_id: str
    n_timesteps: int | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Environments, and how runs on them are evaluated.

    :param name: the file's name, without ``.yaml``
    :param envs: the environments, in the file's order
    :param evaluation: the evaluation protocol
    :param source: the file, as messages show it
    """

    name: str
    envs: list[SuiteEnv]
    evaluation: Evaluation
    source: str = ""


def suite_names() -> list[str]:
    """The names of the suites that come with this package, sorted."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(name_or_path: str) -> Suite:
    """Read a suite: one of this package by its name, or a YAML file by its path.

    :param name_or_path: a name of :func:`suite_names`, or a path that ends in .yaml or .yml
    :raises SpecError: there is no such suite, or a key or a value in it is not valid
    """
    given = Path(name_or_path)
    if given.suffix in (".yaml", ".yml"):
        path = given
    elif name_or_path in suite_names():
        path = SUITES / f"{name_or_path}.yaml"
    else:
        raise SpecError(
            f"suite {name_or_path!r} is not one of {', '.join(suite_names())}, "
            "nor the path of a .yaml file"
        )
    check_name(f"{path}: the file's name, which is the suite's", path.stem)
    content = read_mapping(path)
    check_keys(content, ("environments", "evaluation", *_ENV_KEYS), str(path))
    common = _env_options(content, str(path))
    environments = content.get("environments")
    if not isinstance(environments, dict) or not environments:
        raise SpecError(
            f"{path}: environments: must be a mapping of environments, got {environments!r}"
        )
    envs = [
        _environment(env_id, {} if options is None else options, common, path)
        for env_id, options in environments.items()
    ]
    evaluation = _evaluation(content.get("evaluation", {}), str(path))
    return Suite(path.stem, envs, evaluation, str(path))


def _environment(env_id: str, options: Any, common: Mapping[str, Any], path: Path) -> SuiteEnv:
    where = f"{path}: environments: {env_id}"
    if not isinstance(options, dict):
        raise SpecError(
            f"{where}: must be a mapping such as {{n_timesteps: 1000}}, got {options!r}"
        )
    check_keys(options, _ENV_KEYS, where)
    check_environment(env_id, where)
    merged = {**common, **_env_options(options, where)}
    merged = {key: value for key, value in merged.items() if value not in ([], {})}
    return SuiteEnv(env_id, merged.pop("n_timesteps", None), merged)


def _env_options(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options of one or of all environments of a suite, checked."""
    options = {key: fields[key] for key in _ENV_KEYS if key in fields}
    for key in ("n_timesteps", "frame_stack"):
        if key in options:
            options[key] = _count(options[key], f"{where}: {key}")
    if "wrappers" in options:
        check_wrappers(options["wrappers"], f"{where}: wrappers")
    if not isinstance(options.get("kwargs", {}), dict):
        raise SpecError(f"{where}: kwargs: must be a mapping, got {options['kwargs']!r}")
    return options


def _evaluation(fields: Any, source: str) -> Evaluation:
    where = f"{source}: evaluation"
    if not isinstance(fields, dict):
        raise SpecError(f"{where}: must be a mapping, got {fields!r}")
    check_keys(fields, ("points", "episodes", "seed", "max_steps"), where)
    counts = {
        key: _count(fields[key], f"{where}: {key}")
        for key in ("points", "episodes", "max_steps")
        if key in fields
    }
    seed = fields.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise SpecError(f"{where}: seed: must be an integer of at least 0, got {seed!r}")
    return Evaluation(**{**fields, **counts})


def _count(value: Any, where: str) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or value < 1:
        raise SpecError(f"{where}: must be a positive integer, got {value!r}")
    return int(value)
