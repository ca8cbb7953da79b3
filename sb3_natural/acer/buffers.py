"""Replay memory: segments of trajectories, with the policy that acted in them."""

import contextlib
import io
import json
import math
import reprlib
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.lib import format as npy

from sb3_natural.observations import at, batch_length, mapped, pairs, stacked
from sb3_natural.spaces import space_from_plain, space_to_plain

__all__ = ["SegmentBuffer", "Segments"]

FORMAT = 1
# More steps than anybody takes, and far below what 64 bits hold.
MAX_COUNT = 2**53
MAX_STATISTICS = 2**24
_ARRAYS = ("observations", "actions", "rewards", "statistics", "terminals", "cut_at")


class Segments(NamedTuple):
    """Segments of n_steps steps, time-major, with observations as the environments gave them."""

    observations: Any
    """(R, ...), or a dict of these: row ``t * n_segments + i`` is what segment i showed before step
    t, t = 0 ... n_steps; after these come the last observations of episodes that were cut off."""
    actions: np.ndarray
    """(n_steps, n_segments, *action shape)"""
    rewards: np.ndarray
    """(n_steps, n_segments)"""
    statistics: np.ndarray
    """phi of the policy that acted, (n_steps, n_segments, K)"""
    terminals: np.ndarray
    """Whether the episode terminated in this step (a time limit does not count)."""
    continues: np.ndarray
    """Whether step t + 1 belongs to the same episode."""
    next_rows: np.ndarray
    """(n_steps, n_segments): the row of ``observations`` that step t truly led to"""
    ages: np.ndarray
    """Environment steps since each segment began, (n_segments,)"""
    masks: np.ndarray | None = None
    """Which actions are valid in each row of ``observations``, (R, K); None: all"""


