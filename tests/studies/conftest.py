"""A problem whose runs take a fraction of a second, and studies of it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch

from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from benchmarks.run_files import is_finished
from benchmarks.sweep import SweepResult
from studies import trials
from studies.definition import define
from studies.objective import Problem
from studies.search import Search
from studies.search_spaces import space_for
from studies.storage import STORAGE_VARIABLE, connect
from studies.study import create
from studies.workers import Task, work

CarryOn = Callable[..., optuna.Study]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    torch.set_num_threads(1)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def problem() -> Problem:
    small = {"n_steps": 64, "batch_size": 32, "policy_kwargs": "dict(net_arch=[8])"}
    defined = define("ppo", ["CartPole-v1"], 2, 64, space_for("ppo"))
    return replace(
        defined,
        hyperparams={"CartPole-v1": small},
        evaluation=Evaluation(points=2, episodes=2, seed=7),
    )


@pytest.fixture
def carry_on(tmp_path: Path) -> CarryOn:
    """Carries a study on in this process, until it has so many trials."""

    def carry_on(
        problem: Problem, n_trials: int, name: str = "mine", storage: str = "", **search: str
    ) -> optuna.Study:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        study = create(name, problem, connect(storage, folder))
        work(Task(name, storage, folder, Search(n_trials=n_trials, **search), "the command"))
        return study

    return carry_on


@pytest.fixture
def sweeps_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps make the same runs, without a fresh process for each, which takes much longer."""

    def sweep(specs: Sequence[RunSpec], out: Path, *_: object, **__: object) -> SweepResult:
        missing = [spec for spec in specs if not is_finished(spec.folder(out))]
        for spec in missing:
            run(spec, out, "the command")
        return SweepResult(missing, [], [spec for spec in specs if spec not in missing])

    monkeypatch.setattr(trials, "sweep", sweep)
