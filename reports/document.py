"""Assembles a report: what the runs say, put into sentences, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from reports import figures, runs, scores, thresholds, wording
from reports.tables import Table, duration, estimate_cells, steps_cells

DEFAULT_TITLE = "Benchmark report"


@dataclass(frozen=True)
class Section:
    """What the report says of one environment."""

    env_id: str
    table: Table
    verdicts: Sequence[str]
    figure: str | None  # file name without its ending; none where it would be the report's first


@dataclass(frozen=True)
class StepsSection:
    """How soon the algorithms reached the thresholds, all environments in one table."""

    caption: str
    table: Table
    notes: Sequence[str]


def build(
    root: Path,
    out: Path,
    title: str = DEFAULT_TITLE,
    given_thresholds: Mapping[str, float] | None = None,
) -> Path:
    """Write ``report.md``, ``scores.csv`` and the figures into ``out``.

    :param root: where the run folders are
    :param out: made if it does not exist; files of the same names are overwritten
    :param given_thresholds: environment to return, instead of what Gymnasium has registered
    :return: path of ``report.md``
    :raises reports.runs.ReportError: see :func:`reports.runs.load` and
        :func:`reports.thresholds.resolve`
    """
    data = runs.load(root)
    steps = steps_section(data, given_thresholds or {})
    table = scores.score_table(data.runs, data.evaluations)
    curves = scores.learning_curves(data.evaluations)
    styles = figures.looks(list(table["label"]))
    out.mkdir(parents=True, exist_ok=True)
    sections = sections_of(table)
    figures.save(figures.learning_curves(curves, styles), out / "learning_curves")
    for section in sections:
        if section.figure:
            of_environment = curves[curves["env_id"] == section.env_id]
            figures.save(figures.learning_curves(of_environment, styles), out / section.figure)
    table.to_csv(out / "scores.csv", index=False, float_format="%.10g", lineterminator="\n")
    report = out / "report.md"
    report.write_text(render(data, table, sections, steps, title), encoding="utf-8", newline="\n")
    return report


def render(
    data: runs.RunData,
    table: pd.DataFrame,
    sections: Sequence[Section],
    steps: StepsSection | None,
    title: str,
) -> str:
    """The report as Markdown; the figures it names lie beside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.md.j2").render(
        title=title,
        introduction=wording.introduction(data),
        sections=sections,
        notes=wording.notes(data, table),
        steps=steps,
        commits=wording.commit_lines(data.runs),
        versions=wording.tally_text(data.runs["versions"].map(wording.versions_text)),
        machines=wording.tally_text(data.runs["machine"].map(wording.machine_text)),
        commands=sorted(data.runs["command"].unique()),
        hyperparameters=hyperparameter_tables(data.runs),
        failures=failure_table(data.failures),
        missing=wording.missing_results(data),
    )


def sections_of(table: pd.DataFrame) -> list[Section]:
    """A section for each environment of :func:`reports.scores.score_table`."""
    several = table["env_id"].nunique() > 1
    return [
        Section(
            env_id=str(env_id),
            table=environment_table(group),
            verdicts=wording.verdict(group),
            figure=f"learning_curve_{str(env_id).replace('/', '__')}" if several else None,
        )
        for env_id, group in table.groupby("env_id", sort=True)
    ]


def environment_table(table: pd.DataFrame) -> Table:
    """One row per label: scores with intervals, seeds, steps, time and speed."""
    columns = [
        list(table["label"]),
        _estimates(table, "final"),
        _estimates(table, "best"),
        [str(n) for n in table["seeds"]],
        [f"{steps:,.0f}" for steps in table["timesteps"]],
        [duration(seconds) for seconds in table["wall_seconds"]],
        [f"{speed:,.0f}" for speed in table["steps_per_second"]],
    ]
    headers = ["algorithm", "final return", "best evaluation", "seeds", "steps"]
    headers += ["wall time per run", "steps/s"]
    return Table(headers, list(zip(*columns, strict=True)), "lrrrrrr")


