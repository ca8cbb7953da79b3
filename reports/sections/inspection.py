"""What was recognised as a run, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.names import plain
from benchmarks.tables import Number, Table, Text
from reports.data.inspection import Inspection
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING, LoggedRun, Series
from reports.data.sources import missing_names
from reports.rendering.blocks import Block, Bullets, Paragraph, Section
from reports.rendering.text import counted, listing

_MAIN = (EVALUATION, TRAINING, SUCCESS_RATE)


def blocks(found: Inspection) -> list[Block]:
    """A table of the runs, one of what else they have logged, what is wrong, and a summary."""
    made: list[Block] = []
    if found.runs:
        made.append(runs_table(found.runs))
    if others := sorted({name for run in found.runs for name in run.metrics} - set(_MAIN)):
        made.append(Section("Other metrics", [metrics_table(found.runs, others)]))
    problems = [plain(problem) for run in found.runs for problem in run.problems]
    if problems:
        made.append(Section("Parts of logs that are left out", [Bullets(problems)]))
    if found.broken:
        made.append(Section("Left out", [Bullets([plain(line) for line in found.broken])]))
    return [*made, Paragraph(summary(found))]


def runs_table(runs: Sequence[LoggedRun]) -> Table:
    """One row per run; of each metric how many points it has, up to which step."""
    return Table(
        [
            Text("run", [plain(str(run.path)) for run in runs]),
            Text("format", [run.format for run in runs]),
            Text("algorithm", [_known(run.algo) for run in runs]),
            Text("environment", [_known(run.env_id) for run in runs]),
            Number("seed", [run.seed for run in runs], "{:.0f}".format),
            *(Text(name, [_extent(run.metrics.get(name)) for run in runs]) for name in _MAIN),
            Text("missing", [listing(_lacking(run)) or None for run in runs]),
        ]
    ).without_empty()


def metrics_table(runs: Sequence[LoggedRun], names: Sequence[str]) -> Table:
    """One row per metric: how many runs have it, how many points they have, up to which step."""
    series = [[run.metrics[name] for run in runs if name in run.metrics] for name in names]
    return Table(
        [
            Text("metric", [plain(name) for name in names]),
            Number("runs", [len(each) for each in series]),
            Text("points", [_range([len(one.timesteps) for one in each]) for each in series]),
            Text(
                "last step", [_range([int(one.timesteps[-1]) for one in each]) for each in series]
            ),
        ]
    )


def summary(found: Inspection) -> str:
    """How many runs a report can use, and by which metric."""
    usable = found.reportable
    broken = f" {counted(len(found.broken), 'log')} left out." if found.broken else ""
    if not usable:
        return f"Nothing can be reported of {counted(len(found.runs), 'run')}.{broken}"
    having = [
        f"{sum(name in run.metrics for run in usable)} have {name}"
        for name in _MAIN
        if any(name in run.metrics for run in usable)
    ]
    algorithms, environments = ({getattr(run, x) for run in usable} for x in ("algo", "env_id"))
    return (
        f"{len(usable):,} of {counted(len(found.runs), 'run')} can be reported: "
        f"{counted(len(algorithms), 'algorithm')} on "
        f"{counted(len(environments), 'environment')}; "
        f"{listing(having) or 'none has evaluation or training'}.{broken}"
    )


def _known(name: str | None) -> str | None:
    return None if name is None else plain(name)


def _extent(series: Series | None) -> str | None:
    """``100 to step 50,000``."""
    if series is None:
        return None
    return f"{len(series.timesteps):,} to step {series.timesteps[-1]:,}"


def _lacking(run: LoggedRun) -> list[str]:
    return [*missing_names(run), *([] if run.metrics else ["metrics"])]


def _range(numbers: Sequence[int]) -> str:
    fewest, most = min(numbers), max(numbers)
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
