"""What a suite is, and what runs a sweep of it consists of, checked before anything is run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.environments import check_environment, check_wrappers, try_environment
from benchmarks.errors import SpecError
from benchmarks.folder_names import check_name
from benchmarks.records import Evaluation, RunSpec, check_spec
from benchmarks.trying import in_child, try_models
from benchmarks.yamls import parse, read_mapping
from benchmarks.zoo import (
    ALGORITHMS,
    algorithm_class,
    as_list,
    hyperparams_file,
    hyperparams_for,
    model_arguments,
)

SUITES = Path(__file__).parent / "suites"
_ENV_KEYS = ("n_timesteps", "kwargs", "wrappers", "frame_stack")


@dataclass(frozen=True)
class SuiteEnv:
    """An environment of a suite; ``n_timesteps=None`` leaves the number to the hyperparameters."""

    env_id: str
    n_timesteps: int | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Environments and how they are evaluated; ``source`` is the file that says so."""

    name: str
    envs: list[SuiteEnv]
    evaluation: Evaluation
    source: str = ""


_Configuration = tuple[str, SuiteEnv, int, dict[str, Any]]
"""Algorithm, environment, number of steps, hyperparameters without ``n_timesteps``."""


def suite_names() -> list[str]:
    """The suites that come with this package."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(name_or_path: str) -> Suite:
    """Read a suite: one of this package by its name, or a YAML file by its path.

    :raises SpecError: no such suite, or a key or a value in it that is not allowed
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
    _refuse_unknown(content, ("environments", "evaluation", *_ENV_KEYS), str(path))
    common = _env_options(content, str(path))
    environments = content.get("environments")
    if not isinstance(environments, dict) or not environments:
        raise SpecError(
            f"{path}: environments: must be a mapping of environments, got {environments!r}"
        )
    envs = []
    for env_id, options in environments.items():
        where = f"{path}: environments: {env_id}"
        options = {} if options is None else options
        if not isinstance(options, dict):
            raise SpecError(
                f"{where}: must be a mapping such as {{n_timesteps: 1000}}, got {options!r}"
            )
        _refuse_unknown(options, _ENV_KEYS, where)
        check_environment(str(env_id), where)
        merged = {**common, **_env_options(options, where)}
        merged = {key: value for key, value in merged.items() if value not in ([], {})}
        envs.append(SuiteEnv(str(env_id), merged.pop("n_timesteps", None), merged))
    evaluation = _evaluation(content.get("evaluation", {}), str(path))
    return Suite(path.stem, envs, evaluation, str(path))