class SegmentBuffer:
    """The latest steps of each environment, in a ring; segments may start anywhere in it.

    Each observation is stored once: the result of a step is the observation of the next. The
    exception is the last observation of an episode that a time limit cut off (or that was reset
    from outside), which is kept in a second, smaller ring.

    :param buffer_size: steps to hold, over all environments
    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these
    :param action_space: Box, Discrete, MultiDiscrete or MultiBinary
    :param n_statistics: K, the number of statistics that describe an action distribution
    :param n_envs: number of environments
    """

    # Pickles of earlier versions do not have these.
    _n_before = 0
    _starts_anew = False
    _masks: np.ndarray | None = None

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        n_statistics: int,
        n_envs: int,
    ) -> None:
        self.format = FORMAT
        self.observation_space = observation_space
        self.action_space = action_space
        self.n_statistics = n_statistics
        self.n_envs = n_envs
        self.capacity = buffer_size // n_envs  # steps of each environment
        self._n_added = 0  # steps of each environment, ever
        self._n_before = 0  # steps of each environment before the latest rollout
        self._size = 0  # steps of each environment, now
        # One row more than steps: the one that the latest step led to.
        shape = (self.capacity + 1, n_envs)
        self._observations = _empty(observation_space, shape)
        assert action_space.shape is not None
        # A Gaussian draws floats, whatever the Box's type.
        action_dtype = np.float32 if isinstance(action_space, spaces.Box) else action_space.dtype
        self._actions = np.zeros((*shape, *action_space.shape), dtype=action_dtype)
        self._rewards = np.zeros(shape, dtype=np.float32)
        self._statistics = np.zeros((*shape, n_statistics), dtype=np.float32)
        self._terminals = np.zeros(shape, dtype=bool)
        self._cut_at = np.full(shape, -1, dtype=np.int64)  # index into _cuts, or -1
        self._cuts = _Queue(observation_space)

    def __len__(self) -> int:
        """Steps held, over all environments."""
        return self._size * self.n_envs

    @property
    def n_fresh(self) -> int:
        """Steps of each environment in the latest rollout."""
        return self._n_added - self._n_before

    def start_anew(self) -> None:
        """Note that the next rollout begins with new episodes in all environments."""
        self._starts_anew = True

    def resume(self, observations: Any) -> np.ndarray:
        """Add the observations before the first step of a rollout.

        If an environment has been reset since the last rollout (by a new call of ``learn``, say),
        its observation is not the one that its last step led to: there the episode is cut off.

        :param observations: as the environments gave them, (n_envs, ...)
        :return: which episodes were cut off, (n_envs,)
        """
        self._n_before = self._n_added
        moved = np.zeros(self.n_envs, dtype=bool)
        here, before = self._row(self._n_added), self._row(self._n_added - 1)
        if self._size > 0:
            moved = _differ(at(self._observations, here), observations) | self._starts_anew
            moved &= ~self._terminals[before] & (self._cut_at[before] < 0)
            if moved.any():
                last = at(at(self._observations, here), moved)
                self._cut_at[before, moved] = self._cuts.push(last)
        _set(self._observations, here, observations)
        self._forget_masks(here)
        self._starts_anew = False
        return moved

    def add(
        self,
        actions: np.ndarray,
        rewards: np.ndarray,
        statistics: np.ndarray,
        next_observations: Any,
        dones: np.ndarray,
        last_observations: dict[int, Any],
    ) -> None:
        """Add the next step of all environments.

        :param actions: (n_envs, *action shape)
        :param rewards: (n_envs,), as the environments gave them
        :param statistics: phi of the policy that acted, (n_envs, K)
        :param next_observations: (n_envs, ...); of the next episode where one has ended
        :param dones: whether an episode has ended, (n_envs,)
        :param last_observations: those of episodes that a time limit has cut off, by environment
        """
        here = self._row(self._n_added)
        if self._size == self.capacity:
            oldest = self._row(self._n_added - self._size)
            self._cuts.drop(int((self._cut_at[oldest] >= 0).sum()))
        else:
            self._size += 1
        self._n_added += 1
        self._actions[here] = actions
        self._rewards[here] = rewards
        self._statistics[here] = statistics
        self._terminals[here] = dones
        self._cut_at[here] = -1
        if last_observations:
            index = list(last_observations)
            self._terminals[here, index] = False
            self._cut_at[here, index] = self._cuts.push(stacked(list(last_observations.values())))
        _set(self._observations, self._row(self._n_added), next_observations)
        self._forget_masks(self._row(self._n_added))

    def note_masks(self, masks: np.ndarray) -> None:
        """Note which actions are valid in the observations that the latest step led to.

        Until the first call, all actions of all observations count as valid.

        :param masks: (n_envs, K)
        """
        if self._masks is None:
            self._masks = np.ones((self.capacity + 1, *masks.shape), dtype=bool)
        self._masks[self._row(self._n_added)] = masks

    def _forget_masks(self, row: int) -> None:
        """The row has a new observation, and nothing is known of what is invalid there."""
        if self._masks is not None:
            self._masks[row] = True

    def latest(self, n_steps: int) -> Segments:
        """The last steps of each environment, in the environments' order.

        :raises ValueError: fewer than n_steps steps of each environment are held
        """
        self._check_length(n_steps)
        start = np.full(self.n_envs, self._n_added - n_steps)
        return self._gather(start, np.arange(self.n_envs), n_steps)

    def sample(self, n_segments: int, n_steps: int, rng: np.random.Generator) -> Segments:
        """Segments drawn uniformly, with replacement.

        :raises ValueError: fewer than n_steps steps of each environment are held
        """
        self._check_length(n_steps)
        oldest = self._n_added - self._size
        starts = rng.integers(oldest, self._n_added - n_steps, size=n_segments, endpoint=True)
        return self._gather(starts, rng.integers(self.n_envs, size=n_segments), n_steps)

    def header(self) -> dict[str, Any]:
        """What is saved beside the arrays, as JSON.

        :raises ValueError: a space is of a kind that JSON cannot hold
        """
        return {
            "format": self.format,
            "observation_space": space_to_plain(self.observation_space),
            "action_space": space_to_plain(self.action_space),
            "n_statistics": self.n_statistics,
            "n_envs": self.n_envs,
            "capacity": self.capacity,
            "n_added": self._n_added,
            "n_before": self._n_before,
            "size": self._size,
            "cuts": [self._cuts._capacity, self._cuts._first, self._cuts._last],
            "has_masks": self._masks is not None,
        }

    def save(self, file: BinaryIO) -> None:
        """Write everything to a file in NumPy's npz format: arrays, and a header in JSON.

        :raises ValueError: as :meth:`header`
        """
        header = np.array(json.dumps(self.header()))
        arrays = {name: getattr(self, f"_{name}") for name in _ARRAYS} | {"cuts": self._cuts._items}
        if self._masks is not None:
            arrays["masks"] = self._masks
        named = dict(part for name, held in arrays.items() for part in _named(name, held))
        np.savez(file, header=header, **named)  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: BinaryIO, replaced: "SegmentBuffer | None" = None) -> "SegmentBuffer":
        """The inverse of :meth:`save`. Nothing in the file is executed.

        :param replaced: a buffer that the loaded one has to fit (see :meth:`check_fits`); this is
            checked before any array is read
        :raises ValueError: the file is not what ``save`` writes, or does not fit
        """
        with _refusing():
            members = _Members(file)
            header = json.loads(str(members.read("header")))
            buffer = cls._without_arrays(header)
        if replaced is not None:
            space, actions = replaced.observation_space, replaced.action_space
            buffer.check_fits(space, actions, replaced.n_statistics, replaced.n_envs)
        with _refusing():
            buffer._read_arrays(members)
            if header.get("has_masks") is True:  # files of earlier versions do not say
                buffer._read_masks(members)
            buffer._check_counts()
            buffer._check_values()
        return buffer

    @classmethod
    def _without_arrays(cls, header: Any) -> "SegmentBuffer":
        """A buffer with the header's counts, and empty arrays like those to be read."""
        observation_space = space_from_plain(header["observation_space"])
        action_space = space_from_plain(header["action_space"])
        n_statistics = _count(header, "n_statistics", 0, MAX_STATISTICS)
        buffer = cls(0, observation_space, action_space, n_statistics, 1)
        buffer.format = _count(header, "format", -MAX_COUNT)
        buffer.n_envs = _count(header, "n_envs", 1)
        buffer.capacity = _count(header, "capacity")
        buffer._n_added = _count(header, "n_added")
        buffer._n_before = _count(header, "n_before")
        buffer._size = _count(header, "size")
        cuts = dict(zip(("cuts", "first cut", "last cut"), header["cuts"], strict=True))
        buffer._cuts._capacity, buffer._cuts._first, buffer._cuts._last = (
            _count(cuts, name) for name in cuts
        )
        return buffer

    def _read_arrays(self, members: "_Members") -> None:
        steps, cuts = (self.capacity + 1, self.n_envs), (self._cuts._capacity,)
        likes = [(name, getattr(self, f"_{name}"), steps) for name in _ARRAYS]
        for name, like, rows in [*likes, ("cuts", self._cuts._items, cuts)]:
            for part, array in _named(name, like):
                members.check(part, array.dtype, (*rows, *array.shape[len(rows) :]))
        for name in _ARRAYS:
            setattr(self, f"_{name}", _read(members, name, getattr(self, f"_{name}")))
        self._cuts._items = _read(members, "cuts", self._cuts._items)

    def _read_masks(self, members: "_Members") -> None:
        # Only categorical policies have masks, and these have one statistic for each action.
        shape = (self.capacity + 1, self.n_envs, self.n_statistics)
        members.check("masks", np.dtype(bool), shape)
        self._masks = members.read("masks")
        if (self._masks.view(np.uint8) > 1).any():
            raise ValueError("its masks are neither True nor False")

    def _check_counts(self) -> None:
        cuts = self._cuts
        steps = self._row(np.arange(self._n_added - self._size, self._n_added))
        cut_at = self._cut_at[steps]
        cut = cut_at != -1
        if not (
            self._size == min(self._n_added, self.capacity)
            and self._n_before <= self._n_added
            and 0 <= cuts._last - cuts._first <= cuts._capacity
            # Each is the end of one episode.
            and cut.sum() == cuts._last - cuts._first
            and (np.sort(cut_at[cut]) == np.arange(cuts._first, cuts._last)).all()
            and not (cut & self._terminals[steps]).any()
        ):
            raise ValueError("its counts contradict each other")

    def _check_values(self) -> None:
        if (self._terminals.view(np.uint8) > 1).any():
            raise ValueError("its terminals are neither True nor False")
        for name in ("rewards", "statistics"):
            _check_finite(name, getattr(self, f"_{name}"))
        # A policy counts its choices from 0, and its draws for a Box may lie outside.
        _check_within("actions", self._actions, self.action_space, from_start=False)
        _check_within("observations", self._observations, self.observation_space)
        _check_within("cuts", self._cuts._items, self.observation_space)

    def check_fits(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        n_statistics: int,
        n_envs: int,
    ) -> None:
        """Check that an algorithm can go on with what is held.

        :raises ValueError: it cannot; names what differs
        """
        ours = {
            "format": (self.format, FORMAT),
            "observation_space": (self.observation_space, observation_space),
            "action_space": (self.action_space, action_space),
            "statistics": (self.n_statistics, n_statistics),
            "n_envs": (self.n_envs, n_envs),
        }
        for name, (held, wanted) in ours.items():
            if held != wanted:
                raise ValueError(
                    f"the replay buffer does not fit this model: its {name} is {held}, "
                    f"the model's is {wanted}"
                )

    def _check_length(self, n_steps: int) -> None:
        if n_steps > self._size:
            raise ValueError(
                f"n_steps={n_steps} is longer than the {self._size} steps of each environment "
                "that the replay buffer holds"
            )

    def _gather(self, starts: np.ndarray, envs: np.ndarray, n_steps: int) -> Segments:
        n_segments = len(starts)
        times = starts + np.arange(n_steps + 1)[:, None]
        rows = self._row(times)
        seen = at(self._observations, (rows, envs))
        observations = mapped(lambda array: array.reshape(-1, *array.shape[2:]), seen)
        steps = (rows[:-1], envs)
        terminals, cut_at = self._terminals[steps], self._cut_at[steps]
        cut = cut_at >= 0
        next_rows = np.arange(n_segments, (n_steps + 1) * n_segments).reshape(n_steps, n_segments)
        if cut.any():
            next_rows[cut] = len(times) * n_segments + np.arange(int(cut.sum()))
            observations = mapped(_joined, observations, self._cuts.get(cut_at[cut]))
        masks = None
        if self._masks is not None:
            masks = self._masks[rows, envs].reshape(len(times) * n_segments, -1)
            # What was valid where a time limit cut an episode off has never been asked.
            unknown = np.ones((int(cut.sum()), masks.shape[1]), dtype=bool)
            masks = _joined(masks, unknown)
        return Segments(
            observations,
            self._actions[steps],
            self._rewards[steps],
            self._statistics[steps],
            terminals,
            ~(terminals | cut),
            next_rows,
            (self._n_added - starts) * self.n_envs,
            masks,
        )

    def _row(self, time: Any) -> Any:
        return time % (self.capacity + 1)


