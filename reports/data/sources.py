"""Where the runs of a report come from: this suite's own folders, and logs of other programs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from benchmarks import run_files
from benchmarks.errors import SpecError
from benchmarks.names import plain
from benchmarks.records import BrokenRunError
from reports.data import logs, progress, runs, selection
from reports.data.asked import TABLE, Source, Wanted, with_tables
from reports.data.logs import Curve
from reports.data.metrics import Metric
from reports.data.readers import find
from reports.data.readers.logged import EVALUATION, LoggedRun, Series
from reports.data.runs import FoundRuns, ReportError, RunData, runs_text
from reports.data.selection import Condition

T = TypeVar("T")
Reading = Callable[[Sequence[Any]], Iterable[Any]]
_OPTIONS = {"form": "--format-of", "pattern": "--pattern", "columns": "--columns", "path": "RUNS"}


@dataclass(frozen=True)
class Logged:
    """A run of another program, where it was found, and what labels call its algorithm."""

    run: LoggedRun
    source: Source
    label: str = ""


@dataclass(frozen=True)
class Found:
    """What was read: this suite's own runs, if any, those of other programs, and what is broken."""

    own: FoundRuns | None
    logged: Sequence[Logged]
    broken: Sequence[str]


def load(
    sources: Sequence[Source],
    wanted: Wanted,
    allow_mixed: bool = False,
    reading: Reading = iter,
) -> RunData:
    """The runs of a report, of one metric and labelled.

    Runs that cannot be read are left out, and so are those without the metric.

    :param allow_mixed: this suite's own runs of one environment may have different budgets or
        evaluation protocols
    :param reading: iterates over what is read, to show the progress
    :raises ReportError: nothing can be reported, or runs do not compare; see
        :func:`reports.data.runs.checked` and :func:`reports.data.logs.compared`
    """
    found = [read(source, wanted, reading) for source in with_tables(sources, wanted)]
    own = _joined([each.own for each in found if each.own])
    everything: Sequence[Logged] = _called([run for each in found for run in each.logged])
    broken = [line for each in found for line in each.broken]
    if own is None and not everything:
        reason = f"; {broken[0]}" if broken else ""
        places = ", ".join(str(source.path) for source in sources)
        raise ReportError(f"{places}: no run in it that can be read{reason}")
    refuse_unnamed(everything)
    called = _names_of_algorithms(own)
    own, logged = _where(wanted.where, own, called, everything)
    data = None if own is None else runs.checked(own, allow_mixed, called)
    fields = [*_fields_of_own(data, called), *map(_fields, logged)]
    if data is not None and not logged and wanted == Wanted(where=wanted.where):
        return replace(data, broken=[*data.broken, *broken])
    reported = _reported(data, logged, fields, wanted)
    return replace(reported, broken=[*(data.broken if data else ()), *broken, *reported.broken])


def read(source: Source, wanted: Wanted, reading: Reading = iter) -> Found:
    """What stands at a place: this suite's own runs, and logs of other programs.

    :raises ReportError: there is no such folder or file, or an option that does not fit
    """
    own = _own(source, reading) if source.format is None else None
    if not source.path.exists():
        if own is None:
            raise ReportError(f"{source.path}: there is no such folder")
        return Found(own, [], [])  # its folders are in an archive
    columns = wanted.columns if source.format == TABLE else None
    try:
        found = find.read(source.path, source.format, wanted.pattern, columns, reading)
    except SpecError as error:
        argument, colon, text = str(error).partition(":")
        raise ReportError(f"{_OPTIONS.get(argument, argument)}{colon}{text}") from error
    return Found(own, [Logged(run, source) for run in found.runs], found.broken)


def _own(source: Source, reading: Reading) -> FoundRuns | None:
    """This suite's own runs at a place; None: there are none, not even broken ones."""
    found = run_files.find(source.path)
    if not (found.runs or found.failures or found.broken):
        return None
    return runs.read(source.path, True, reading, source.name)


def _joined(found: Sequence[FoundRuns]) -> FoundRuns | None:
    return runs.joined(found) if found else None


def refuse_unnamed(logged: Iterable[Logged]) -> None:
    """Refuse a run of which no source says what it is.

    :raises ReportError: naming it, and what is not known
    """
    for each in logged:
        if unknown := missing_names(each.run):
            where = 'its path has them with --pattern, such as --pattern "{algo}/{env_id}_{seed}"'
            if each.run.format == TABLE:
                where = "a column has them with --columns, such as seed=seed, or " + where
            raise ReportError(
                f"{each.run.path}: neither the logs nor their place say its {' and '.join(unknown)}"
                f"; say where {where}"
            )


def missing_names(run: LoggedRun) -> list[str]:
    """What a report needs and the logs do not say: algorithm, environment, seed."""
    known = {"algorithm": run.algo, "environment": run.env_id, "seed": run.seed}
    return [name for name, value in known.items() if value is None]


