"""Where folders stand: on a disk, or anywhere that fsspec reaches (``s3://bucket/runs``).

What is written here is there whole or not at all. On a disk, a file or folder is complete, and
flushed to the disk, before it is renamed to its final name. Elsewhere nothing can be renamed: one
file of a folder is written last, and a folder without it does not count.
"""

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import psutil
from upath import UPath

from benchmarks.errors import SpecError
from benchmarks.locks import locked

Folder = Path | UPath
"""A folder or file, on a disk (a Path) or elsewhere."""

TEMPORARY = ".tmp-"
FAILED = ".failed.json"
"""How the name of a failed run's record ends, which begins with the name of the run's folder."""
RECORD = "run.json"
"""The file of a run's folder that is written last: a folder that has it is whole."""
_TEMPORARY_NAME = re.compile(rf"{re.escape(TEMPORARY)}(?P<name>.+)-(?P<pid>\d+)")


def open_folder(text: str) -> Folder:
    """A folder by its path or URL.

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


def is_below(path: Folder, folder: Folder) -> bool:
    """Whether a path is that of a folder, or of something in it."""
    path = path.absolute()
    return folder.absolute() in (path, *path.parents)


def has_record(folder: Folder) -> bool:
    """Whether the folder of a finished run is there."""
    return (folder / RECORD).exists()


@contextmanager
def whole_folder(folder: Folder, last: str = RECORD) -> Iterator[Path]:
    """A temporary folder on a disk whose content moves to ``folder`` when the block ends.

    If the block raises, or the process dies, nothing is moved. If the folder exists already, it
    keeps its other files; files of the same name are replaced one by one, each whole.

    :param last: the file without which the folder does not count: when files are replaced, it is
        removed first and written last
    :raises OSError: naming ``folder``, or the file that the system named
    """
    if isinstance(folder, Path):
        remove_abandoned([_place(folder)], folder.name)
    with naming(folder), scratch_folder(folder) as scratch:
        yield scratch
        publish(scratch, folder, last)


@contextmanager
def whole_file(path: Folder) -> Iterator[Path]:
    """A temporary path to write to, whose file moves to ``path`` when the block ends.

    If the block raises, or the process dies, ``path`` stays as it was. A link stays a link: the
    file that it leads to is replaced. A device or a pipe (``/dev/stdout``) is written to.

    :raises OSError: naming ``path``, or the file that the system named
    """
    target = path.resolve() if isinstance(path, Path) and not _is_stream(path) else path
    with naming(path), scratch_folder(target) as scratch:
        unfinished = scratch / path.name
        yield unfinished
        if isinstance(target, Path) and not _is_stream(target):
            _flush(scratch)
            unfinished.replace(target)
            _sync(target.parent)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(unfinished.read_bytes())


def write_whole(path: Folder, text: str) -> None:
    """Write a file of UTF-8 text, whole or not at all.

    :raises OSError: naming it
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def scratch_folder(folder: Folder) -> Iterator[Path]:
    """A temporary folder on a disk for what will be published as ``folder``; removed at the end."""
    if not isinstance(folder, Path) or _is_stream(folder):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    # Its name holds this process's number: see remove_abandoned.
    scratch = _place(folder) / f"{TEMPORARY}{folder.name}-{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def target_of(scratch: Path) -> Path | None:
    """The path that a temporary file or folder will get; None if it is not a temporary one."""
    match = _TEMPORARY_NAME.fullmatch(scratch.name)
    return scratch.with_name(match["name"]) if match else None


def scratch_folders(target: Path) -> Iterator[Path]:
    """The temporary files and folders that are to become ``target``, of any process."""
    return target.parent.glob(f"{TEMPORARY}{glob.escape(target.name)}-*")


