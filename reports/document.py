"""Builds a report: asks every section what it has to say, and writes the answers down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.storage import has_record, naming, whole_folder
from benchmarks.tables import Table, to_csv
from reports import FORMATS, TITLE
from reports.data.context import Context
from reports.data.runs import ReportError
from reports.rendering import figures, html, markdown
from reports.rendering.blocks import Section, figures_of, tables_of
from reports.rendering.latex import to_latex
from reports.rendering.progress import Silent
from reports.sections import (
    costs,
    diagnostics,
    how_to_read,
    introduction,
    literature,
    missing,
    origins,
    overall,
    pair_tests,
    scores,
    steps_to_threshold,
    studies,
    summary,
)

REPORT = "report.md"
TABLE_FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "csv": ("csv", to_csv),
    "latex": ("tex", to_latex),
}
"""Formats of single tables: the ending of their files, and what writes them."""

SECTIONS: Sequence[Callable[[Context], Section | None]] = [
    introduction.build,
    summary.build,
    scores.build,
    overall.build,
    pair_tests.build,
    costs.build,
    steps_to_threshold.build,
    literature.build,
    diagnostics.build,
    studies.build,
    how_to_read.build,
    origins.build,
    missing.build,
]
"""The sections in their order; one that has nothing to say returns None."""


def build(
    context: Context,
    out: Path,
    title: str = TITLE,
    formats: Sequence[str] = FORMATS,
    progress: Silent | None = None,
    for_paper: bool = False,
) -> Path:
    """Write the report, its figures and the files that it links to into ``out``.

    It is there whole or not at all: until all of it is made, ``out`` stays as it was.

    :param out: made if it does not exist; files of the same names are overwritten
    :param formats: of ``FORMATS`` and ``TABLE_FORMATS``: beside ``report.md``, which is always
        there, ``report.html``, and each table by itself in the folder ``tables``
    :param progress: shows how far it has come
    :param for_paper: also write each figure as PDF, in the style of a paper
    :return: path of ``report.md``
    :raises ReportError: ``out`` is a file or a run's folder, or a section refuses what it was given
    """
    progress = progress or Silent()
    whole = _whole(out)
    # Before anything is drawn, since a section may refuse.
    found = [make(context) for make in progress.going_through(SECTIONS, "Building")]
    sections = [section for section in found if section is not None]
    with whole as folder:
        for figure in progress.going_through(figures_of(sections), "Drawing"):
            figures.save(figure.draw(), folder / figure.name, figure.colours)
            if for_paper:
                figures.save_for_paper(figure.draw, folder / figure.name)
        for section in sections:
            for name, text in section.files.items():
                _write(folder / name, text)
        _write(folder / REPORT, markdown.document(title, sections))
        if "html" in formats:
            _write(folder / "report.html", html.page(title, sections, folder))
        _write_tables(tables_of(sections), folder / "tables", formats)
    return out / REPORT


def _write_tables(tables: Mapping[str, Table], folder: Path, formats: Sequence[str]) -> None:
    for name in TABLE_FORMATS:
        if name in formats:
            ending, export = TABLE_FORMATS[name]
            folder.mkdir(exist_ok=True)
            for each, table in tables.items():
                _write(folder / f"{each}.{ending}", export(table))


def _write(path: Path, text: str) -> None:
    with naming(path):
        path.write_text(text, encoding="utf-8", newline="\n")


def _whole(out: Path) -> AbstractContextManager[Path]:
    """Where to write what comes to ``out`` when all of it is there."""
    if out.exists() and not out.is_dir():
        raise ReportError(f"--out: must be a folder, got the file {str(out)!r}")
    if has_record(out):
        raise ReportError(f"--out: must not be the folder of a run, got {str(out)!r}")
    return whole_folder(out, last=REPORT)