def _called(logged: Sequence[Logged]) -> list[Logged]:
    """The runs with what labels call their algorithms."""
    algos: dict[str, set[str]] = {}
    for each in logged:
        algos.setdefault(each.source.name, set()).add(plain(str(each.run.algo)))
    return [
        replace(each, label=_call(each.source.name, plain(str(each.run.algo)), algos))
        for each in logged
    ]


def _names_of_algorithms(own: FoundRuns | None) -> dict[tuple[str, str], str]:
    """What labels call this suite's algorithms, by the name of their place and their own."""
    if own is None:
        return {}
    algos: dict[str, set[str]] = {}
    for name, algo in zip(own.runs["name"], own.runs["algo"], strict=True):
        algos.setdefault(name, set()).add(algo)
    return {(name, algo): _call(name, algo, algos) for name in algos for algo in algos[name]}


def _call(name: str, algo: str, algos: Mapping[str, Collection[str]]) -> str:
    """The algorithm's name, the place's if it has no other algorithm, else both."""
    return f"{name} {algo}" if name and len(algos[name]) > 1 else name or algo


def _fields(each: Logged) -> dict[str, Any]:
    run = each.run
    assert run.seed is not None
    return selection.fields_of(
        str(run.algo), str(run.env_id), run.seed, each.label, run.format, run.hyperparams
    )


def _fields_of_own(
    data: FoundRuns | RunData | None, called: Mapping[tuple[str, str], str]
) -> list[dict[str, Any]]:
    if data is None:
        return []
    columns = ("algo", "env_id", "seed", "name", "format", "hyperparams")
    rows = zip(*(data.runs[column] for column in columns), strict=True)
    return [
        selection.fields_of(algo, env_id, seed, called[name, algo], form, hyperparams)
        for algo, env_id, seed, name, form, hyperparams in rows
    ]


def _where(
    text: str,
    own: FoundRuns | None,
    called: Mapping[tuple[str, str], str],
    logged: Sequence[Logged],
) -> tuple[FoundRuns | None, Sequence[Logged]]:
    """The runs that are asked for.

    :raises ReportError: there is none, or no run has a field that is asked about
    """
    if not text:
        return own, logged
    conditions = selection.parse(text)
    of_own, of_logged = _fields_of_own(own, called), list(map(_fields, logged))
    everything = [*of_own, *of_logged]
    selection.refuse_unknown("--where", [each.field for each in conditions], everything)

    kept = [
        each
        for each, fields in zip(logged, of_logged, strict=True)
        if selection.all_hold(conditions, fields)
    ]
    if own is not None:
        own = _only(own, of_own, conditions)
    if own is None and not kept:
        raise ReportError(f"--where: {text!r} holds of none of {runs_text(len(everything))}")
    return own, kept


