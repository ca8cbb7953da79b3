"""Carrying out a study: starting its workers, and looking after them."""

import time
from collections.abc import Iterator

import optuna
from optuna.trial import TrialState

from benchmarks.command_line import make_console
from benchmarks.secrets import mask
from studies.display import Progress
from studies.errors import StudyError
from studies.objective import Problem
from studies.study import ENDED, ERROR, WORKER, counted, in_state, requeue, retry_abandoned
from studies.workers import DeadWorker, Task, Workers, n_trials_due

_POLL = 0.5  # seconds between looks at the storage
# So many workers may die one after another without a trial having ended in between.
_PATIENCE = 5


def execute(
    study: optuna.Study, problem: Problem, task: Task, workers: Workers, jobs: int, shown: bool
) -> None:
    """Have workers carry out trials until the study has as many as it should.

    Trials of workers elsewhere are waited for. An interrupt puts the trials of the workers here
    back.

    :raises StudyError: workers die as soon as they begin
    """
    deaths: list[str] = []
    n_ended = 0
    try:
        console = make_console(quiet=not shown)
        with Progress(problem, task.search.n_trials, jobs, console) as progress:
            progress.already(counted(study))
            while True:
                deaths += _deaths(study, workers, progress)
                retry_abandoned(study, task.folder)
                trials = counted(study)
                progress.show(trials)
                if len(in_state(trials, *ENDED)) > n_ended:
                    deaths, n_ended = [], len(in_state(trials, *ENDED))
                if len(deaths) >= _PATIENCE:
                    raise StudyError(f"{len(deaths)} workers have died in a row: {deaths[-1]}")
                due = n_trials_due(study, task)
                for _ in range(min(due, jobs) - len(workers)):
                    workers.start(task)
                if not due and not len(workers) and not in_state(trials, TrialState.RUNNING):
                    return
                time.sleep(_POLL)
    finally:
        # After a complete study there is nothing left to stop or to put back.
        workers.stop()
        running = in_state(counted(study), TrialState.RUNNING)
        ours = [each for each in running if workers.is_ours(each.user_attrs.get(WORKER, ""))]
        requeue(study, [trial.number for trial in ours])


def _deaths(study: optuna.Study, workers: Workers, progress: Progress) -> Iterator[str]:
    """Say which workers have died, and why."""
    for dead in workers.dead():
        reason = mask(f"{dead.reason}\n{dead.output}".strip())
        progress.say(f"a worker has died: {reason}")
        if dead.timed_out:
            _fail_trial_of(study, dead)
        yield reason


def _fail_trial_of(study: optuna.Study, dead: DeadWorker) -> None:
    """Fail a worker's trial, whose run would time out again if the trial were tried once more."""
    for trial in in_state(counted(study), TrialState.RUNNING):
        if trial.user_attrs.get(WORKER) == dead.worker:
            study._storage.set_trial_user_attr(trial._trial_id, ERROR, dead.reason)
            study.tell(trial.number, state=TrialState.FAIL)
