"""Returns of any size: what a report calls ahead, its numbers show."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import commands, statistics
from benchmarks.records import RunSpec
from benchmarks.results import read_evaluations
from benchmarks.statistics import Estimate
from reports.data.comparison import compare
from reports.data.context import load
from reports.data.verdicts import AHEAD, BEHIND, LEVEL, Verdict
from reports.live.film import draw_curve
from reports.live.watch import watch
from reports.rendering.text import percent
from reports.sections.comparison import render
from reports.sections.scores import environment_table
from tests.reports.conftest import RunFolders
from tests.reports.values import cells

SMALL = {"npg": 4.1e-4, "ppo": 1.2e-4}
SPREADS = (1.0, 1.02, 1.04)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 500)


def add(
    folders: RunFolders, finals: dict[str, float], spreads: tuple[float, ...] = SPREADS
) -> None:
    for algo, final in finals.items():
        for seed, spread in enumerate(spreads):
            folders.add(algo, "Portfolio-v0", seed, [0.0, final / 2, final * spread])


def judged(folders: RunFolders) -> tuple[str, str, list[str]]:
    """How npg stands to ppo, and ppo to npg; the final returns of both as they are shown."""
    context = load(folders.root)
    found = context.comparisons
    verdicts = [
        found.verdict("Portfolio-v0", label, other)
        for label, other in (("npg", "ppo"), ("ppo", "npg"))
    ]
    table = environment_table(context.scores, found)
    npg, ppo = (each.word for each in verdicts if isinstance(each, Verdict))
    return npg, ppo, cells(table, "final return")


def test_small_returns_are_ahead_by_what_is_shown(folders: RunFolders) -> None:
    add(folders, SMALL)
    npg, ppo, shown = judged(folders)
    assert (npg, ppo) == (AHEAD, BEHIND)
    assert shown == [
        "**0.000418** [0.000410, 0.000426]",
        "0.000122 [0.000120, 0.000125]",
    ]


@pytest.mark.parametrize(
    ("npg", "ppo", "expected"),
    [
        (1_000.2, 1_000.1, ["1,000.2", "1,000.1"]),
        (3e12, 2e12, ["3.00e+12", "2.00e+12"]),
        (4_812.0, 0.0004, ["4,812", "0.000400"]),
        (3e-11, 2e-11, ["3.00e-11", "2.00e-11"]),
    ],
)
def test_what_is_ahead_is_told_apart(
    folders: RunFolders, npg: float, ppo: float, expected: list[str]
) -> None:
    add(folders, {"npg": npg, "ppo": ppo}, (1.0, 1.0, 1.0))
    word, _, shown = judged(folders)
    assert word == AHEAD
    assert [text.partition(" ")[0].strip("*") for text in shown] == expected


def test_a_difference_by_rounding_errors_is_none(folders: RunFolders) -> None:
    add(folders, {"npg": 0.1 + 0.2, "ppo": 0.3}, (1.0, 1.0, 1.0))
    assert judged(folders)[:2] == (LEVEL, LEVEL)


@pytest.mark.parametrize(
    ("estimate", "texts"),
    [
        (Estimate(0.7, 0.497, 0.9), ["70.0", "49.7", "90.0"]),
        (Estimate(0.7, 0.55, 0.9), ["70", "55", "90"]),
        (Estimate(0.3, 0.1, 0.5004), ["30.00", "10.00", "50.04"]),
        (Estimate(0.5, 0.5, 0.5), ["50", "50", "50"]),
    ],
)
def test_an_interval_that_excludes_one_half_by_little_shows_it(
    estimate: Estimate, texts: list[str]
) -> None:
    assert list(map(percent(estimate), estimate.numbers)) == texts


def test_a_comparison_shows_a_difference_that_is_small_beside_the_means(tmp_path: Path) -> None:
    a, b = RunFolders(tmp_path / "a"), RunFolders(tmp_path / "b")
    add(a, {"npg": 4_812.0, "ppo": 1.2e-4}, (1.0, 1.0, 1.0))
    add(b, {"npg": 4_812.1, "ppo": 1.3e-4}, (1.0, 1.0, 1.0))
    text = render(compare(a.root, b.root), "text")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert any(row.startswith("Portfolio-v0 npg 3 3 4,812.0 4,812.1 +0.1 [") for row in rows)
    assert "+0.000010 [+0.000010, +0.000010]" in text
    assert "0.000120" in text


def test_what_is_watched_has_digits(folders: RunFolders) -> None:
    folders.add(
        "npg",
        "Portfolio-v0",
        returns=[0.0, 2e-4, 4.1e-4],
        evaluation={"points": 2, "episodes": 10, "seed": 0},
    )
    console = Console(file=io.StringIO(), width=120)
    watch(folders.root, once=True, console=console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "evaluation return 0.000410 at 50k" in shown
    assert "0.000137" in shown  # a tick


def test_a_film_shows_the_final_return(
    folders: RunFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders.add("npg", "Portfolio-v0", returns=[0.0, 2e-4, 4.1e-4])
    spec = RunSpec.from_dict(json.loads((folder / "run.json").read_text())["spec"])
    drawn: list[str] = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.annotate", lambda _, text, *args, **kwargs: drawn.append(text)
    )
    draw_curve(spec, read_evaluations(folder))
    assert drawn == ["final return 0.000410"]


def test_a_sweep_ends_with_what_was_reached(folders: RunFolders) -> None:
    folder = folders.add("npg", "Portfolio-v0", returns=[0.0, 4.1e-4])
    spec = RunSpec.from_dict(json.loads((folder / "run.json").read_text())["spec"])
    console = Console(file=io.StringIO(), width=120)
    console.print(commands._final_returns([(spec, 4.1e-4), (spec, 1e-5)]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.000210" in shown
    assert "0.000010" in shown
