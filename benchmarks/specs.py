"""The runs of a sweep: from a suite, algorithms and hyperparameters to specs, all checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.algorithms import ALGORITHMS, check_algorithms, hyperparams_file
from benchmarks.errors import SpecError, check_choice
from benchmarks.preflight import check_environment_arguments, check_models
from benchmarks.records import RunSpec, check_spec
from benchmarks.safe_yaml import parse
from benchmarks.suite import Suite, SuiteEnv
from benchmarks.zoo import as_list, hyperparams_for, model_arguments


class _Configuration(NamedTuple):
    """The runs of a sweep that differ in their seeds alone."""

    algo: str
    env: SuiteEnv
    n_timesteps: int
    hyperparams: dict[str, Any]  # without n_timesteps


def parse_overrides(settings: Sequence[str], steps_option: str = "--steps") -> dict[str, Any]:
    """Hyperparameters from ``key=value`` texts, whose values are YAML.

    :param steps_option: the option that is for ``n_timesteps``
    :raises SpecError: a text of another form, or a key given twice
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise SpecError(f"--set: must be key=value, got {setting!r}")
        if key in overrides:
            raise SpecError(f"--set: {key}: is given twice")
        if key == "n_timesteps":
            raise SpecError(f"--set: {key}: use {steps_option}")
        overrides[key] = parse(value, f"--set: {key}")
    return overrides


def parse_files(settings: Sequence[str]) -> dict[str, Path]:
    """The hyperparameter files of algorithms from ``algo=file`` texts.

    :raises SpecError: a text of another form, or an algorithm given twice
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

    :param suite: the suite
    :param algos: names of our algorithms, and paths of classes such as ``my_package.MyPPO``
    :param env_ids: which of the suite's environments
    :param seeds: seeds of the runs
    :param n_timesteps: steps of training, instead of the suite's and the hyperparameters' numbers;
        None: those
    :param overrides: hyperparameters that take precedence over the files' for every algorithm;
        None: none
    :param files: by algorithm, a hyperparameter file that replaces its own; None: none
    :return: a specification for each run
    :raises SpecError: an unknown or repeated algorithm or environment, hyperparameters that an
        algorithm cannot use, arguments or wrappers that an environment cannot use, or different
        numbers of steps on one environment
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
    _check_environments(suite, configurations, overrides or {}, files)
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

    check_models(specs[: len(configurations)], source)
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


def _check_environments(
    suite: Suite,
    configurations: Sequence[_Configuration],
    overrides: Mapping[str, Any],
    files: Mapping[str, Path],
) -> None:
    """Check the environments that have arguments or wrappers, each combination once."""
    checked = []
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
        if (kwargs or wrappers) and made not in checked:
            checked.append(made)
            check_environment_arguments(env.env_id, kwargs, wrappers, f"{where}: kwargs")


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
            f"{file or hyperparams_file(algo)}: {env.env_id}: n_timesteps: is given neither here "
            f"nor by the suite {suite.name} nor with --steps"
        )
    if suite.evaluation.points > steps:
        raise SpecError(
            f"suite {suite.name}: evaluation: points: must be at most the {steps} steps of "
            f"{algo} on {env.env_id}, got {suite.evaluation.points}"
        )
    return _Configuration(algo, env, int(steps), hyperparams)
