"""Where run folders stand: on a disk, or anywhere that fsspec reaches (``s3://bucket/runs``).

What is written here is there whole or not at all. On a disk a file or folder is complete, and on
the disk itself, before it gets its name, by renaming; where nothing can be renamed, a run's
``run.json`` is written last, and a folder without it is none.
"""

import errno
import glob
import os
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
def whole_folder(folder: Folder, last: str = _LAST) -> Iterator[Path]:
    """A temporary folder on a disk whose content comes to ``folder`` when the block is left.

    If it is left by an exception, or the process dies, nothing does. Where the folder is there
    already, it keeps what it has; files of the same name are replaced one by one, each whole.

    :param last: the file without which the folder counts as not there: when others are replaced, it
        goes first and comes last
    :raises OSError: naming ``folder``, or the file that the system named
    """
    if isinstance(folder, Path):
        remove_abandoned([_place(folder)], folder.name)
    with naming(folder), scratch_folder(folder) as scratch:
        yield scratch
        publish(scratch, folder, last)


@contextmanager
def whole_file(path: Folder) -> Iterator[Path]:
    """Where to write a file of the same name, which comes to ``path`` when the block is left.

    If it is left by an exception, or the process dies, ``path`` stays as it was. A link stays one:
    the file that it leads to is written. What is no file (``/dev/stdout``, a pipe) is written to.

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
    """A temporary folder on a disk, for what will be published as ``folder``; gone at the end."""
    if not isinstance(folder, Path) or _is_stream(folder):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    # Named after its maker.
    scratch = _place(folder) / f"{TEMPORARY}{folder.name}-{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_stream(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder: a device, a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _place(folder: Path) -> Path:
    """From where a file or folder can be renamed: its own folder, if that is there already.

    It may be a disk of its own.
    """
    return folder if folder.is_dir() else folder.parent


def publish(scratch: Path, folder: Folder, last: str = _LAST) -> None:
    """Give a complete folder its final place; a finished run that is there stays as it is."""
    if isinstance(folder, Path):
        _flush(scratch)
        _move(scratch, folder, last)
        _sync(folder.parent)
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = contents(scratch)
    for name in sorted(files, key=lambda name: name.rpartition("/")[2] == _LAST):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])


def set_aside(folder: Folder, prefix: str) -> None:
    """Give a folder another name, that nothing reads, unless another process has done so."""
    name = f"{prefix}{folder.name}"
    with suppress(FileNotFoundError):
        if isinstance(folder, Path):
            folder.rename(folder.with_name(name))
        else:
            folder.fs.mv(folder.path, folder.with_name(name).path, recursive=True)


def _move(source: Path, target: Path, last: str) -> None:
    """Rename a folder or file; into a folder that is there already, what is in it."""
    try:
        source.replace(target)
    except OSError:
        if not (source.is_dir() and target.is_dir()):
            raise
        if is_finished(target):
            return  # another process has been faster
        (target / last).unlink(missing_ok=True)
        for each in sorted(source.iterdir(), key=lambda each: each.name == last):
            _move(each, target / each.name, last)


def _flush(folder: Path) -> None:
    """Have the system write a folder and all that is in it: a name must not outlive its content."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    if os.name == "nt":
        return  # cannot open folders, nor flush what is open for reading only
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Folder) -> Iterator[None]:
    """Have errors name what was to be written, not its temporary place or nothing at all."""
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
    """The files of a folder, those of folders in it too, by their names relative to it."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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

    Names that are removed from the list of folders are not entered. Links to folders are, but for
    those that lead back to where they stand.
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
    """Keep others from a run while its folder is being made, unless our sweep does so already.

    Nobody else makes it then, nor removes what is unfinished of it. Elsewhere than on a disk there
    are no locks.
    """
    return locked(folder) if isinstance(folder, Path) else nullcontext(False)


def remove_abandoned(parents: Iterable[Folder], name: str | None = None) -> None:
    """Remove what processes that are no longer running have left unfinished in ``parents``.

    :param name: only what was to get this name

    A process that cannot be found here may run on another machine that shares the disk. It, or its
    sweep, has claimed its run then: what belongs to a claimed run stays.
    """
    for parent in parents:
        if not isinstance(parent, Path):
            continue  # there, unfinished folders are overwritten by the next attempt
        for scratch in parent.glob(f"{TEMPORARY}{f'{glob.escape(name)}-*' if name else '*'}"):
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
