"""Run folders made by hand, in the form the suite writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.folder_names import as_file_name
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from benchmarks.run_files import manifest_path, write_manifest
from reports import document
from reports.data import context
from reports.data.runs import RunData, load

if TYPE_CHECKING:
    from tests.reports.study_folders import StudyFolders

EVALUATION = {"points": 20, "episodes": 10, "seed": 1_000_000}


@dataclass
class RunFolders:
    """Writes run folders under ``root``."""

    root: Path

    def add(
        self,
        algo: str,
        env_id: str = "CartPole-v1",
        seed: int = 0,
        returns: Sequence[float] = (20.0, 100.0),
        n_timesteps: int = 50_000,
        hyperparams: Mapping[str, Any] | None = None,
        evaluation: Mapping[str, Any] | None = None,
        suite: str = "classic",
        **run_json: Any,
    ) -> Path:
        """One finished run whose evaluations, evenly spread from step 0, gave ``returns``."""
        spec = _spec(suite, algo, env_id, seed, n_timesteps, hyperparams, evaluation)
        folder = self._folder(spec, run_json.get("config"))
        folder.mkdir(parents=True)
        timesteps = np.linspace(0, n_timesteps, len(returns)).astype(int)
        record = {
            "format": 1,
            "spec": spec,
            "config": _config(spec),
            "command": "python -m benchmarks run classic --algos npg,ppo,trpo --seeds 3",
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "dirty": False,
            "versions": {"python": "3.11.9", "torch": "2.13.0", "stable_baselines3": "2.9.2"},
            "machine": {"system": "Linux", "processor": "x86_64", "cores": 2, "memory_gib": 8.0},
            "started": "2026-01-01T00:00:00+00:00",
            "wall_seconds": 61.0,
            "evaluation_seconds": 11.0,
            "timesteps": n_timesteps,
            **run_json,
        }
        (folder / "run.json").write_text(json.dumps(record))
        pd.DataFrame(
            {
                "timesteps": timesteps,
                "wall_seconds": timesteps / 1_000,
                "return_mean": returns,
                "return_std": 1.0,
                "length_mean": 100.0,
                "episodes": 10,
            }
        ).to_csv(folder / "evaluations.csv", index=False)
        (folder / "progress.csv").write_text("time/total_timesteps\n0\n")
        (folder / "model.zip").write_bytes(b"")
        return folder

    def add_failure(
        self, algo: str, env_id: str = "CartPole-v1", seed: int = 0, error: str = "ValueError: no"
    ) -> Path:
        """The record of one failed run."""
        spec = _spec("classic", algo, env_id, seed, 50_000, None, None)
        folder = self._folder(spec)
        folder.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "format": 1,
            "spec": spec,
            "config": _config(spec),
            "command": "python -m benchmarks run classic",
            "started": "2026-01-01T00:00:00+00:00",
            "error": error,
            "traceback": f"Traceback (most recent call last):\n{error}",
        }
        path = folder.with_name(folder.name + ".failed.json")
        path.write_text(json.dumps(record))
        return path

    def ask(
        self,
        algos: Sequence[str],
        seeds: Sequence[int],
        env_ids: Sequence[str] = ("CartPole-v1",),
        hyperparams: Mapping[str, Any] | None = None,
        n_timesteps: int = 50_000,
    ) -> Path:
        """The manifest of a sweep that was asked for these runs, and has finished."""
        specs = [
            _spec("classic", algo, env_id, 0, n_timesteps, hyperparams, None)
            for env_id in env_ids
            for algo in algos
        ]
        runs = [
            {key: spec[key] for key in ("suite", "algo", "env_id")}
            | {"config": _config(spec), "seeds": list(seeds)}
            for spec in specs
        ]
        path = manifest_path(self.root, _config({"runs": runs}))
        write_manifest(path, {"command": "python -m benchmarks run", "finished": "", "runs": runs})
        return path

    def _folder(self, spec: Mapping[str, Any], config: Any = None) -> Path:
        name = f"seed-{spec['seed']}-{config if isinstance(config, str) else _config(spec)}"
        algo, env_id = (as_file_name(spec[key]) for key in ("algo", "env_id"))
        return self.root / spec["suite"] / algo / env_id / name


def build_report(root: Path, out: Path, formats: Sequence[str] = ("md",), **options: Any) -> str:
    """Build a report on these runs into ``out``; its text in Markdown.

    :param options: as for :func:`reports.data.context.load`
    """
    return document.build(context.load(root, **options), out, formats=formats).read_text()


@pytest.fixture
def folders(tmp_path: Path) -> RunFolders:
    root = tmp_path / "runs"
    root.mkdir()
    return RunFolders(root)


@pytest.fixture
def study(folders: RunFolders) -> RunFolders:
    """Three algorithms, two environments, three seeds, with curves like real ones."""
    rng = np.random.default_rng(0)
    progress = np.linspace(0, 1, 21)
    for env_id, top, n_timesteps in [
        ("CartPole-v1", 500.0, 50_000),
        ("HalfCheetah-v5", 4_800.0, 400_000),
    ]:
        folders.ask(["npg", "ppo", "trpo"], range(3), [env_id], n_timesteps=n_timesteps)
        for algo, speed in [("npg", 6.0), ("ppo", 2.5), ("trpo", 4.5)]:
            for seed in range(3):
                pace = speed * rng.uniform(0.7, 1.3)
                curve = top * (1 - np.exp(-pace * progress)) + 0.06 * top * rng.normal(size=21)
                folders.add(algo, env_id, seed, np.minimum(curve, top), n_timesteps)
    return folders


@pytest.fixture
def sides(tmp_path: Path) -> tuple[RunFolders, RunFolders]:
    for name in "ab":
        (tmp_path / name).mkdir()
    return RunFolders(tmp_path / "a"), RunFolders(tmp_path / "b")


TINY = {
    "npg": {"n_envs": 2, "n_steps": 64, "target_kl": "lin_0.05", "max_log_std_change": None},
    "trpo": {"n_envs": 2, "n_steps": 64, "batch_size": 64},
    "ppo": {"n_envs": 2, "n_steps": 64, "batch_size": 64, "n_epochs": 2},
    "acer": {"n_steps": 5, "replay_start": 100},
    "a2c": {"n_steps": 5},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A real run of each algorithm."""
    root = tmp_path_factory.mktemp("trained")
    for algo, hyperparams in TINY.items():
        settings = hyperparams | {"policy_kwargs": "dict(net_arch=[8])"}
        run(
            RunSpec("tiny", algo, "Pendulum-v1", 0, 1_500, settings, Evaluation(1, 1, 7)),
            root,
            "python -m benchmarks run tiny",
        )
    return load(root)


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyFolders]:
    """Studies below a folder, to be carried out with few resamples."""
    from tests.reports import study_folders  # slow to import

    with study_folders.quick_and_quiet(monkeypatch):
        yield study_folders.StudyFolders(tmp_path / "studies-out", monkeypatch)


def _spec(
    suite: str,
    algo: str,
    env_id: str,
    seed: int,
    n_timesteps: int,
    hyperparams: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "suite": suite,
        "algo": algo,
        "env_id": env_id,
        "seed": seed,
        "n_timesteps": n_timesteps,
        "hyperparams": dict(hyperparams or {"n_steps": 2048, "gamma": 0.99}),
        "evaluation": dict(evaluation or EVALUATION),
    }


def _config(spec: Mapping[str, Any]) -> str:
    """Eight hex digits of what is the same for all seeds."""
    settings = {key: spec[key] for key in spec if key not in ("seed", "suite")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