def _env_options(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is said of all environments of a suite, or of one, checked."""
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
    _refuse_unknown(fields, ("points", "episodes", "seed", "max_steps"), where)
    counts = {
        key: _count(fields[key], f"{where}: {key}")
        for key in ("points", "episodes", "max_steps")
        if key in fields
    }
    seed = fields.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise SpecError(f"{where}: seed: must be an integer of at least 0, got {seed!r}")
    return Evaluation(**{**fields, **counts})


def _refuse_unknown(fields: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    for key, value in fields.items():
        if key not in allowed:
            raise SpecError(
                f"{where}: {key}: {value!r} is for an unknown key; allowed are {', '.join(allowed)}"
            )


def _count(value: Any, where: str) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or value < 1:
        raise SpecError(f"{where}: must be a positive integer, got {value!r}")
    return int(value)


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts as hyperparameters; the values are YAML.

    :raises SpecError: not of that form, or a key given twice
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise SpecError(f"--set: must be key=value, got {setting!r}")
        if key in overrides:
            raise SpecError(f"--set: {key}: is given twice")
        if key == "n_timesteps":
            raise SpecError(f"--set: {key}: use --steps")
        overrides[key] = parse(value, f"--set: {key}")
    return overrides


def parse_files(settings: Sequence[str]) -> dict[str, Path]:
    """``algo=file`` texts as paths.

    :raises SpecError: not of that form, or an algorithm given twice
    """
    files: dict[str, Path] = {}
    for setting in settings:
        algo, equals, file = setting.partition("=")
        if not equals or not algo or not file:
            raise SpecError(f"--hyperparams: must be ALGO=FILE, got {setting!r}")
        if algo in files:
            raise SpecError(f"--hyperparams: {algo}: is given twice")
        files[algo] = Path(file)
    return files


def plan(
    suite: Suite,
    algos: Sequence[str],
    env_ids: Sequence[str],
    seeds: Sequence[int],
    n_timesteps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    files: Mapping[str, Path] | None = None,
) -> list[RunSpec]:
    """The runs of a sweep, checked: all algorithms and environments of one seed, then the next.

    :param n_timesteps: instead of the suite's and the hyperparameters' numbers
    :param overrides: hyperparameters that take precedence over the files' for every algorithm
    :param files: for an algorithm, another file with hyperparameters than its own
    :raises SpecError: an unknown or repeated algorithm or environment, hyperparameters that an
        algorithm cannot use, arguments or wrappers that an environment cannot, or different numbers
        of steps on one environment
    """
    known = {env.env_id: env for env in suite.envs}
    files = files or {}
    check_algorithms("--algos", algos)
    check_choice("--envs", env_ids, list(known))
    for algo in files:
        check_choice("--hyperparams", [algo], algos)
    configurations = [
        _configuration(suite, algo, known[env_id], n_timesteps, overrides or {}, files.get(algo))
        for env_id in env_ids
        for algo in algos
    ]
    _check_budgets(suite, configurations)
    _try_environments(suite, configurations, overrides or {}, files)
    specs = [
        RunSpec(suite.name, algo, env.env_id, seed, steps, written, suite.evaluation, env.options)
        for seed in seeds
        for algo, env, steps, written in configurations
    ]
    for spec in specs:
        check_spec(spec)

    def source(spec: RunSpec, key: str | None) -> object:
        if key in (overrides or {}):
            return "--set"
        if spec.algo not in {**ALGORITHMS, **files}:
            return "--algos"
        return f"{files.get(spec.algo, hyperparams_file(spec.algo))}: {spec.env_id}"

    try_models(specs[: len(configurations)], source)
    return specs


def _check_budgets(suite: Suite, configurations: Sequence[_Configuration]) -> None:
    """Check that all algorithms have the same number of steps on an environment."""
    by_env: dict[str, dict[str, int]] = {}
    for algo, env, steps, _ in configurations:
        by_env.setdefault(env.env_id, {})[algo] = steps
    different = [
        f"{env_id}: " + ", ".join(f"{algo} {steps:,}" for algo, steps in budgets.items())
        for env_id, budgets in by_env.items()
        if len(set(budgets.values())) > 1
    ]
    if different:
        raise SpecError(
            f"suite {suite.name}: n_timesteps: is not given, and the hyperparameters' numbers "
            f"differ between the algorithms, which could not be compared ({'; '.join(different)}); "
            "give n_timesteps in the suite, for all environments or for each, or --steps"
        )


def _try_environments(
    suite: Suite,
    configurations: Sequence[_Configuration],
    overrides: Mapping[str, Any],
    files: Mapping[str, Path],
) -> None:
    """Make every environment that has arguments or wrappers once: only they know what they take."""
    tried = []
    for algo, env, _, hyperparams in configurations:
        where = f"{suite.source}: environments: {env.env_id}"
        kwargs = env.options.get("kwargs", {})
        file = "--set" if "env_wrapper" in overrides else files.get(algo, hyperparams_file(algo))
        wrappers = [(each, f"{where}: wrappers") for each in env.options.get("wrappers", [])]
        wrappers += [
            (each, f"{file}: {env.env_id}: env_wrapper")
            for each in as_list(hyperparams.get("env_wrapper"))
            if each not in env.options.get("wrappers", [])
        ]
        made = (env.env_id, kwargs, [wrapper for wrapper, _ in wrappers])
        if (kwargs or wrappers) and made not in tried:
            tried.append(made)
            place = f"{where}: kwargs"
            if refusal := in_child(partial(_refused, env.env_id, kwargs, wrappers, place)):
                raise SpecError(refusal)


def _refused(*what: Any) -> str | None:
    """Why an environment cannot be made so; None if it can."""
    try:
        try_environment(*what)
    except SpecError as error:
        return str(error)
    return None


def _configuration(
    suite: Suite,
    algo: str,
    env: SuiteEnv,
    n_timesteps: int | None,
    overrides: Mapping[str, Any],
    file: Path | None,
) -> _Configuration:
    hyperparams = hyperparams_for(algo, env.env_id, file)
    if overrides:
        model_arguments(algo, overrides, "--set")
        hyperparams = {**hyperparams, **overrides}
    written = hyperparams.pop("n_timesteps", None)
    steps = n_timesteps or env.n_timesteps or written
    if steps is None:
        raise SpecError(
            f"{file or hyperparams_file(algo)}: {env.env_id}: n_timesteps: is given neither here, "
            f"nor by the suite {suite.name}, nor with --steps"
        )
    if suite.evaluation.points > steps:
        raise SpecError(
            f"suite {suite.name}: evaluation: points: must be at most the {steps} steps of "
            f"{algo} on {env.env_id}, got {suite.evaluation.points}"
        )
    return algo, env, int(steps), hyperparams


def check_algorithms(option: str, chosen: Sequence[str]) -> None:
    """Check names of algorithms, and that classes given by their paths can be imported.

    :raises SpecError: one that cannot, one given twice, or none
    """
    if not chosen:
        raise SpecError(f"{option}: must name at least one of {', '.join(ALGORITHMS)}")
    for name in chosen:
        try:
            algorithm_class(name)
        except SpecError as error:
            raise SpecError(f"{option}: {error}") from None
        if chosen.count(name) > 1:
            raise SpecError(f"{option}: {name!r} is given {chosen.count(name)} times")


def check_choice(option: str, chosen: Sequence[str], allowed: Sequence[str]) -> None:
    """Check names against those that are allowed.

    :raises SpecError: one that is not, one given twice, or none
    """
    for name in chosen:
        if name not in allowed:
            raise SpecError(f"{option}: {name!r} is not one of {', '.join(allowed)}")
        if chosen.count(name) > 1:
            raise SpecError(f"{option}: {name!r} is given {chosen.count(name)} times")
    if not chosen:
        raise SpecError(f"{option}: must name at least one of {', '.join(allowed)}")
