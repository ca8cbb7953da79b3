"""Scores over several environments against the time of training, against a loop by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.statistics import interquartile_mean
from reports.data import aggregates, context
from reports.data.over_time import over_time
from tests.reports.conftest import RunFolders


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "REPETITIONS", 50)


def with_times(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Each seed a little slower than the one before, and trpo twice as slow as the others."""
    slower = (1 + evaluations["seed"] / 10) * np.where(evaluations["label"] == "trpo", 2, 1)
    return evaluations.assign(wall_seconds=evaluations["wall_seconds"] * slower)


def test_at_each_time_runs_have_the_score_of_their_last_evaluation(study: RunFolders) -> None:
    made = context.load(study.root)
    assert made.runs is not None
    assert made.normalized is not None
    evaluations = with_times(made.runs.evaluations)
    table = over_time(evaluations, made.normalized)
    assert table is not None
    for label, curve in table.groupby("label"):
        runs = list(evaluations[evaluations["label"] == label].groupby(["env_id", "seed"]))
        # CartPole has an eighth of HalfCheetah's steps, and its first seed is the fastest.
        assert curve["seconds"].iloc[0] == 0
        assert curve["seconds"].iloc[-1] == pytest.approx(50 * (2 if label == "trpo" else 1))
        for row in curve.iloc[::20].to_dict("records"):
            scores = []
            for (env_id, _), run in runs:
                by_then = run[run["wall_seconds"] <= row["seconds"] + 1e-9]
                scale = made.scales[env_id]
                scores.append(scale.normalise(by_then["return_mean"].iloc[-1]))
            assert row["value"] == pytest.approx(interquartile_mean(scores))
            assert row["low"] <= row["value"] <= row["high"]


def test_what_has_no_times_has_no_curve(study: RunFolders) -> None:
    made = context.load(study.root)
    assert made.runs is not None
    assert made.normalized is not None
    evaluations = made.runs.evaluations.copy()
    evaluations.loc[evaluations["label"] == "npg", "wall_seconds"] = np.nan
    table = over_time(evaluations, made.normalized)
    assert table is not None
    assert sorted(set(table["label"])) == ["ppo", "trpo"]
    assert over_time(evaluations.assign(wall_seconds=np.nan), made.normalized) is None


def test_seeds_that_count_elsewhere_alone_are_left_out(study: RunFolders) -> None:
    before = context.load(study.root)
    study.add("npg", seed=3, returns=np.zeros(21))
    after = context.load(study.root)
    for made in (before, after):
        assert made.normalized is not None
        assert made.runs is not None
    assert after.normalized is not None
    assert after.normalized.surplus == {"npg": 1}
    first, second = (over_time(x.runs.evaluations, x.normalized) for x in (before, after))
    pd.testing.assert_frame_equal(first, second)
