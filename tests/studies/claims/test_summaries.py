"""Means with intervals, and verdicts by task."""

import pytest

from studies.claims.claim import Verdict
from studies.claims.summaries import by_task, mean


@pytest.mark.parametrize(
    ("holds", "verdict", "condition"),
    [
        ({"A": True, "B": True}, Verdict.HOLDS, ""),
        ({"A": False, "B": True}, Verdict.CONDITIONAL, "the task is B"),
        ({"A": True, "B": True, "C": False}, Verdict.CONDITIONAL, "the task is A or B"),
        ({"A": False, "B": False}, Verdict.FAILS, ""),
    ],
)
def test_a_claim_that_holds_on_some_tasks_has_these_as_its_condition(holds, verdict, condition):
    assert by_task(holds) == (verdict, condition)


def test_a_mean_has_an_interval_if_there_are_several_seeds():
    assert mean([3.0, 3.0, 3.0]).numbers == (3.0, 3.0, 3.0)
    assert not mean([1_234.0]).has_interval
