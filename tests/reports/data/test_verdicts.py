"""Nothing is called better, and nothing alone is bold, but by means and by runs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks import statistics
from benchmarks.statistics import Estimate
from reports.data import runs, scores
from reports.data.verdicts import (
    AHEAD,
    BEHIND,
    FALSE_ALARMS,
    LEVEL,
    TOO_FEW,
    Comparisons,
    Verdict,
    comparisons_of,
    excludes_half,
    not_told_apart,
    overall_verdict,
)
from reports.sections.scores import environment_table
from tests.reports.conftest import RunFolders

NAN = float("nan")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 500)


def compared(folders: RunFolders, **options: bool) -> tuple[pd.DataFrame, Comparisons]:
    data = runs.load(folders.root, **options)
    of_runs = scores.run_scores(data.evaluations)
    table = scores.score_table(data.runs, of_runs)
    return table, comparisons_of(table, of_runs)


def verdict(found: Comparisons, label: str, other: str) -> str:
    said = found.verdict("CartPole-v1", label, other)
    assert said is not None
    return said.word


def add(folders: RunFolders, algo: str, finals: list[float]) -> None:
    for seed, final in enumerate(finals):
        folders.add(algo, seed=seed, returns=[0.0, final])


@pytest.mark.parametrize(
    ("improvement", "expected"),
    [
        ((0.7, 0.55, 0.9), True),
        ((0.3, 0.1, 0.45), True),
        ((0.7, 0.5, 0.9), False),  # excludes it only from above
        ((0.4, 0.2, 0.6), False),
        ((1.0, 1.0, 1.0), True),
        ((0.0, 0.0, 0.0), True),
        ((2 / 3, 2 / 3, 2 / 3), False),  # won on two environments, lost on one, all of it surely
        ((1 / 3, 1 / 3, 1 / 3), False),
        ((0.5, 0.5, 0.5), False),
        ((0.9, NAN, NAN), False),
    ],
)
def test_an_interval_without_width_decides_only_at_its_ends(
    improvement: tuple[float, float, float], expected: bool
) -> None:
    assert excludes_half(Estimate(*improvement, seeds=3)) is expected
    assert not excludes_half(Estimate(*improvement, seeds=2))
    word = (AHEAD if improvement[0] > 0.5 else BEHIND) if expected else LEVEL
    assert overall_verdict(Estimate(*improvement, seeds=3)).word == word
    assert overall_verdict(Estimate(*improvement, seeds=2)).word == TOO_FEW


def test_bimodal_runs_win_by_their_mean_alone_and_hence_not(folders: RunFolders) -> None:
    """Four of ten runs are far off; the others lie below those of the other algorithm."""
    npg = [1000.0 + i for i in range(4)] + [80.0 + i for i in range(6)]
    ppo = [100.0 + i for i in range(10)]
    add(folders, "npg", npg)
    add(folders, "ppo", ppo)
    table, found = compared(folders)
    wins = sum(x > y for x, y in itertools.product(npg, ppo))
    npg_row, ppo_row = table.to_dict("records")
    assert npg_row["final_low"] > ppo_row["final_high"]  # the means alone would call it better
    improvement = found.improvements["final", "CartPole-v1", "npg", "ppo"]
    assert improvement.value == wins / 100 == 0.4
    assert improvement.low < 0.4 < 0.5 < improvement.high
    assert not found.is_ahead("final", "CartPole-v1", "npg", "ppo")
    assert found.bold("final", table).tolist() == [True, True]
    assert found.verdict("CartPole-v1", "npg", "ppo") == Verdict(LEVEL, improvement)
    finals = environment_table(table, found).columns[1]
    assert [cell.bold for cell in finals.shown()] == [True, True]


def test_runs_that_are_mostly_higher_do_not_win_by_that_alone(folders: RunFolders) -> None:
    add(folders, "npg", [100.0 + i for i in range(9)] + [-900.0])
    add(folders, "ppo", [90.0 + 0.5 * i for i in range(10)])
    _, found = compared(folders)
    assert found.improvements["final", "CartPole-v1", "npg", "ppo"].low > 0.5
    assert not found.is_ahead("final", "CartPole-v1", "npg", "ppo")
    assert not found.is_ahead("final", "CartPole-v1", "ppo", "npg")
    assert verdict(found, "ppo", "npg") == verdict(found, "npg", "ppo") == LEVEL


def test_the_rule_is_both_of_its_halves_for_each_score(study: RunFolders) -> None:
    """Over all pairs: by its definition, with intervals that scores.py gives of each pair alone."""
    table, found = compared(study)
    of_runs = scores.run_scores(runs.load(study.root).evaluations)
    values = of_runs.set_index(["env_id", "label"])
    rows = table.set_index(["env_id", "label"])
    outcomes = set()
    for env_id, score in itertools.product(table["env_id"].unique(), scores.SCORES):
        for x, y in itertools.permutations(["npg", "ppo", "trpo"], 2):
            means = rows.loc[env_id]
            apart = means.loc[x, f"{score}_low"] > means.loc[y, f"{score}_high"]
            ours, theirs = (
                values.loc[[(env_id, label)], score].to_numpy()[:, None] for label in (x, y)
            )
            (value,), (low,), (high,) = statistics.improvement_interval(ours, theirs)
            assert found.improvements[score, env_id, x, y].numbers == pytest.approx(
                (value, low, high)
            )
            assert found.is_ahead(score, env_id, x, y) == (apart and low > 0.5)
            outcomes.add(found.is_ahead(score, env_id, x, y))
    assert outcomes == {True, False}


def test_bold_are_the_best_and_all_that_it_is_not_ahead_of(folders: RunFolders) -> None:
    add(folders, "acer", [500.0])
    add(folders, "npg", [300.0, 310.0, 320.0])
    add(folders, "ppo", [200.0, 210.0, 220.0])
    add(folders, "trpo", [290.0, 300.0, 315.0])
    table, found = compared(folders)
    assert table["label"].tolist() == ["acer", "npg", "ppo", "trpo"]
    assert found.bold("final", table).tolist() == [False, True, False, True]
    assert found.not_behind("final", "CartPole-v1", ["acer", "npg"]) == []  # nothing to compare
    assert verdict(found, "npg", "acer") == TOO_FEW
    assert verdict(found, "npg", "trpo") == LEVEL
    assert verdict(found, "npg", "ppo") == AHEAD
    assert verdict(found, "ppo", "npg") == BEHIND


def test_the_best_is_looked_for_within_one_protocol(folders: RunFolders) -> None:
    for seed in range(3):
        for algo, final, n_timesteps in [
            ("npg", 50.0, 50_000),
            ("ppo", 90.0, 50_000),
            ("npg", 900.0, 100_000),
            ("ppo", 100.0, 100_000),
        ]:
            folders.add(algo, seed=seed, returns=[0.0, final + seed], n_timesteps=n_timesteps)
    table, found = compared(folders, allow_mixed=True)
    bold = dict(zip(table["label"], found.bold("final", table), strict=True))
    assert bold == {
        "npg (100,000 steps)": True,
        "npg (50,000 steps)": False,
        "ppo (100,000 steps)": False,
        "ppo (50,000 steps)": True,
    }
    labels = ("npg (100,000 steps)", "ppo (50,000 steps)")
    assert ("final", "CartPole-v1", *labels) not in found.improvements
    assert not found.is_ahead("final", "CartPole-v1", *labels)
    assert found.verdict("CartPole-v1", *labels) is None
    assert verdict(found, "npg (100,000 steps)", "ppo (100,000 steps)") == AHEAD


@pytest.mark.parametrize("finals", [[10.0], [10.0, 11.0]])
def test_fewer_than_three_seeds_are_neither_ahead_nor_behind(
    folders: RunFolders, finals: list[float]
) -> None:
    """Of two equal algorithms with two seeds each one would be ahead in a third of cases."""
    add(folders, "npg", [300.0, 310.0, 320.0])
    add(folders, "ppo", finals)
    add(folders, "trpo", [500.0, 510.0])
    table, found = compared(folders)
    assert not found.is_ahead("final", "CartPole-v1", "npg", "ppo")
    assert not found.is_ahead("final", "CartPole-v1", "trpo", "npg")
    improvement = found.improvements["final", "CartPole-v1", "npg", "ppo"]
    assert (improvement.value, improvement.seeds) == (1.0, len(finals))
    assert np.isnan(improvement.low) == (len(finals) == 1)
    assert verdict(found, "npg", "ppo") == verdict(found, "trpo", "npg") == TOO_FEW
    assert not found.bold("final", table).any()


@pytest.mark.parametrize(("n_seeds", "stated"), FALSE_ALARMS.items())
def test_of_two_equal_algorithms_one_is_ahead_no_more_often_than_stated(
    monkeypatch: pytest.MonkeyPatch, n_seeds: int, stated: float
) -> None:
    """Over all rankings of their runs, by the rule as it is, for evenly spread returns."""
    monkeypatch.setattr(statistics, "REPETITIONS", statistics.REPETITIONS)
    ranks = set(range(2 * n_seeds))
    first = [sorted(chosen) for chosen in itertools.combinations(sorted(ranks), n_seeds)]
    x = np.array(first, dtype=float).T
    y = np.array([sorted(ranks - set(chosen)) for chosen in first], dtype=float).T
    _, x_low, _ = statistics.mean_interval(x)
    _, _, y_high = statistics.mean_interval(y)
    _, low, _ = statistics.improvement_interval(x, y)
    assert np.mean(low > 0.5) == stated
    assert 0 < np.mean((low > 0.5) & (x_low > y_high)) <= stated


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        ([9, 5, 1], [8, 4, 0], [10, 6, 2], [True, False, False]),
        ([9, 5, 1], [8, 4, 0], [10, 8, 2], [True, True, False]),  # touching is overlapping
        ([5, 5], [5, 5], [5, 5], [True, True]),
        ([9, 5, 4], [NAN, 4, 3], [NAN, 6, 3.5], [False, True, False]),
        ([9, 5], [NAN, 4], [NAN, 6], [False, False]),
        ([9], [8], [10], [False]),
    ],
)
def test_what_cannot_be_told_apart_from_the_best(
    value: list[float], low: list[float], high: list[float], expected: list[bool]
) -> None:
    estimates = [
        Estimate(*numbers, seeds=1 if np.isnan(numbers[1]) else 3)
        for numbers in zip(value, low, high, strict=True)
    ]
    assert not_told_apart(estimates) == expected
    negative = [Estimate(-each.value, -each.high, -each.low, each.seeds) for each in estimates]
    assert not_told_apart(negative, lower_is_better=True) == expected
    two_seeds = [Estimate(*numbers, seeds=2) for numbers in zip(value, low, high, strict=True)]
    assert not any(not_told_apart(two_seeds))