class _Queue:
    """Observations, first in, first out; an address is the number of those added before."""

    def __init__(self, space: spaces.Space) -> None:
        self._space = space
        self._items = _empty(space, (0,))
        self._capacity = 0
        self._first = 0
        self._last = 0

    def push(self, observations: Any) -> np.ndarray:
        """Add some, (n, ...); return their addresses, (n,)."""
        n = batch_length(observations)
        if self._last + n - self._first > self._capacity:
            self._grow(2 * (self._last + n - self._first))
        addresses = np.arange(self._last, self._last + n)
        _set(self._items, addresses % self._capacity, observations)
        self._last += n
        return addresses

    def drop(self, n: int) -> None:
        """Forget the first n."""
        self._first += n

    def get(self, addresses: np.ndarray) -> Any:
        """Those at some addresses, (n, ...)."""
        return at(self._items, addresses % self._capacity)

    def _grow(self, capacity: int) -> None:
        held = np.arange(self._first, self._last)
        items = _empty(self._space, (capacity,))
        if len(held):
            _set(items, held % capacity, self.get(held))
        self._items, self._capacity = items, capacity


# Observations are an array, or a dict of arrays for Dict spaces.


def _empty(space: spaces.Space, shape: tuple[int, ...]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _empty(part, shape) for key, part in space.spaces.items()}
    assert space.shape is not None
    return np.zeros((*shape, *space.shape), dtype=space.dtype)


