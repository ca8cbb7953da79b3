"""Nothing is called better, and nothing alone is bold, but by means and by runs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks import statistics
from benchmarks.statistics import Estimate
from reports.data import runs, scores
from reports.data.verdicts import FALSE_ALARMS, Comparisons, comparisons_of, excludes_half
from reports.sections import wording
from reports.sections.scores import environment_table
from tests.reports.conftest import RunFolders

NAN = float("nan")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 500)


def compared(folders: RunFolders, **options: bool) -> tuple[pd.DataFrame, Comparisons]:
    data = runs.load(folders.root, **options)
    table = scores.score_table(data.runs, data.evaluations)
    return table, comparisons_of(table, scores.run_scores(data.evaluations))


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
def test_an_interval_without_width_is_a_verdict_only_at_its_ends(
    improvement: tuple[float, float, float], expected: bool
) -> None:
    assert excludes_half(Estimate(*improvement)) is expected


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
    text = f"{improvement.low:.2f} to {improvement.high:.2f}"
    assert wording.verdict(table, found) == [
        "npg has the highest mean, but a run of it ends above one of ppo with probability "
        f"0.40 (95% interval {text}) only: no winner."
    ]
    assert [row[1].count("**") for row in environment_table(table, found).rows] == [2, 2]


def test_runs_that_are_mostly_higher_do_not_win_by_that_alone(folders: RunFolders) -> None:
    add(folders, "npg", [100.0 + i for i in range(9)] + [-900.0])
    add(folders, "ppo", [90.0 + 0.5 * i for i in range(10)])
    table, found = compared(folders)
    assert found.improvements["final", "CartPole-v1", "npg", "ppo"].low > 0.5
    assert not found.is_ahead("final", "CartPole-v1", "npg", "ppo")
    assert not found.is_ahead("final", "CartPole-v1", "ppo", "npg")
    assert wording.verdict(table, found) == [
        "ppo has the highest mean, but its interval overlaps with that of npg: no winner."
    ]


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
    assert wording.verdict(table, found) == [
        "acer has 1 seed, hence no interval and no part in the comparison.",
        "Among the others, npg has the highest mean, but its interval overlaps with that of trpo: "
        "no winner. It is ahead of ppo.",
    ]


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


def test_one_seed_is_neither_ahead_nor_behind(folders: RunFolders) -> None:
    add(folders, "npg", [300.0, 310.0])
    add(folders, "ppo", [10.0])
    table, found = compared(folders)
    assert not found.is_ahead("final", "CartPole-v1", "npg", "ppo")
    assert np.isnan(found.improvements["final", "CartPole-v1", "npg", "ppo"].low)
    assert not found.bold("final", table).any()


def test_the_rule_is_explained_beside_the_scores(study: RunFolders) -> None:
    data = runs.load(study.root)
    text = " ".join(wording.notes(data, scores.score_table(data.runs, data.evaluations)))
    assert "the highest mean and all that cannot be told apart from it" in text
    assert "the intervals of their means do not overlap, and the probability that a run of" in text
    assert "has a 95% interval above 0.5" in text
    assert (
        "of two equal algorithms one is ahead in up to 33%, 20% and 10% of cases with 2, 3 and 5 "
        "seeds each."
    ) in text
    assert "the one before training left out" in text


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
