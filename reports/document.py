"""Assembles a report: what the runs say, put into sentences, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.names import file_name, markdown, shield
from benchmarks.normalisation import Scale, scales_with
from benchmarks.storage import has_record, naming, whole_folder
from reports import (
    aggregates,
    exports,
    figures,
    html,
    missing,
    published,
    runs,
    scores,
    summary,
    verdicts,
    wording,
)
from reports.costs import costs_of
from reports.diagnostics import diagnostics_of
from reports.environments import Section, sections_of
from reports.introduction import introduction
from reports.origins import failure_table, origins_of
from reports.overall import overall_of
from reports.progress import Silent
from reports.steps import StepsSection, steps_section
from reports.tables import Table, code
from reports.templates import template
from reports.tuning import Studies, tuning_of

REPORT = "report.md"
DEFAULT_TITLE = "Benchmark report"
FORMATS = ("md", "html")
TABLE_FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": exports.to_csv,
    "latex": exports.to_latex,
}


def build(
    root: Path,
    out: Path,
    title: str = DEFAULT_TITLE,
    given_thresholds: Mapping[str, float] | None = None,
    baseline: str | None = None,
    published_rows: pd.DataFrame | None = None,
    formats: Sequence[str] = FORMATS,
    allow_mixed: bool = False,
    warn: Callable[[str], None] = lambda _: None,
    progress: Silent | None = None,
    studies: Studies | None = None,
    normalisation: Path | None = None,
) -> Path:
    """Write the report, ``scores.csv``, ``comparisons.csv`` and the figures into ``out``.

    It is there whole or not at all: until all of it is made, ``out`` stays as it was. Runs that
    cannot be read are left out, and the report says which and why.

    :param root: where the run folders are
    :param out: made if it does not exist; files of the same names are overwritten
    :param given_thresholds: environment to return, instead of what Gymnasium has registered
    :param baseline: the label that the others are compared with; None: the second best
    :param published_rows: results of others, as :func:`reports.published.load` gives them
    :param formats: of ``FORMATS`` and ``TABLE_FORMATS``: beside ``report.md``, which is always
        there, ``report.html``, and each table by itself in the folder ``tables``
    :param allow_mixed: runs of one environment may have different budgets or evaluation protocols
    :param warn: called with a line for each run or log that is left out, and for what is mixed
    :param progress: shows how far it has come
    :param studies: whose results have a section of their own
    :param normalisation: a file with more scales, as :func:`benchmarks.normalisation.load_scales`
        reads it
    :return: path of ``report.md``
    :raises reports.runs.ReportError: see :func:`reports.runs.load`,
        :func:`reports.thresholds.resolve` and :func:`reports.tuning.tuning_of`; a baseline that is
        not among the labels
    :raises benchmarks.errors.SpecError: scales that cannot be read
    """
    progress = progress or Silent()
    scales = scales_with(normalisation)
    data = runs.load(
        root, allow_mixed, True, lambda folders: progress.going_through(folders, "Reading")
    )
    for line in [*(f"left out: {line}" for line in data.broken), *wording.mixed_lines(data)]:
        warn(line)
    baseline = None if baseline is None else shield(baseline)
    _check_baseline(data, baseline)
    steps = steps_section(data, given_thresholds or {})
    with whole(out) as folder:
        # First, since it refuses studies that are not there before anything is drawn.
        tuning = None if studies is None else tuning_of(studies, folder, warn)
        parts = _parts(data, folder, steps, baseline, published_rows, progress, warn, scales)
        parts |= {"tuning": tuning}
        _write(render(data, title, parts), named_tables(parts), folder, formats)
    return out / REPORT


def build_of_studies(
    studies: Studies,
    out: Path,
    title: str = DEFAULT_TITLE,
    formats: Sequence[str] = FORMATS,
    warn: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a report on studies alone; parameters, return and errors as for :func:`build`."""
    with whole(out) as folder:
        tuning = tuning_of(studies, folder, warn)
        text = markdown(template("studies.md.j2").render(title=title, tuning=tuning))
        _write(text, tuning.named_tables(), folder, formats)
    return out / REPORT


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text.

    :raises OSError: naming it
    """
    with naming(path):
        path.write_text(text, encoding="utf-8", newline="\n")


def _write(text: str, tables: Mapping[str, Table], out: Path, formats: Sequence[str]) -> None:
    write_text(out / REPORT, text)
    for ending, export in TABLE_FORMATS.items():
        if ending in formats:
            write_tables(tables, out / "tables", ending, export)
    if "html" in formats:
        write_text(out / "report.html", html.page(text, out))


def _parts(
    data: runs.RunData,
    out: Path,
    steps: StepsSection | None,
    baseline: str | None,
    published_rows: pd.DataFrame | None,
    progress: Silent,
    warn: Callable[[str], None],
    scales: Mapping[str, Scale],
) -> dict[str, Any]:
    """What the template shows, by the names it has there; figures are written into ``out``."""
    table = scores.score_table(data.runs, data.evaluations)
    styles = figures.looks(list(table["label"]))
    comparisons = verdicts.comparisons_of(table, scores.run_scores(data.evaluations))
    for name, frame in (("scores", table), ("comparisons", comparisons.frame())):
        write_text(out / f"{name}.csv", exports.frame_csv(frame, float_format="%.10g"))
    sections = sections_of(table, comparisons)
    failed = missing.all_failed(data)
    matrices = aggregates.matrices(data.evaluations, scales)
    if (unused := aggregates.why_not_compared_with(matrices, baseline)) is not None:
        warn(unused)
    making: dict[str, Callable[[], Any]] = {
        "summary": lambda: [
            *summary.summary(table, comparisons, matrices, baseline, failed),
            *([] if unused is None else [unused]),
        ],
        "sections": lambda: _with_figures(sections, data.evaluations, styles, out, progress),
        "costs": lambda: costs_of(data, table, styles, out),
        "overall": lambda: matrices and overall_of(matrices, baseline, styles, out),
        "steps": lambda: steps,
        "literature": lambda: _literature(data, published_rows, warn),
        "diagnostics": lambda: diagnostics_of(data, styles, out, warn),
        "origins": lambda: origins_of(data.runs),
        "notes": lambda: wording.notes(data, table),
    }
    return {name: make() for name, make in progress.going_through(list(making.items()), "Building")}


def _literature(
    data: runs.RunData, published_rows: pd.DataFrame | None, warn: Callable[[str], None]
) -> published.Literature | None:
    literature = published.literature_of(data, published_rows)
    if published_rows is not None and literature is None:
        warn("--published: no result is of a task of these runs")
    return literature


def _with_figures(
    sections: Sequence[Section],
    evaluations: pd.DataFrame,
    styles: Mapping[str, figures.Look],
    out: Path,
    progress: Silent,
) -> Sequence[Section]:
    """The sections, after their learning curves, and those of all, are written into ``out``."""
    curves = scores.learning_curves(evaluations)
    figures.save(figures.learning_curves(curves, styles), out / "learning_curves")
    for section in progress.going_through(sections, "Drawing"):
        if section.figure:
            of_environment = curves[curves["env_id"] == section.env_id]
            figures.save(figures.learning_curves(of_environment, styles), out / section.figure)
    return sections


def render(data: runs.RunData, title: str, parts: Mapping[str, Any]) -> str:
    """The report as Markdown; the figures it names lie beside it.

    :param parts: what the template shows, by the names it has there
    """
    lacking = missing.missing_of(data)
    text = template("report.md.j2").render(
        title=title,
        introduction=introduction(data, lacking, missing.all_failed(data)),
        warnings=wording.mixed_lines(data),
        failures=failure_table(data.failures),
        missing=lacking,
        broken=[code(line) for line in data.broken],
        **parts,
    )
    return markdown(text)


def named_tables(parts: Mapping[str, Any]) -> dict[str, Table]:
    """The tables of results, by names that can be those of files.

    :param parts: as for :func:`render`
    """
    tables = {f"scores-{section.env_id}": section.table for section in parts["sections"]}
    tables["costs"] = parts["costs"].table
    if (overall := parts["overall"]) is not None:
        tables |= {"aggregates": overall.aggregates, "normalisation": overall.scales}
        if overall.improvements is not None:
            tables["improvement"] = overall.improvements
    if parts["steps"] is not None:
        tables["steps-to-threshold"] = parts["steps"].table
    if (literature := parts["literature"]) is not None:
        tables["literature-sources"] = literature.measures
        if literature.same is not None:
            tables["literature-same-algorithm"] = literature.same
        tables |= {f"literature-{env_id}": table for env_id, table in literature.tables}
    if (diagnostics := parts["diagnostics"]) is not None:
        tables |= {f"diagnostics-{part.name}": part.table for part in diagnostics.parts}
    if parts["tuning"] is not None:
        tables |= parts["tuning"].named_tables()
    return {file_name(name): table for name, table in tables.items()}


def whole(out: Path) -> AbstractContextManager[Path]:
    """Where to write what comes to ``out`` when all of it is there."""
    if out.exists() and not out.is_dir():
        raise runs.ReportError(f"--out: must be a folder, got the file {str(out)!r}")
    if has_record(out):
        raise runs.ReportError(f"--out: must not be the folder of a run, got {str(out)!r}")
    return whole_folder(out, last=REPORT)


def write_tables(
    tables: Mapping[str, Table], folder: Path, ending: str, export: Callable[[Table], str]
) -> None:
    """A file for each table."""
    folder.mkdir(exist_ok=True)
    suffix = "tex" if ending == "latex" else ending
    for name, table in tables.items():
        write_text(folder / f"{name}.{suffix}", export(table))


def _check_baseline(data: runs.RunData, baseline: str | None) -> None:
    labels = sorted(data.runs["label"].unique())
    if baseline is not None and baseline not in labels:
        raise runs.ReportError(f"--baseline: '{baseline}' is not one of {', '.join(labels)}")
