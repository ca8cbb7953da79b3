"""The scale that makes returns on different environments comparable: random 0, reference 1."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.errors import SpecError, clean_up
from benchmarks.names import plain
from benchmarks.records import Evaluation

SCALES = Path(__file__).parent / "normalisation.csv"
COLUMNS = ["env_id", "random", "random_episodes", "reference", "reference_source"]
_SEED = 2_000_000
_LARGEST = 1e100


@dataclass(frozen=True)
class Scale:
    """The returns of a random policy and of a reference, and the reference's source."""

    random: float
    reference: float
    reference_source: str

    def normalise(self, returns: np.ndarray) -> np.ndarray:
        """Returns on the scale on which the random policy has 0 and the reference 1."""
        return (returns - self.random) / (self.reference - self.random)


def scales_with(path: Path | None) -> dict[str, Scale]:
    """The scales of this package and those of a file, which take precedence.

    :raises SpecError: the file cannot be read, as for :func:`load_scales`
    """
    return {**load_scales(), **({} if path is None else load_scales(path))}


@cache
def load_scales(path: Path = SCALES) -> dict[str, Scale]:
    """The scales in a CSV file, by environment.

    :raises SpecError: naming the file, the row, the value and what is allowed
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != COLUMNS:
                found = ", ".join(reader.fieldnames or [])
                raise SpecError(f"{path}: must have the columns {', '.join(COLUMNS)}, got {found}")
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path}: {error}") from None
    scales: dict[str, Scale] = {}
    for number, row in rows:
        where = f"{path}: line {number}: {row['env_id']}"
        if row["env_id"] in scales:
            raise SpecError(f"{where}: is there twice")
        random, reference = (_number(row, key, where) for key in ("random", "reference"))
        if random == reference:
            raise SpecError(f"{where}: random and reference must differ, both are {random}")
        # A missing cell has the value None, superfluous cells have the key None.
        if None in row or None in row.values():
            raise SpecError(f"{where}: must have {len(COLUMNS)} cells")
        scales[row["env_id"]] = Scale(random, reference, plain(row["reference_source"]))
    return scales


def _number(row: dict[str, str], key: str, where: str) -> float:
    try:
        value = float(row[key])
    except (TypeError, ValueError):
        value = math.nan
    if not abs(value) < _LARGEST:
        raise SpecError(f"{where}: {key}: must be a number, got {row[key]!r}")
    return value


def random_returns(env_id: str, n_episodes: int, n_envs: int = 10) -> list[float]:
    """The returns of episodes with actions drawn uniformly from the action space.

    They are the first ``n_episodes / n_envs`` episodes of each environment, so that short episodes
    do not count more than long ones.

    :raises SpecError: ``n_episodes`` is no multiple of ``n_envs``
    """
    if n_episodes < n_envs or n_episodes % n_envs:
        raise SpecError(f"--episodes: must be a multiple of {n_envs}, got {n_episodes}")
    from benchmarks.environments import make_envs  # slow to import, and not needed for scales

    env = make_envs(env_id, n_envs, _SEED, max_steps=Evaluation.max_steps)
    env.action_space.seed(_SEED)
    env.reset()
    returns: list[list[float]] = [[] for _ in range(n_envs)]
    while min(len(each) for each in returns) < n_episodes // n_envs:
        actions = np.array([env.action_space.sample() for _ in range(n_envs)])
        _, _, _, infos = env.step(actions)
        for each, info in zip(returns, infos, strict=True):
            if "episode" in info:
                each.append(float(info["episode"]["r"]))
    clean_up(env.close)
    return [value for each in returns for value in each[: n_episodes // n_envs]]


def rows_for(env_ids: Sequence[str], n_episodes: int, reference: float | None) -> str:
    """Measure random policies: the lines of ``normalisation.csv`` for these environments.

    :param reference: the return that scores 1; None: Gymnasium's reward threshold
    :raises SpecError: an environment without such a threshold
    """
    from benchmarks.environments import env_spec

    thresholds = [env_spec(env_id).reward_threshold for env_id in env_ids]
    for env_id, threshold in zip(env_ids, thresholds, strict=True):
        if reference is None and threshold is None:
            raise SpecError(f"{env_id}: Gymnasium has no reward threshold for it; say --reference")
    lines = []
    for env_id, threshold in zip(env_ids, thresholds, strict=True):
        value, source = reference, "given"
        if value is None:
            value, source = threshold, "Gymnasium's reward threshold"
        random = np.mean(random_returns(env_id, n_episodes))
        lines.append(f"{env_id},{random:.6g},{n_episodes},{value:.10g},{source}")
    return "\n".join(lines)
