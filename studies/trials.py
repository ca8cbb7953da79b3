"""One trial: its runs, one after another, and the values that the pruner sees."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import optuna
import pandas as pd
from optuna.trial import Trial

from benchmarks.errors import sanitize
from benchmarks.processes import time_limit
from benchmarks.records import RunSpec
from benchmarks.results import read_evaluations
from benchmarks.run import run
from benchmarks.run_files import is_finished
from benchmarks.statistics import final_return, interquartile_mean
from benchmarks.sweep import sweep
from studies.objective import Problem
from studies.parameters import suggest
from studies.study import ERROR, RETURNS, SCORES, SECONDS, TrialFailedError

_LONGEST = 2_000  # characters of an error


def make_runs(
    specs: Sequence[RunSpec],
    runs: Path,
    jobs: int,
    command: str,
    shown: bool,
    run_timeout: float | None = None,
) -> None:
    """Make runs that belong to no trial; those that exist are not made again.

    :param runs: the folder below which all run folders are
    :param run_timeout: seconds after which a run is ended and counts as failed
    :raises TrialFailedError: a run has failed
    """
    # The command has already said which runs were made with another source.
    result = sweep(specs, runs, jobs, command, shown, run_timeout=run_timeout, rerun_changed=None)
    if result.failed:
        raise TrialFailedError("; ".join(f"{each.spec}: {each.error}" for each in result.failed))


class Objective:
    """What Optuna maximises: makes the runs of a trial, and scores them.

    :param suite: the first level below ``runs``
    :param runs: the folder below which all run folders are; runs that exist are not made again
    :param command: the command line, for the record
    :param by_run: whether the pruner sees one value for each run, rather than for each evaluation
    :param run_timeout: seconds after which a run is ended, and its trial counts as failed
    """

    def __init__(
        self,
        problem: Problem,
        suite: str,
        runs: Path,
        command: str,
        by_run: bool,
        run_timeout: float | None = None,
    ) -> None:
        self._problem = problem
        self._suite = suite
        self._runs = runs
        self._command = command
        self._by_run = by_run
        self._run_timeout = run_timeout

    def __call__(self, trial: Trial) -> float | tuple[float, float]:
        """A trial's value: the interquartile mean of its runs' scores.

        With two objectives, the mean seconds of training follow; they depend on what else the
        machine is doing.

        :raises TrialFailedError: a run has failed, or its returns are not finite
        :raises optuna.TrialPruned: the pruner has seen enough
        """
        problem = self._problem
        scores: list[float] = []
        returns: list[float] = []
        seconds: list[float] = []
        for spec in problem.specs(self._suite, suggest(trial, problem.space)):
            evaluations = self._evaluations(trial, spec, scores)
            scores.append(problem.score(spec.env_id, evaluations["return_mean"].tolist()))
            returns.append(final_return(evaluations["return_mean"]))
            seconds.append(float(evaluations["wall_seconds"].iloc[-1]))
            trial.set_user_attr(SCORES, scores)
            trial.set_user_attr(RETURNS, returns)
            trial.set_user_attr(SECONDS, seconds)
            if self._by_run:
                self._report(trial, scores[-1], len(scores) - 1)
        value = float(interquartile_mean(scores))
        if problem.has_two_objectives:
            return value, sum(seconds) / len(seconds)
        return value

    def _evaluations(self, trial: Trial, spec: RunSpec, before: Sequence[float]) -> pd.DataFrame:
        """The evaluations of a run, which is made now unless it exists; the pruner sees each."""
        folder = spec.folder(self._runs)
        see = self._observer(trial, spec, before)
        if is_finished(folder):
            evaluations = read_evaluations(folder)
            for value in evaluations["return_mean"]:
                see(float(value))
            return evaluations
        try:
            with time_limit(self._run_timeout):
                run(spec, self._runs, self._command, watch=lambda row: see(row.return_mean))
        except (optuna.TrialPruned, TrialFailedError):
            raise
        except Exception as error:  # whatever happened, the study goes on
            self._fail(trial, spec, f"{type(error).__name__}: {error}", error)
        return read_evaluations(folder)

    def _observer(
        self, trial: Trial, spec: RunSpec, before: Sequence[float]
    ) -> Callable[[float], None]:
        """A function that takes the mean return of each evaluation of a run.

        It tells the pruner the mean score of the trial's runs so far, this unfinished one included.
        """
        seen: list[float] = []
        points = self._problem.evaluation.points + 1

        def see(value: float) -> None:
            seen.append(value)
            score = self._problem.score(spec.env_id, seen)
            if not math.isfinite(score):
                self._fail(trial, spec, f"the return of an evaluation is {value}")
            if not self._by_run:
                step = len(before) * points + len(seen) - 1
                self._report(trial, (sum(before) + score) / (len(before) + 1), step)

        return see

    def _report(self, trial: Trial, value: float, step: int) -> None:
        if self._problem.has_two_objectives:
            return
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    @staticmethod
    def _fail(trial: Trial, spec: RunSpec, reason: str, error: Exception | None = None) -> NoReturn:
        message = sanitize(f"{spec}: {reason}", _LONGEST)
        trial.set_user_attr(ERROR, message)
        raise TrialFailedError(message) from error
