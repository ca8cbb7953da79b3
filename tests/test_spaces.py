"""Spaces come back from JSON as they were; what is not a space is refused."""

import json
from inspect import signature

import numpy as np
import pytest
from gymnasium import spaces

from sb3_natural.spaces import space_from_plain, space_to_plain
from tests.helpers import ACTION_SPACES, OBSERVATION_SPACES

DISCRETE_HAS_DTYPE = "dtype" in signature(spaces.Discrete).parameters  # since Gymnasium 1.3
SPACES = [
    *OBSERVATION_SPACES.values(),
    *ACTION_SPACES.values(),
    spaces.Box(np.array([-1.5, -np.inf]), np.array([0.1, 3.0]), dtype=np.float64),
    spaces.Box(-5, 7, (2, 3), np.int16),
    spaces.Box(-1, 1, (0,)),
    spaces.Box(0.1, 0.3, ()),
    spaces.Discrete(4, start=-2),
    *([spaces.Discrete(4, dtype=np.int32)] if DISCRETE_HAS_DTYPE else []),
    spaces.MultiDiscrete([[2, 3], [4, 5]]),
    spaces.MultiDiscrete([2, 3], start=[1, -1], dtype=np.int32),
    spaces.MultiBinary([2, 3]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_come_back_from_json(space):
    plain = json.loads(json.dumps(space_to_plain(space)))
    back = space_from_plain(plain)
    assert back == space
    assert (back.shape, back.dtype) == (space.shape, space.dtype)
    if isinstance(space, spaces.Box):
        np.testing.assert_array_equal(back.low, space.low)


class OwnBox(spaces.Box):
    pass


class OwnDiscrete(spaces.Discrete):
    pass


@pytest.mark.parametrize(
    ("space", "base"),
    [
        (OwnBox(-1, 1, (3,)), spaces.Box),
        (OwnDiscrete(3), spaces.Discrete),
        (spaces.Dict(a=OwnBox(0, 1, (2,))), spaces.Dict),
    ],
    ids=str,
)
def test_spaces_of_derived_classes_come_back_as_their_base(space, base):
    back = space_from_plain(json.loads(json.dumps(space_to_plain(space))))
    assert type(back) is base
    assert back == space


def nested(depth):
    plain = space_to_plain(spaces.Discrete(2))
    for _ in range(depth):
        plain = {"space": "Dict", "spaces": {"a": plain}}
    return plain


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(3)),
        spaces.Dict({1: spaces.Discrete(2)}),  # JSON has no keys but strings
        spaces.Box(-1, 1, (2,), ">f4"),
    ],
    ids=str,
)
def test_spaces_that_would_not_come_back_are_refused(space):
    with pytest.raises(ValueError, match=r"(Text|Dict|Box)\(.* cannot be saved"):
        space_to_plain(space)


BOX = {"space": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "float32"}
BAD_SPACES = {
    "unknown": ({"space": "Text"}, "'Text' is not a kind of space"),
    "number": (5, "5 is not a space"),
    "no n": ({"space": "Discrete"}, "'n' is missing"),
    "n of 0": ({"space": "Discrete", "n": 0, "start": 0}, "n must be .* at least 1, got 0"),
    "negative n": ({"space": "MultiBinary", "n": -3}, "at least 1, got -3"),
    "n True": ({"space": "Discrete", "n": True, "start": 0}, "n must be an integer"),
    "huge": (BOX | {"shape": [10**11]}, "at most 16777216 elements"),
    "huge bits": ({"space": "MultiBinary", "n": [10**6, 10**6]}, "at most 16777216 elements"),
    "NaN": (BOX | {"low": float("nan")}, "low must be numbers"),
    "objects": (BOX | {"dtype": "O"}, "dtype must be a numeric type"),
    "text": (BOX | {"dtype": "U8"}, "dtype must be a numeric type"),
    "nvec of floats": (
        {"space": "MultiDiscrete", "nvec": [2.5], "start": [0], "dtype": "int64"},
        "must be integers",
    ),
    "deep": (nested(100), "too deeply"),
}


@pytest.mark.parametrize("name", BAD_SPACES)
def test_what_is_no_space_is_refused(name):
    plain, message = BAD_SPACES[name]
    with pytest.raises(ValueError, match=message):
        space_from_plain(plain)