def _only(
    own: FoundRuns, fields: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]
) -> FoundRuns | None:
    """The runs of which the conditions hold; None: there is none.

    And what failed or was asked for of their configurations, as far as the conditions are on seeds.
    """
    kept = own.runs[[selection.all_hold(conditions, run) for run in fields]]
    if kept.empty:
        return None
    keys = ["name", "suite", "algo", "env_id", "config"]
    of_seeds = [condition for condition in conditions if condition.field == "seed"]

    def among(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
        """The rows of a table that belong to the runs that are kept."""
        known = pd.MultiIndex.from_frame(kept[columns])
        there = pd.MultiIndex.from_frame(frame[columns]).isin(known)
        seeds = [selection.all_hold(of_seeds, {"seed": seed}) for seed in frame["seed"]]
        return frame[there & np.array(seeds, dtype=bool)].reset_index(drop=True)

    return replace(
        own,
        runs=kept.reset_index(drop=True),
        evaluations=among(own.evaluations, [*keys, "seed"]),
        failures=among(own.failures, keys),
        asked=among(own.asked, keys),
    )


def _reported(
    data: RunData | None,
    logged: Sequence[Logged],
    fields: Sequence[Mapping[str, Any]],
    wanted: Wanted,
) -> RunData:
    """All runs that have the metric, made to compare."""
    with_log = wanted.metric not in (None, EVALUATION) or any(
        EVALUATION not in each.run.metrics for each in logged
    )
    problems = [f"{each.run.path}: {line}" for each in logged for line in each.run.problems]
    unlike = [
        *(_Run(*each) for each in _own_metrics(data, with_log, problems)),
        *(
            _Run(
                logs.row_of(each.run, each.label, str(each.source.path), each.source.name),
                each.run.metrics,
                each.run.not_finite,
            )
            for each in logged
        ),
    ]
    if wanted.group_by is not None:
        selection.refuse_unknown("--group-by", [wanted.group_by], fields)
        for run, label in zip(unlike, selection.group_labels(wanted.group_by, fields), strict=True):
            run.row["label"] = runs.with_protocol(label, run.row["protocol"])
    having = [(_text(run.row), run.logged) for run in unlike]
    metric = Metric(selection.choose(having, wanted.metric), wanted.lower_is_better)
    diverged, usable = _without_diverged(unlike, metric.name)
    curves = [Curve(run.row, run.metrics[metric.name]) for run in usable]
    refuse_same(curves, wanted.group_by)
    others = sorted({plain(str(each.run.env_id)) for each in logged})
    comparable, notes = logs.compared(curves, metric, others, wanted.cut_to_shortest)
    of_others = [curve.row for curve in curves if curve.row["format"] != runs.SUITE]
    grouped = [curve.row for curve in curves] if wanted.group_by else of_others
    found = logs.frames(comparable, metric, others)
    return replace(
        found,
        failures=found.failures if data is None else data.failures,
        asked=found.asked if data is None or wanted.group_by else data.asked,
        broken=diverged,
        without_metric=[
            f"{_text(run.row)}: has no {metric.name}, "
            f"but {selection.listed(sorted(run.metrics)) or 'nothing'}"
            for run in unlike
            if metric.name not in run.logged
        ],
        problems=problems,
        notes=[
            *([] if wanted.metric else selection.not_chosen(having, metric.name)),
            *notes,
            *logs.unlike_settings(grouped),
        ],
    )


class _Run(NamedTuple):
    """A run with all of its metrics; ``not_finite`` as :attr:`LoggedRun.not_finite`."""

    row: dict[str, Any]
    metrics: Mapping[str, Series]
    not_finite: Mapping[str, str] = {}

    @property
    def logged(self) -> set[str]:
        """The names of the metrics that it has logged, be they finite or not."""
        return {*self.metrics, *self.not_finite}


def _without_diverged(runs: Sequence[_Run], name: str) -> tuple[list[str], list[_Run]]:
    """A line for each run with values of a metric that are not finite, and the others that have it.

    Scored by what was finite of it, a run that has diverged would look better than it is.

    :raises ReportError: no run is left
    """
    diverged = [
        f"{_text(run.row)}: {run.not_finite[name]}" for run in runs if name in run.not_finite
    ]
    usable = [run for run in runs if name in run.metrics and name not in run.not_finite]
    if not usable:
        raise ReportError(
            f"{name}: no run is left without values that are not finite; {diverged[0]}"
        )
    return diverged, usable


def _own_metrics(
    data: RunData | None, with_log: bool, problems: list[str]
) -> list[tuple[dict[str, Any], Mapping[str, Series]]]:
    """This suite's own runs, each with its metrics.

    :param problems: takes a line for each log that cannot be read
    """
    if data is None:
        return []
    keys = ["name", "suite", "algo", "env_id", "config", "seed"]
    evaluations = dict(iter(data.evaluations.groupby(keys)))
    rows: list[dict[str, Any]] = data.runs.to_dict("records")  # type: ignore[assignment]
    found: list[tuple[dict[str, Any], Mapping[str, Series]]] = []
    for row in rows:
        metrics = {
            EVALUATION: progress.evaluations_of(evaluations[tuple(row[key] for key in keys)])
        }
        try:
            found.append((row, (progress.logged_by(row["path"]) if with_log else {}) | metrics))
        except BrokenRunError as error:
            problems.append(plain(str(error)))
            found.append((row, metrics))
    return found


def _text(row: Mapping[str, Any]) -> str:
    return f"{row['label']} on {row['env_id']}, seed {row['seed']} ({row['path']})"


def refuse_same(curves: Sequence[Curve], group_by: str | None) -> None:
    """Refuse runs that would count as seeds of one thing and are not.

    :raises ReportError: two runs of one label, environment and seed; or one label for runs of
        different programs that the user has not named alike
    """
    seen: dict[tuple[str, str, int], Curve] = {}
    formats: dict[str, Curve] = {}
    for curve in curves:
        row = curve.row
        key = (row["label"], row["env_id"], int(row["seed"]))
        first = seen.setdefault(key, curve)
        if first is not curve:
            advice = (
                "Leave one out with --where."
                if group_by or first.row["suite"] == row["suite"]
                else "Leave one out, or tell their places apart with --name PATH=LABEL."
            )
            raise ReportError(
                f"{row['label']} on {row['env_id']}, seed {row['seed']}: is there twice and would "
                f"count as 2 seeds\n  {first.row['path']}\n  {row['path']}\n{advice}"
            )
        other = formats.setdefault(row["label"], curve)
        is_meant = group_by or (other.row["name"] and row["name"])
        if not is_meant and other.row["format"] != row["format"]:
            raise ReportError(
                f"{row['label']}: is the label of runs of different programs\n"
                f"  {other.row['format']}: {other.row['path']}\n  {row['format']}: {row['path']}\n"
                "Tell their places apart with --name PATH=LABEL."
            )
