"""From the options of a study to its problem, checked before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import SpecError, check_choice
from benchmarks.normalisation import Scale, scales_with
from benchmarks.preflight import check_models
from benchmarks.records import Evaluation, RunSpec
from benchmarks.suite import load_suite
from benchmarks.zoo import hyperparams_for
from studies.objective import FIRST_SEED, MAX_SEEDS, OBJECTIVES, Problem
from studies.parameters import Parameter, Value, decode
from studies.search_spaces import default_value, with_own_default

_SUITES = ("classic", "mujoco")


def define(
    algo: str,
    env_ids: Sequence[str],
    n_seeds: int,
    n_timesteps: int,
    space: Sequence[Parameter],
    objective: str = "final",
    normalisation: Path | None = None,
    space_file: Path | None = None,
    hyperparams_file: Path | None = None,
) -> Problem:
    """The problem of a study, with the hyperparameters of the files.

    Ranges and choices are widened to include the defaults.

    :param normalisation: a file with scales of the user's, like ``benchmarks/normalisation.csv``
    :param space_file: the file with the space, for error messages; None if the space is ours
    :param hyperparams_file: what is not tuned, in RL Zoo's format; None for the algorithm's own
    :raises SpecError: naming the option, its value and what is valid
    """
    check_choice("--objective", [objective], list(OBJECTIVES))
    if len(set(env_ids)) < len(env_ids):
        raise SpecError(f"--env: must be different ones, got {', '.join(env_ids)}")
    evaluation = Evaluation()
    if n_timesteps < evaluation.points:
        raise SpecError(
            f"--steps: must be at least {evaluation.points}, the number of evaluations of a run, "
            f"got {n_timesteps}"
        )
    if n_seeds > MAX_SEEDS:
        raise SpecError(f"--seeds: must be at most {MAX_SEEDS}, got {n_seeds}")
    hyperparams = {env_id: hyperparams_for(algo, env_id, hyperparams_file) for env_id in env_ids}
    for fields in hyperparams.values():
        fields.pop("n_timesteps", None)
    problem = Problem(
        algo,
        tuple(env_ids),
        n_timesteps,
        tuple(range(FIRST_SEED, FIRST_SEED + n_seeds)),
        _with_defaults(algo, space, hyperparams, space_file),
        hyperparams,
        evaluation,
        objective,
        _scales(env_ids, normalisation),
    )
    _check_extremes(problem, space_file, hyperparams_file)
    return problem


def _scales(env_ids: Sequence[str], normalisation: Path | None) -> dict[str, Scale | None]:
    known = scales_with(normalisation)
    unknown = [env_id for env_id in env_ids if env_id not in known]
    if unknown and len(env_ids) > 1:
        raise SpecError(
            f"--env: {', '.join(unknown)}: returns on several environments can be averaged only if "
            "the returns of a random policy and of a reference are known; measure them with python "
            "-m benchmarks random, and give the table with --normalisation"
        )
    return {env_id: known.get(env_id) for env_id in env_ids}


def _with_defaults(
    algo: str,
    space: Sequence[Parameter],
    hyperparams: Mapping[str, Mapping[str, Any]],
    space_file: Path | None,
) -> tuple[Parameter, ...]:
    """The space, widened to the defaults of every environment."""
    first, *_ = hyperparams.values()
    try:
        space = [with_own_default(algo, each, first) for each in space]
        return tuple(
            each.widened([default_value(algo, each, fields) for fields in hyperparams.values()])
            for each in space
        )
    except SpecError as error:
        raise SpecError(f"{space_file}: {error}" if space_file else error) from None


def _check_extremes(
    problem: Problem, space_file: Path | None, hyperparams_file: Path | None
) -> None:
    """Check that models can be made with each choice and with each end of a range."""
    extremes = list(_extremes(problem))
    names: dict[tuple[str, str], str] = {}
    for name, spec in extremes:
        names.setdefault((spec.env_id, spec.config), name)

    def source(spec: RunSpec, key: str | None) -> str:
        name = names[spec.env_id, spec.config]
        place = str(space_file or "--params") if name else str(hyperparams_file or "--algo")
        return f"{place}: {name}" if name and name != key else place

    check_models((spec for _, spec in extremes), source)


def _extremes(problem: Problem) -> Iterator[tuple[str, RunSpec]]:
    """Runs on each environment: with the defaults, each choice, and each end of a range.

    Each with the name of the parameter in question, which is empty for the defaults.
    """
    values: list[tuple[str, dict[Parameter, Value]]] = [("", {})]
    for each in problem.space:
        ends = map(decode, each.choices) if each.choices else (each.low, each.high)
        values += [(each.name, {each: value}) for value in ends]
    for name, changed in values:
        for spec in problem.specs("study", changed, problem.seeds[:1]):
            yield name, spec


def usual_steps(env_ids: Sequence[str]) -> int:
    """The number of steps that the suites give these environments.

    :raises SpecError: they give none to one of them, or different numbers
    """
    known = {env.env_id: env.n_timesteps for suite in _SUITES for env in load_suite(suite).envs}
    budgets = {known.get(env_id) for env_id in env_ids}
    if len(budgets) > 1 or None in budgets:
        found = ", ".join(f"{env_id}: {known.get(env_id)}" for env_id in env_ids)
        raise SpecError(f"--steps: must be given, since the suites have no common number: {found}")
    return int(next(iter(budgets)) or 0)
