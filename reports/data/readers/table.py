"""Tables that other tools export: one of CSV or Parquet, with the runs of a whole study.

A mapping says which column is what::

    columns = {"algo": "exp_name", "env_id": "env", "seed": "seed",
               "timesteps": "global_step", "return": "episodic_return"}

``timesteps`` and ``return`` must be there; ``algo``, ``env_id``, ``seed`` and ``wall_seconds`` may
be. Rows of the same algorithm, environment and seed are one run, in the order of their steps. Every
other numeric column is a metric under its own name, and has the mean of a step's rows. An empty
cell was not logged.

``kind`` is no column. It says what a row's return is, and so what becomes of it:

``training`` (if nothing is said)
    An episode of the training that ended at this step; they become :data:`TRAINING`.
``training_mean``
    Already a mean over recent episodes of the training; it is :data:`TRAINING` as it is.
``evaluation``
    An evaluation's mean, or one of its episodes if several rows have its step; they become
    :data:`EVALUATION`.

In a long table, each row has one value of one metric. There ``metric`` is the column with the
metrics' names and ``value`` that of their values, and ``return`` is the name of a metric::

    columns = {"metric": "key", "value": "value", "return": "eval/mean_reward",
               "kind": "evaluation", "timesteps": "step", "seed": "seed"}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.errors import SpecError
from benchmarks.names import plain
from reports.data.readers.collected import Collected
from reports.data.readers.logged import EVALUATION, TRAINING, BrokenLogError, LoggedRun
from reports.data.readers.text import MOST_COLUMNS, opened, rows, whole_lines

if TYPE_CHECKING:
    import pandas as pd

EXTENSIONS = (".csv", ".parquet")
KINDS = ("training", "training_mean", "evaluation")
_NAMES = ("algo", "env_id", "seed")
_LONG = ("metric", "value")
_REQUIRED = ("timesteps", "return")
_KEYS = (*_NAMES, *_REQUIRED, "wall_seconds", *_LONG, "kind")
_MOST_CELLS = 200_000_000  # of Parquet, whose cells may take no room in the file
_LARGEST = 2**31  # bytes
_LARGEST_SEED = 2**53


def check_columns(columns: Mapping[str, str]) -> None:
    """:raises SpecError: naming the key of the mapping that is missing or not valid"""
    for key, value in columns.items():
        if key not in _KEYS:
            raise SpecError(f"columns: {key!r} is not one of {', '.join(_KEYS)}")
        if not isinstance(value, str) or not value:
            raise SpecError(f"columns: {key}: must be the name of a column, got {value!r}")
    for key in _REQUIRED:
        if key not in columns:
            raise SpecError(f"columns: {key} is missing")
    if ("metric" in columns) != ("value" in columns):
        raise SpecError("columns: metric and value must be given both, or neither")
    if columns.get("kind", KINDS[0]) not in KINDS:
        raise SpecError(f"columns: kind: {columns['kind']!r} is not one of {', '.join(KINDS)}")


def check_file(path: Path, there: Sequence[str], columns: Mapping[str, str]) -> None:
    """Check that a table has the columns that a mapping names.

    :param there: the columns that it has
    :raises SpecError: naming one that it does not have, and those that it has
    """
    is_long = "metric" in columns
    for key, name in columns.items():
        is_column = key != "kind" and not (key == "return" and is_long)
        if is_column and name not in there:
            raise SpecError(
                f"columns: {key}: {path} has no column {name!r}; it has {', '.join(there)}"
            )


@dataclass(frozen=True)
class FoundRuns:
    """The runs in a table, and a line for what is no run."""

    runs: Sequence[LoggedRun]
    broken: Sequence[str]


def read(path: Path, columns: Mapping[str, str]) -> FoundRuns:
    """The runs in a table.

    :param columns: checked by :func:`check_columns` and :func:`check_file`
    :raises Exception: whatever a broken file makes pandas raise
    """
    frame = _frame(path)
    keys = [key for key in _NAMES if key in columns]
    is_named = frame[[columns[key] for key in keys]].notna().all(axis=1)
    broken = [] if is_named.all() else [f"{path}: {np.sum(~is_named):,} rows that name no run"]
    found = []
    for names, part in _by_run(frame[is_named], [columns[key] for key in keys]):
        said = dict(zip(keys, names, strict=True))
        seed = _seed(said.get("seed"))
        if "seed" in said and seed is None:
            broken.append(f"{path}: the seed {plain(str(said['seed']))} is no integer from 0 on")
            continue
        algo, env_id = (plain(str(said[key])) if key in said else None for key in _NAMES[:2])
        collected = _collected(path, part, columns)
        metrics, problems = collected.metrics, collected.problems
        found.append(LoggedRun("table", path, algo, env_id, seed, metrics, {}, problems))
    return FoundRuns(found, broken)


def _by_run(frame: pd.DataFrame, names: list[str]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if names:
        yield from frame.groupby(names, sort=True)
    else:
        yield (), frame


def _seed(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if 0 <= number < _LARGEST_SEED and number.is_integer() else None


def _collected(path: Path, frame: pd.DataFrame, columns: Mapping[str, str]) -> Collected:
    collected = Collected(path)
    steps = columns["timesteps"]
    frame = frame.assign(**{steps: _numbers(frame[steps])}).sort_values(steps, kind="stable")
    if "metric" in columns:
        values = columns["value"]
        parts = {str(name): part for name, part in frame.groupby(columns["metric"])}
    else:
        known = {columns[key] for key in columns if key not in ("return", "kind")}
        parts = {str(name): frame for name in frame if name not in known}
    for name, part in parts.items():
        column = part[values if "metric" in columns else name]
        numbers = _numbers(column)
        logged = column.notna().to_numpy()
        if np.isnan(numbers[logged]).all():
            continue  # texts
        _add(collected, name, part[logged], numbers[logged], columns)
    return collected


def _add(
    collected: Collected,
    name: str,
    frame: pd.DataFrame,
    values: np.ndarray,
    columns: Mapping[str, str],
) -> None:
    timesteps = frame[columns["timesteps"]].to_numpy(dtype=float)
    unknown = np.full(len(frame), np.nan)
    seconds = _numbers(frame[columns["wall_seconds"]]) if "wall_seconds" in columns else unknown
    kind = columns.get("kind", KINDS[0])
    if name != columns["return"]:
        _add_means(collected, name, timesteps, values, seconds)
    elif kind == "training":
        collected.add_episodes(timesteps, values, unknown, seconds)
    else:
        metric = TRAINING if kind == "training_mean" else EVALUATION
        _add_means(collected, metric, timesteps, values, seconds)


def _add_means(
    collected: Collected,
    metric: str,
    timesteps: np.ndarray,
    values: np.ndarray,
    seconds: np.ndarray,
) -> None:
    """Add the means of the rows of each step; of an evaluation, these may be its episodes."""
    import pandas as pd

    rows = pd.DataFrame({"timesteps": timesteps, "values": values, "seconds": seconds})
    by_step = rows.groupby("timesteps")
    n_rows, n_numbers = by_step.size().to_numpy(), by_step["values"].count().to_numpy()
    are_episodes = (metric == EVALUATION) & (n_rows > 1)
    collected.add(
        metric,
        np.sort(rows["timesteps"].dropna().unique()),
        np.where(n_numbers < n_rows, np.nan, by_step["values"].mean()),
        wall_seconds=by_step["seconds"].max().to_numpy(),
        spread=np.where(are_episodes, by_step["values"].std(ddof=0), np.nan),
        episodes=np.where(are_episodes, n_rows, 0),
    )


def _numbers(column: pd.Series) -> np.ndarray:
    """The numbers in a column, NaN where there is none."""
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def column_names(path: Path) -> list[str]:
    """The columns of a table.

    :raises BrokenLogError: no table, or one that is too large
    :raises Exception: whatever else a broken file makes pyarrow raise
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        metadata = pq.read_metadata(path)
        names = list(metadata.schema.to_arrow_schema().names)
        n_cells = metadata.num_rows * metadata.num_columns
    else:
        with opened(path) as file:
            names = next(rows(whole_lines(file, lambda _: None), lambda _: None), [])
        n_cells = 0
    is_large = path.stat().st_size > _LARGEST or n_cells > _MOST_CELLS
    if not names or len(names) > MOST_COLUMNS or is_large:
        raise BrokenLogError(f"{path}: is no table, or one that is too large to be read")
    return names


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, float_precision="round_trip")
