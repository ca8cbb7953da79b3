"""Returns of any size: what a report calls ahead, its numbers show."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from benchmarks import commands, statistics
from benchmarks.records import RunSpec
from benchmarks.statistics import Estimate
from reports import comparison, published, runs, scores, watching
from reports.comparison import Format
from reports.environments import environment_table
from reports.recording import draw_curve, read_evaluations
from reports.standing import sentences, standings
from reports.summary import summary
from reports.tuning_wording import estimate_text
from reports.verdicts import Comparisons, comparisons_of
from reports.wording import verdict
from tests.reports.conftest import RunFolders

SMALL = {"npg": 4.1e-4, "ppo": 1.2e-4}
SPREADS = (1.0, 1.02, 1.04)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 500)
    monkeypatch.setattr(comparison, "REPETITIONS", 500)


def add(
    folders: RunFolders, finals: dict[str, float], spreads: tuple[float, ...] = SPREADS
) -> None:
    for algo, final in finals.items():
        for seed, spread in enumerate(spreads):
            folders.add(algo, "Portfolio-v0", seed, [0.0, final / 2, final * spread])


def said(folders: RunFolders) -> tuple[str, str, str]:
    """Of a folder's runs the summary, how npg stands, and the table of the environment."""
    data = runs.load(folders.root)
    table = scores.score_table(data.runs, data.evaluations)
    compared = comparisons_of(table, scores.run_scores(data.evaluations))
    lines = summary(table, compared, None, None)
    stands = sentences(standings(table, compared, "ppo"), compared, "ppo")
    return "\n".join(lines), "\n".join(stands), environment_table(table, compared).markdown()


def test_small_returns_are_ahead_by_what_is_shown(folders: RunFolders) -> None:
    add(folders, SMALL)
    lines, stands, table = said(folders)
    assert "npg 0.000418 (95% interval 0.000410 to 0.000426) and ppo 0.000122 (" in lines
    assert "is ahead of ppo" in lines
    assert "loses to npg on Portfolio-v0 (0.000122 against 0.000418)" in stands
    assert "**0.000418** [0.000410, 0.000426]" in table


@pytest.mark.parametrize(
    ("npg", "ppo", "shown"),
    [
        (1_000.2, 1_000.1, "1,000.2"),
        (3e12, 2e12, "3.00e+12"),
        (4_812.0, 0.0004, "0.000400"),
        (3e-11, 2e-11, "3.00e-11"),
    ],
)
def test_what_is_ahead_is_told_apart(
    folders: RunFolders, npg: float, ppo: float, shown: str
) -> None:
    add(folders, {"npg": npg, "ppo": ppo}, (1.0, 1.0, 1.0))
    lines, stands, table = said(folders)
    assert "npg has the highest final return, and is ahead of ppo" in lines
    assert all(shown in text for text in (lines, stands, table))


def test_a_difference_by_rounding_errors_is_none(folders: RunFolders) -> None:
    add(folders, {"npg": 0.1 + 0.2, "ppo": 0.3}, (1.0, 1.0, 1.0))
    assert " is ahead of " not in said(folders)[0]


def test_a_verdict_that_rests_on_the_third_decimal_shows_it() -> None:
    rows = {"env_id": "E", "label": ["a", "b"], "seeds": 9, "final_mean": [2.0, 1.0]}
    means = {("final", "E", "a"): Estimate(2.0, 1.5, 2.5), ("final", "E", "b"): Estimate(1, 0, 1)}
    chance = Estimate(0.7, 0.497, 0.9)
    compared = Comparisons(means, {("final", "E", "a", "b"): chance})
    (sentence,) = verdict(pd.DataFrame(rows), compared)
    assert "with probability 0.700 (95% interval 0.497 to 0.900) only" in sentence


def test_a_comparison_shows_a_difference_that_is_small_beside_the_means(tmp_path: Path) -> None:
    a, b = RunFolders(tmp_path / "a"), RunFolders(tmp_path / "b")
    add(a, {"npg": 4_812.0, "ppo": 1.2e-4}, (1.0, 1.0, 1.0))
    add(b, {"npg": 4_812.1, "ppo": 1.3e-4}, (1.0, 1.0, 1.0))
    text = comparison.render(comparison.compare(a.root, b.root), Format.text)
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
    watching.watch(folders.root, once=True, console=console)
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


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.81234, 0.79, 0.831, 3), "0.812 [0.790, 0.831]"),
        (Estimate(4.1e-4, 4e-4, 4.2e-4, 3), "0.000410 [0.000400, 0.000420]"),
        (Estimate(2e12, 1e12, 3e12, 3), "2.00e+12 [1.00e+12, 3.00e+12]"),
    ],
)
def test_scores_of_studies(estimate: Estimate, text: str) -> None:
    assert estimate_text(estimate) == text


def test_a_gain_that_is_positive_is_seen_to_be() -> None:
    assert (
        estimate_text(Estimate(0.0312, 0.0004, 0.06, 3), sign=True) == "+0.0312 [+0.0004, +0.0600]"
    )


def test_published_results_that_look_the_same_are_called_equal() -> None:
    form = published.form_of([500.0, 500.01])
    assert published._gap_text(500.0, 500.01, form) == "equal"
    form = published.form_of([4e-4, 5e-4])
    assert published._gap_text(4e-4, 5e-4, form) == "20% lower"
