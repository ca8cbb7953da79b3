"""What runs have logged of their updates, in numbers.

SB3 writes a row after a rollout and before the update on it, so that a row describes the update on
the rollout before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.algorithms import known_class, parameters_of
from benchmarks.errors import SpecError
from benchmarks.names import plain
from benchmarks.records import BrokenRunError, below_root
from benchmarks.run_files import PROGRESS, read_progress
from benchmarks.storage import RECORD, Folder
from benchmarks.zoo import schedule_start
from reports.data.runs import RunData

FACTOR = 1.5  # updates above this multiple of delta are counted
N_BINS = 25  # of steps

# Our names, and those in a log; of several the first that is there counts.
LOGGED: dict[str, tuple[str, ...]] = {
    "steps": ("time/total_timesteps",),
    "rollouts": ("time/iterations",),
    "kl": ("train/kl", "train/kl_divergence_loss"),
    "delta": ("train/target_kl",),
    "predicted": ("train/kl_predicted",),
    "line_search": ("train/is_line_search_success",),
    "skipped": ("train/skipped_updates",),
    "n_updates": ("train/n_updates",),
    "cg_iterations": ("train/cg_iterations",),
    "cg_residual": ("train/cg_residual",),
    "estimate": ("train/approx_kl",),
    "clip_fraction": ("train/clip_fraction",),
    "rho_mean": ("train/rho_mean",),
    "rho_p95": ("train/rho_p95",),
    "truncated": ("train/rho_truncated",),
    "projected": ("train/projected",),
    "projection": ("train/projection",),
    "kl_average": ("train/kl_average",),
}
# A row with one of these describes an update.
_TELLING = ["kl", "estimate", "rho_mean"]
_SHARES = ["clip_fraction", "truncated", "projected"]
_VALUES = ["cg_iterations", "cg_residual", "estimate", "rho_mean", "rho_p95"]
_VALUES += ["projection", "kl_average"]


@dataclass(frozen=True)
class Measured:
    """A summary of the logs of all runs.

    ``table``: one row per environment and label: ``seeds`` (how many have a log), ``algo``, ACER's
    ``c`` and ``bound`` (its delta), and what :func:`summarise` gives. ``over_steps``: one row per
    bin of steps, environment, label and ``quantity``: ``kl`` (as a multiple of delta),
    ``predicted`` (the measured KL divergence over the predicted one), ``truncated``, ``projected``;
    with ``timesteps``, the ``value`` there (the median of the first two, the mean of the others),
    and its 5% and 95% quantiles, ``low`` and ``high``. ``without_log``: how many runs have no
    ``progress.csv``. ``broken``: a line for each log that was left out, naming it and saying why.
    """

    table: pd.DataFrame
    over_steps: pd.DataFrame
    without_log: int
    broken: Sequence[str] = ()


def measure(data: RunData) -> Measured:
    """Read the logs of this suite's runs, those of one environment and label at a time.

    A log that cannot be read, or whose run has a delta that is neither a number nor a schedule, is
    left out.
    """
    rows, over_steps, without_log = [], [], 0
    broken: list[str] = []
    for (env_id, label), group in data.of_suite.groupby(["env_id", "label"], sort=True):
        records: list[dict[str, Any]] = group.to_dict("records")  # type: ignore[assignment]
        telling = []
        for run in records:
            try:
                log = updates_of(run)
            except BrokenRunError as error:
                broken.append(plain(_from_suite(str(error), run["path"])))
                continue
            without_log += log is None
            telling += [log] if log is not None and len(log) else []
        if not telling:
            continue
        updates = pd.concat(telling, keys=range(len(telling)), names=["run", "row"])
        key: dict[str, Any] = {"env_id": env_id, "label": label, "seeds": len(telling)}
        settings = {
            "algo": records[0]["algo"],
            "c": _number(records[0], "correction_term"),
            "bound": _number(records[0], "delta"),
        }
        rows.append({**key, **settings, **summarise(updates)})
        over_steps += [
            rates.assign(**key) for rates in _over_steps(updates, records[0]["n_timesteps"])
        ]
    return Measured(pd.DataFrame(rows), _joined(over_steps), without_log, broken)


def updates_of(run: Mapping[str, Any]) -> pd.DataFrame | None:
    """What a run has logged of its updates, one row each, with the columns ``LOGGED`` and ``at``.

    ``at``: the step of the update; ``delta``: the one in force then. What is not known is NaN.

    :param run: a row of :attr:`reports.data.runs.RunData.runs`
    :return: None where there is no ``progress.csv``; no rows where it describes no update
    :raises benchmarks.results.BrokenRunError: a log that cannot be read, or a delta that is
        neither a number nor a schedule
    """
    log = read_log(run["path"])
    if log is None:
        return None
    # All rollouts have the same length, and the update is that on the rollout before.
    log["at"] = log["steps"] * (1 - 1 / log["rollouts"])
    log["delta"] = log["delta"].fillna(_delta_in_force(run, log["at"])).where(log["kl"].notna())
    return log[log[_TELLING].notna().any(axis=1)].reset_index(drop=True)


def read_log(folder: Folder) -> pd.DataFrame | None:
    """A run's ``progress.csv`` with the columns ``LOGGED``; what it does not have is NaN.

    :return: None where there is none; no rows where it is empty, as SB3 leaves it when a run ends
        before the first row is due
    :raises benchmarks.results.BrokenRunError: it cannot be read, or is not one of SB3's logs
    """
    frame = read_progress(folder, {column for columns in LOGGED.values() for column in columns})
    if frame is None:
        return None
    path = folder / PROGRESS
    if LOGGED["steps"][0] not in frame:
        raise BrokenRunError(f"{path}: has no column {LOGGED['steps'][0]}")
    sources = {name: next(filter(frame.__contains__, LOGGED[name]), None) for name in LOGGED}
    return pd.DataFrame(
        {
            name: np.nan if column is None else _numbers(path, frame[column])
            for name, column in sources.items()
        },
        index=frame.index,
        dtype=float,
    )


def summarise(updates: pd.DataFrame) -> dict[str, float]:
    """The updates of one label on one environment in numbers; what is not logged is NaN.

    A name by itself is the median over all updates, or the mean of shares; with ``_low`` and
    ``_high`` it is their 5% and 95% quantile.

    ``updates`` is how many are logged, ``made`` how many there were. Of those that moved the
    policy: ``kl``, ``ratio`` (of the measured KL to delta), ``above`` (the share with a KL above
    ``FACTOR`` delta) and ``accuracy`` (the measured KL over the predicted one). ``skipped`` of
    ``tried``: by the runs' own count where they have one, else the logged updates whose line search
    failed. ``infinite``: how many divergences are infinite, which quantiles leave out.

    :param updates: as :func:`updates_of` gives them, with a first level of the index for the run
    """
    last = updates.groupby(level="run").last()  # the last known value of each column
    # An update that was skipped is logged with a KL divergence of zero.
    moved = updates[updates["kl"].notna() & (updates["kl"] != 0)]
    bounded, modelled = moved[moved["delta"] > 0], moved[moved["predicted"] > 0]
    if last["skipped"].notna().any():
        skipped, tried = last["skipped"].sum(), last["n_updates"].sum()
    else:
        searches = updates["line_search"].dropna()
        skipped, tried = (searches < 1).sum() if len(searches) else np.nan, len(searches)
    summary = {
        "updates": len(updates),
        "made": (last["rollouts"] - 1).sum(),
        "delta_low": updates["delta"].min(),
        "delta_high": updates["delta"].max(),
        "above": (bounded["kl"] > FACTOR * bounded["delta"]).mean(),
        "skipped": skipped,
        "tried": tried,
        "infinite": np.isinf(updates[["kl", "estimate"]].to_numpy()).sum(),
        **_quantiles("kl", moved["kl"]),
        **_quantiles("ratio", bounded["kl"] / bounded["delta"]),
        **_quantiles("accuracy", modelled["kl"] / modelled["predicted"]),
    }
    for name in _VALUES + _SHARES:
        summary |= _quantiles(name, updates[name])
    return summary | {name: updates[name].mean() for name in _SHARES}


def _from_suite(text: str, folder: Folder) -> str:
    """The text with the path of the run's folder cut to what begins with the suite."""
    return text.replace(str(folder), below_root(folder))


