"""The best trial's values and the defaults, compared on seeds that the search has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna import Study
from optuna.trial import TrialState

from benchmarks.records import RunSpec
from benchmarks.statistics import final_return, interquartile_mean
from studies.errors import StudyError
from studies.objective import Problem, fresh_seeds
from studies.study import (
    CONFIRMED,
    DEFAULT,
    TrialFailedError,
    best_trial,
    counted,
    in_state,
    values_of,
)
from studies.wording import why_failed


@dataclass(frozen=True)
class Confirmation:
    """The best trial's values and the defaults of each environment, both trained on fresh seeds.

    Scores and returns are those of single runs, in the order of ``Problem.specs``: all environments
    with the first seed, then all with the next.

    :param trial: number of the best trial
    :param searched: the score that it had in the study
    :param seeds: the fresh seeds
    :param scores: scores of the runs with the trial's values
    :param returns: final returns of the same runs
    :param default_scores: scores of the runs with the defaults
    :param default_returns: final returns of the same runs
    """

    trial: int
    searched: float
    seeds: list[int]
    scores: list[float]
    returns: list[float]
    default_scores: list[float]
    default_returns: list[float]

    @property
    def value(self) -> float:
        """The interquartile mean of the scores of the trial's values."""
        return float(interquartile_mean(self.scores))

    @property
    def default_value(self) -> float:
        """The interquartile mean of the scores of the defaults."""
        return float(interquartile_mean(self.default_scores))


def confirm(
    study: Study,
    problem: Problem,
    folder: Path,
    jobs: int,
    command: str,
    shown: bool,
    run_timeout: float | None = None,
) -> Confirmation:
    """Train with the best trial's values and with the defaults on fresh seeds.

    The result is stored with the study; runs that exist are not made again.

    :param run_timeout: seconds after which a run is ended and counts as failed
    :raises TrialFailedError: a run has failed
    :raises StudyError: no trial has completed
    """
    from studies.trials import make_runs  # slow to import, and not needed to read a confirmation

    best = best_trial(study)
    if best is None:
        failed = in_state(counted(study), TrialState.FAIL)
        why = f"; the last one: {why_failed(failed[-1])}" if failed else ""
        raise StudyError(f"no trial has completed{why}")
    seeds = fresh_seeds(problem)
    defaults = problem.specs(study.study_name, {}, seeds)
    tuned = problem.specs(study.study_name, values_of(problem, best), seeds)
    if best.user_attrs.get(DEFAULT) and len(problem.defaults()) == 1:
        tuned = defaults  # the same runs, which only write the defaults out
    runs = folder / "runs"
    make_runs([*tuned, *defaults], runs, jobs, command, shown, run_timeout)
    scores, returns = _results(problem, tuned, runs)
    default_scores, default_returns = _results(problem, defaults, runs)
    confirmation = Confirmation(
        best.number, best.values[0], seeds, scores, returns, default_scores, default_returns
    )
    study.set_user_attr(CONFIRMED, vars(confirmation))
    return confirmation


def stored_confirmation(study: Study) -> Confirmation | None:
    """What a study has found on fresh seeds; None unless it is about the present best trial.

    :param study: the study, as :func:`studies.study.load` gives it
    """
    stored: dict[str, Any] | None = study.user_attrs.get(CONFIRMED)
    best = best_trial(study)
    if stored is None or best is None or stored["trial"] != best.number:
        return None
    return Confirmation(**stored)


def _results(
    problem: Problem, specs: Sequence[RunSpec], runs: Path
) -> tuple[list[float], list[float]]:
    """The scores and the final returns of runs."""
    from benchmarks.results import read_evaluations

    scores, returns = [], []
    for spec in specs:
        evaluations = read_evaluations(spec.folder(runs))["return_mean"]
        if not np.isfinite(evaluations).all():
            raise TrialFailedError(f"{spec}: an evaluation's return is not finite")
        scores.append(problem.score(spec.env_id, evaluations.tolist()))
        returns.append(final_return(evaluations))
    return scores, returns
