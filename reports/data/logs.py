"""Logged runs of any program as the frames of a report, so that they compare.

A metric that is measured at evaluations keeps each run's own. One that is logged as training goes
on is a step function, whose values all runs of an environment are read off at the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.names import in_natural_order, plain
from benchmarks.records import MEASURED
from benchmarks.results import RUN_COLUMNS
from reports.data.metrics import Metric
from reports.data.readers.logged import LoggedRun, Series
from reports.data.runs import SUITE, ReportError, RunData, in_order, runs_text

N_POINTS = 100
"""At as many steps, evenly spread over the budget, the values of a step function are read off."""
TOLERANCE = 0.05
"""Runs are equally long if the shortest lacks at most this share of the longest, or an evaluation's
distance from the next one."""

NOT_SETTINGS = {"seed", "env_id", "exp_name"}
"""What CleanRL records among the settings, and reports show elsewhere."""

_KEYS = ["env_id", "label", "protocol", "suite", "algo", "config", "seed", "name"]


@dataclass(frozen=True)
class Curve:
    """A run as a report has it.

    ``row``: that of :attr:`reports.data.runs.RunData.runs`. ``series``: the metric's values.
    """

    row: Mapping[str, Any]
    series: Series

    @property
    def last(self) -> int:
        """The last step."""
        return int(self.series.timesteps[-1])

    @property
    def text(self) -> str:
        """``ppo on Hopper-v5, seed 3 (logs/ppo/Hopper-v5_1)``."""
        row = self.row
        return f"{row['label']} on {row['env_id']}, seed {row['seed']} ({row['path']})"


def row_of(run: LoggedRun, label: str, place: str, name: str) -> dict[str, Any]:
    """The row of another program's run, without what depends on its metric.

    :param run: with an algorithm, environment and seed
    :param label: under which it is reported
    :param place: where it was found
    :param name: what the user calls this place; empty: nothing
    """
    known = {
        "name": name,
        "suite": plain(place),
        "algo": label,
        "env_id": plain(str(run.env_id)),
        "seed": run.seed,
        "hyperparams": dict(run.hyperparams),
        "wall_seconds": _wall_seconds(run),
        "path": run.path,
        "format": run.format,
        "label": label,
    }
    unknown: dict[str, Any] = {
        **{"config": "", "protocol": "", "evaluation": {}, "versions": {}},
        **{"machine": {}, "sources": {}, "peak_memory_mib": np.nan, "evaluation_seconds": 0.0},
    }
    return dict.fromkeys(RUN_COLUMNS) | unknown | known


def _wall_seconds(run: LoggedRun) -> float:
    """Until the last entry of which a time is known; NaN where none is."""
    ends = [float(series.wall_seconds[-1]) for series in run.metrics.values()]
    return max((end for end in ends if np.isfinite(end)), default=np.nan)


def compared(
    curves: Sequence[Curve], metric: Metric, others: Sequence[str], cut: bool
) -> tuple[list[Curve], list[str]]:
    """Curves that compare, and a line for each thing that was done to them.

    :param others: the environments with runs of other programs, on which all must be equally long
    :param cut: cut all runs of such an environment to the shortest
    :raises ReportError: runs that are not equally long, unless they are cut
    """
    by_env: dict[str, list[Curve]] = {}
    for curve in curves:
        by_env.setdefault(curve.row["env_id"], []).append(curve)
    found: list[Curve] = []
    notes: list[str] = []
    for env_id, group in sorted(by_env.items()):
        if env_id in others:
            group, said = _equally_long(env_id, group, metric, cut)
            notes += said
        if not metric.is_evaluated:
            protocols = sorted({curve.row["protocol"] for curve in group})
            alike = ([c for c in group if c.row["protocol"] == each] for each in protocols)
            group = [curve for each in alike for curve in _read_off(env_id, each)]
        elif env_id in others:
            notes += _unlike_evaluations(env_id, group)
        found += group
    return found, notes


def _equally_long(
    env_id: str, curves: list[Curve], metric: Metric, cut: bool
) -> tuple[list[Curve], list[str]]:
    """The curves of an environment, and what was done to make them equally long."""
    shortest, longest = (end(curves, key=lambda curve: curve.last) for end in (min, max))
    allowed = TOLERANCE * longest.last
    if metric.is_evaluated:
        spacings = [np.diff(curve.series.timesteps, prepend=0).max() for curve in curves]
        allowed = max(allowed, float(max(spacings)))
    if longest.last - shortest.last <= allowed:
        return curves, []
    if not cut:
        lengths = "\n".join(f"  {line}" for line in _lengths(curves))
        raise ReportError(
            f"{env_id}: the runs are not equally long and cannot be compared\n{lengths}\n"
            f"The shortest is {shortest.text}, the longest {longest.text}. Cut them to the "
            "shortest with --cut-to-shortest, or leave some out with --where."
        )
    note = (
        f"{env_id}: all runs are cut to {shortest.last:,} steps, the length of the shortest, "
        f"{shortest.text}; the longest had {longest.last:,}. Where a setting follows a schedule "
        "over the whole training, the beginning of a long run is not what a short one would be."
    )
    return [cut_at(curve, shortest.last) for curve in curves], [note]


def _lengths(curves: Sequence[Curve]) -> list[str]:
    """How long the runs of each label are."""
    ends: dict[str, list[int]] = {}
    for curve in curves:
        ends.setdefault(curve.row["label"], []).append(curve.last)
    lines = []
    for label in in_natural_order(ends):
        fewest, most = min(ends[label]), max(ends[label])
        steps = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        lines.append(f"{label}: {steps} steps ({runs_text(len(ends[label]))})")
    return lines


def cut_at(curve: Curve, last: int) -> Curve:
    """The curve up to a step.

    :raises ReportError: it begins later
    """
    kept = curve.series.timesteps <= last
    if not kept.any():
        raise ReportError(
            f"{curve.text}: has no value up to step {last:,}, to which the runs on it are cut; "
            "leave it out with --where"
        )
    row = dict(curve.row)
    if row["format"] != SUITE:
        row["wall_seconds"] = np.nan  # that of the whole run
    return Curve(row, _taken(curve.series, np.flatnonzero(kept)))


def _read_off(env_id: str, curves: Sequence[Curve]) -> list[Curve]:
    """Each curve's last value by each of the same steps, from the first at which all have one.

    :param curves: of one environment and protocol
    :raises ReportError: a run whose first value comes after another one's last
    """
    budget = min(curve.last for curve in curves)
    latest = max(curves, key=lambda curve: int(curve.series.timesteps[0]))
    steps = np.unique(np.round(np.linspace(0, budget, N_POINTS + 1)[1:]).astype(int))
    steps = steps[steps >= latest.series.timesteps[0]]
    if not len(steps):
        raise ReportError(
            f"{latest.text}: its first value comes at step {latest.series.timesteps[0]:,}, after "
            f"the last of another run on {env_id} at step {budget:,}; leave it out with --where"
        )
    found = []
    for curve in curves:
        places = np.searchsorted(curve.series.timesteps, steps, side="right") - 1
        series = replace(_taken(curve.series, places), timesteps=steps)
        found.append(replace(curve, series=series))
    return found


def _taken(series: Series, places: np.ndarray) -> Series:
    return Series(**{name: values[places] for name, values in vars(series).items()})


def _unlike_evaluations(env_id: str, curves: Sequence[Curve]) -> list[str]:
    """What to know where the runs of an environment were not evaluated alike."""
    notes = []
    grids: dict[str, set[tuple[int, ...]]] = {}
    for curve in curves:
        grids.setdefault(curve.row["label"], set()).add(tuple(curve.series.timesteps.tolist()))
    uneven = [label for label in in_natural_order(grids) if len(grids[label]) > 1]
    if uneven:
        notes.append(
            f"{env_id}: the seeds of {', '.join(uneven)} were evaluated at different steps. For "
            "their learning curves returns between evaluations are interpolated linearly; scores "
            "are of each run's own evaluations."
        )
    counts = [len(curve.series.timesteps) for curve in curves]
    if min(counts) != max(counts):
        notes.append(
            f"{env_id}: runs have {min(counts):,} to {max(counts):,} evaluations. The best of more "
            "evaluations is better by chance alone, and the last tenth of fewer is noisier."
        )
    episodes = sorted({int(n) for curve in curves for n in curve.series.episodes if n > 0})
    if len(episodes) > 1:
        notes.append(
            f"{env_id}: an evaluation is over {episodes[0]:,} to {episodes[-1]:,} episodes, "
            "depending on the run. The best of noisier evaluations is better by chance alone."
        )
    return notes


def unlike_settings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each label on an environment whose seeds have recorded different settings."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["env_id"], row["label"]), []).append(row["hyperparams"])
    where: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (env_id, label), settings in groups.items():
        if names := differing_settings(settings):
            where.setdefault((label, tuple(names)), []).append(env_id)
    return [
        f"{label} on {', '.join(env_ids)}: its runs differ in {', '.join(map(plain, names))}, and "
        "still count as seeds of the same thing. --group-by or --where tells them apart."
        for (label, names), env_ids in where.items()
    ]


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that are not the same in all runs, sorted."""
    settings = [each for each in settings if each]  # what was not recorded is not known to differ
    names = sorted({name for each in settings for name in each} - NOT_SETTINGS)
    return [
        name for name in names if any(each.get(name) != settings[0].get(name) for each in settings)
    ]


