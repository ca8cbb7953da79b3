"""A report on runs whose names are full of marks, and how long texts are cut."""

from __future__ import annotations

import csv
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from benchmarks import statistics
from benchmarks.__main__ import app as benchmarks
from reports import comparison, document
from reports.__main__ import app
from reports.comparison import Format
from tests.reports.conftest import RunFolders

ALGOS = ["<script>alert(1)</script>", "a|b_$c$", "=cmd()", "[x](https:y) *z* `w`"]
ENVS = ["**Odd** $e$ [1]-v0", "# Env-v0"]
STAND_INS = re.compile("[\ue000-\ue07f]")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 100)
    monkeypatch.setattr(comparison, "REPETITIONS", 100)


@pytest.fixture
def odd(tmp_path: Path) -> RunFolders:
    folders = RunFolders(tmp_path / "runs")
    for env_id in ENVS:
        for height, algo in enumerate(ALGOS, start=1):
            for seed in range(2):
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
    folders.add_failure("npg", ENVS[0], 5, error="E: <script>|`x`\x1b[31m [a](b)\nmore")
    return folders


def test_every_format_shows_the_names_and_obeys_none(odd: RunFolders, tmp_path: Path) -> None:
    out = tmp_path / "report"
    document.build(odd.root, out, formats=["md", "html", "csv", "latex"])

    text = (out / "report.md").read_text()
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    children = [child for token in tokens for child in token.children or []]
    assert not [each for each in [*tokens, *children] if each.type.startswith("html")]
    addresses = {str(each.attrs["href"]) for each in children if each.type == "link_open"}
    assert not [address for address in addresses if address.startswith("https:y")]
    headings = [
        "".join(child.content for child in inline.children or [])
        for opening, inline in pairwise(tokens)
        if opening.type == "heading_open" and opening.tag == "h3"
    ]
    assert headings[:2] == sorted(ENVS, key=headings.index)

    page = (out / "report.html").read_text()
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<img src=x" not in page

    with (out / "scores.csv").open(newline="") as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert labels == {*ALGOS, "'=cmd()"} - {"=cmd()"}
    for path in (out / "tables").glob("scores-*.csv"):
        assert {row[0] for row in list(csv.reader(path.open(newline="")))[1:]} == labels
    (latex, _) = sorted((out / "tables").glob("scores-*.tex"))
    assert r"a\textbar{}b\_\$c\$ & " in latex.read_text()
    assert "{[}x](https:y) *z* `w` & " in latex.read_text()

    for path in out.rglob("*"):
        if path.suffix in (".md", ".html", ".csv", ".tex", ".svg"):
            assert not STAND_INS.search(path.read_text()), path
    # matplotlib says in a comment what it has drawn.
    drawn = (out / "learning_curves.svg").read_text()
    assert "<!-- a|b_$c$, 2 seeds -->" in drawn
    assert "<!-- **Odd** $e$ [1]-v0 -->" in drawn


def test_a_comparison_shows_the_names(odd: RunFolders) -> None:
    compared = comparison.compare(odd.root, odd.root)
    text, md, table = (comparison.render(compared, form) for form in Format)
    assert "**Odd** $e$ [1]-v0  a|b_$c$ " in text
    assert r"| \*\*Odd\*\* \$e\$ \[1\]-v0 | a\|b\_\$c\$ " in md
    assert "# Env-v0,'=cmd()," in table
    assert not STAND_INS.search(text + md + table)


def test_a_terminal_shows_the_names(odd: RunFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(benchmarks, ["status", str(odd.root)]).output
    assert all(f" {algo} " in shown for algo in ALGOS)
    assert all(f" {env_id} " in shown for env_id in ENVS)
    assert "E: <script>|`x`" in shown
    assert "\x1b" not in shown


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
    document.build(folders.root, report, formats=["md", "html", "csv"])
    text = (report / "report.md").read_text()
    assert r"x\|x\|" in text
    assert max(len(line) for line in text.splitlines()) < 1_500
