"""Who does which run, when several sweeps work in the same folder at once."""

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


class Agenda:
    """The runs that a sweep has still to do; each is done by the sweep that claims it first.

    A claim is a lock beside the run's folder. It ends with :meth:`release`, or with the process
    that holds it, however that ends. Sweeps on different machines need a file system with locks
    that work between them (most of NFS, Lustre and the like have). Elsewhere than on a disk there
    are no locks, and sweeps do not know of each other.

    :param specs: runs without a finished folder
    :param out: the folder below which all runs stand
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
        """Whether every run has been claimed, or finished by another sweep."""
        return not self._waiting

    def claim(self) -> RunSpec | None:
        """The next run that nobody is doing, now ours; None if there is none at the moment."""
        for _ in range(len(self._waiting)):
            spec = self._waiting.popleft()
            if not self._lock(spec):
                self._waiting.append(spec)  # should the other sweep die, it is ours
            elif self._done_elsewhere(spec):
                self.release(spec)
            else:
                return spec
        return None

    def release(self, spec: RunSpec) -> None:
        """Give a claimed run back, whatever became of it."""
        if held := self._locks.pop(spec.folder(self._out), None):
            unlock(held)

    def close(self) -> None:
        """Give back all that is claimed."""
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
            # An older failure is what this sweep is there to try again.
            if spec.failure_file(self._out).stat().st_mtime >= self._began:
                self.failed_elsewhere.append(spec)
                return True
        return False
