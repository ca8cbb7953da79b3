"""Studies that are carried out in this process, with runs that are trained or made by hand."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from benchmarks.records import Evaluation, RunSpec
from benchmarks.run_files import is_finished
from benchmarks.sweep import SweepResult
from benchmarks.zoo import schedule_start
from reports.data import studies as study_data
from reports.data.context import Context
from reports.data.context import Studies as Wanted
from reports.data.studies import StudyResult
from reports.rendering.blocks import Section
from reports.sections import studies as section
from studies import confirmation, estimates, sensitivity, trials
from studies.definition import define
from studies.objective import Problem
from studies.search import Search
from studies.search_spaces import space_for
from studies.storage import connect
from studies.study import create, load
from studies.workers import Task, work

Maker = Callable[[RunSpec, Path, str], Path]
Returns = Callable[[RunSpec], float]


@contextmanager
def quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few resamples, and no word from Optuna."""
    monkeypatch.setattr(estimates, "REPETITIONS", 200)
    monkeypatch.setattr(sensitivity, "_REPETITIONS", 200)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
    optuna.logging.set_verbosity(before)


def small(algo: str, env_ids: Sequence[str], n_seeds: int, **more: Any) -> Problem:
    """A problem with the suite's own ranges, whose runs are as short as can be."""
    settings = {"n_steps": 64, "batch_size": 32, "policy_kwargs": "dict(net_arch=[8])"}
    space = more.pop("space", None) or space_for(algo)
    defined = define(algo, env_ids, n_seeds, 64, space, **more)
    hyperparams = {env_id: settings if algo == "ppo" else {} for env_id in env_ids}
    protocol = Evaluation(points=2, episodes=2, seed=7)
    return replace(defined, hyperparams=hyperparams, evaluation=protocol)


@dataclass
class StudyFolders:
    """Carries studies out below ``root``, all in this process."""

    root: Path
    monkeypatch: pytest.MonkeyPatch

    def made_by(self, make: Maker) -> None:
        """From now on runs are made by this function."""

        def sweep(specs: Sequence[RunSpec], out: Path, *_: object, **__: object) -> SweepResult:
            for spec in specs:
                if not is_finished(spec.folder(out)):
                    make(spec, out, "the command")
            return SweepResult([], [], [])

        def run(spec: RunSpec, out: Path, command: str, watch: Callable[[Any], None]) -> Path:
            return make(spec, out, command)

        self.monkeypatch.setattr(trials, "run", run)
        self.monkeypatch.setattr(trials, "sweep", sweep)

    def with_returns(self, returns: Returns) -> None:
        """From now on runs are folders with such a final return, in the suite's own form."""

        def make(spec: RunSpec, out: Path, command: str) -> Path:
            return write_run(spec, out, command, [0.0, 1.0, returns(spec)])

        self.made_by(make)

    def study(self, name: str, problem: Problem, n_trials: int) -> None:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        create(name, problem, connect("", folder))
        work(Task(name, "", folder, Search("random", n_trials=n_trials), "the command"))

    def confirm(self, name: str) -> None:
        study, problem = self.load(name)
        confirmation.confirm(study, problem, self.root / name, 1, "the command", shown=False)

    def sweep(self, name: str, *symbols: str, points: int = 5) -> None:
        study, problem = self.load(name)
        runs = sensitivity.stored(self.root / name)
        for symbol in symbols:
            parameter = sensitivity.swept(problem, symbol)
            runs[parameter.name] = sensitivity.measure(
                study, problem, self.root / name, parameter, points, 1, "the command", shown=False
            )
        sensitivity.store(runs, self.root / name)

    def load(self, name: str) -> tuple[optuna.Study, Problem]:
        return load(name, connect("", self.root / name))

    def read(self, *names: str) -> list[StudyResult]:
        return study_data.read(names, self.root, None)

    def section(self, *names: str, warn: Callable[[str], None] = lambda _: None) -> Section:
        made = section.build(Context(studies=Wanted(names, self.root), warn=warn))
        assert made is not None
        return made


def write_run(spec: RunSpec, out: Path, command: str, returns: Sequence[float]) -> Path:
    folder = spec.folder(out)
    folder.mkdir(parents=True)
    steps = np.linspace(0, spec.n_timesteps, len(returns)).astype(int)
    pd.DataFrame(
        {
            "timesteps": steps,
            "wall_seconds": steps / 1_000,
            "return_mean": returns,
            "return_std": 1.0,
            "length_mean": 100.0,
            "episodes": 2,
        }
    ).to_csv(folder / "evaluations.csv", index=False)
    record = {
        "format": 1,
        "spec": spec.to_dict(),
        "config": spec.config,
        "command": command,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "versions": {"python": "3.11.9"},
        "machine": {"system": "Linux", "cores": 2},
        "started": "2026-01-01T00:00:00+00:00",
        "wall_seconds": 1.0,
        "evaluation_seconds": 0.5,
        "timesteps": spec.n_timesteps,
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def noise(spec: RunSpec, size: float) -> float:
    """The same for a seed, whatever else."""
    return size * float(np.random.default_rng(spec.seed).normal())


def start_of(spec: RunSpec, name: str, default: float = math.nan) -> float:
    """A hyperparameter's value, or the initial one of a schedule."""
    value = spec.hyperparams.get(name, default)
    return schedule_start(value, name) if isinstance(value, str) else float(value)


def hill(
    name: str,
    top: float,
    steepness: float,
    size: float = 10.0,
    height: float = 450.0,
    default: float = 0.04,
) -> Returns:
    """Final returns that are highest where the parameter has a certain value."""

    def returns(spec: RunSpec) -> float:
        distance = math.log10(start_of(spec, name, default) / top)
        return height * math.exp(-steepness * distance**2) + noise(spec, size)

    return returns


def swept_study(studies: StudyFolders, name: str, algo: str, symbol: str, returns: Returns) -> None:
    studies.with_returns(returns)
    studies.study(name, small(algo, ["CartPole-v1"], 3), 2)
    studies.sweep(name, symbol, points=9)


def carry_out_three(studies: StudyFolders) -> StudyFolders:
    """A study whose best value is better, one where it is worse on fresh seeds, one level."""
    studies.with_returns(hill("target_kl", 0.3, 1.0))
    studies.study("better", small("npg", ["CartPole-v1"], 3), 6)
    studies.confirm("better")

    def reversed_later(spec: RunSpec) -> float:
        value = start_of(spec, "target_kl", 0.01)
        return 100 * (value if spec.seed < 2000 else 1 - value) + noise(spec, 1.0)

    studies.with_returns(reversed_later)
    studies.study("worse", small("trpo", ["CartPole-v1"], 3), 6)
    studies.confirm("worse")

    def chance(spec: RunSpec) -> float:
        value = float(spec.hyperparams.get("clip_range", 0.2))
        return 100 + 10 * math.sin(1e4 * value * spec.seed)

    studies.with_returns(chance)
    studies.study("level", small("ppo", ["CartPole-v1"], 4), 6)
    studies.confirm("level")
    return studies


def scores_of(problem: Problem, specs: Sequence[RunSpec], runs: Path) -> list[float]:
    """Read off the run folders by hand: CartPole-v1, a random policy has 23.14, reference 475."""
    finals = [
        pd.read_csv(spec.folder(runs) / "evaluations.csv")["return_mean"].iloc[-1] for spec in specs
    ]
    return [(final - 23.14) / (475 - 23.14) for final in finals]
