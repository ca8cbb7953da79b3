"""Which runs a report is about, by which metric, and what it groups them by.

These are ``--where``, ``--metric`` and ``--group-by``.

A field is one of :data:`FIELDS`, or ``hyperparams.NAME`` for a setting that some run has recorded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.names import plain
from reports.data.readers.logged import EVALUATION, TRAINING
from reports.data.runs import ReportError, runs_text, setting_text

FIELDS = ("algo", "env_id", "seed", "label", "format")
SETTINGS = "hyperparams."
_CONDITION = re.compile(
    r"""\s*(?P<field>[^\s=!<>]+)\s*(?P<relation>!=|=|<|>)\s*
    (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"']+))\s*(?:and\s+(?=\S)|$)""",
    re.VERBOSE,
)
_MOST_SHOWN = 40  # names in an error


@dataclass(frozen=True)
class Condition:
    """A field's relation to a value; ``relation``: ``=``, ``!=``, ``<`` or ``>``."""

    field: str
    relation: str
    value: str

    def holds(self, run: Mapping[str, Any]) -> bool:
        """Whether it holds of a run; one that has not recorded the field differs from any value.

        :param run: as :func:`fields_of` gives it
        """
        if self.field not in run:
            return self.relation == "!="
        ours, theirs = number_of(run[self.field]), number_of(self.value)
        if self.relation in "<>":
            if ours is None or theirs is None:
                return False
            return ours < theirs if self.relation == "<" else ours > theirs
        is_equal = ours == theirs if None not in (ours, theirs) else self._is_same(run[self.field])
        return is_equal == (self.relation == "=")

    def _is_same(self, value: Any) -> bool:
        return setting_text(value).casefold() in (self.value.casefold(), f'"{self.value}"')


def parse(text: str) -> list[Condition]:
    """Conditions such as ``env_id=Hopper-v5 and hyperparams.n_envs=4``.

    :raises ReportError: a text of another form, or ``<`` or ``>`` beside what is not a number
    """
    conditions: list[Condition] = []
    at = 0
    while at < len(text) or not conditions:
        match = _CONDITION.match(text, at)
        if match is None:
            raise ReportError(
                "--where: must be FIELD=VALUE, with =, !=, < or >, several joined by 'and', and "
                f"values with spaces in quotes; got {text!r}"
                + (f", in which {text[at:]!r} is not that" if at else "")
            )
        value = next(
            match[name] for name in ("double", "single", "bare") if match[name] is not None
        )
        condition = Condition(match["field"], match["relation"], value)
        if condition.relation in "<>" and number_of(value) is None:
            raise ReportError(
                f"--where: {condition.field}{condition.relation}{value}: must be compared with a "
                f"number, got {value!r}"
            )
        conditions.append(condition)
        at = match.end()
    return conditions


def all_hold(conditions: Iterable[Condition], run: Mapping[str, Any]) -> bool:
    """Whether each of the conditions holds of a run."""
    return all(condition.holds(run) for condition in conditions)


def fields_of(
    algo: str, env_id: str, seed: int, label: str, form: str, hyperparams: Mapping[str, Any]
) -> dict[str, Any]:
    """What conditions and groups may be about, of one run."""
    fields = dict(zip(FIELDS, (algo, env_id, int(seed), label, form), strict=True))
    return fields | {f"{SETTINGS}{name}": value for name, value in hyperparams.items()}


def refuse_unknown(option: str, names: Iterable[str], runs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a field that no run has.

    :raises ReportError: naming it, and those that there are
    """
    known = {name for run in runs for name in run}
    for name in names:
        if name not in known:
            there = [*FIELDS, *sorted(known - set(FIELDS))]
            raise ReportError(f"{option}: no run has a field {name!r}; there are {listed(there)}")


def group_labels(field: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The label of each run when they are grouped by a field, such as ``target_kl=0.01``.

    It has the run's own label, too, where some group has runs of several.

    :param runs: as :func:`fields_of` gives them
    """
    labels = [_group_label(field, run) for run in runs]
    own: dict[str, set[str]] = {}
    for label, run in zip(labels, runs, strict=True):
        own.setdefault(label, set()).add(run["label"])
    if all(len(names) == 1 for names in own.values()):
        return labels
    return [f"{run['label']}, {label}" for label, run in zip(labels, runs, strict=True)]


def _group_label(field: str, run: Mapping[str, Any]) -> str:
    name = plain(field.removeprefix(SETTINGS))
    return f"{name}={setting_text(run[field])}" if field in run else f"{name} not recorded"


def number_of(value: Any) -> float | None:
    """The number that a value is or says; None: it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def choose(runs_metrics: Sequence[tuple[str, Collection[str]]], asked: str | None) -> str:
    """The name of a report's metric.

    :param runs_metrics: each run's name and those of its metrics
    :param asked: what the user wants; None: evaluations if all runs have them, else training
        returns if all have these
    :raises ReportError: no run has what was asked for; or nothing was, and the runs have neither
        in common
    """
    if asked is None:
        for name in (EVALUATION, TRAINING):
            if all(name in metrics for _, metrics in runs_metrics):
                return name
        raise ReportError(
            f"--metric: must be given, since not all runs have {EVALUATION}, nor all {TRAINING}\n"
            f"{_by_metrics(runs_metrics)}\n"
            "Runs without the metric are then left out; --where leaves out others."
        )
    if not any(asked in metrics for _, metrics in runs_metrics):
        there = listed(sorted({name for _, metrics in runs_metrics for name in metrics}))
        raise ReportError(f"--metric: no run has {asked!r}; there are {there or 'none'}")
    return asked


def not_chosen(runs_metrics: Sequence[tuple[str, Collection[str]]], chosen: str) -> list[str]:
    """A line on evaluations that a report does not show, since not all runs have them."""
    without = [run for run, metrics in runs_metrics if EVALUATION not in metrics]
    n_with = len(runs_metrics) - len(without)
    if chosen == EVALUATION or not n_with:
        return []
    return [
        f"{n_with:,} of {runs_text(len(runs_metrics))} have evaluations, too; {plain(without[0])} "
        f"has none. --metric {EVALUATION} reports those that have."
    ]


def _by_metrics(runs_metrics: Sequence[tuple[str, Collection[str]]]) -> str:
    """A line for each set of the two metrics, with the runs that have it."""
    groups: dict[str, list[str]] = {}
    for run, metrics in runs_metrics:
        has = [name for name in (EVALUATION, TRAINING) if name in metrics]
        groups.setdefault(" and ".join(has) or "neither of them", []).append(run)
    return "\n".join(
        f"  {what}: {runs_text(len(names))}, such as {names[0]}"
        for what, names in sorted(groups.items())
    )


def listed(names: Sequence[str]) -> str:
    """The names separated by commas, the first ones if they are many."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(plain(name) for name in names[:_MOST_SHOWN]) + more