def steps_section(data: runs.RunData, given: Mapping[str, float]) -> StepsSection | None:
    """Steps to the threshold of each environment that has one; ``None`` where none has.

    :param given: environment to return, instead of what Gymnasium has registered
    :raises reports.runs.ReportError: see :func:`reports.thresholds.resolve`
    """
    resolved = thresholds.resolve(data.runs["env_id"], given)
    if not resolved:
        return None
    values = {env_id: threshold.value for env_id, threshold in resolved.items()}
    table = scores.steps_to_threshold(data.evaluations, values)
    return StepsSection(
        caption=wording.thresholds_sentence(resolved),
        table=steps_table(table),
        notes=wording.steps_notes(table),
    )


def steps_table(table: pd.DataFrame) -> Table:
    """One row per environment and label of :func:`reports.scores.steps_to_threshold`."""
    names = ("median", "lowest", "highest", "budget", "seeds")
    rows = table.to_dict("records")
    columns = [
        [f"{row['env_id']} ({thresholds.value_text(row['threshold'])})" for row in rows],
        [row["label"] for row in rows],
        [f"{row['reached']} of {row['seeds']}" for row in rows],
        steps_cells(*(table[name].to_numpy(dtype=np.float64) for name in names)),
    ]
    headers = ["environment (threshold)", "algorithm", "seeds that reached it"]
    headers += ["steps: median (lowest, highest)"]
    return Table(headers, list(zip(*columns, strict=True)), "llrr")


def _estimates(table: pd.DataFrame, score: str) -> list[str]:
    mean, low, high = (
        table[f"{score}_{part}"].to_numpy(dtype=np.float64) for part in ("mean", "low", "high")
    )
    return estimate_cells(mean, low, high, scores.not_told_apart(mean, low, high))


def failure_table(failures: pd.DataFrame) -> Table | None:
    """Every failed run with its error line; ``None`` where none failed."""
    if failures.empty:
        return None
    rows = [
        [row["env_id"], row["label"], str(row["seed"]), _code(row["error"].partition("\n")[0])]
        for row in failures.to_dict("records")
    ]
    return Table(["environment", "algorithm", "seed", "error"], rows, "llrl")


def hyperparameter_tables(table: pd.DataFrame) -> list[Table]:
    """For each algorithm its settings, one column for each set of environments that share them."""
    every = set(table["env_id"])
    tables = []
    for _, group in table.groupby("algo", sort=True):
        settings: dict[str, Mapping[str, Any]] = {}
        where: dict[str, dict[str, list[str]]] = {}
        for row in group.drop_duplicates(["env_id", "label"]).to_dict("records"):
            key = json.dumps(row["hyperparams"], sort_keys=True)
            settings[key] = row["hyperparams"]
            where.setdefault(key, {}).setdefault(row["label"], []).append(row["env_id"])
        names = sorted({name for values in settings.values() for name in values})
        rows = [[f"`{name}`", *(_value_cell(v, name) for v in settings.values())] for name in names]
        rows = rows or [["none set", *("–" for _ in settings)]]
        headers = ["hyperparameter", *(_heading(labels, every) for labels in where.values())]
        tables.append(Table(headers, rows, "l" + "r" * len(settings)))
    return tables


def _heading(labels: Mapping[str, Sequence[str]], every: set[str]) -> str:
    """Whose settings a column has, such as ``npg on CartPole-v1, Hopper-v5``."""
    return "; ".join(
        f"{label} on "
        + ("all environments" if len(every) > 2 and set(envs) == every else ", ".join(envs))
        for label, envs in labels.items()
    )


def _value_cell(settings: Mapping[str, Any], name: str) -> str:
    return _code(runs.setting_text(settings[name])) if name in settings else "–"


def _code(text: str) -> str:
    """``text`` verbatim; a backtick in it would end the verbatim part."""
    return f"`{text.replace('`', chr(39))}`"
