"""Two sets of runs, such as those of two versions of the code: what changed beyond noise.

Runs are matched by environment and algorithm. Final return, best evaluation and training speed are
compared by the difference of the means over seeds and by P(B > A), the probability that a run of B
is higher than a run of A, each with rliable's 95% percentile bootstrap interval.

The seeds of A and B are resampled independently of each other, even where both have the same
numbers: training is chaotic, so that after any change, be it in how a sum is rounded, two runs of
one seed have no more in common than two runs of different seeds.

How much a verdict is worth depends on the number of seeds, see
:data:`reports.data.verdicts.FALSE_ALARMS`. Where every run of one side is above every run of the
other, as happens by chance once in 20 times with 3 seeds against 3, P(B > A) is 0 or 1 in every
resample: its interval then has no width, which is not certainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from benchmarks.numbers import differ
from benchmarks.statistics import FEWEST_SEEDS, improvement, interval
from reports.data.runs import ReportError, RunData, describe_settings, load, setting_text
from reports.data.scores import run_scores, speeds

QUANTITIES = ("final", "best", "steps_per_second")
_ESTIMATES = ["a", "b", "difference", "difference_low", "difference_high"]
_ESTIMATES += ["improvement", "improvement_low", "improvement_high"]
COLUMNS = ["env_id", "label", "algo", "config_a", "config_b", "seeds_a", "seeds_b", "verdict"]
COLUMNS += [f"{quantity}_{name}" for quantity in QUANTITIES for name in _ESTIMATES]

Metric: TypeAlias = Literal["final", "best"]
"""The quantity that decides the verdicts."""


class Verdict(StrEnum):
    """What a comparison says of one environment and algorithm."""

    better = "better"
    worse = "worse"
    tolerated = "worse, within tolerance"
    unchanged = "no change beyond noise"
    identical = "identical"
    too_few = "too few seeds"
    only_a = "only in A"
    only_b = "only in B"


_JUDGED = [Verdict.better, Verdict.worse, Verdict.tolerated, Verdict.unchanged, Verdict.identical]


@dataclass(frozen=True)
class Side:
    """The runs below a folder; ``name``: ``A`` or ``B``."""

    name: str
    root: Path
    data: RunData


@dataclass(frozen=True)
class Mismatch:
    """An environment and algorithm that the two sides did not run with the same settings.

    ``settings``: the name of each hyperparameter that differs to its values in A and B as text,
    None where it is not set; empty where the configurations differ in something else.
    """

    env_id: str
    label: str
    configs: tuple[str, str]
    settings: Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class MissingRuns:
    """What A has and B has no finished run of; ``n_failed``: how many runs of it failed there."""

    env_id: str
    label: str
    n_failed: int


@dataclass(frozen=True)
class Comparison:
    """``table`` has one row per environment and algorithm, with ``COLUMNS``.

    A difference is B minus A, an improvement P(B > A). Intervals are NaN where a side has one seed;
    where it has none, so is everything else of it. ``allow_missing``: B need not have all that A
    has.
    """

    a: Side
    b: Side
    table: pd.DataFrame
    metric: Metric
    tolerance: float = 0.0
    mismatches: Sequence[Mismatch] = ()
    missing: Sequence[MissingRuns] = ()
    allow_missing: bool = False

    @property
    def exit_status(self) -> int:
        """The exit status of the command.

        1 where something is worse, or missing in B without being allowed to; 2 where there is no
        verdict on anything; otherwise 0.
        """
        verdicts = set(self.table["verdict"])
        if Verdict.worse.value in verdicts:
            return 1
        if not verdicts & {verdict.value for verdict in _JUDGED}:
            return 2
        return 1 if self.missing and not self.allow_missing else 0


def compare(
    a: Path,
    b: Path,
    metric: Metric = "final",
    tolerance: float = 0.0,
    allow_missing: bool = False,
) -> Comparison:
    """Compare the runs below ``b`` with those below ``a``.

    :param tolerance: a mean of B that is less than A's by at most this share of A's is not worse
    :param allow_missing: B need not have all that A has
    :raises ReportError: see :func:`reports.data.runs.load`; A and B have different budgets or
        evaluation protocols; the tolerance is negative or not finite
    :raises benchmarks.results.BrokenRunError: a run folder that cannot be read
    """
    if not 0 <= tolerance < math.inf:
        raise ReportError(f"--tolerance: must be a finite number of at least 0, got {tolerance}")
    side_a, side_b = _load("A", a), _load("B", b)
    data_a, data_b = side_a.data, side_b.data
    matches = match(data_a.runs, data_b.runs)
    refuse_different_protocols(
        data_a.runs, data_b.runs, sorted({env_id for env_id, *labels in matches if all(labels)})
    )
    runs_a, runs_b = _scored_runs(data_a), _scored_runs(data_b)
    rows, mismatches = [], []
    for env_id, label_a, label_b in matches:
        ours, theirs = _of(runs_a, env_id, label_a), _of(runs_b, env_id, label_b)
        same = _evaluations(data_a, env_id, label_a).equals(_evaluations(data_b, env_id, label_b))
        row = _row(ours, theirs, max(label_a or "", label_b or "", key=len))
        rows.append({**row, "verdict": _verdict(row, same, metric, tolerance).value})
        if len(ours) and len(theirs) and row["config_a"] != row["config_b"]:
            mismatches.append(_mismatch(row, ours, theirs))
    table = pd.DataFrame(rows, columns=COLUMNS)
    missing = _missing(table, data_b)
    return Comparison(side_a, side_b, table, metric, tolerance, mismatches, missing, allow_missing)


def _load(name: str, root: Path) -> Side:
    try:
        return Side(name, root, load(root))
    except ReportError as error:
        raise ReportError(f"{name}: {error}") from None


def match(a: pd.DataFrame, b: pd.DataFrame) -> list[tuple[str, str | None, str | None]]:
    """What belongs together: its environment, and its labels in A and in B.

    An algorithm with one configuration on each side is matched whatever the configurations are.
    Where a side has several, they are matched by hash, and those left over by label. A label is
    None where that side has nothing to match.

    :param a: rows of runs, as in :class:`reports.data.runs.RunData`; ``b`` likewise
    """
    labels_a, labels_b = _labels(a), _labels(b)
    return [
        (env_id, label_a, label_b)
        for env_id, algo in sorted({*labels_a, *labels_b})
        for label_a, label_b in _match_labels(
            labels_a.get((env_id, algo), {}), labels_b.get((env_id, algo), {})
        )
    ]


def _labels(runs: pd.DataFrame) -> dict[tuple[str, str], dict[str, str]]:
    """``(env_id, algo)`` to its configurations, and those to their labels."""
    return {
        (str(env_id), str(algo)): dict(zip(group["config"], group["label"], strict=True))
        for (env_id, algo), group in runs.groupby(["env_id", "algo"], sort=True)
    }


def _match_labels(
    a: Mapping[str, str], b: Mapping[str, str]
) -> list[tuple[str | None, str | None]]:
    """Configuration to label on each side, as pairs of labels."""
    if len(a) == len(b) == 1:
        return [(next(iter(a.values())), next(iter(b.values())))]
    pairs: list[tuple[str | None, str | None]] = [
        (label, b[config]) for config, label in a.items() if config in b
    ]
    others_a = sorted(label for config, label in a.items() if config not in b)
    others_b = sorted(label for config, label in b.items() if config not in a)
    pairs += [(label, label if label in others_b else None) for label in others_a]
    pairs += [(None, label) for label in others_b if label not in others_a]
    return pairs


def refuse_different_protocols(a: pd.DataFrame, b: pd.DataFrame, env_ids: Sequence[str]) -> None:
    """Refuse to compare scores of different budgets or evaluation protocols.

    :param a: rows of runs, each environment with one budget and protocol; ``b`` likewise
    :raises ReportError: naming every difference on ``env_ids``
    """
    lines = []
    for env_id in env_ids:
        first_a = a[a["env_id"] == env_id].iloc[0]
        first_b = b[b["env_id"] == env_id].iloc[0]
        for what, text_a, text_b in [
            ("budget", *(f"n_timesteps={run['n_timesteps']:,}" for run in (first_a, first_b))),
            ("evaluation", *(describe_settings(run["evaluation"]) for run in (first_a, first_b))),
        ]:
            if text_a != text_b:
                lines += [f"  {env_id}, {what}:", f"    A: {text_a}", f"    B: {text_b}"]
    if lines:
        raise ReportError(
            "A and B have different budgets or evaluation protocols and cannot be compared\n"
            + "\n".join(lines)
        )


def estimates(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The difference of the means over seeds, B minus A, and P(B > A), with 95% intervals.

    :param a: shape ``(n_seeds_of_a, n_columns)``; ``b`` likewise, each of at least one seed
    :return: two arrays of shape ``(3, n_columns)``: value, lower and upper end; the ends are NaN
        where a side has one seed
    """

    def statistics(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([b.mean(axis=0) - a.mean(axis=0), improvement(b, a)])

    values = statistics(a, b)
    low = high = np.full_like(values, np.nan)
    if min(len(a), len(b)) > 1:
        low, high = interval((a, b), statistics)
    difference, probability = np.split(np.stack([values, low, high]), 2, axis=1)
    return difference, probability


def _scored_runs(data: RunData) -> pd.DataFrame:
    """The rows of runs with ``QUANTITIES``."""
    scored = data.runs.merge(
        run_scores(data.evaluations),
        on=["env_id", "label", "protocol", "seed"],
        validate="one_to_one",
    )
    return scored.assign(steps_per_second=speeds(scored))


def _of(frame: pd.DataFrame, env_id: str, label: str | None) -> pd.DataFrame:
    return frame[(frame["env_id"] == env_id) & (frame["label"] == label)]


def _evaluations(data: RunData, env_id: str, label: str | None) -> pd.DataFrame:
    """The columns that are equal in two runs that went the same way."""
    columns = ["seed", "timesteps", "return_mean", "return_std", "length_mean", "episodes"]
    return _of(data.evaluations, env_id, label)[columns].reset_index(drop=True)


def _row(a: pd.DataFrame, b: pd.DataFrame, label: str) -> dict[str, Any]:
    """A row of the table without its verdict, from the scored runs of both sides."""
    first = (a if len(a) else b).iloc[0]
    row: dict[str, Any] = {
        "env_id": first["env_id"],
        "label": label,
        "algo": first["algo"],
        "config_a": a["config"].iloc[0] if len(a) else None,
        "config_b": b["config"].iloc[0] if len(b) else None,
        "seeds_a": len(a),
        "seeds_b": len(b),
    }
    values_a, values_b = (runs[list(QUANTITIES)].to_numpy(dtype=np.float64) for runs in (a, b))
    difference = probability = np.full((3, len(QUANTITIES)), np.nan)
    if len(a) and len(b):
        difference, probability = estimates(values_a, values_b)
    for i, quantity in enumerate(QUANTITIES):
        means = [v[:, i].mean() if len(v) else np.nan for v in (values_a, values_b)]
        numbers = [*means, *difference[:, i], *probability[:, i]]
        row.update({f"{quantity}_{name}": x for name, x in zip(_ESTIMATES, numbers, strict=True)})
    return row


def _verdict(row: Mapping[str, Any], same: bool, metric: Metric, tolerance: float) -> Verdict:
    """The verdict on a row, by the metric's P(B > A).

    :param same: whether every evaluation is the same, for which one seed is enough
    """
    if row["seeds_b"] == 0:
        return Verdict.only_a
    if row["seeds_a"] == 0:
        return Verdict.only_b
    if same:
        return Verdict.identical
    if min(row["seeds_a"], row["seeds_b"]) < FEWEST_SEEDS:
        return Verdict.too_few
    if not differ(row[f"{metric}_a"], row[f"{metric}_b"]):
        return Verdict.unchanged
    if row[f"{metric}_improvement_low"] > 0.5:
        return Verdict.better
    if row[f"{metric}_improvement_high"] < 0.5:
        least = row[f"{metric}_a"] - tolerance * abs(row[f"{metric}_a"])
        forgiven = tolerance > 0 and row[f"{metric}_b"] >= least
        return Verdict.tolerated if forgiven else Verdict.worse
    return Verdict.unchanged


def _mismatch(row: Mapping[str, Any], a: pd.DataFrame, b: pd.DataFrame) -> Mismatch:
    settings_a, settings_b = (
        {name: setting_text(value) for name, value in runs["hyperparams"].iloc[0].items()}
        for runs in (a, b)
    )
    differing = {
        name: (settings_a.get(name), settings_b.get(name))
        for name in sorted({*settings_a, *settings_b})
        if settings_a.get(name) != settings_b.get(name)
    }
    configs = row["config_a"], row["config_b"]
    return Mismatch(row["env_id"], row["label"], configs, differing)


def _missing(table: pd.DataFrame, b: RunData) -> list[MissingRuns]:
    """What A has and B has no finished run of.

    :param table: as in :class:`Comparison`
    """
    found = []
    for row in table[table["verdict"] == Verdict.only_a.value].to_dict("records"):
        runs, failed = (
            frame[(frame["env_id"] == row["env_id"]) & (frame["algo"] == row["algo"])]
            for frame in (b.runs, b.failures)
        )
        # Failures of a configuration that also has finished runs do not belong to this one.
        n_failed = int((~failed["config"].isin(runs["config"])).sum())
        found.append(MissingRuns(row["env_id"], row["label"], n_failed))
    return found
