"""Names that become the names of folders: which are safe to read, and which may be given.

A name in a file, such as an algorithm's, may be any name that cannot lead out of its folder. A name
that a user gives to a study or a suite must also be valid on every system.
"""

import re

from benchmarks.errors import SpecError

_LONGEST = 200  # bytes; file systems allow 255, and temporary names are longer
_SHOWN = 60  # characters of a name that is refused
# Also with an ending.
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)


def as_file_name(name: str) -> str:
    """The name of an environment or an algorithm, with ``__`` for what file names cannot have."""
    return name.replace("/", "__").replace(":", "__")


def is_level(name: str) -> bool:
    """Whether a path of this name stays in its folder, one level below it."""
    return (
        name.strip(". ") != ""
        and name.isprintable()
        and re.search(r"[/\\:]", name) is None
        and len(name.encode()) <= _LONGEST
    )


def is_name(name: str) -> bool:
    """Whether a folder can have this name on every system."""
    return (
        is_level(name)
        and re.fullmatch(r"\w([\w.-]*[\w-])?", name) is not None
        and _RESERVED.fullmatch(name) is None
    )


def check_name(where: str, name: str) -> None:
    """Check a name that a folder will have.

    :param where: the option or the file that gives it, such as ``--name``
    :raises SpecError: a folder cannot have it on every system
    """
    if not is_name(name):
        shown = f"{name[:_SHOWN]!r}" + "..." * (len(name) > _SHOWN)
        raise SpecError(
            f"{where}: must consist of letters, digits, '.', '_' and '-', begin with no '.' or "
            f"'-', end with no '.', have at most {_LONGEST} bytes, and be none of the names that "
            f"Windows reserves, such as CON and NUL; got {shown}"
        )
