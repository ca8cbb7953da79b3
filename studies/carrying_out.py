"""Carrying out a study: its workers looked after, then its best values tried on fresh seeds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from rich.console import Console

from benchmarks.records import RunSpec
from benchmarks.results import read_evaluations
from benchmarks.secrets import mask
from benchmarks.statistics import final_return, interquartile_mean
from studies.objective import Problem, fresh_seeds
from studies.progress import ENDED, Progress, why_failed
from studies.study import (
    CONFIRMED,
    DEFAULT,
    WORKER,
    StudyError,
    best_trial,
    counted,
    in_state,
    requeue,
    retry_abandoned,
    values_of,
)
from studies.trials import ERROR, TrialFailedError, make_runs
from studies.workers import DeadWorker, Task, Workers, n_due

_POLL = 0.5  # seconds between looks at the storage
# Workers that die one after another without a trial having ended in between.
_PATIENCE = 5


def carry_out(
    study: optuna.Study, problem: Problem, task: Task, workers: Workers, jobs: int, shown: bool
) -> None:
    """Have trials carried out until the study has as many as it should.

    Trials that workers elsewhere are carrying out are waited for. Interrupted, those of the
    workers here are put back.

    :raises StudyError: workers die as soon as they begin
    """
    deaths: list[str] = []
    n_ended = 0
    try:
        with Progress(problem, task.search.n_trials, jobs, Console(quiet=not shown)) as progress:
            progress.already(counted(study))
            while True:
                for dead in workers.ended():
                    deaths.append(mask(f"{dead.reason}\n{dead.output}".strip()))
                    progress.say(f"a worker has died: {deaths[-1]}")
                    if dead.timed_out:
                        _fail_trial_of(study, dead)
                retry_abandoned(study, task.folder)
                trials = counted(study)
                progress.show(trials)
                if len(in_state(trials, *ENDED)) > n_ended:
                    deaths, n_ended = [], len(in_state(trials, *ENDED))
                if len(deaths) >= _PATIENCE:
                    raise StudyError(f"{len(deaths)} workers have died in a row: {deaths[-1]}")
                due = n_due(study, task)
                for _ in range(min(due, jobs) - len(workers)):
                    workers.start(task)
                if not due and not len(workers) and not in_state(trials, TrialState.RUNNING):
                    return
                time.sleep(_POLL)
    finally:
        # After a complete study there is nothing left to stop, nor to put back.
        workers.stop()
        running = in_state(counted(study), TrialState.RUNNING)
        ours = [each for each in running if workers.is_ours(each.user_attrs.get(WORKER, ""))]
        requeue(study, [trial.number for trial in ours])


def _fail_trial_of(study: optuna.Study, dead: DeadWorker) -> None:
    """Tried once more, its run would take too long again."""
    for trial in in_state(counted(study), TrialState.RUNNING):
        if trial.user_attrs.get(WORKER) == dead.worker:
            study._storage.set_trial_user_attr(trial._trial_id, ERROR, dead.reason)
            study.tell(trial.number, state=TrialState.FAIL)


@dataclass(frozen=True)
class Confirmation:
    """The best trial's values and the defaults, on seeds that the search has not seen.

    ``searched`` are their values in the study; the scores are of the runs on fresh seeds, in the
    order of ``Problem.specs``. The defaults are each environment's own.
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
        return float(interquartile_mean(self.scores))

    @property
    def default_value(self) -> float:
        return float(interquartile_mean(self.default_scores))


def confirm(
    study: optuna.Study,
    problem: Problem,
    folder: Path,
    jobs: int,
    command: str,
    shown: bool,
    run_timeout: float | None = None,
) -> Confirmation:
    """Train with the best trial's values and with the defaults on fresh seeds.

    The result is kept with the study; runs that are there are not made again.

    :param run_timeout: seconds after which a run is ended, and has failed
    :raises TrialFailedError: a run has failed
    :raises StudyError: no trial has completed
    """
    best = best_trial(study)
    if best is None:
        failed = in_state(counted(study), TrialState.FAIL)
        why = f"; the last one: {why_failed(failed[-1])}" if failed else ""
        raise StudyError(f"no trial has completed{why}")
    seeds = fresh_seeds(problem)
    defaults = problem.specs(study.study_name, {}, seeds)
    tuned = problem.specs(study.study_name, values_of(problem, best), seeds)
    if best.user_attrs.get(DEFAULT) and len(problem.defaults()) == 1:
        tuned = defaults  # the same, only not written out
    runs = folder / "runs"
    make_runs([*tuned, *defaults], runs, jobs, command, shown, run_timeout)
    scores, returns = _results(problem, tuned, runs)
    default_scores, default_returns = _results(problem, defaults, runs)
    confirmation = Confirmation(
        best.number, best.values[0], seeds, scores, returns, default_scores, default_returns
    )
    study.set_user_attr(CONFIRMED, vars(confirmation))
    return confirmation


def stored_confirmation(study: optuna.Study) -> Confirmation | None:
    """What :func:`confirm` has found of the trial that is the best one now."""
    stored: dict[str, Any] | None = study.user_attrs.get(CONFIRMED)
    best = best_trial(study)
    if stored is None or best is None or stored["trial"] != best.number:
        return None
    return Confirmation(**stored)


def _results(
    problem: Problem, specs: Sequence[RunSpec], runs: Path
) -> tuple[list[float], list[float]]:
    """Scores and final returns."""
    scores, returns = [], []
    for spec in specs:
        evaluations = read_evaluations(spec.folder(runs))["return_mean"]
        if not np.isfinite(evaluations).all():
            raise TrialFailedError(f"{spec}: an evaluation's return is not finite")
        scores.append(problem.score(spec.env_id, evaluations.tolist()))
        returns.append(final_return(evaluations))
    return scores, returns
