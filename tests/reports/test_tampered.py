"""Logs and evaluations that somebody has changed: each costs itself, and is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import statistics
from benchmarks.tables import to_markdown
from reports.data import context, runs, scores
from reports.rendering.blocks import figures_of
from reports.sections import diagnostics
from tests.reports.conftest import RunFolders, build_report
from tests.reports.values import tables, texts

HEADER = ["time/total_timesteps", "time/iterations", "train/kl", "train/target_kl"]
HEADER += ["train/kl_predicted", "train/skipped_updates", "train/n_updates", "train/cg_residual"]


def log(column: str = "", value: str = "") -> str:
    """SB3's log of 24 rollouts; the value stands in a column, or in the header's place."""
    rows = []
    for i in range(1, 25):
        row = [2048 * i, i, 0.01, 0.02, 0.02, 0, i, 0.1]
        cells = dict(zip(HEADER, map(str, row), strict=True))
        if column:
            cells[column] = value
        rows.append(",".join(cells.values()))
    return "\n".join([",".join(HEADER), *rows]) + "\n"


@pytest.fixture
def tell(folders: RunFolders) -> Callable[[str | bytes], list[str]]:
    """Two runs of which one has the given log: the lines that are left out; the rest is told."""

    def told(content: str | bytes) -> list[str]:
        for seed, text in enumerate((log(), content)):
            folder = folders.add("npg", seed=seed)
            data = text.encode() if isinstance(text, str) else text
            (folder / "progress.csv").write_bytes(data)
        left_out: list[str] = []
        built = diagnostics.build(context.load(folders.root, warn=left_out.append))
        assert built is not None
        for figure in figures_of(built.blocks):
            figure.draw().draw_without_rendering()
        text = "\n".join(map(to_markdown, tables(built.blocks)))
        assert "0.01" in text
        assert len(text) < 3_000
        said = "\n".join(texts(built.blocks))
        assert all(line.partition(": ")[2][:60] in said for line in left_out)
        return left_out

    return told


@pytest.mark.parametrize("column", HEADER[:5])
@pytest.mark.parametrize("value", ["", "-inf", "0", "-1"])
def test_numbers_that_cannot_be_are_no_reason_to_tell_nothing(
    tell: Callable[[str | bytes], list[str]], column: str, value: str
) -> None:
    assert tell(log(column, value)) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (log("train/kl", "abc"), "'abc' is not a number"),
        (log().replace("time/total_timesteps", "steps"), "has no column time/total_timesteps"),
        (log() + "1,2\n", "row 26 has 2 cells, the header has 8"),
        (log().encode() + b"\xff\xfe", "invalid start byte"),
        (log("train/kl", "x" * 200_000), ": train/kl: 'xxxxx"),
        ("{}", "has no column time/total_timesteps"),
    ],
)
def test_a_log_that_is_none_is_left_out_and_named(
    tell: Callable[[str | bytes], list[str]], content: str | bytes, reason: str
) -> None:
    (line,) = tell(content)
    assert "/seed-1-" in line
    assert reason in line
    assert len(line) < 2_000


def test_a_run_that_was_evaluated_elsewhere_costs_only_itself(
    folders: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 50)
    for seed in range(4):
        folder = folders.add("npg", seed=seed, returns=[0.0, 1.0, 2.0])
    path = folder / "evaluations.csv"
    pd.read_csv(path).drop(index=1).to_csv(path, index=False)
    warned: list[str] = []
    report = build_report(folders.root, tmp_path / "report", warn=warned.append)
    (line,) = warned
    assert "npg on CartPole-v1, config" in line
    assert "seed 3: was evaluated at 2 points" in line
    assert "the others at 3 points" in line
    assert line.removeprefix("left out: ") in report
    assert "3 runs, 3 seeds" in report


def test_a_clock_that_stood_still_is_no_infinite_speed(folders: RunFolders) -> None:
    folders.add("npg", wall_seconds=0.0)
    data = runs.load(folders.root)
    table = scores.score_table(data.runs, scores.run_scores(data.evaluations))
    assert table["steps_per_second"].iloc[0] == 50_000_000
