"""What a trial is worth: the final return, averaged over seeds, of the runs that a sweep makes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import final_return, read_evaluations
from benchmarks.specs import (
    Evaluation,
    RunSpec,
    SpecError,
    check_choice,
    check_environment,
    hyperparams_for,
)
from benchmarks.sweep import sweep
from studies.search_spaces import SPACES, Parameter, space_for, with_value

# Far from the seeds that sweeps begin with: a value chosen for doing well on some seeds must be
# compared on others.
FIRST_SEED = 1000


class TrialFailedError(Exception):
    """A trial has no value; the message says which run failed and why."""


@dataclass(frozen=True)
class Problem:
    """What a study optimises. Two studies can go on as one if and only if these are the same."""

    algo: str
    env_id: str
    n_timesteps: int
    seeds: tuple[int, ...]
    parameter: Parameter
    hyperparams: dict[str, Any]
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seeds": list(self.seeds)}

    def specs(self, suite: str, value: float) -> list[RunSpec]:
        """The runs of a trial, one for each seed."""
        hyperparams = with_value(self.hyperparams, self.parameter, value)
        return [
            RunSpec(
                suite,
                self.algo,
                self.env_id,
                seed,
                self.n_timesteps,
                hyperparams,
                self.evaluation,
            )
            for seed in self.seeds
        ]


def define(algo: str, env_id: str, n_seeds: int, n_timesteps: int) -> Problem:
    """A problem from the command line's words, with the hyperparameters of the files.

    :raises SpecError: an unknown algorithm or environment, or fewer steps than evaluations
    """
    check_choice("--algo", [algo], list(SPACES))
    check_environment(env_id, "--env")
    evaluation = Evaluation()
    if n_timesteps < evaluation.points:
        raise SpecError(
            f"--steps: must be at least {evaluation.points}, the number of evaluations of a run, "
            f"got {n_timesteps}"
        )
    hyperparams = hyperparams_for(algo, env_id)
    hyperparams.pop("n_timesteps", None)
    return Problem(
        algo,
        env_id,
        n_timesteps,
        tuple(range(FIRST_SEED, FIRST_SEED + n_seeds)),
        space_for(algo, hyperparams),
        hyperparams,
        evaluation,
    )


def measure(
    specs: Sequence[RunSpec], runs: Path, jobs: int, command: str, show_progress: bool
) -> list[float]:
    """The final return of each run; those that have a finished folder below ``runs`` are reused.

    :raises TrialFailedError: a run failed, or has a final return that is not finite
    """
    result = sweep(specs, runs, jobs, command, show_progress)
    if result.failed:
        raise TrialFailedError(
            "; ".join(f"seed {failed.spec.seed}: {failed.error}" for failed in result.failed)
        )
    returns = [final_return(read_evaluations(spec.folder(runs))["return_mean"]) for spec in specs]
    for spec, value in zip(specs, returns, strict=True):
        if not np.isfinite(value):
            raise TrialFailedError(f"seed {spec.seed}: the final return is {value}")
    return returns