def _is_stream(path: Path) -> bool:
    """Whether a path is that of a device or a pipe: it exists, and is no file and no folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _place(folder: Path) -> Path:
    """Where a temporary folder must stand so that its content can be renamed to ``folder``.

    An existing folder may be on a disk of its own, so that only what is inside it can be renamed.
    """
    return folder if folder.is_dir() else folder.parent


def publish(scratch: Path, folder: Folder, last: str = RECORD) -> None:
    """Move a complete folder to its final place; a finished run that is there stays as it is."""
    if isinstance(folder, Path):
        _flush(scratch)
        _move(scratch, folder, last)
        _sync(folder.parent)
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = contents(scratch)
    for name in sorted(files, key=lambda name: name == last):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])


def set_aside(folder: Folder, prefix: str) -> None:
    """Rename a folder so that nothing reads it, unless another process has done so already."""
    name = f"{prefix}{folder.name}"
    with suppress(FileNotFoundError):
        if isinstance(folder, Path):
            folder.rename(folder.with_name(name))
        else:
            folder.fs.mv(folder.path, folder.with_name(name).path, recursive=True)


def _move(source: Path, target: Path, last: str) -> None:
    """Rename a folder or file; if the target is a folder that exists, move the content into it."""
    try:
        source.replace(target)
    except OSError:
        if not (source.is_dir() and target.is_dir()):
            raise
        if has_record(target):
            return  # another process has been faster
        (target / last).unlink(missing_ok=True)
        for each in sorted(source.iterdir(), key=lambda each: each.name == last):
            _move(each, target / each.name, last)


def _flush(folder: Path) -> None:
    """Flush a folder with its files to the disk: a name must not survive without its content."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    if os.name == "nt":
        return  # which cannot open folders, nor flush files that are open for reading only
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system cannot do that
            raise
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Folder) -> Iterator[None]:
    """Make errors name the path that was to be written, not its temporary place or nothing."""
    try:
        yield
    except OSError as error:
        parts = Path(str(error.filename or "")).parts
        temporary = [i for i, part in enumerate(parts) if part.startswith(TEMPORARY)]
        if parts and not temporary:
            raise
        below = parts[temporary[-1] + 1 :] if temporary else ()
        named = path if below in ((), (path.name,)) else path.joinpath(*below)
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, reason, str(named)) from error


def contents(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder, by their paths relative to it."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check_writable(folder: Folder) -> None:
    """Make a folder and try to write a file there.

    :raises OSError: this fails
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    probe.write_text("")
    probe.unlink()


def walk(root: Folder) -> Iterator[tuple[Folder, list[str], list[str]]]:
    """Every folder below a root, with the names of the folders and files in it.

    Folders whose names are removed from the list are not entered. Links to folders are followed,
    except those that lead back to a folder above them.
    """
    if isinstance(root, Path):  # Path.walk needs Python 3.12
        for parent, names, files in os.walk(root, followlinks=True):
            folder = Path(parent)
            names[:] = [name for name in names if not _leads_back(folder / name)]
            yield folder, names, files
    else:
        yield from root.walk()


def _leads_back(path: Path) -> bool:
    if not path.is_symlink():
        return False
    return os.path.realpath(path) in map(os.path.realpath, path.absolute().parents)


def claimed(folder: Folder) -> AbstractContextManager[bool]:
    """Lock a run while its folder is being made, unless our sweep has locked it already.

    Then no other process makes the run, or removes its temporary folder. Only disks have locks.
    """
    return locked(folder) if isinstance(folder, Path) else nullcontext(False)


def remove_abandoned(parents: Iterable[Folder], name: str | None = None) -> None:
    """Remove the temporary files and folders of dead processes from ``parents``.

    A process that cannot be found may be running on another machine that shares the disk. In that
    case it, or its sweep, has locked the run: what belongs to a locked run stays.

    :param name: only those that were to get this name
    """
    for parent in parents:
        if not isinstance(parent, Path):
            continue  # there, the next attempt overwrites unfinished folders
        found = scratch_folders(parent / name) if name else parent.glob(f"{TEMPORARY}*")
        for scratch in found:
            if not _maker_lives(scratch):
                _remove_unless_claimed(scratch)


def _maker_lives(scratch: Path) -> bool:
    match = _TEMPORARY_NAME.fullmatch(scratch.name)
    if match is None:
        return False
    try:
        # A process that started after the folder was last changed has only inherited the number.
        return psutil.Process(int(match["pid"])).create_time() <= scratch.stat().st_mtime + 1
    except (ValueError, OverflowError, psutil.NoSuchProcess, FileNotFoundError):
        return False


def _remove_unless_claimed(scratch: Path) -> None:
    target = target_of(scratch) or scratch
    folder = target.with_name(target.name.removesuffix(FAILED) or target.name)
    # Where nothing can be locked, it is unknown whose folder this is, and it stays.
    with suppress(OSError, NotImplementedError), locked(folder) as ours:
        if not ours:
            return
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
