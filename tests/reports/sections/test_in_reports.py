"""Sections within reports that the command line makes."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from reports.__main__ import app
from tests.reports.conftest import RunFolders
from tests.reports.study_folders import StudyFolders, hill, small


def test_a_broken_log_does_not_end_the_build(study: RunFolders, tmp_path: Path) -> None:
    first, second, *_ = sorted(study.root.rglob("progress.csv"))
    first.write_bytes(b"\x00\xff\xfe" * 100)
    second.write_text("time/total_timesteps,train/kl\n1,0.1\n2")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["build", str(study.root), "--out", str(out)])
    assert result.exit_code == 0, result.output
    text = (out / "report.md").read_text()
    section = text.partition("## Trust-region diagnostics")[2].partition("## How")[0]
    for path in (first, second):
        assert f"**Left out**, since its log cannot be used: `{path.relative_to(study.root)}: " in (
            section
        )
        assert f"warning: left out of the diagnostics: {path.relative_to(study.root)}: " in (
            result.stderr
        )
    assert str(study.root) not in text


def test_a_report_shows_studies_beside_runs_and_alone(
    studies: StudyFolders, folders: RunFolders
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 2)
    folders.add("ppo")
    where = ["--studies", "mine", "--studies-root", str(studies.root), "--csv"]

    texts = []
    for runs_given in ([str(folders.root)], []):
        out = studies.root.parent / f"report-{len(runs_given)}"
        result = CliRunner().invoke(app, ["build", *runs_given, *where, "--out", str(out)])
        assert result.exit_code == 0, result.output
        texts.append((out / "report.md").read_text())
        assert "<h2" in (out / "report.html").read_text()
        assert (out / "tables" / "studies-values.csv").is_file()
        for figure in re.findall(r"\]\((\S+\.(?:png|svg))\)", texts[-1]):
            assert (out / figure).is_file()

    with_runs, alone = (section(text, "Studies") for text in texts)
    assert alone
    assert alone == with_runs
    assert "## Scores" in texts[0]
    assert "## Scores" not in texts[1]


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level, up to the next one."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--studies", "mine", "--studies", "yours"],
        ["--studies", "mine,yours"],
        ["--studies", " mine , yours,"],
    ],
)
def test_several_studies_are_named_in_one_option_or_in_several(
    studies: StudyFolders, arguments: list[str]
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    for name in ("mine", "yours"):
        studies.study(name, small("ppo", ["CartPole-v1"], 2), 2)
    out = studies.root.parent / "report"
    where = ["--studies-root", str(studies.root), "--out", str(out), "--csv", "--format", "md"]
    result = CliRunner().invoke(app, ["build", *arguments, *where])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "tables" / "studies.csv")
    assert table["study"].tolist() == ["mine", "yours"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--studies", ","], "--studies: must name at least one study"),
        (["--studies", "yours"], "'yours' is not a study in"),
        ([], "RUNS: must be given, or --studies"),
    ],
)
def test_a_report_on_nothing_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = tmp_path / "report"
    arguments = ["build", *arguments, "--studies-root", str(tmp_path), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not out.exists()


@pytest.mark.parametrize("studies_named", [["gone"], ["mine", "gone"]])
def test_a_study_that_is_not_there_is_refused_before_anything_is_drawn(
    studies: StudyFolders, folders: RunFolders, studies_named: list[str]
) -> None:
    studies.with_returns(hill("clip_range", 0.2, 1.0, default=0.2))
    studies.study("mine", small("ppo", ["CartPole-v1"], 2), 1)
    folders.add("ppo")
    out = studies.root.parent / "report"
    where = ["--studies-root", str(studies.root), "--out", str(out)]
    named = ["--studies", ",".join(studies_named)]
    result = CliRunner().invoke(app, ["build", str(folders.root), *named, *where])
    assert result.exit_code == 2
    assert "'gone' is not a study in" in result.output
    assert "there are: mine" in result.output
    assert not out.exists()
