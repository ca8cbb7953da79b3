"""TensorBoard's event files: records that each hold a few scalars or texts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.data.readers.collected import Points
from reports.data.readers.logged import BrokenLogError
from reports.data.readers.text import MOST_COLUMNS

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

IN_NAME = "tfevents"
_HEADER = struct.Struct("<QI")  # the length of what follows, and a checksum of it
_CHECKSUM = 4  # bytes


@dataclass
class Events:
    """What event files hold, by tag, in the order in which it was written.

    ``wall_seconds`` of the scalars: since the first event, without the time between a file's end
    and the beginning of the next one, which a resumed run has made.
    """

    scalars: dict[str, Points]
    texts: dict[str, str]


@dataclass
class _File:
    """What one file holds; the rows of a scalar are step, value and Unix time."""

    path: Path
    began: float | None = None
    ended: float = 0.0
    scalars: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def read(paths: Sequence[Path], say: Callable[[str], None]) -> Events:
    """The event files of one run, joined in the order in which they were begun.

    :param say: gets a line on what was left out
    :raises BrokenLogError: none of them holds an event
    """
    read = ((file.began, file) for file in (_read_one(path, say) for path in paths))
    files = sorted(
        ((began, file) for began, file in read if began is not None), key=lambda each: each[0]
    )
    if not files:
        raise BrokenLogError(f"{paths[0]}: holds no event")
    scalars: dict[str, list[np.ndarray]] = {}
    texts: dict[str, str] = {}
    clock, (previous_began, previous) = 0.0, files[0]
    for began, file in files:
        # A pause does not count; files that several writers write at once have the same clock.
        clock += max(0.0, min(began, previous.ended) - previous_began)
        for tag, rows in file.scalars.items():
            scalars.setdefault(tag, []).append(np.array(rows) - [0, 0, began - clock])
        texts |= file.texts
        previous_began, previous = began, file
    joined = {tag: np.concatenate(parts).T for tag, parts in scalars.items()}
    return Events({tag: Points(*columns) for tag, columns in joined.items()}, texts)


def _read_one(path: Path, say: Callable[[str], None]) -> _File:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    file = _File(path)
    try:
        for record in _records(path, say):
            _add(file, Event.FromString(record))
    except DecodeError:
        say(f"{path.name}: a record is damaged; it and what follows are left out")
    except BrokenLogError as error:
        say(f"{error}; what follows is left out")
    return file


def _records(path: Path, say: Callable[[str], None]) -> Iterator[bytes]:
    """The records of a file, up to one that is cut.

    TensorBoard's own reader does not say that one is cut, and computes the checksums in Python,
    which takes five times as long as everything else.
    """
    left = path.stat().st_size
    if left == 0:
        say(f"{path.name}: is empty")
    with path.open("rb") as file:
        while left:
            header = file.read(_HEADER.size)
            size = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else left
            left -= _HEADER.size + size + _CHECKSUM
            if left < 0:
                say(f"{path.name}: the last record is cut, and left out")
                return
            yield file.read(size)
            file.read(_CHECKSUM)


def _add(file: _File, event: Event) -> None:
    """:raises BrokenLogError: there are too many tags"""
    if file.began is None:
        file.began = event.wall_time
    file.ended = event.wall_time
    for value in event.summary.value:
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            number = value.simple_value
        elif kind == "tensor" and value.tensor.string_val:
            file.texts[value.tag] = value.tensor.string_val[0].decode(errors="replace")
            continue
        elif kind == "tensor" and _is_scalar(value.tensor):
            number = _scalar(value.tensor)
        else:
            continue
        if value.tag not in file.scalars and len(file.scalars) == MOST_COLUMNS:
            raise BrokenLogError(f"{file.path.name}: has more than {MOST_COLUMNS:,} tags")
        file.scalars.setdefault(value.tag, []).append((event.step, number, event.wall_time))


def _is_scalar(tensor: Any) -> bool:
    # A small record may stand for a huge tensor.
    return all(dim.size == 1 for dim in tensor.tensor_shape.dim) and not tensor.string_val


def _scalar(tensor: Any) -> float:
    from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]

    try:
        return float(make_ndarray(tensor).item())
    except (TypeError, ValueError):  # of a type that is no number
        return np.nan
