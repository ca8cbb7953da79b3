"""Spaces as JSON, and back."""

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

__all__ = ["integer", "space_from_plain", "space_to_plain"]

# What a file may make us hold before anything in it has been checked.
MAX_ELEMENTS = 2**24  # of a Box, which holds its bounds for each
MAX_DEPTH = 8  # of Dict spaces inside each other


def space_to_plain(space: spaces.Space) -> dict[str, Any]:
    """A space as values that JSON can hold. A space of a derived class becomes its base class.

    :raises ValueError: it would not come back the same, for example because it is of a kind that
        SB3's algorithms do not take
    """
    try:
        plain = _to_plain(space)
        if space_from_plain(json.loads(json.dumps(plain))) != space:
            raise ValueError("what comes back from JSON is not the same")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{space!r:.200} cannot be saved: {error}") from error
    return plain


def _to_plain(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Dict):
        parts = {key: _to_plain(part) for key, part in space.spaces.items()}
        return {"space": "Dict", "spaces": parts}
    dtype = str(space.dtype)
    if isinstance(space, spaces.Box):
        plain = {"space": "Box", "low": _shortened(space.low), "high": _shortened(space.high)}
        return plain | {"shape": list(space.shape), "dtype": dtype}
    if isinstance(space, spaces.Discrete):
        plain = {"space": "Discrete", "n": int(space.n), "start": int(space.start)}
        return plain | {"dtype": dtype}
    if isinstance(space, spaces.MultiDiscrete):
        plain = {"space": "MultiDiscrete", "nvec": space.nvec.tolist()}
        return plain | {"start": space.start.tolist(), "dtype": dtype}
    if isinstance(space, spaces.MultiBinary):
        return {"space": "MultiBinary", "n": np.asarray(space.n).tolist()}
    raise ValueError("it is not a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of these")


def _shortened(bounds: np.ndarray) -> Any:
    """One number where all bounds are the same."""
    same = bounds.size > 0 and (bounds == bounds.flat[0]).all()
    return bounds.flat[0].item() if same else bounds.tolist()


def space_from_plain(plain: Any) -> spaces.Space:
    """The inverse of :func:`space_to_plain`.

    :raises ValueError: ``plain`` does not describe a space
    """
    try:
        return _from_plain(plain, MAX_DEPTH)
    except Exception as error:  # a file may be wrong in any way
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{reprlib.repr(plain)} is not a space: {what}") from error


def _from_plain(plain: Any, depth: int) -> spaces.Space:
    kind = plain["space"]
    if kind == "Dict":
        if depth == 0:
            raise ValueError("Dict spaces are nested too deeply")
        return spaces.Dict(
            {key: _from_plain(part, depth - 1) for key, part in plain["spaces"].items()}
        )
    if kind == "Box":
        return _box_from_plain(plain)
    if kind == "Discrete":
        n = integer(plain["n"], "n", 1)
        first, dtype = integer(plain["start"], "start", -(2**62)), _dtype(plain, "int64")
        # Gymnasium has other dtypes since 1.3 only, and earlier files name none.
        other: Any = {} if dtype == np.int64 else {"dtype": dtype}
        return spaces.Discrete(n, start=first, **other)
    if kind == "MultiDiscrete":
        nvec, start = np.asarray(plain["nvec"]), np.asarray(plain["start"])
        if nvec.dtype.kind != "i" or start.dtype.kind != "i":
            raise ValueError(f"nvec and start must be integers, got {reprlib.repr(plain)}")
        return spaces.MultiDiscrete(nvec, _dtype(plain).type, start=start)
    if kind == "MultiBinary":
        n = plain["n"]
        _check_shape(n if isinstance(n, list) else [n], 1)
        return spaces.MultiBinary(n)
    raise ValueError(f"{reprlib.repr(kind)} is not a kind of space that is saved")


def _box_from_plain(plain: Mapping[str, Any]) -> spaces.Box:
    dtype, shape = _dtype(plain), plain["shape"]
    _check_shape(shape, 0)
    ends = []
    for end in ("low", "high"):
        bounds = np.asarray(plain[end])
        if bounds.dtype.kind not in "biuf" or np.isnan(bounds).any():
            raise ValueError(f"{end} must be numbers, got {reprlib.repr(plain[end])}")
        ends.append(np.broadcast_to(bounds.astype(dtype), shape))
    return spaces.Box(*ends, tuple(shape), dtype.type)  # type: ignore[call-overload]


def _dtype(plain: Mapping[str, Any], default: str | None = None) -> np.dtype:
    name = plain.get("dtype", default)
    if not isinstance(name, str) or len(name) > 16 or np.dtype(name).kind not in "biuf":
        raise ValueError(f"dtype must be a numeric type, got {reprlib.repr(name)}")
    return np.dtype(name)


def _check_shape(shape: Any, low: int) -> None:
    if (
        not isinstance(shape, list)
        or math.prod(integer(n, "a dimension", low) for n in shape) > MAX_ELEMENTS
    ):
        raise ValueError(
            f"its shape must have at most {MAX_ELEMENTS} elements, got {reprlib.repr(shape)}"
        )


def integer(value: Any, name: str, low: int) -> int:
    """A value from a file, if it is an integer in range; the error names what it is."""
    if type(value) is not int or not low <= value < 2**62:
        raise ValueError(
            f"{name} must be an integer that is at least {low}, got {reprlib.repr(value)}"
        )
    return value
