"""Locks of run folders, which hold between the processes and machines that share a disk."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock-"


def locked_path(file: Path) -> Path | None:
    """The folder that a lock's file is for; None if it is no lock's file."""
    name = file.name.removeprefix(LOCK)
    return file.with_name(name) if name and name != file.name else None


def lock_file(folder: Path) -> Path:
    """The file, beside a folder, that is locked in its place."""
    return folder.with_name(f"{LOCK}{folder.name}")


def lock(folder: Path) -> FileLock | None:
    """Lock a run unless another process has locked it, without waiting.

    The lock ends with :func:`unlock`, or with this process, however that ends.

    :param folder: the run's, which need not exist
    :return: None if another process has the lock
    :raises OSError: nothing can be locked there
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = FileLock(lock_file(folder))
    try:
        found.acquire(blocking=False)
    except Timeout:
        return None
    return found


def unlock(lock: FileLock) -> None:
    """End a lock, and remove its file."""
    # Removed first: a process that waits for the lock notices that, and makes a new file.
    with suppress(OSError):  # Windows does not remove open files
        Path(lock.lock_file).unlink()
    lock.release()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a run during the block; the value says whether that was possible."""
    found = lock(folder)
    try:
        yield found is not None
    finally:
        if found is not None:
            unlock(found)
