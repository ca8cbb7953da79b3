"""What a study shows while it goes on."""

import io
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from studies.display import Progress
from studies.objective import Problem
from studies.study import ERROR


@pytest.fixture
def trials() -> list[FrozenTrial]:
    """One of each kind; those that have ended took ten seconds each."""
    study = optuna.create_study(direction="maximize")
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    for state in states:
        study.add_trial(
            create_trial(
                state=state,
                params={"clip_range": 0.2},
                distributions={"clip_range": FloatDistribution(0.02, 0.8, log=True)},
                value=0.75 if state is TrialState.COMPLETE else None,
                intermediate_values={0: 0.1, 1: 0.2},
                user_attrs={ERROR: "ValueError: it is gone\nmore"} if state is states[2] else {},
            )
        )
    found = study.get_trials()
    for trial in found[:3]:
        trial.datetime_start = datetime(2000, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=10)
    return found


def shown(problem: Problem, trials: list[FrozenTrial], jobs: int, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=200)
    with Progress(problem, 9, jobs, console) as progress:
        progress.show(trials)
    return output.getvalue()


def test_each_trial_that_ends_has_a_line(problem: Problem, trials: list[FrozenTrial]) -> None:
    assert shown(problem, trials, 1, terminal=False).splitlines()[:3] == [
        "trial 0: clip_range=0.2: score 0.750 (2 seeds)",
        "trial 1: clip_range=0.2: pruned after 2 looks",
        "trial 2: clip_range=0.2: failed: ValueError: it is gone",
    ]


def test_a_terminal_has_a_line_that_is_always_current(
    problem: Problem, trials: list[FrozenTrial]
) -> None:
    """Six trials of ten seconds, two at a time."""
    said = shown(problem, trials, 2, terminal=True)

    assert "3/9 trials, 1 running, 1 pruned, 1 failed" in said
    assert "best so far clip_range=0.2: score 0.750 (2 seeds)" in said
    assert "time left 0:00:30" in said


def test_what_has_ended_before_is_counted_and_not_told_again(
    problem: Problem, trials: list[FrozenTrial]
) -> None:
    output = io.StringIO()
    with Progress(problem, 9, 1, Console(file=output, force_terminal=False)) as progress:
        progress.already(trials)
        progress.show(trials)

    assert output.getvalue().splitlines()[0] == "3 of 9 trials are already there"
    assert "trial 0" not in output.getvalue()
