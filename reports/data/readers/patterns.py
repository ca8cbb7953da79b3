"""What the path of a run says of it, by a pattern such as ``{algo}/{env_id}_{seed}``."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.errors import SpecError
from benchmarks.names import plain

_FIELD = re.compile(r"\{([^{}]*)\}")
_ANYTHING = "_"
# A field does not go beyond a folder's name; the first ones take as much as they can.
_WRITTEN = {
    "algo": r"(?P<algo>[^/]+)",
    "env_id": r"(?P<env_id>[^/]+)",
    "seed": r"(?P<seed>\d{1,18})",
    _ANYTHING: r"[^/]+",
}


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression for the end of a path.

    :param pattern: text with the fields ``{algo}``, ``{env_id}`` and ``{seed}``, of which a seed is
        digits, and ``{_}`` for anything
    :raises SpecError: naming the pattern and what is wrong with it
    """
    allowed = ", ".join(f"{{{name}}}" for name in _WRITTEN)
    fields = _FIELD.findall(pattern)
    for name in fields:
        if name not in _WRITTEN:
            raise SpecError(f"pattern: {pattern!r} has the field {{{name}}}; valid are {allowed}")
        if name != _ANYTHING and fields.count(name) > 1:
            raise SpecError(f"pattern: {pattern!r} has the field {{{name}}} twice")
    if not set(fields) - {_ANYTHING}:
        raise SpecError(f"pattern: {pattern!r} names nothing; valid fields are {allowed}")
    parts = _FIELD.split(pattern)  # texts and the fields between them
    if any(set("{}") & set(text) for text in parts[::2]):
        raise SpecError(f"pattern: {pattern!r} has a brace without its other one")
    parts[::2] = [re.escape(text) for text in parts[::2]]
    parts[1::2] = [_WRITTEN[name] for name in fields]
    return re.compile(f"(?:.*/)?{''.join(parts).removeprefix('/')}")


def fields_of(path: Path, pattern: re.Pattern[str]) -> dict[str, str] | None:
    """The fields that the end of a path has; None if the pattern does not match it."""
    match = pattern.fullmatch(path.absolute().as_posix())
    return (
        None if match is None else {name: plain(text) for name, text in match.groupdict().items()}
    )
