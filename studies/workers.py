"""Workers: processes that carry out the trials of a study, on this machine or on a cluster."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
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
        n_before = sum(each.number < trial.number for each in counted(study))
        # Another worker has begun the last trial that was due at the same time.
        if n_before >= task.search.n_trials and DEFAULT not in trial.user_attrs:
            trial.set_user_attr(SURPLUS, True)
            raise TrialFailedError
        study.sampler = make_sampler(task.search, problem, n_before)
        return objective(trial)

    locks = ExitStack()
    study.pruner = make_pruner(task.search, problem)
    study.sampler = make_sampler(task.search, problem, 0)  # a grid's points go by trial
    while n_trials_due(study, task):
        with locks:  # until the trial's result is stored: without a lock it looks abandoned
            study.optimize(run_trial, n_trials=1, catch=(TrialFailedError,))


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
        self._processes: list[ChildProcess] = []
        self._run_timeout: float | None = None
        self._names: set[str] = set()

    def start(self, task: Task) -> None:
        """Start one more worker."""
        self._run_timeout = task.run_timeout
        prepare_children()
        with deferred_interrupts():
            process = ChildProcess(work, (task,), Path(self._outputs.name))
            self._processes.append(process)
        self._names.add(_worker_name(process.pid))

    def __len__(self) -> int:
        return len(self._processes)

    def dead(self) -> Iterator[DeadWorker]:
        """The workers that have died since the last call; others may have ended normally."""
        for process in list(self._processes):
            if process.is_alive():
                continue
            process.join()
            self._processes.remove(process)
            output = process.take_output()
            if process.exitcode != 0:
                reason = exit_reason(process.exitcode, output, self._run_timeout)
                yield DeadWorker(_worker_name(process.pid), reason, output, timed_out(output))

    def is_ours(self, worker: str) -> bool:
        """Whether a worker of that name is or was one of these."""
        return worker in self._names

    def stop(self) -> None:
        """End the workers."""
        end_all(self._processes)
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
        self._running: list[Any] = []

    def start(self, task: Task) -> None:
        """Start one more worker."""
        self._running.append(self._task.remote(task))

    def __len__(self) -> int:
        return len(self._running)

    def dead(self) -> Iterator[DeadWorker]:
        """The workers that have died since the last call; others may have ended normally."""
        if not self._running:
            return
        done, _ = self._ray.wait(self._running, num_returns=len(self._running), timeout=0)
        for reference in done:
            self._running.remove(reference)
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


Workers = LocalWorkers | RayWorkers
