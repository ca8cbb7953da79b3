"""``evaluations.npz``: what Stable-Baselines3's ``EvalCallback`` writes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reports.data.readers.collected import Collected
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, BrokenLogError

NAME = "evaluations.npz"
_LARGEST = 2**28  # bytes of an array


def read(path: Path) -> Collected:
    """:data:`EVALUATION`, and :data:`SUCCESS_RATE` if the environment says what a success is.

    :raises BrokenLogError: an array is missing, too large, no array of numbers, or of a shape that
        does not fit
    :raises Exception: whatever else a broken file makes NumPy raise
    """
    collected = Collected(path)
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    timesteps = _array(path, "timesteps", sizes, 1)
    results = _array(path, "results", sizes, 2)
    if len(results) != len(timesteps) or not results.size:
        raise BrokenLogError(
            f"{path}: results must have a row of returns for each of the {len(timesteps):,} "
            f"timesteps, got the shape {results.shape}"
        )
    collected.add(
        EVALUATION,
        timesteps,
        _quiet(np.mean, results),
        spread=_quiet(np.std, results),
        lengths=_per_evaluation(collected, "ep_lengths", sizes, len(timesteps)),
        episodes=np.full(len(timesteps), results.shape[1]),
    )
    successes = _per_evaluation(collected, "successes", sizes, len(timesteps))
    if successes is not None:
        n_episodes = np.full(len(timesteps), results.shape[1])
        collected.add(SUCCESS_RATE, timesteps, successes, episodes=n_episodes)
    return collected


def _per_evaluation(
    collected: Collected, key: str, sizes: dict[str, int], n_evaluations: int
) -> np.ndarray | None:
    """The means of an array that some versions do not write, shape ``(n_evaluations,)``."""
    if key not in sizes:
        return None
    try:
        values = _array(collected.source, key, sizes, 2)
        if len(values) == n_evaluations and values.size:
            return _quiet(np.mean, values)
        collected.say(f"{key} left out, of which there are {len(values):,} for {n_evaluations:,}")
    except Exception as error:  # whatever its bytes make NumPy raise; the returns may be whole
        collected.say(f"{key} left out: {error}")
    return None


def _array(path: Path, key: str, sizes: dict[str, int], n_dims: int) -> np.ndarray:
    if key not in sizes:
        raise BrokenLogError(f"{path}: has no array {key!r}, only {', '.join(sizes) or 'nothing'}")
    if sizes[key] > _LARGEST:
        raise BrokenLogError(f"{path}: {key} has more than {_LARGEST:,} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        array = arrays[key]
    if array.dtype.kind not in "biuf" or array.ndim != n_dims:
        raise BrokenLogError(
            f"{path}: {key} must be numbers in {n_dims} dimensions, "
            f"got {array.dtype} of the shape {array.shape}"
        )
    return array.astype(float)


def _quiet(statistic: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """A statistic over the episodes of each evaluation; what is not finite is found later."""
    with np.errstate(all="ignore"):
        return statistic(values, axis=1)
