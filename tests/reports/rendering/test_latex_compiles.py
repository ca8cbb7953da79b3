"""LaTeX takes every table of a report, and shows names as they are, whatever is in them."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from benchmarks import statistics
from benchmarks.statistics import Estimate
from benchmarks.tables import Estimates, Number, Table, Text
from reports import document
from reports.data import aggregates, context
from reports.rendering.blocks import tables_of
from reports.rendering.latex import to_latex
from tests.reports.conftest import RunFolders

HOSTILE = [
    "a&b_c%",
    r"\input{/etc/passwd}",
    r"\write18{touch pwned}",
    "$x^2$ #1 ~ {",
    "[3pt] *",
    "``quoted'' \"",
    "--- << >> |",
    "Müller, Ångström",
]
ENGINES = [name for name in ("pdflatex", "tectonic") if shutil.which(name)]

pytestmark = pytest.mark.skipif(not ENGINES, reason="neither pdflatex nor tectonic is installed")


def compiled(tables: list[str], folder: Path) -> Path:
    """The PDF of a document with these tables, one on a page, or the compiler's messages."""
    pages = "\\clearpage\n".join(f"{{\\tiny\n{table}}}\n" for table in tables)
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{pages}"
    (folder / "tables.tex").write_text(document + "\\end{document}\n")
    options = {
        "pdflatex": ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"],
        "tectonic": ["--untrusted"],
    }
    command = [ENGINES[0], *options[ENGINES[0]], "tables.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stdout[-2_000:] + result.stderr[-2_000:]
    return folder / "tables.pdf"


def text_of_pdf(pdf: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    command = ["pdftotext", "-layout", pdf.name, "-"]
    return subprocess.run(
        command, cwd=pdf.parent, capture_output=True, text=True, check=True
    ).stdout


def signs(text: str) -> str:
    """Text without spaces and underscores: LaTeX draws these as lines, which are no text."""
    text = unicodedata.normalize("NFC", text)
    return re.sub(r"[\s_]", "", text).translate({ord("ˆ"): "^", ord("˜"): "~"})


def test_every_table_of_a_report_compiles(
    study: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 50)
    monkeypatch.setattr(aggregates, "REPETITIONS", 50)
    # Those that folders can have, of which a report is made.
    names = [name for name in HOSTILE if "\\" not in name]
    for i, name in enumerate(names):
        for seed in range(3):
            study.add(name, seed=seed, returns=[0.0, 100.0 + i + seed])
    made = context.load(study.root, with_published=True)
    sections = [section for make in document.SECTIONS if (section := make(made)) is not None]
    tables = tables_of(sections)
    assert {"who-beats-whom", "tests", "costs", "scores-CartPole-v1"} <= set(tables)
    shown = text_of_pdf(compiled(list(map(to_latex, tables.values())), tmp_path))
    for name in names:
        assert signs(name) in signs(shown)


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    table = Table([Text("name", HOSTILE), Number("n", list(range(len(HOSTILE))))])
    shown = text_of_pdf(compiled([to_latex(table)], tmp_path))
    for name in HOSTILE:
        assert signs(name) in signs(shown), shown
    assert "root:x:" not in shown
    assert not (tmp_path / "pwned").exists()


def test_what_the_fonts_of_pdflatex_lack_is_named_by_its_number(tmp_path: Path) -> None:
    pdf = compiled([to_latex(Table([Text("name", ["λ-漢", "ế"])]))], tmp_path)
    shown = text_of_pdf(pdf)
    if ENGINES[0] == "pdflatex":
        assert "U+03BB-U+6F22" in shown
        assert "U+1EBF" in shown
    else:
        assert "λ" in shown


def test_intervals_are_aligned_below_one_heading(tmp_path: Path) -> None:
    estimates = [Estimate(4812.4, 4000, 5100), Estimate(-9, -31, 12), Estimate(3), "not run"]
    column = Estimates("final", estimates, bold=[True, False, False, False])
    shown = text_of_pdf(compiled([to_latex(Table([column]))], tmp_path))
    first, second = (line for line in shown.splitlines() if "[" in line)
    assert first.index("[") == second.index("[")
    assert "4,812" in first
    assert "−9" in second
