"""The studies whose results the pages quote: what is in the repository belongs together."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.statistics import interquartile_mean
from studies import sensitivity
from studies.storage import connect, studies_in
from studies.study import SCORES, best_trial, completed, load

STUDIES = Path(__file__).parents[2] / "docs" / "results" / "studies"
NAMES = studies_in(STUDIES)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_can_be_read_and_says_what_its_runs_say(name: str) -> None:
    study, problem = load(name, connect("", STUDIES / name))
    trials = completed(study)
    assert trials
    for trial in trials:
        scores = trial.user_attrs[SCORES]
        assert len(scores) == len(problem.seeds)
        assert trial.values[0] == pytest.approx(interquartile_mean(scores))
    best = best_trial(study)
    assert best is not None
    # The sweep goes through the best trial, whose runs are its own.
    for parameter, runs in sensitivity.stored(STUDIES / name).items():
        there = runs[runs["value"] == best.params[parameter]]
        assert list(there["score"]) == pytest.approx(best.user_attrs[SCORES])


@pytest.mark.parametrize("name", NAMES)
def test_the_widths_are_those_of_the_sweeps(name: str) -> None:
    written = pd.read_csv(STUDIES / "widths.csv")
    written = written[written["study"] == name].set_index("parameter")
    swept = sensitivity.stored(STUDIES / name)
    assert set(written.index) == set(swept)
    for parameter, runs in swept.items():
        good = sensitivity.width(runs)
        row = written.loc[parameter]
        for field in ("best", "low", "high", "decades", "decades_low", "decades_high"):
            assert row[field] == pytest.approx(getattr(good, field)), field