def _delta_in_force(run: Mapping[str, Any], at: pd.Series[float]) -> pd.Series[float]:
    """delta at each of these steps, by the hyperparameters; NaN where there is none."""
    given = run["hyperparams"]
    unbounded = given.get("step_size") or given.get("kl_penalty") not in (None, "adaptive")
    value = None if unbounded else _setting(run, "target_kl")
    try:
        # SB3, too, evaluates schedules at the step of the update.
        remaining = (1 - at / run["n_timesteps"]).clip(lower=0)
        if isinstance(value, str):
            return schedule_start(value, "target_kl") * remaining
        if callable(value):
            return remaining.map(value)
        return pd.Series(np.nan if value is None else float(value), at.index)
    except (SpecError, TypeError, ValueError) as error:
        raise BrokenRunError(f"{run['path'] / RECORD}: target_kl: {error}") from error


def _setting(run: Mapping[str, Any], name: str) -> Any:
    """A hyperparameter's value, or its default; None where the algorithm has no such thing."""
    if run["hyperparams"].get(name) is not None:
        return run["hyperparams"][name]
    algorithm = known_class(run["algo"])
    if algorithm is None:
        return None
    parameters = parameters_of(algorithm)
    if name not in parameters:
        return None
    # NPG's target_kl is None by default, which stands for a constant of its module.
    constant = getattr(import_module(algorithm.__module__), f"DEFAULT_{name.upper()}", None)
    return constant if parameters[name].default is None else parameters[name].default


