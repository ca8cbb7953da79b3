"""``python -m studies`` in processes of its own: interrupted, killed, started twice, reproduced."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from typer.testing import CliRunner, Result

from benchmarks.commands import app as benchmarks_app
from benchmarks.results import load_runs
from studies.__main__ import app
from studies.study import WORKER, completed, counted, in_state, trial_lock

REPOSITORY = Path(__file__).parents[2]
_APPS = {"studies": app, "benchmarks": benchmarks_app}
# A run takes a moment, so that there is one to interrupt.
STEPS = 1024


def start(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A background job of a shell would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


def here(program: str, *arguments: Any) -> Result:
    """The same in this process, which does not have to start first."""
    return CliRunner().invoke(_APPS[program], list(map(str, arguments)))


def done(program: str, *arguments: Any) -> Result:
    result = here(program, *arguments)
    assert result.exit_code == 0, result.output
    return result


def end(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, f"{output}\n{errors}"
    return output


def study_command(root: Path, n_trials: int, *more: Any) -> list[Any]:
    command = ["studies", "run", "--algo", "ppo", "--env", "CartPole-v1", "--trials", n_trials]
    command += ["--seeds", 1, "--steps", STEPS, "--root", root, "--name", "mine", *more]
    return command


def stored(root: Path) -> optuna.Study:
    journal = JournalStorage(JournalFileBackend(str(root / "mine" / "journal.log")))
    return optuna.load_study(study_name="mine", storage=journal)


def wait_until(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while True:
        assert time.monotonic() < deadline, "this takes too long"
        # What is looked at may not be there yet, or vanish in the meantime.
        with contextlib.suppress(OSError, KeyError, json.JSONDecodeError):
            if condition():
                return
        time.sleep(0.01)


def workers_at_work(root: Path) -> list[int]:
    running = in_state(counted(stored(root)), TrialState.RUNNING)
    names = [trial.user_attrs[WORKER] for trial in running if WORKER in trial.user_attrs]
    return [int(name.rpartition("-")[2]) for name in names]


def workers(root: Path) -> set[str]:
    """Who has carried out a trial, or is about to."""
    trials = counted(stored(root))
    return {trial.user_attrs[WORKER] for trial in trials if WORKER in trial.user_attrs}


@pytest.fixture
def leaving_nothing_behind() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    for process in set(psutil.Process().children(recursive=True)) - before:
        process.kill()


def check_complete(root: Path, n_trials: int) -> None:
    trials = counted(stored(root))
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * n_trials
    assert len({trial.params["clip_range"] for trial in trials}) == n_trials
    # One run a trial, one more with the best values and one with the defaults on a fresh seed.
    runs = load_runs(root / "mine" / "runs")
    best_is_default = stored(root).best_trial.params["clip_range"] == 0.2
    assert len(runs) == n_trials + (1 if best_is_default else 2)
    assert not list(root.rglob(".tmp-*"))


@pytest.mark.usefixtures("leaving_nothing_behind")
def test_a_trial_whose_worker_is_killed_is_tried_again(tmp_path: Path) -> None:
    process = start(*study_command(tmp_path, 3, "--jobs", 2))
    wait_until(lambda: len(workers_at_work(tmp_path)) > 0)
    os.kill(workers_at_work(tmp_path)[0], signal.SIGKILL)

    output = end(process)

    assert "a worker has died: WorkerDied: the process was killed by SIGKILL" in output
    assert len(stored(tmp_path).trials) > 3  # one of them under another number
    check_complete(tmp_path, 3)


@pytest.mark.usefixtures("leaving_nothing_behind")
def test_a_killed_study_takes_its_workers_along_and_goes_on(tmp_path: Path) -> None:
    command = study_command(tmp_path, 2, "--jobs", 2)
    process = start(*command)
    wait_until(lambda: len(workers_at_work(tmp_path)) > 0)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert len(completed(stored(tmp_path))) < 2

    carried_on = done(*command)

    check_complete(tmp_path, 2)
    assert "on fresh seeds: score" in carried_on.output
    assert "the defaults:   score" in carried_on.output
    assert (tmp_path / "mine" / "values.png").stat().st_size > 10_000


@pytest.mark.usefixtures("leaving_nothing_behind")
def test_two_commands_at_once_share_a_study(tmp_path: Path) -> None:
    with trial_lock(tmp_path / "mine", 0):  # whoever has the first trial waits for the other
        processes = [start(*study_command(tmp_path, 4)) for _ in range(2)]
        wait_until(lambda: len(workers(tmp_path)) == 2)

    outputs = [end(process) for process in processes]

    check_complete(tmp_path, 4)
    assert all("on fresh seeds" in output for output in outputs)
    assert len(workers(tmp_path)) == 2


@pytest.mark.usefixtures("leaving_nothing_behind")
def test_an_interrupted_study_goes_on_and_can_be_extended(tmp_path: Path) -> None:
    process = start(*study_command(tmp_path, 2))
    wait_until(lambda: len(workers_at_work(tmp_path)) == 1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    assert not in_state(counted(stored(tmp_path)), TrialState.RUNNING)

    done(*study_command(tmp_path, 2))
    check_complete(tmp_path, 2)

    extended = done(*study_command(tmp_path, 3))
    assert "2 of 3 trials are already there" in extended.output
    assert len(counted(stored(tmp_path))) == 3

    refused = here(*study_command(tmp_path, 3, "--params", "learning_rate"))
    assert refused.exit_code == 2
    assert "space.clip_range.name: stored 'clip_range', now None" in refused.output


@pytest.mark.usefixtures("leaving_nothing_behind")
def test_the_entry_of_the_best_trial_gives_its_numbers_again(tmp_path: Path) -> None:
    """Environment count and normalisation, through a hyperparameter file and a sweep."""
    command = ["studies", "run", "--algo", "ppo", "--env", "MountainCar-v0", "--trials", 2]
    command += ["--seeds", 2, "--steps", STEPS, "--root", tmp_path, "--name", "mine"]
    done(*command)
    entry = done("studies", "best", "mine", "--yaml", "--root", tmp_path).stdout
    (tmp_path / "ppo.yml").write_text(entry)
    suite = f"environments: {{MountainCar-v0: {{n_timesteps: {STEPS}}}}}"
    (tmp_path / "again.yaml").write_text(suite)

    sweep = ["benchmarks", "run", tmp_path / "again.yaml", "--algos", "ppo", "--seeds", 2]
    sweep += ["--first-seed", 1000, "--hyperparams", f"ppo={tmp_path / 'ppo.yml'}"]
    done(*sweep, "--out", tmp_path / "runs")

    best = stored(tmp_path).best_trial
    assert "normalize: true" in entry
    assert "n_envs: 16" in entry
    again = load_runs(tmp_path / "runs")
    assert again["seed"].tolist() == [1000, 1001]
    for seed, folder, returned in zip(
        again["seed"], again["path"], best.user_attrs["returns"], strict=True
    ):
        evaluations = pd.read_csv(folder / "evaluations.csv")
        (searched,) = (
            path for path in (tmp_path / "mine" / "runs").rglob(f"{folder.name}/evaluations.csv")
        )
        there = pd.read_csv(searched)
        assert folder.name.startswith(f"seed-{seed}-")
        columns = ["timesteps", "return_mean", "return_std", "length_mean", "episodes"]
        pd.testing.assert_frame_equal(evaluations[columns], there[columns], check_exact=True)
        assert evaluations["return_mean"].tail(2).mean() == returned
