"""Locks beside run folders: who works on a run, on this machine or on another one of the disk."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock-"


def locked_path(file: Path) -> Path | None:
    """The folder that a lock's file is for; None if it is no lock's file."""
    name = file.name.removeprefix(LOCK)
    return file.with_name(name) if name and name != file.name else None


def lock(folder: Path) -> FileLock | None:
    """Lock a run, unless somebody else has locked it; waits for nobody.

    The lock ends with :func:`unlock`, or with this process, however that ends.

    :param folder: the run's, which need not be there
    :return: None if somebody else has it
    :raises OSError: nothing can be locked there
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = FileLock(folder.with_name(f"{LOCK}{folder.name}"))
    try:
        found.acquire(blocking=False)
    except Timeout:
        return None
    return found


def unlock(lock: FileLock) -> None:
    """Give a lock back, and remove its file."""
    # While it is held: who waits for it notices that the file is gone, and makes a new one.
    with suppress(OSError):  # Windows does not remove open files
        Path(lock.lock_file).unlink()
    lock.release()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a run for a while; whether that was possible."""
    found = lock(folder)
    try:
        yield found is not None
    finally:
        if found is not None:
            unlock(found)
