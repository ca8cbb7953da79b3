"""Workers: processes that carry out the trials of a study, on this machine or on a cluster."""

import os
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from types import ModuleType
from typing import Any

import optuna
import torch
from optuna.trial import Trial, TrialState

from benchmarks.engines.ray_cluster import connect as connect_to_ray
from benchmarks.engines.ray_cluster import import_ray
from benchmarks.processes import (
    ChildProcess,
    deferred_interrupts,
    end_all,
    exit_reason,
    prepare_children,
    timed_out,
)
from studies.samplers import make_pruner, make_sampler
from studies.search import Search
from studies.storage import connect
from studies.study import (
    DEFAULT,
    SURPLUS,
    WORKER,
    TrialFailedError,
    counted,
    in_state,
    load,
    quiet,
    trial_lock,
)
from studies.trials import Objective

_PACKAGES = ("studies", "benchmarks", "sb3_natural")


@dataclass(frozen=True)
class Task:
    """All that a worker has to know.

    ``storage`` is a URL, or empty for the journal in ``folder``, which also holds the run folders.
    No trial begins after ``deadline`` (seconds since the epoch), and a run that takes longer than
    ``run_timeout`` (seconds) is ended.
    """

    name: str
    storage: str = field(repr=False)  # may hold a password
    folder: Path
    search: Search
    command: str
    deadline: float | None = None
    run_timeout: float | None = None
    number: int = 0


def n_trials_due(study: optuna.Study, task: Task) -> int:
    """How many trials have still to begin."""
    if task.deadline is not None and time() > task.deadline:
        return 0
    trials = counted(study)
    waiting = len(in_state(trials, TrialState.WAITING))
    return waiting + max(0, task.search.n_trials - len(trials))


def work(task: Task) -> None:
    """Carry out trials until none is due."""
    quiet()
    torch.set_num_threads(1)
    storage = connect(task.storage, task.folder)
    study, problem = load(task.name, storage)
    runs, by_run = task.folder / "runs", task.search.prunes_by_run
    objective = Objective(problem, task.name, runs, task.command, by_run, task.run_timeout)

    def run_trial(trial: Trial) -> float | tuple[float, float]:
        trial.set_user_attr(WORKER, this_worker())
        if not task.storage:
            locks.enter_context(trial_lock(task.folder, trial.number))
        if _is_surplus(study, task, trial):
            trial.set_user_attr(SURPLUS, True)
            raise TrialFailedError
        return objective(trial)

    locks = ExitStack()
    study.pruner = make_pruner(task.search, problem)
    while n_trials_due(study, task):
        begun = len(counted(study)) - len(in_state(counted(study), TrialState.WAITING))
        study.sampler = make_sampler(task.search, problem, begun, task.number)
        with locks:  # until the trial's result is stored: without a lock it looks abandoned
            study.optimize(run_trial, n_trials=1, catch=(TrialFailedError,))


def _is_surplus(study: optuna.Study, task: Task, trial: Trial) -> bool:
    """Whether another worker has begun the last trial that was due at the same time."""
    earlier = [each for each in counted(study) if each.number < trial.number]
    return len(earlier) >= task.search.n_trials and DEFAULT not in trial.user_attrs


def this_worker() -> str:
    """A name that no other process has at the moment, on any machine."""
    return _worker_name(os.getpid())


def _worker_name(pid: int | None) -> str:
    return f"{socket.gethostname()}-{pid}"


@dataclass(frozen=True)
class DeadWorker:
    """A worker that has died: its name, if that is known, why it died, and what it printed.

    ``timed_out``: one of its runs took longer than it may.
    """

    worker: str
    reason: str
    output: str = ""
    timed_out: bool = False


class LocalWorkers:
    """Worker processes on this machine."""

    def __init__(self) -> None:
        self._outputs = tempfile.TemporaryDirectory()
        self._processes: dict[int, ChildProcess] = {}
        self._run_timeout: float | None = None
        self._names: set[str] = set()

    def start(self, task: Task) -> None:
        numbered = replace(task, number=_free_number(self._processes))
        self._run_timeout = task.run_timeout
        prepare_children()
        with deferred_interrupts():
            process = ChildProcess(work, (numbered,), Path(self._outputs.name))
            self._processes[numbered.number] = process
        self._names.add(_worker_name(process.pid))

    def __len__(self) -> int:
        return len(self._processes)

    def dead(self) -> Iterator[DeadWorker]:
        """The workers that have died since the last call; others may have ended normally."""
        for number, process in list(self._processes.items()):
            if process.is_alive():
                continue
            process.join()
            del self._processes[number]
            output = process.take_output()
            if process.exitcode != 0:
                reason = exit_reason(process.exitcode, output, self._run_timeout)
                yield DeadWorker(_worker_name(process.pid), reason, output, timed_out(output))

    def is_ours(self, worker: str) -> bool:
        """Whether a worker of that name is or was one of these."""
        return worker in self._names

    def stop(self) -> None:
        """End the workers."""
        end_all(self._processes.values())
        self._processes.clear()
        self._outputs.cleanup()


class RayWorkers:
    """Workers as tasks of a Ray cluster, whose nodes must reach the storage and the folder.

    :raises SpecError: Ray is not installed, or no cluster answers
    """

    def __init__(self, address: str | None, cpus: float, gpus: float) -> None:
        self._ray: ModuleType = import_ray()
        connect_to_ray(self._ray, address, _PACKAGES)
        # A trial whose worker dies is tried again by the study, not by Ray.
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(
            work
        )
        self._running: dict[Any, int] = {}

    def start(self, task: Task) -> None:
        number = _free_number(self._running.values())
        self._running[self._task.remote(replace(task, number=number))] = number

    def __len__(self) -> int:
        return len(self._running)

    def dead(self) -> Iterator[DeadWorker]:
        """The workers that have died since the last call; others may have ended normally."""
        if not self._running:
            return
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in done:
            del self._running[reference]
            try:
                self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield DeadWorker("", f"{type(error).__name__}: {error}")

    def is_ours(self, worker: str) -> bool:
        """False: where the tasks are is not known, so those that are cancelled count as dead."""
        return False

    def stop(self) -> None:
        """Cancel the tasks, and leave the cluster."""
        for reference in self._running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


def _free_number(used: Collection[int]) -> int:
    return next(number for number in range(len(used) + 1) if number not in used)


Workers = LocalWorkers | RayWorkers
