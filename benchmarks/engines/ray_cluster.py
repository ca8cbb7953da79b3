"""The Ray engine: tasks on the nodes of a cluster, whose results are collected here."""

import os
import socket
import tempfile
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.engines.events import Advanced, Ended, Failure, Success, attempt
from benchmarks.errors import SpecError
from benchmarks.provenance import Code, code
from benchmarks.records import RunSpec
from benchmarks.run import Progress, receive, train
from benchmarks.run_files import now
from benchmarks.storage import Folder, contents
from benchmarks.work_queue import WorkQueue

_REPOSITORY = Path(__file__).parents[2]
_SHIPPED = ("benchmarks", "sb3_natural")
_PASSED_ON = ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY")
_PATIENCE = 10.0  # seconds for an answer from the cluster
_POLL = 0.5  # seconds between looks at the progress
# Tasks that wait in Ray beyond those that the cluster has room for, so that it grows if it can.
_QUEUED = 64


@dataclass(frozen=True)
class RayOptions:
    """How a sweep uses a cluster.

    ``address``: ``host:port`` of an existing cluster, or ``auto`` for the one that this machine
    belongs to; None starts one on this machine. ``retries``: how often a run begins again when its
    node or its process dies. ``run_timeout``: seconds after which a run is ended and counts as
    failed.
    """

    address: str | None = None
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0
    retries: int = 3
    trackers: tuple[str, ...] = ()
    run_timeout: float | None = None


def run_on_ray(
    queue: WorkQueue, out: Folder, command: str, options: RayOptions
) -> Generator[Advanced | Ended, None, None]:
    """Execute runs as tasks of a Ray cluster; their folders are written here, below ``out``.

    The nodes get this code with the tasks; the packages that it imports must be installed there. A
    task whose node or process dies begins again elsewhere. Closing the generator ends the tasks.

    :raises SpecError: Ray is not installed, or no cluster answers
    """
    ray = import_ray()
    connect(ray, options.address)
    try:
        tasks = _Tasks(ray, options, command)
        if tasks.places() == 0:
            warnings.warn(
                f"no node of the cluster has {options.cpus_per_run:g} CPUs and "
                f"{options.gpus_per_run:g} GPUs for a run; waiting for one",
                stacklevel=2,
            )
        try:
            while tasks.running or not queue.is_empty:
                while len(tasks.running) < tasks.places() + _QUEUED:
                    spec = queue.claim()
                    if spec is None:
                        break
                    tasks.submit(spec)
                yield from tasks.events(out)
        finally:
            tasks.cancel()
    finally:
        ray.shutdown()


def import_ray() -> ModuleType:
    """Ray, which is an extra.

    :raises SpecError: Ray is not installed
    """
    try:
        import ray
    except ImportError:
        raise SpecError("--engine: 'ray' needs Ray: pip install 'ray'") from None
    return ray


def connect(ray: ModuleType, address: str | None, packages: Sequence[str] = _SHIPPED) -> None:
    """Connect to a cluster, or start one on this machine.

    :param address: as in :class:`RayOptions`
    :param packages: the packages of this repository that the tasks import; the nodes get them
    :raises SpecError: no cluster answers
    """
    if address not in (None, "auto", "local"):
        _check_address(str(address))
    settings = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    modules = [str(_REPOSITORY / name) for name in packages]
    try:
        ray.init(
            address=address,
            runtime_env={"py_modules": modules, "env_vars": settings},
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False if address is None else None,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SpecError(f"--address: no Ray cluster answers at {address!r}: {error}") from None


def _check_address(address: str) -> None:
    """Check that something answers there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise SpecError(f"--address: must be host:port or auto, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise SpecError(f"--address: no Ray cluster answers at {address!r}: {error}") from None


class _Tasks:
    """The tasks of a sweep in flight."""

    def __init__(self, ray: ModuleType, options: RayOptions, command: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        self._options = options
        self._command = command
        self._code = code()
        # On this node, so that it survives the others.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._task = ray.remote(
            num_cpus=options.cpus_per_run,
            num_gpus=options.gpus_per_run,
            max_retries=options.retries,
            # Each run gets a fresh process, since a process keeps what a run imports and changes.
            max_calls=1,
        )(_work)
        self.running: dict[Any, tuple[RunSpec, str]] = {}

    def places(self) -> int:
        """How many runs the cluster, as it is now, can execute at once."""
        needs = {"CPU": self._options.cpus_per_run, "GPU": self._options.gpus_per_run}
        return sum(
            min(
                int(node["Resources"].get(kind, 0) // amount)
                for kind, amount in needs.items()
                if amount > 0
            )
            for node in self._ray.nodes()
            if node["Alive"]
        )

    def submit(self, spec: RunSpec) -> None:
        """Give a run to the cluster."""
        reference = self._task.remote(spec, self._command, self._code, self._options, self._board)
        self.running[reference] = (spec, now())

    def events(self, out: Folder) -> Iterator[Advanced | Ended]:
        """The events since the last call; waits a moment for one."""
        if not self.running:
            time.sleep(_POLL)
            return
        ended, _ = self._ray.wait(list(self.running), timeout=_POLL)
        yield from self._progress()
        for reference in ended:
            spec, started = self.running[reference]
            outcome = self._outcome(reference, spec, out)
            del self.running[reference]
            if isinstance(outcome, Success):
                yield Ended(spec, started, warnings=outcome.warnings)
            else:
                yield Ended(spec, started, outcome)

    def _progress(self) -> Iterator[Advanced]:
        specs = {spec.folder(Path()): spec for spec, _ in self.running.values()}
        with suppress(self._ray.exceptions.RayError):  # a sweep can do without progress bars
            for folder, progress in self._ray.get(self._board.take.remote()).items():
                if folder in specs:
                    yield Advanced(specs[folder], progress)

    def _outcome(self, reference: Any, spec: RunSpec, out: Folder) -> Success | Failure:
        try:
            outcome, files = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Failure(f"{type(error).__name__}: {error}", str(error))
        if isinstance(outcome, Success):
            receive(spec, out, files)
        assert isinstance(outcome, Success | Failure)
        return outcome

    def cancel(self) -> None:
        """End all runs that have not ended."""
        for reference in self.running:
            self._ray.cancel(reference, force=True)


class _Board:
    """An actor to which the runs report their progress."""

    def __init__(self) -> None:
        self._latest: dict[Folder, Progress] = {}

    def write(self, folder: Folder, progress: Progress) -> None:
        """Note the progress of the run with this folder."""
        self._latest[folder] = progress

    def take(self) -> dict[Folder, Progress]:
        """By folder, the progress noted since the last call."""
        latest, self._latest = self._latest, {}
        return latest


def _work(
    spec: RunSpec, command: str, provenance: Code, options: RayOptions, board: Any
) -> tuple[Success | Failure, dict[str, bytes]]:
    """Execute one run: what a task does. Returns the files of the run folder."""
    import torch  # not needed by the parent, which starts faster without it

    torch.set_num_threads(max(1, int(options.cpus_per_run)))
    name = spec.folder(Path())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        outcome = attempt(
            lambda: train(
                spec,
                folder,
                command,
                report=lambda progress: board.write.remote(name, progress),
                trackers=options.trackers,
                provenance=provenance,
            ),
            options.run_timeout,
        )
        return outcome, contents(folder) if isinstance(outcome, Success) else {}
