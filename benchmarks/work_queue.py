"""The runs that a sweep has still to do, shared with the other sweeps of the same folder."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from benchmarks.locks import lock, unlock
from benchmarks.records import RunSpec
from benchmarks.run_files import is_finished
from benchmarks.storage import Folder


class WorkQueue:
    """Runs without a finished folder; the sweep that claims a run first does it.

    A claim is a lock beside the run's folder. It ends with :meth:`release`, or with the process
    that holds it, however that ends. Sweeps on different machines need a file system whose locks
    work between them, as those of most NFS and Lustre servers do. Where the folder is not on a
    disk, there are no locks, and sweeps do not know of each other.

    :param specs: the runs
    :param out: the folder below which all run folders are
    """

    def __init__(self, specs: Sequence[RunSpec], out: Folder) -> None:
        self.finished_elsewhere: list[RunSpec] = []
        self.failed_elsewhere: list[RunSpec] = []
        self._out = out
        self._waiting = deque(specs)
        self._locks: dict[Folder, FileLock] = {}
        self._began = time.time()

    @property
    def is_empty(self) -> bool:
        """Whether every run has been claimed here or done by another sweep."""
        return not self._waiting

    def claim(self) -> RunSpec | None:
        """Claim the next run that no sweep is doing; None if there is none at the moment."""
        for _ in range(len(self._waiting)):
            spec = self._waiting.popleft()
            if not self._lock(spec):
                self._waiting.append(spec)  # ours, should the other sweep die
            elif self._done_elsewhere(spec):
                self.release(spec)
            else:
                return spec
        return None

    def release(self, spec: RunSpec) -> None:
        """End the claim of a run, whatever became of the run."""
        if held := self._locks.pop(spec.folder(self._out), None):
            unlock(held)

    def close(self) -> None:
        """End all claims."""
        while self._locks:
            unlock(self._locks.popitem()[1])

    def _lock(self, spec: RunSpec) -> bool:
        folder = spec.folder(self._out)
        if not isinstance(folder, Path):
            return True
        held = lock(folder)
        if held is None:
            return False
        self._locks[folder] = held
        return True

    def _done_elsewhere(self, spec: RunSpec) -> bool:
        if is_finished(spec.folder(self._out)):
            self.finished_elsewhere.append(spec)
            return True
        with suppress(FileNotFoundError):
            # Runs that had failed before are what this sweep tries again.
            if spec.failure_file(self._out).stat().st_mtime >= self._began:
                self.failed_elsewhere.append(spec)
                return True
        return False
