"""The scores of a training, and the verdicts that they lead to, worked out by hand."""

import pandas as pd
import pytest

from studies.claims.claim import Verdict
from studies.claims.natural_dqn import CLAIM, of_runs
from studies.errors import StudyError


def run(algo, returns, seed=0):
    keys = {"env_id": "Task-v0", "algo": algo, "seed": seed}
    return pd.DataFrame({"timesteps": range(len(returns)), "return_mean": returns}).assign(**keys)


def test_final_return_drop_and_change():
    steady, shaky = [0.0, 1, 2, 3, 4, 4], [99.0, 8, 2, 6, 1, 5]  # the first is before training
    data = of_runs(pd.concat([run("natural_dqn", steady), run("dqn", shaky)]))
    assert data.set_index("algo")[["final", "drop", "change"]].to_dict("index") == {
        "natural_dqn": {"final": 4.0, "drop": 0.0, "change": 0.5},
        "dqn": {"final": 5.0, "drop": 3.0, "change": 4.5},
    }


def test_runs_that_are_missing_are_told():
    with pytest.raises(StudyError, match="there are no runs of natural_dqn"):
        of_runs(run("dqn", [1.0, 2.0, 3.0, 4.0]))


def judged(natural_final, natural_drop):
    rows = [
        ("Task-v0", algo, seed, final, drop, drop)
        for algo, finals, drop in (
            ("natural_dqn", natural_final, natural_drop),
            ("dqn", [0.0, 100, 0, 100, 50], 20.0),
        )
        for seed, final in enumerate(finals)
    ]
    columns = ["env_id", "algo", "seed", "final", "drop", "change"]
    return CLAIM.judge(pd.DataFrame(rows, columns=columns)).verdict


def test_all_three_measures_have_to_be_smaller():
    assert judged([99.0, 100, 101, 100, 100], 10.0) == Verdict.HOLDS
    assert judged([99.0, 100, 101, 100, 100], 20.0) == Verdict.FAILS
    assert judged([0.0, 100, 0, 100, 50], 10.0) == Verdict.FAILS