def frames(curves: Sequence[Curve], metric: Metric, others: Sequence[str]) -> RunData:
    """The curves as the frames of a report; nothing has failed, and nothing was asked for.

    :param curves: at least one
    :param others: as for :func:`compared`; the steps of their runs are those of the curves
    """
    budgets: dict[str, int] = {}
    for curve in curves:
        env_id = curve.row["env_id"]
        budgets[env_id] = max(budgets.get(env_id, 0), curve.last)
    rows = []
    for curve in curves:
        row = dict(curve.row)
        if row["env_id"] in others:
            row |= {"n_timesteps": budgets[row["env_id"]], "timesteps": curve.last}
        last = float(curve.series.wall_seconds[-1])
        if row["format"] != SUITE and np.isfinite(last):
            row["wall_seconds"] = last
        rows.append(row)
    return RunData(
        runs=in_order(pd.DataFrame(rows)),
        evaluations=in_order(_evaluations(curves), "timesteps"),
        failures=pd.DataFrame(columns=[*_KEYS, "error"]),
        asked=pd.DataFrame(columns=_KEYS),
        metric=metric,
    )


def _evaluations(curves: Sequence[Curve]) -> pd.DataFrame:
    lengths = [len(curve.series.timesteps) for curve in curves]
    columns = {
        key: np.repeat(np.array([curve.row[key] for curve in curves], dtype=object), lengths)
        for key in _KEYS
    }
    names = ("timesteps", "wall_seconds", "values", "spread", "lengths", "episodes")
    values = {
        column: np.concatenate([getattr(curve.series, name) for curve in curves])
        for column, name in zip(MEASURED, names, strict=True)
    }
    frame = pd.DataFrame(columns).infer_objects()
    return frame.assign(**values).astype({"timesteps": int, "episodes": int})
