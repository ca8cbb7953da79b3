"""Assembles a report: what the runs say, put into sentences, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from benchmarks.specs import as_file_name
from reports import (
    aggregate_figures,
    aggregates,
    exports,
    figures,
    html,
    published,
    runs,
    scores,
    summary,
    thresholds,
    wording,
)
from reports.tables import Table, duration, estimate_cells, steps_cells

DEFAULT_TITLE = "Benchmark report"
FORMATS = ("md", "html")
TABLE_FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": exports.to_csv,
    "latex": exports.to_latex,
}


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


@dataclass(frozen=True)
class Literature:
    """What the report says of published results, an entry of each for each environment."""

    tables: Sequence[tuple[str, Table]]
    sentences: Sequence[str]
    sources: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Overall:
    """What the report says of all environments together."""

    introduction: Sequence[str]
    scales: Table
    aggregates: Table
    improvements: Table | None
    figures: Sequence[tuple[str, str]]  # file name without its ending, and what it shows


def build(
    root: Path,
    out: Path,
    title: str = DEFAULT_TITLE,
    given_thresholds: Mapping[str, float] | None = None,
    baseline: str | None = None,
    published_rows: pd.DataFrame | None = None,
    formats: Sequence[str] = FORMATS,
) -> Path:
    """Write the report, ``scores.csv`` and the figures into ``out``.

    :param root: where the run folders are
    :param out: made if it does not exist; files of the same names are overwritten
    :param given_thresholds: environment to return, instead of what Gymnasium has registered
    :param baseline: the label that the others are compared with; None: the second best
    :param published_rows: results of others, as :func:`reports.published.load` gives them
    :param formats: of ``FORMATS`` and ``TABLE_FORMATS``: beside ``report.md``, which is always
        there, ``report.html``, and each table by itself in the folder ``tables``
    :return: path of ``report.md``
    :raises reports.runs.ReportError: see :func:`reports.runs.load` and
        :func:`reports.thresholds.resolve`; a baseline that is not among the labels
    """
    data = runs.load(root)
    _check_baseline(data, baseline)
    steps = steps_section(data, given_thresholds or {})
    table = scores.score_table(data.runs, data.evaluations)
    curves = scores.learning_curves(data.evaluations)
    styles = figures.looks(list(table["label"]))
    out.mkdir(parents=True, exist_ok=True)
    sections = sections_of(table)
    matrices = aggregates.matrices(data.evaluations)
    overall = None if matrices is None else overall_of(matrices, baseline, styles, out)
    lines = summary.summary(table, matrices, baseline)
    figures.save(figures.learning_curves(curves, styles), out / "learning_curves")
    for section in sections:
        if section.figure:
            of_environment = curves[curves["env_id"] == section.env_id]
            figures.save(figures.learning_curves(of_environment, styles), out / section.figure)
    table.to_csv(out / "scores.csv", index=False, float_format="%.10g", lineterminator="\n")
    report = out / "report.md"
    literature = None if published_rows is None else literature_of(data, published_rows)
    text = render(data, table, sections, steps, title, lines, overall, literature)
    report.write_text(text, encoding="utf-8", newline="\n")
    tables = named_tables(sections, overall, steps, literature)
    for ending, export in TABLE_FORMATS.items():
        if ending in formats:
            write_tables(tables, out / "tables", ending, export)
    if "html" in formats:
        page = html.page(text, out)
        (out / "report.html").write_text(page, encoding="utf-8", newline="\n")
    return report


def render(
    data: runs.RunData,
    table: pd.DataFrame,
    sections: Sequence[Section],
    steps: StepsSection | None,
    title: str,
    summary_lines: Sequence[str],
    overall: Overall | None,
    literature: Literature | None,
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
        summary=summary_lines,
        overall=overall,
        literature=literature,
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


def named_tables(
    sections: Sequence[Section],
    overall: Overall | None,
    steps: StepsSection | None,
    literature: Literature | None,
) -> dict[str, Table]:
    """The tables of results, by names that can be those of files."""
    tables = {f"scores-{section.env_id}": section.table for section in sections}
    if overall is not None:
        tables |= {"aggregates": overall.aggregates, "normalisation": overall.scales}
        if overall.improvements is not None:
            tables["improvement"] = overall.improvements
    if steps is not None:
        tables["steps-to-threshold"] = steps.table
    if literature is not None:
        tables |= {f"literature-{env_id}": table for env_id, table in literature.tables}
    return {as_file_name(name): table for name, table in tables.items()}


def write_tables(
    tables: Mapping[str, Table], folder: Path, ending: str, export: Callable[[Table], str]
) -> None:
    """A file for each table."""
    folder.mkdir(exist_ok=True)
    suffix = "tex" if ending == "latex" else ending
    for name, table in tables.items():
        path = folder / f"{name}.{suffix}"
        path.write_text(export(table), encoding="utf-8", newline="\n")


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


def _check_baseline(data: runs.RunData, baseline: str | None) -> None:
    labels = sorted(data.runs["label"].unique())
    if baseline is not None and baseline not in labels:
        raise runs.ReportError(f"--baseline: {baseline!r} is not one of {', '.join(labels)}")


def overall_of(
    matrices: aggregates.Matrices,
    baseline: str | None,
    styles: Mapping[str, figures.Look],
    out: Path,
) -> Overall:
    """The section on all environments; its figures are written into ``out``."""
    table = aggregates.aggregate_table(matrices.finals)
    drawn = {
        "aggregates": (
            aggregate_figures.aggregates(table, styles),
            "Aggregates over environments, each with its 95% interval",
        ),
        "profiles": (
            aggregate_figures.profiles(aggregates.profiles(matrices.finals), styles),
            "Performance profiles: which share of its runs an algorithm has above a score",
        ),
    }
    if matrices.curves:
        efficiency = aggregates.efficiency(matrices.curves, matrices.shares)
        drawn["efficiency"] = (
            aggregate_figures.efficiency(efficiency, styles),
            "Sample efficiency: the interquartile mean of all scores as training goes on",
        )
    pairs = aggregates.improvements(matrices.finals)
    if len(pairs):
        over = _baseline(table, baseline)
        drawn["improvement"] = (
            aggregate_figures.improvements(pairs, over, styles),
            f"Probability of improvement over {over}",
        )
    for name, (figure, _) in drawn.items():
        figures.save(figure, out / name)
    return Overall(
        introduction=wording.overall(matrices),
        scales=scale_table(matrices),
        aggregates=aggregates_table(table),
        improvements=improvements_table(pairs, table) if len(pairs) else None,
        figures=[(name, caption) for name, (_, caption) in drawn.items()],
    )


def literature_of(data: runs.RunData, rows: pd.DataFrame) -> Literature | None:
    """Our results beside published ones; ``None`` where none is of the same task."""
    frame = published.for_runs(data, rows)
    if frame.empty:
        return None
    return Literature(
        published.tables(frame),
        published.sentences(frame),
        published.sources(frame),
        published.notes(frame),
    )


def _ranking(table: pd.DataFrame) -> list[str]:
    """Labels by their interquartile mean, the highest first."""
    first = table[table["aggregate"] == "interquartile mean"]
    return [str(label) for label in first.sort_values("value", ascending=False)["label"]]


def _baseline(table: pd.DataFrame, baseline: str | None) -> str:
    ranking = _ranking(table)
    return baseline if baseline in ranking else ranking[min(1, len(ranking) - 1)]


def scale_table(matrices: aggregates.Matrices) -> Table:
    """What scores 0 and what scores 1 on each environment."""
    rows = [
        [env_id, f"{scale.random:,.2f}", f"{scale.reference:,.2f}", scale.reference_source]
        for env_id, scale in matrices.scales.items()
    ]
    headers = ["environment", "random policy (0)", "reference (1)", "the reference is"]
    return Table(headers, rows, "lrrl")


def aggregates_table(table: pd.DataFrame) -> Table:
    """One row per label of :func:`reports.aggregates.aggregate_table`, one column per aggregate."""
    ranking = _ranking(table)
    columns = [ranking]
    for name in aggregates.AGGREGATES:
        rows = table[table["aggregate"] == name].set_index("label").loc[ranking]
        value, low, high = (
            rows[key].to_numpy(dtype=np.float64) for key in ("value", "low", "high")
        )
        sign = -1.0 if name == "optimality gap" else 1.0
        ends = (low, high) if sign > 0 else (-high, -low)
        bold = scores.not_told_apart(sign * value, *ends)
        columns.append(estimate_cells(value, low, high, bold))
    seeds = table.drop_duplicates("label").set_index("label").loc[ranking, "seeds"]
    columns.append([str(n) for n in seeds])
    headers = ["algorithm", *aggregates.AGGREGATES, "seeds"]
    return Table(headers, list(zip(*columns, strict=True)), "l" + "r" * (len(headers) - 1))


def improvements_table(pairs: pd.DataFrame, table: pd.DataFrame) -> Table:
    """How probable it is that a run of the row's label is better than one of the column's."""
    ranking = _ranking(table)
    cells = {
        (row["label"], row["over"]): _probability(row["probability"], row["low"], row["high"])
        for row in pairs.to_dict("records")
    }
    rows = [[label, *(cells.get((label, other), "–") for other in ranking)] for label in ranking]
    return Table(["P(row > column)", *ranking], rows, "l" + "r" * len(ranking))


def _probability(value: float, low: float, high: float) -> str:
    if np.isnan(low):
        return f"{value:.2f} (1 seed)"
    shown = f"**{value:.2f}**" if low > 0.5 or high < 0.5 else f"{value:.2f}"
    return f"{shown} [{low:.2f}, {high:.2f}]"


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
