"""Sections within reports that the command line makes."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from reports.__main__ import app
from tests.reports.conftest import RunFolders


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
