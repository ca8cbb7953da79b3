"""What pruners would have saved: the trials of a finished study, replayed from their runs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from benchmarks.run_files import is_finished
from benchmarks.storage import write_whole
from studies.errors import StudyError
from studies.objective import Problem
from studies.samplers import make_pruner
from studies.search import Search
from studies.study import DEFAULT, best_trial, completed, in_state, values_of
from studies.trials import Objective

COLUMNS = ["pruner", "order", "trials", "pruned", "steps_saved", "best_kept", "lost"]
FILE = "pruning.csv"


@dataclass(frozen=True)
class Replay:
    """A study's trials replayed in some order, under a pruner.

    ``pruned`` are the pruned trials' numbers in the study; ``steps_saved`` is the share of all
    environment steps that were not made. ``lost``: how far the best trial that was not pruned is
    below the study's best one, 0 if that one was not pruned.
    """

    pruned: list[int]
    steps_saved: float
    best_kept: bool
    lost: float


def replayable(study: optuna.Study, problem: Problem, folder: Path) -> list[FrozenTrial]:
    """The trials that can be replayed: those that have completed.

    :raises StudyError: fewer than two have, the study has two objectives, or runs are elsewhere
    """
    if problem.has_two_objectives:
        raise StudyError("pruners compare returns alone; the study has two objectives")
    trials, runs = completed(study), folder / "runs"
    if len(trials) < 2:
        raise StudyError(f"{len(trials)} trials have completed; pruners compare two or more")
    for trial in trials:
        for spec in problem.specs(study.study_name, values_of(problem, trial)):
            if not is_finished(spec.folder(runs)):
                raise StudyError(f"trial {trial.number}: its run {spec} is not in {runs}")
    return trials


def orders(trials: list[FrozenTrial], n_orders: int) -> Iterator[list[FrozenTrial]]:
    """The study's own order, then random ones; the defaults come first in each."""
    first = [trial for trial in trials if trial.user_attrs.get(DEFAULT)]
    others = [trial for trial in trials if not trial.user_attrs.get(DEFAULT)]
    rng = np.random.default_rng(0)
    for number in range(n_orders):
        after = range(len(others)) if number == 0 else rng.permutation(len(others))
        yield first + [others[i] for i in after]


def replay(
    study: optuna.Study, problem: Problem, folder: Path, trials: list[FrozenTrial], search: Search
) -> Replay:
    """Replay trials in this order under the search's pruner. Nothing is trained.

    The pruner sees what it sees in a study; the evaluations come from the run folders.

    :param trials: some of those that :func:`replayable` has returned
    """
    again = optuna.create_study(
        # Hyperband's brackets depend on the name.
        study_name=study.study_name,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=make_pruner(replace(search, n_trials=len(trials)), problem),
    )
    for trial in trials:
        again.enqueue_trial(trial.params)
    by_run = search.prunes_by_run
    objective = Objective(problem, study.study_name, folder / "runs", "replay", by_run)
    again.optimize(objective, n_trials=len(trials))
    pairs = list(zip(trials, again.get_trials(deepcopy=False), strict=True))
    pruned = [(before, now) for before, now in pairs if now.state is TrialState.PRUNED]
    n_runs = len(problem.seeds) * len(problem.env_ids)
    saved = sum(n_runs - _runs_made(problem, now, by_run) for _, now in pruned)
    best, kept = best_trial(study), in_state((now for _, now in pairs), TrialState.COMPLETE)
    assert best is not None
    dropped = [before.number for before, _ in pruned]
    return Replay(
        pruned=dropped,
        steps_saved=saved / (n_runs * len(trials)),
        best_kept=best.number not in dropped,
        lost=best.values[0] - max(trial.values[0] for trial in kept),
    )


def _runs_made(problem: Problem, pruned: FrozenTrial, by_run: bool) -> float:
    """How many runs a pruned trial has made, counting a part of the last one."""
    assert pruned.last_step is not None
    if by_run:
        return pruned.last_step + 1
    points = problem.evaluation.points
    runs, evaluation = divmod(pruned.last_step, points + 1)
    return runs + evaluation / points  # the first evaluation is before the first step


def to_frame(replays: dict[str, list[Replay]], n_trials: int) -> pd.DataFrame:
    """One row a replay, with ``COLUMNS``; order 0 is the study's own."""
    rows = [
        (name, order, n_trials, len(each.pruned), each.steps_saved, each.best_kept, each.lost)
        for name, found in replays.items()
        for order, each in enumerate(found)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def store(frame: pd.DataFrame, folder: Path) -> None:
    """Write what :func:`to_frame` returns as ``pruning.csv``."""
    write_whole(folder / FILE, frame.to_csv(index=False, lineterminator="\n"))
