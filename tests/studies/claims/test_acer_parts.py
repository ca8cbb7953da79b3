"""Which areas speak for which verdict."""

import numpy as np
import pandas as pd
import pytest

from studies.claims.acer_parts import CLAIM
from studies.claims.claim import Verdict

NAMES = ["all parts", "no replay", "no trust region", "no Retrace", "no truncation"]
NAMES += ["truncation at 1", "replay ratio 0", "replay ratio 4"]
LOSING = {"no replay", "no trust region", "no Retrace", "replay ratio 0"}


def judged(losing, without=()):
    rows = [
        (name, env_id, seed, (10.0 if name in losing[env_id] else 100.0) + seed, np.inf)
        for env_id in losing
        for name in NAMES
        if name not in without
        for seed in range(5)
    ]
    return CLAIM.judge(pd.DataFrame(rows, columns=["variant", "env_id", "seed", "area", "steps"]))


@pytest.mark.parametrize(
    ("cart_pole", "acrobot", "verdict"),
    [
        (LOSING, LOSING, "Holds."),
        (LOSING, {"replay ratio 0"}, "Holds when only replay is meant."),
        (LOSING, set(), "Holds when only CartPole-v1 is meant."),
        (LOSING | {"no truncation"}, {"no replay"}, "Does not hold."),
        (set(), set(), "Does not hold."),
    ],
)
def test_verdicts(cart_pole, acrobot, verdict):
    assert str(judged({"CartPole-v1": cart_pole, "Acrobot-v1": acrobot})) == verdict


def test_what_was_not_measured_is_not_told():
    found = judged({"CartPole-v1": LOSING}, without={"no Retrace"})
    assert found.verdict != Verdict.HOLDS
    assert "nan" not in found.measured
    assert "no Retrace" not in found.measured
