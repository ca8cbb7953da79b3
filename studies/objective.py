"""What a trial is worth: the scores of its runs, over seeds and environments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import SpecError, check_choice
from benchmarks.normalisation import Scale, scales_with
from benchmarks.preflight import check_models
from benchmarks.records import Evaluation, RunSpec
from benchmarks.statistics import area_under_curve, final_return
from benchmarks.suite import load_suite
from benchmarks.zoo import hyperparams_for
from studies.search_spaces import (
    Parameter,
    Value,
    decoded,
    default_value,
    from_dict,
    including,
    to_dict,
    with_own_default,
    with_values,
)

# Far from the seeds that sweeps begin with: a value chosen for doing well on some seeds must be
# compared on others.
FIRST_SEED = 1000
FIRST_FRESH_SEED = 2000
MAX_SEEDS = FIRST_FRESH_SEED - FIRST_SEED

_SUITES = ("classic", "mujoco")

OBJECTIVES = {
    "final": "final return (mean of the last 10% of evaluations)",
    "area": "mean return over the training (area under the learning curve)",
    "final-and-seconds": "final return, and seconds of training",
}


@dataclass(frozen=True)
class Problem:
    """What a study optimises. Two studies can go on as one if and only if these are the same."""

    algo: str
    env_ids: tuple[str, ...]
    n_timesteps: int
    seeds: tuple[int, ...]
    space: tuple[Parameter, ...]
    hyperparams: dict[str, dict[str, Any]]
    evaluation: Evaluation
    objective: str
    scales: dict[str, Scale | None]

    def to_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        fields |= {"env_ids": list(self.env_ids), "seeds": list(self.seeds)}
        return fields | {"space": {each.name: to_dict(each) for each in self.space}}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Problem":
        scales = fields["scales"].items()
        return cls(
            **{
                **fields,
                "env_ids": tuple(fields["env_ids"]),
                "seeds": tuple(fields["seeds"]),
                "space": tuple(from_dict(each) for each in fields["space"].values()),
                "evaluation": Evaluation(**fields["evaluation"]),
                "scales": {env_id: scale and Scale(**scale) for env_id, scale in scales},
            }
        )

    @property
    def has_two_objectives(self) -> bool:
        return self.objective == "final-and-seconds"

    @property
    def is_normalised(self) -> bool:
        """Whether scores are on the scale where a random policy has 0 and the reference 1."""
        return None not in self.scales.values()

    def specs(
        self, suite: str, values: Mapping[Parameter, Value], seeds: Sequence[int] = ()
    ) -> list[RunSpec]:
        """The runs of a trial, in the order in which they are made.

        All environments of a seed come before the next seed: a pruner sees all of them early.

        :param values: none: the hyperparameters of each environment as they are
        :param seeds: instead of the study's
        """
        return [
            RunSpec(
                suite,
                self.algo,
                env_id,
                seed,
                self.n_timesteps,
                with_values(self.hyperparams[env_id], values),
                self.evaluation,
            )
            for seed in seeds or self.seeds
            for env_id in self.env_ids
        ]

    def normalised(self, env_id: str, returns: Sequence[float]) -> np.ndarray:
        """Returns on the environment's scale, if there is one."""
        scale = self.scales[env_id]
        values = np.asarray(returns, dtype=float)
        return values if scale is None else scale.normalise(values)

    def score(self, env_id: str, returns: Sequence[float]) -> float:
        """What a run, whole or so far, is worth.

        :param returns: mean returns of its evaluations, in the order of their steps
        """
        values = self.normalised(env_id, returns)
        if self.objective == "area":
            return area_under_curve(np.arange(len(values)), values)  # evenly spaced
        return final_return(values)

    def defaults(self) -> list[dict[Parameter, Value]]:
        """The values that the hyperparameters give, where environments differ for each of them."""
        found: list[dict[Parameter, Value]] = []
        for env_id in self.env_ids:
            hyperparams = self.hyperparams[env_id]
            values = {each: default_value(self.algo, each, hyperparams) for each in self.space}
            if values not in found:
                found.append(values)
        return found


def define(
    algo: str,
    env_ids: Sequence[str],
    n_seeds: int,
    n_timesteps: int,
    space: Sequence[Parameter],
    objective: str = "final",
    normalisation: Path | None = None,
    space_file: Path | None = None,
) -> Problem:
    """A problem from the command line's words, with the hyperparameters of the files.

    Ranges are widened to the defaults, and choices completed with them.

    :param normalisation: a file with scales of the user's, as ``benchmarks/normalisation.csv``
    :param space_file: where the space was written, for error messages; None: it is one of ours
    :raises SpecError: what cannot be studied
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
    hyperparams = {env_id: hyperparams_for(algo, env_id) for env_id in env_ids}
    for fields in hyperparams.values():
        fields.pop("n_timesteps", None)
    known = scales_with(normalisation)
    scales = {env_id: known.get(env_id) for env_id in env_ids}
    unknown = [env_id for env_id, scale in scales.items() if scale is None]
    if unknown and len(env_ids) > 1:
        raise SpecError(
            f"--env: {', '.join(unknown)}: returns on several environments can be averaged only "
            "where it is known what a random policy and a reference have; measure it with "
            "python -m benchmarks random, and give the table with --normalisation"
        )
    where = f"{space_file}: " if space_file else ""
    try:
        space = [with_own_default(algo, each, hyperparams[env_ids[0]]) for each in space]
        space = tuple(
            including(each, [default_value(algo, each, fields) for fields in hyperparams.values()])
            for each in space
        )
    except SpecError as error:
        raise SpecError(f"{where}{error}") from None
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + n_seeds))
    problem = Problem(
        algo,
        tuple(env_ids),
        n_timesteps,
        seeds,
        space,
        hyperparams,
        evaluation,
        objective,
        scales,
    )
    tried = list(_extremes(problem))
    names: dict[tuple[str, str], str] = {}
    for name, spec in tried:
        names.setdefault((spec.env_id, spec.config), name)

    def source(spec: RunSpec, key: str | None) -> str:
        name = names[spec.env_id, spec.config]
        place = str(space_file or "--params") if name else "--algo"
        return f"{place}: {name}" if name and name != key else place

    check_models((spec for _, spec in tried), source)
    return problem


def _extremes(problem: Problem) -> Iterator[tuple[str, RunSpec]]:
    """A run of each environment with the defaults, and with each choice and end of a range.

    Each with the name of the parameter that has it.
    """
    values: list[tuple[str, dict[Parameter, Value]]] = [("", {})]
    for each in problem.space:
        ends = map(decoded, each.choices) if each.choices else (each.low, each.high)
        values += [(each.name, {each: value}) for value in ends]
    for name, changed in values:
        for spec in problem.specs("study", changed, problem.seeds[:1]):
            yield name, spec


def usual_steps(env_ids: Sequence[str]) -> int:
    """The budget that the suites give the environments.

    :raises SpecError: they give none, or not the same to all
    """
    known = {env.env_id: env.n_timesteps for suite in _SUITES for env in load_suite(suite).envs}
    budgets = {known.get(env_id) for env_id in env_ids}
    if len(budgets) > 1 or None in budgets:
        said = ", ".join(f"{env_id}: {known.get(env_id)}" for env_id in env_ids)
        raise SpecError(f"--steps: must be given, since the suites do not say one number: {said}")
    return int(next(iter(budgets)) or 0)


def fresh_seeds(problem: Problem) -> list[int]:
    """As many seeds as the study's, none of which it has seen."""
    return list(range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + len(problem.seeds)))