def _set(observations: Any, index: Any, values: Any) -> None:
    for array, new in pairs(observations, values):
        array[index] = _as_dtype(new, array.dtype)


def _as_dtype(values: Any, dtype: np.dtype) -> Any:
    """Rounded if the dtype is an integer: its values may have been normalised and back."""
    if dtype.kind not in "iu" or np.asarray(values).dtype.kind != "f":
        return values
    return np.rint(values)


def _named(name: str, held: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(held, dict):
        return [(f"{name}/{key}", array) for key, array in held.items()]
    return [(name, held)]


def _read(members: "_Members", name: str, like: Any) -> Any:
    """The array or arrays of a file, by the names that :func:`_named` gives."""
    if isinstance(like, dict):
        return {key: _read(members, f"{name}/{key}", part) for key, part in like.items()}
    return members.read(name)


class _Members:
    """The arrays of a file in npz format; none may be larger than the file.

    :param file: as ``np.savez`` writes it, without compression
    """

    def __init__(self, file: BinaryIO) -> None:
        self._length = file.seek(0, io.SEEK_END)
        self._archive = zipfile.ZipFile(file)

    def check(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        """Check an array's dtype and shape without reading it.

        :raises ValueError: they are not as given
        """
        _, *found = self._declared(name)
        if found != [dtype, shape]:
            raise ValueError(f"its {name} are {found[0]} of shape {found[1]}")

    def read(self, name: str) -> np.ndarray:
        """An array."""
        info, _, _ = self._declared(name)
        with self._archive.open(info) as member:
            return npy.read_array(member, allow_pickle=False)

    def _declared(self, name: str) -> tuple[zipfile.ZipInfo, np.dtype, tuple[int, ...]]:
        info = self._archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self._length:
            raise ValueError(f"its {name} are compressed, or longer than the file")
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        with self._archive.open(info) as member:
            shape, _, dtype = readers[npy.read_magic(member)](member)
        if math.prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError(f"its {name} are shorter than {dtype} of shape {shape}")
        return info, dtype, shape


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a file may be wrong in any way
        raise ValueError(f"not one of ACER's replay buffers ({error})") from error


def _count(header: Any, name: str, low: int = 0, high: int = MAX_COUNT) -> int:
    value = header[name]
    if type(value) is not int or not low <= value <= high:
        raise ValueError(
            f"its {name} must be an integer from {low} to {high}, got {reprlib.repr(value)}"
        )
    return value


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"its {name} are not finite")


def _check_within(name: str, array: Any, space: spaces.Space, from_start: bool = True) -> None:
    """Check that values are in a space. 0 is always valid: rows without a step hold zeros."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            _check_within(f"{name}/{key}", array[key], part)
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        n = np.int64(space.n) if isinstance(space, spaces.Discrete) else np.int64(space.nvec)
        start = np.int64(space.start) if from_start else np.int64(0)
        if ((array < np.minimum(start, 0)) | (array - start >= n)).any():
            raise ValueError(f"its {name} are not in {space}")
    elif isinstance(space, spaces.MultiBinary):
        if ((array != 0) & (array != 1)).any():
            raise ValueError(f"its {name} are not in {space}")
    else:
        _check_finite(name, array)


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first, second])


def _differ(first: Any, second: Any) -> np.ndarray:
    """Which environments' observations differ, (n_envs,)."""
    # In the stored precision: 0.1 is not the same number in another one.
    differ = [
        (held != np.asarray(seen, dtype=held.dtype)).reshape(len(held), -1).any(axis=1)
        for held, seen in pairs(first, second)
    ]
    return differ[0] if len(differ) == 1 else np.any(differ, axis=0)
