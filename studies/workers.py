"""Workers: processes that carry out a study's trials one after another, here or on a cluster."""

import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import time
from types import ModuleType
from typing import Any

import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.trial import Trial, TrialState

from benchmarks.engines.events import cause_of_death, was_overtime
from benchmarks.engines.processes import (
    SPAWN,
    end_with_parent,
    interrupts_held_back,
    last_output,
    redirect_output,
)
from benchmarks.engines.ray_cluster import connect as connect_to_ray
from benchmarks.engines.ray_cluster import import_ray
from studies.searching import Search, make_pruner, make_sampler, quiet
from studies.study import DEFAULT, SURPLUS, WORKER, claim, connect, counted, in_state, load
from studies.trials import Objective, TrialFailedError

_GRACE = 10.0  # seconds that a process may take to end
_PACKAGES = ("studies", "benchmarks", "sb3_natural")


@dataclass(frozen=True)
class Task:
    """All that a worker has to know.

    ``storage`` is a URL, or empty for the journal in ``folder``, where the run folders stand, too;
    no trial is begun after ``deadline`` (seconds since the epoch), and a run that takes longer than
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


def n_due(study: optuna.Study, task: Task) -> int:
    """How many trials are still to be begun."""
    if task.deadline is not None and time() > task.deadline:
        return 0
    trials = counted(study)
    waiting = len(in_state(trials, TrialState.WAITING))
    return waiting + max(0, task.search.n_trials - len(trials))


def work(task: Task) -> None:
    """Carry out trials until none is due."""
    quiet()
    warnings.simplefilter("ignore", ExperimentalWarning)
    torch.set_num_threads(1)
    storage = connect(task.storage, task.folder)
    study, problem = load(task.name, storage)
    runs, by_run = task.folder / "runs", task.search.prunes_by_run
    objective = Objective(problem, task.name, runs, task.command, by_run, task.run_timeout)

    def carry_out(trial: Trial) -> float | tuple[float, float]:
        trial.set_user_attr(WORKER, this_worker())
        with nullcontext() if task.storage else claim(task.folder, trial.number):
            if _is_surplus(study, task, trial):
                trial.set_user_attr(SURPLUS, True)
                raise TrialFailedError
            return objective(trial)

    study.pruner = make_pruner(task.search, problem)
    while n_due(study, task):
        begun = len(counted(study)) - len(in_state(counted(study), TrialState.WAITING))
        study.sampler = make_sampler(task.search, problem, begun, task.number)
        study.optimize(carry_out, n_trials=1, catch=(TrialFailedError,))


def _is_surplus(study: optuna.Study, task: Task, trial: Trial) -> bool:
    """Whether two workers have begun what was the last trial for both of them."""
    earlier = [each for each in counted(study) if each.number < trial.number]
    return len(earlier) >= task.search.n_trials and DEFAULT not in trial.user_attrs


def this_worker() -> str:
    """A name that no other process has at the moment, on any machine."""
    return _worker_name(os.getpid())


def _worker_name(pid: int | None) -> str:
    return f"{socket.gethostname()}-{pid}"


@dataclass(frozen=True)
class Death:
    """A worker that has died: its name, if it is known, why, and what it has written.

    ``is_overtime``: a run took longer than it may.
    """

    worker: str
    cause: str
    output: str = ""
    is_overtime: bool = False


class LocalWorkers:
    """Worker processes on this machine."""

    def __init__(self) -> None:
        self._outputs = tempfile.TemporaryDirectory()
        self._processes: dict[int, tuple[SpawnProcess, Path]] = {}
        self._run_timeout: float | None = None
        self._names: set[str] = set()
        self._n_started = 0

    def start(self, task: Task) -> None:
        output = Path(self._outputs.name) / str(self._n_started)
        numbered = replace(task, number=self._free_number())
        self._run_timeout = task.run_timeout
        with interrupts_held_back():
            process = SPAWN.Process(target=_work_here, args=(numbered, output))
            process.start()
            self._processes[numbered.number] = (process, output)
        self._names.add(_worker_name(process.pid))
        self._n_started += 1

    def _free_number(self) -> int:
        return next(n for n in range(len(self._processes) + 1) if n not in self._processes)

    def __len__(self) -> int:
        return len(self._processes)

    def ended(self) -> Iterator[Death]:
        """The workers that have died since the last call; others may have ended, too."""
        for number, (process, output) in list(self._processes.items()):
            if process.is_alive():
                continue
            process.join()
            del self._processes[number]
            if process.exitcode != 0:
                said = last_output(output) if output.exists() else ""
                cause = cause_of_death(process.exitcode, said, self._run_timeout)
                yield Death(_worker_name(process.pid), cause, said, was_overtime(said))

    def is_ours(self, worker: str) -> bool:
        """Whether a worker of that name is, or was, one of these."""
        return worker in self._names

    def stop(self) -> None:
        for process, _ in self._processes.values():
            process.terminate()
        for process, _ in self._processes.values():
            process.join(_GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()
        self._outputs.cleanup()


def _work_here(task: Task, output: Path) -> None:
    end_with_parent()
    redirect_output(output)
    work(task)


class RayWorkers:
    """Workers as tasks of a Ray cluster; its nodes must reach the storage and the folder.

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
        used = set(self._running.values())
        number = next(n for n in range(len(used) + 1) if n not in used)
        self._running[self._task.remote(replace(task, number=number))] = number

    def __len__(self) -> int:
        return len(self._running)

    def ended(self) -> Iterator[Death]:
        """The workers that have died since the last call; others may have ended, too."""
        if not self._running:
            return
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for reference in done:
            del self._running[reference]
            try:
                self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield Death("", f"{type(error).__name__}: {error}")

    def is_ours(self, worker: str) -> bool:
        """Nothing is known of where the tasks are; those that are cancelled count as dead."""
        return False

    def stop(self) -> None:
        for reference in self._running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


Workers = LocalWorkers | RayWorkers
