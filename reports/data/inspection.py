"""What is recognised at some places: each run, what is known of it, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.records import BrokenRunError
from reports.data import progress, sources
from reports.data.asked import Source, Wanted, with_tables
from reports.data.readers.logged import EVALUATION, LoggedRun
from reports.data.runs import SUITE, FoundRuns
from reports.data.sources import Reading, missing_names


@dataclass(frozen=True)
class Inspection:
    """The runs in the order in which they were found, and a line for each that is broken."""

    runs: Sequence[LoggedRun]
    broken: Sequence[str]

    @property
    def reportable(self) -> list[LoggedRun]:
        """The runs that a report can use."""
        return [run for run in self.runs if run.metrics and not missing_names(run)]


def inspect(places: Sequence[Source], wanted: Wanted, reading: Reading = iter) -> Inspection:
    """Read everything that stands at these places.

    :param reading: as for :func:`reports.data.sources.load`
    :raises reports.data.runs.ReportError: see :func:`reports.data.sources.read`
    """
    runs: list[LoggedRun] = []
    broken: list[str] = []
    for source in with_tables(places, wanted):
        found = sources.read(source, wanted, reading)
        if found.own is not None:
            runs += _of_suite(found.own)
            broken += found.own.broken
        runs += [each.run for each in found.logged]
        broken += found.broken
    return Inspection(runs, broken)


def _of_suite(own: FoundRuns) -> list[LoggedRun]:
    """This suite's own runs, with all that they have logged."""
    keys = ["suite", "algo", "env_id", "config", "seed"]
    evaluations = dict(iter(own.evaluations.groupby(keys)))
    found = []
    rows: list[dict[str, Any]] = own.runs.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        metrics = {
            EVALUATION: progress.evaluations_of(evaluations[tuple(row[key] for key in keys)])
        }
        problems = []
        try:
            metrics = progress.logged_by(row["path"]) | metrics
        except BrokenRunError as error:
            problems.append(str(error))
        found.append(
            LoggedRun(
                format=SUITE,
                metrics=metrics,
                problems=problems,
                **{name: row[name] for name in ("path", "algo", "env_id", "seed", "hyperparams")},
            )
        )
    return found
