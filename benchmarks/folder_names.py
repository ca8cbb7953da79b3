"""Names that are folders' names, too: which are safe on every system."""

import re

from benchmarks.yamls import SpecError

_LONGEST = 200  # bytes; file systems allow 255
_SHOWN = 60  # characters of a name that is refused
# With any ending, too.
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)


def is_name(name: str) -> bool:
    """Whether a name can be a folder's on every system, and cannot lead out of where it stands."""
    return (
        re.fullmatch(r"\w([\w.-]*[\w-])?", name) is not None
        and len(name.encode(errors="replace")) <= _LONGEST
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
