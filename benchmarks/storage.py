"""Where run folders stand: on a disk, or anywhere that fsspec reaches (``s3://bucket/runs``).

A run folder is written whole or not at all. On a disk it gets its name last, by renaming; where
folders cannot be renamed, ``run.json`` is written last, and a folder without it is none.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
from upath import UPath

from benchmarks.locks import locked
from benchmarks.yamls import SpecError

Folder = Path | UPath
"""A folder or file, on a disk (a Path) or elsewhere."""

TEMPORARY = ".tmp-"
FAILED = ".failed.json"
"""How the record of a failed run ends, whose name begins as that of its folder."""
_LAST = "run.json"


def open_folder(text: str) -> Folder:
    """A folder by its path, or by its URL.

    :raises SpecError: fsspec does not know such URLs, or needs a package that is not installed
    """
    if "://" not in text:
        return Path(text)
    try:
        folder = UPath(text)
        folder.fs  # noqa: B018 (it is made now)
    except ImportError as error:
        raise SpecError(f"{text}: a package is missing: {error}") from None
    except ValueError as error:
        raise SpecError(f"{text}: is no URL that fsspec knows: {error}") from None
    return folder


def is_on_disk(folder: Folder) -> bool:
    """Whether files can be renamed and locked there."""
    return isinstance(folder, Path)


def is_finished(folder: Folder) -> bool:
    """Whether a run folder is there, whole."""
    return (folder / _LAST).exists()


@contextmanager
def scratch_folder(folder: Folder) -> Iterator[Path]:
    """A temporary folder on a disk, for what will be published as ``folder``; gone at the end."""
    if not isinstance(folder, Path):
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
        return
    # Beside the final one, so that it can be renamed; named after its maker.
    scratch = folder.with_name(f"{TEMPORARY}{folder.name}-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def publish(scratch: Path, folder: Folder) -> None:
    """Give a complete folder its final place, unless another process has been faster."""
    if isinstance(folder, Path):
        try:
            scratch.rename(folder)
        except OSError:
            if not is_finished(folder):
                raise
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = contents(scratch)
    for name in sorted(files, key=lambda name: name == _LAST):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, those of folders in it too, by their names relative to it."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_whole(path: Folder, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(path, Path):
        path.write_text(text)
        return
    unfinished = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)


def check_writable(folder: Folder) -> None:
    """Make a folder and try to write there.

    :raises OSError: that cannot be done
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    probe.write_text("")
    probe.unlink()


def walk(root: Folder) -> Iterator[tuple[Folder, list[str], list[str]]]:
    """Every folder below a root, with the names of the folders and files in it.

    Names that are removed from the list of folders are not entered.
    """
    if isinstance(root, Path):  # Path.walk needs Python 3.12
        for folder, names, files in os.walk(root):
            yield Path(folder), names, files
    else:
        yield from root.walk()


def claimed(folder: Folder) -> AbstractContextManager[bool]:
    """Keep others from a run while its folder is being made, unless our sweep does so already.

    Nobody else makes it then, nor removes what is unfinished of it. Elsewhere than on a disk there
    are no locks.
    """
    return locked(folder) if isinstance(folder, Path) else nullcontext(False)


def remove_abandoned(parents: Iterable[Folder]) -> None:
    """Remove what processes that are no longer running have left unfinished in ``parents``.

    A process that cannot be found here may run on another machine that shares the disk. It, or its
    sweep, has claimed its run then: what belongs to a claimed run stays.
    """
    for parent in parents:
        if not isinstance(parent, Path):
            continue  # there, unfinished folders are overwritten by the next attempt
        for scratch in parent.glob(f"{TEMPORARY}*"):
            if not _maker_lives(scratch):
                _remove_unless_claimed(scratch)


def _maker_lives(scratch: Path) -> bool:
    try:
        pid = int(scratch.name.rpartition("-")[2])
        # A process that began after the folder was last changed has only inherited the number.
        return psutil.Process(pid).create_time() <= scratch.stat().st_mtime + 1
    except (ValueError, psutil.NoSuchProcess, FileNotFoundError):
        return False


def _remove_unless_claimed(scratch: Path) -> None:
    run = scratch.name.removeprefix(TEMPORARY).rpartition("-")[0].removesuffix(FAILED)
    folder = scratch.with_name(run or scratch.name)
    # Where nothing can be locked, nobody knows whose it is.
    with suppress(OSError, NotImplementedError), locked(folder) as ours:
        if not ours:
            return
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
