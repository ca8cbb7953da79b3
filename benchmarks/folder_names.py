"""Names that become folders' names: what is safe to read, and what may be given to new ones.

A name that is read, of an algorithm, say, may be any that cannot lead out of the folder that it
stands in. One that is given now, of a study or a suite, must be fit for every system, too.
"""

import re

from benchmarks.errors import SpecError

_LONGEST = 200  # bytes; file systems allow 255, and temporary names are longer
_SHOWN = 60  # characters of a name that is refused
# With any ending, too.
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)


def as_file_name(name: str) -> str:
    """An environment's or algorithm's name without what no file name may have everywhere."""
    return name.replace("/", "__").replace(":", "__")


def is_level(name: str) -> bool:
    """Whether a name is that of one level below the folder that it stands in."""
    return (
        name.strip(". ") != ""
        and name.isprintable()
        and re.search(r"[/\\:]", name) is None
        and len(name.encode()) <= _LONGEST
    )


def is_name(name: str) -> bool:
    """Whether a name is a level that a folder can have on every system."""
    return (
        is_level(name)
        and re.fullmatch(r"\w([\w.-]*[\w-])?", name) is not None
        and _RESERVED.fullmatch(name) is None
    )


def check_name(where: str, name: str) -> None:
    """Check a name that will be a folder's.

    :param where: it was given, such as ``--name``
    :raises SpecError: naming that, the name and what is allowed
    """
    if not is_name(name):
        shown = f"{name[:_SHOWN]!r}" + "..." * (len(name) > _SHOWN)
        raise SpecError(
            f"{where}: must consist of letters, digits, '.', '_' and '-', begin with no '.' or "
            f"'-', end with no '.', have at most {_LONGEST} bytes, and be none of the names that "
            f"Windows reserves, such as CON and NUL; got {shown}"
        )
