"""A report on runs whose names are full of marks, and how long texts are cut."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.testing import CliRunner

from benchmarks import statistics
from benchmarks.__main__ import app as benchmarks
from reports import document
from reports.__main__ import app
from reports.data import comparison, context
from reports.sections.comparison import render
from tests.browser import Page
from tests.reports.conftest import RunFolders
from tests.reports.published_rows import GOOD
from tests.reports.study_folders import StudyFolders, small

ALGOS = ["<script>alert(1)</script>", "a|b_$c$", "=cmd()", "[x](https:y) *z* `w`"]
ENVS = ["**Odd** $e$ [1]-v0", "# Env-v0"]
IN_CSV = {*ALGOS, "'=cmd()"} - {"=cmd()"}
PUBLISHED = GOOD | {
    "source": "=1+1 [lab](https:z) <u>",
    "algo": "<i>|p",
    "env_id": ENVS[0],
    "metric": "*last* | `one`",
    "note": "![n](https:z.png)",
}
ERROR = "E: <script>|`x`\x1b[31m [a](b)"
SHOWN = [
    *ALGOS,
    *ENVS,
    "`|",
    "<b>|`x` # T",
    "`<b>",
    "<i> [a](b)",
    "$\\alpha$ <u>",
    "<img src=x>",
    ERROR.replace("\x1b", r"\x1b"),
    *(PUBLISHED[name] for name in ("source", "algo", "metric", "note")),
]
"""What every format that has it shows."""


@pytest.fixture(autouse=True, scope="module")
def _few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "REPETITIONS", 100)
        yield


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    folders = RunFolders(tmp_path_factory.mktemp("odd") / "runs")
    for env_id in ENVS:
        for height, algo in enumerate(ALGOS, start=1):
            for seed in range(3):
                folders.add(
                    algo,
                    env_id,
                    seed,
                    [0.0, height + seed / 10],
                    hyperparams={"`|": "<b>|`x`\n\n# T"},
                    suite="s*u*ite",
                    command="x\n```\n<img src=x>",
                    commit="`<b>",
                    versions={"<i>": "[a](b)"},
                    machine={"system": "$\\alpha$ <u>"},
                )
    folders.add_failure("npg", ENVS[0], 5, error=f"{ERROR}\nmore")
    return folders


@pytest.fixture(scope="module")
def report(odd: RunFolders) -> Path:
    """The report in every format, with published results."""
    file = odd.root.with_name("published.csv")
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, PUBLISHED)
        writer.writeheader()
        writer.writerow(PUBLISHED)
    out = odd.root.with_name("report")
    loaded = context.load(odd.root, published_file=file)
    document.build(loaded, out, "T <title> [t](https:t)", ["md", "html", "csv", "latex"])
    return out


def flat(tokens: list[Token]) -> list[Token]:
    """The tokens and all that are inside them."""
    return [each for token in tokens for each in (token, *flat(token.children or []))]


def parsed(text: str) -> list[Token]:
    return flat(MarkdownIt("commonmark", {"html": True}).enable("table").parse(text))


def test_markdown_shows_the_names_and_obeys_none(report: Path) -> None:
    text = (report / "report.md").read_text()
    tokens = parsed(text)
    assert not [each for each in tokens if each.type.startswith("html")]
    addresses = {str(each.attrs["href"]) for each in tokens if each.type == "link_open"}
    pictures = {str(each.attrs["src"]) for each in tokens if each.type == "image"}
    assert not [each for each in addresses | pictures if each.startswith("https:")]
    headings = {
        "".join(child.content for child in inline.children or [])
        for opening, inline in pairwise(tokens)
        if opening.type == "heading_open"
    }
    assert {*ENVS, "T <title> [t](https:t)"} <= headings
    kinds = ("text", "code_inline", "fence")
    shown = "".join(each.content for each in tokens if each.type in kinds)
    assert [name for name in SHOWN if name not in shown] == []


def test_html_shows_the_names_and_obeys_none(report: Path) -> None:
    text = (report / "report.html").read_text()
    page = Page(text)
    assert page.mismatched == []
    assert text.count("<script") == len(page.all("script")) == 3  # two, and the curves' numbers
    assert not any(page.all(tag) for tag in ("b", "i", "u", "em"))
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    targets = [link["href"] for link in page.all("a")]
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert [title["text"] for title in page.all("title")] == ["T <title> [t](https:t)"]
    (body,) = page.all("main")
    assert [name for name in SHOWN if name not in body["text"]] == []


def test_csv_shows_the_names_and_no_spreadsheet_obeys_one(report: Path) -> None:
    with (report / "scores.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == IN_CSV
    tables = {path.name: path.read_text() for path in (report / "tables").glob("*.csv")}
    scores = [text for name, text in tables.items() if name.startswith("scores-")]
    assert len(scores) == len(ENVS)
    for text in scores:
        assert {row[0] for row in list(csv.reader(io.StringIO(text)))[1:]} == IN_CSV
    cells = {
        cell for text in tables.values() for row in csv.reader(io.StringIO(text)) for cell in row
    }
    assert {*ENVS, PUBLISHED["algo"], f"'{PUBLISHED['source']}"} <= cells
    for path in report.rglob("*.csv"):
        cells = {cell for row in csv.reader(path.open(newline="")) for cell in row}
        formulas = {cell for cell in cells if re.match(r"[=+@\t\r]|-(?!\d|\.|inf)", cell)}
        assert formulas == set(), path


def test_latex_shows_the_names(report: Path) -> None:
    tables = {path.name: path.read_text() for path in (report / "tables").glob("*.tex")}
    scores = [text for name, text in tables.items() if name.startswith("scores-")]
    assert len(scores) == len(ENVS)
    for text in scores:
        assert r"a\textbar{}b\_\$c\$ & " in text
        assert r"{[}x](https:y) *z* \textasciigrave{}w\textasciigrave{} & " in text
        assert r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{} & " in text
    assert r"{*}*Odd** \$e\$ [1]-v0 & " in tables["costs.tex"]
    published = "".join(text for name, text in tables.items() if name.startswith("literature"))
    assert r"\textless{}i\textgreater{}\textbar{}p" in published


def test_figures_show_the_names(report: Path) -> None:
    # matplotlib says in a comment what it has drawn.
    drawn = (report / "learning_curves.svg").read_text()
    assert "<!-- a|b_$c$, 3 seeds -->" in drawn
    assert "<!-- **Odd** $e$ [1]-v0 -->" in drawn
    for path in report.rglob("*.svg"):
        assert "<script" not in path.read_text()


def test_studies_show_the_names(studies: StudyFolders, tmp_path: Path) -> None:
    problem = small("ppo", ["CartPole-v1"], 3)
    names = {"name": "*x*|`", "symbol": "<e>", "meaning": "[m](https:m)"}
    parameter = replace(problem.space[0], default=0.1, **names)
    only = ENVS[0]
    problem = replace(problem, algo=ALGOS[0], env_ids=(only,), space=(parameter,))
    problem = replace(problem, hyperparams={only: {}}, scales={only: None})
    studies.with_returns(lambda spec: 1.0 + spec.seed)
    studies.study("odd", problem, 3)
    wanted = context.Studies(["odd"], studies.root)
    document.build(context.load(studies=wanted), tmp_path, formats=["html", "csv", "latex"])

    text = (tmp_path / "report.md").read_text()
    shown = "".join(each.content for each in parsed(text) if each.type == "text")
    page = Page((tmp_path / "report.html").read_text())
    assert page.mismatched == []
    assert len(page.all("script")) == 1
    for name in (ALGOS[0], only, "*x*|` (<e>)", "*x*|`=0.1"):
        assert name in shown
        assert name in page.all("main")[0]["text"]
    assert "*x*|` (<e>)" in (tmp_path / "tables" / "studies-values.csv").read_text()
    latex = (tmp_path / "tables" / "studies-values.tex").read_text()
    assert r"*x*\textbar{}\textasciigrave{} (\textless{}e\textgreater{})" in latex


def test_a_comparison_shows_the_names(odd: RunFolders) -> None:
    compared = comparison.compare(odd.root, odd.root)
    text, md, table = (render(compared, form) for form in ("text", "md", "csv"))
    assert "**Odd** $e$ [1]-v0  a|b_$c$ " in text
    assert r"| \*\*Odd\*\* \$e\$ \[1\]-v0 | a\|b\_\$c\$ " in md
    assert {row["label"] for row in csv.DictReader(io.StringIO(table))} == IN_CSV


def test_a_terminal_shows_the_names(odd: RunFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(benchmarks, ["status", str(odd.root)]).output
    assert all(f" {algo} " in shown for algo in ALGOS)
    assert all(f" {env_id} " in shown for env_id in ENVS)
    assert "E: <script>|`x`" in shown
    assert "\x1b" not in shown


def test_watching_shows_the_names(odd: RunFolders, tmp_path: Path) -> None:
    folders = RunFolders(tmp_path)
    evaluation = {"points": 1, "episodes": 10, "seed": 0}
    for algo in ALGOS:
        folders.add(algo, ENVS[0], evaluation=evaluation)
    out = tmp_path / "curves.png"
    result = CliRunner().invoke(
        app, ["watch", str(folders.root), "--out", str(out)], env={"COLUMNS": "120"}
    )
    assert result.exit_code == 0, result.output
    assert ENVS[0] in result.output
    assert all(f" {algo}, 1 seed: " in result.output for algo in ALGOS)
    assert out.exists()


def test_options_take_the_names_as_they_are(odd: RunFolders, tmp_path: Path) -> None:
    arguments = ["build", str(odd.root), "--out", str(tmp_path / "r"), "--format", "md"]
    options = ["--baseline", "a|b_$c$", "--threshold", f"{ENVS[0]}=1"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, [*arguments, "--baseline", "gone"])
    assert result.exit_code == 2
    assert "'gone' is not one of" in result.stderr
    assert "a|b_$c$" in result.stderr


def test_a_message_of_50_megabytes_is_a_line(folders: RunFolders, tmp_path: Path) -> None:
    folders.add("npg")
    for seed in range(1, 4):
        path = folders.add_failure("npg", seed=seed, error="x" * 2_000)
    record = json.loads(path.read_text()) | {"error": "x|" * 25_000_000}
    path.write_text(json.dumps(record))
    report = tmp_path / "report"
    document.build(context.load(folders.root), report, formats=["md", "html", "csv"])
    text = (report / "report.md").read_text()
    assert r"x\|x\|" in text
    assert max(len(line) for line in text.splitlines()) < 1_500
