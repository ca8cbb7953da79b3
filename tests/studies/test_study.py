"""Studies with real environments and a real journal."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

from benchmarks.specs import Evaluation
from studies.objective import Problem, define
from studies.plots import plot_returns
from studies.study import (
    DEFAULT,
    ERROR,
    RETURNS,
    StudyError,
    carried_out,
    completed,
    open_study,
    optimise,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    torch.set_num_threads(1)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def problem() -> Problem:
    small = {"n_steps": 64, "batch_size": 32, "policy_kwargs": "dict(net_arch=[8])"}
    return replace(
        define("ppo", "CartPole-v1", n_seeds=2, n_timesteps=64),
        hyperparams=small,
        evaluation=Evaluation(points=2, episodes=2, seed=7),
    )


def carry_on(problem: Problem, folder: Path, n_trials: int) -> optuna.Study:
    study = open_study("mine", problem, folder)
    optimise(study, problem, folder, n_trials, 2, "the command", lambda trial: None, False)
    return study


def clip_ranges(trials: list[FrozenTrial]) -> list[float]:
    return [trial.params["clip_range"] for trial in trials]


def test_values_are_means_over_the_run_folders_and_the_default_comes_first(
    problem: Problem, tmp_path: Path
) -> None:
    study = carry_on(problem, tmp_path, 2)

    default, other = completed(study)
    assert default.params == {"clip_range": 0.2}
    assert default.user_attrs[DEFAULT]
    assert DEFAULT not in other.user_attrs
    for trial in (default, other):
        final = []
        for spec in problem.specs("mine", trial.params["clip_range"]):
            assert spec.hyperparams["clip_range"] == trial.params["clip_range"]
            returns = pd.read_csv(spec.folder(tmp_path / "runs") / "evaluations.csv")["return_mean"]
            final.append(returns.tolist()[-1])  # the last tenth of three
        assert trial.user_attrs[RETURNS] == final
        assert trial.value == np.mean(final)
    assert len(list((tmp_path / "runs").rglob("run.json"))) == 4


def test_a_study_carried_on_proposes_what_one_in_a_piece_proposes(
    problem: Problem, tmp_path: Path
) -> None:
    """With runs that fail at once: they take a trial each all the same."""
    broken = replace(problem, env_id="no.such.module:Env-v0", seeds=(1000,))
    pieces = tmp_path / "pieces"
    carry_on(broken, pieces, 1)

    whole = carry_on(broken, tmp_path / "whole", 2)

    assert clip_ranges(carried_out(carry_on(broken, pieces, 2))) == clip_ranges(carried_out(whole))


def test_a_failing_run_fails_its_trial_and_the_study_goes_on(
    problem: Problem, tmp_path: Path
) -> None:
    broken = replace(
        problem, env_id="tests.benchmarks.envs:Raising-v0", n_timesteps=512, seeds=(1000,)
    )
    seen: list[FrozenTrial] = []
    study = open_study("mine", broken, tmp_path)

    optimise(study, broken, tmp_path, 2, 1, "", seen.append, False)

    assert [trial.state for trial in seen] == [TrialState.FAIL, TrialState.FAIL]
    assert seen[0].user_attrs[ERROR] == "seed 1000: ValueError: the pole is gone"
    assert seen[0].params != seen[1].params
    assert completed(study) == []


def test_another_problem_under_the_same_name_is_refused_with_the_difference(
    problem: Problem, tmp_path: Path
) -> None:
    open_study("mine", problem, tmp_path)
    other = replace(
        problem,
        env_id="Acrobot-v1",
        seeds=(1000,),
        parameter=replace(problem.parameter, high=0.9),
        hyperparams=problem.hyperparams | {"gamma": 0.9},
    )

    with pytest.raises(StudyError) as refusal:
        open_study("mine", other, tmp_path)

    assert str(refusal.value).splitlines()[1:] == [
        "  env_id: stored 'CartPole-v1', now 'Acrobot-v1'",
        "  hyperparams.gamma: stored None, now 0.9",
        "  parameter.high: stored 0.6, now 0.9",
        "  seeds: stored [1000, 1001], now [1000]",
    ]
    open_study("mine", problem, tmp_path)


def test_an_interrupted_trial_is_enqueued_again_once(problem: Problem, tmp_path: Path) -> None:
    study = open_study("mine", problem, tmp_path)
    trial = study.ask()
    trial.set_user_attr("process", 999_999_999)
    trial.suggest_float("clip_range", 0.02, 0.6)

    for _ in range(2):
        study = open_study("mine", problem, tmp_path)

    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [each.system_attrs["fixed_params"] for each in waiting] == [{"clip_range": 0.2}]
    assert waiting[0].user_attrs[DEFAULT]
    assert study.trials[0].state == TrialState.FAIL
    assert carried_out(study) == []


def test_a_study_that_is_being_run_is_refused(problem: Problem, tmp_path: Path) -> None:
    study = open_study("mine", problem, tmp_path)
    study.ask().set_user_attr("process", psutil.Process().pid)

    with pytest.raises(StudyError, match="trial 0 of the study 'mine' is being run by process"):
        open_study("mine", problem, tmp_path)


def test_the_figure_says_what_it_shows(problem: Problem, tmp_path: Path) -> None:
    trials = [
        optuna.trial.create_trial(
            params={"clip_range": value},
            distributions={"clip_range": optuna.distributions.FloatDistribution(0.02, 0.6)},
            value=10 * value,
            user_attrs={RETURNS: [9 * value, 11 * value]} | ({DEFAULT: True} if not i else {}),
        )
        for i, value in enumerate([0.2, 0.1, 0.4])
    ]

    plot_returns(problem, trials, tmp_path / "figure.svg")

    drawn = (tmp_path / "figure.svg").read_text()
    for text in (
        "ppo on CartPole-v1: 64 steps, 2 seeds, 3 trials",
        "epsilon (clip_range): clip range of the probability ratio",
        "final return",
        "default: 0.2",
        "best: 0.4",
    ):
        assert f"<!-- {text} -->" in drawn


def start(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "studies", "run", *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        assert time.monotonic() < deadline, "this takes too long"
        # Folders vanish while they are being looked at.
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return
        time.sleep(0.005)


def test_a_killed_study_goes_on_with_the_same_command_and_reuses_its_runs(tmp_path: Path) -> None:
    command = ["--algo", "ppo", "--env", "CartPole-v1", "--trials", 2, "--seeds", 2]
    command += ["--steps", 256, "--out", tmp_path, "--name", "mine"]
    folder = tmp_path / "mine"

    process = start(*command)
    # One run of the first trial has finished, the other is going on.
    wait_until(lambda: any(folder.rglob("seed-1000-*/run.json")))
    wait_until(lambda: any(folder.rglob(".tmp-seed-1001-*")))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    runs = [path for path in folder.rglob("seed-1000-*") if path.is_dir()]
    changed = {path: path.stat().st_mtime for path in runs if ".tmp-" not in str(path)}

    process = start(*command)
    output, errors = process.communicate()

    assert process.returncode == 0, errors
    assert all(path.stat().st_mtime == time for path, time in changed.items())
    assert len(list(folder.rglob("run.json"))) == 4
    assert not list(folder.rglob(".tmp-*"))
    assert "trial 1: clip_range 0.2: return" in output
    assert "trial 2: clip_range" in output
    assert "default: clip_range = 0.2" in output
    assert (folder / "return.png").exists()

    process = start(*command[:6], "--seeds", 3, *command[8:])
    _, errors = process.communicate()

    assert process.returncode == 2
    assert "  seeds: stored [1000, 1001], now [1000, 1001, 1002]" in errors