def _number(run: Mapping[str, Any], name: str) -> float:
    value = _setting(run, name)
    return float(value) if isinstance(value, int | float) else np.nan


def _numbers(path: Folder, column: pd.Series[Any]) -> pd.Series[float]:
    if pd.api.types.is_numeric_dtype(column):
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column[numbers.isna() & column.notna()]
    if len(wrong):
        raise BrokenRunError(f"{path}: {column.name}: {wrong.iloc[0]!r} is not a number")
    return numbers


def _over_steps(updates: pd.DataFrame, n_timesteps: int) -> list[pd.DataFrame]:
    """Each quantity over the steps, in bins."""
    bins = (updates["at"] * N_BINS // n_timesteps).clip(upper=N_BINS - 1)
    # An update that was skipped is logged with a KL divergence of zero.
    moved = updates["kl"].where(updates["kl"] != 0)
    quantities = {
        "kl": (moved / updates["delta"].where(updates["delta"] > 0), "median"),
        "predicted": (moved / updates["predicted"].where(updates["predicted"] > 0), "median"),
        "truncated": (updates["truncated"], "mean"),
        "projected": (updates["projected"], "mean"),
    }
    return [
        _binned(bins, updates["at"], values, average).assign(quantity=quantity)
        for quantity, (values, average) in quantities.items()
    ]


def _binned(
    bins: pd.Series[float], at: pd.Series[float], values: pd.Series[float], average: str
) -> pd.DataFrame:
    """The average, a median or a mean, and quantiles of the finite values in each bin."""
    frame = pd.DataFrame({"bin": bins, "at": at, "value": values})
    groups = frame[np.isfinite(frame).all(axis=1)].groupby("bin")
    return pd.DataFrame(
        {
            "timesteps": groups["at"].median(),
            "value": groups["value"].agg(average),
            "low": groups["value"].quantile(0.05),
            "high": groups["value"].quantile(0.95),
        }
    )


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _quantiles(name: str, values: pd.Series[float]) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    numbers = np.quantile(finite, [0.05, 0.5, 0.95]) if len(finite) else [np.nan] * 3
    return dict(zip((f"{name}_low", name, f"{name}_high"), numbers, strict=True))
