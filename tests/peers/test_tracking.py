"""Weights & Biases and MLflow, which runs are logged to with ``--track``."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from benchmarks.errors import SpecError
from benchmarks.results import load_runs
from benchmarks.storage import open_folder
from benchmarks.tracking import prepare

REPOSITORY = Path(__file__).parents[2]


def tracked_sweep(tracker: str, suite: Path, out: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "run", str(suite), "--algos", "ppo"]
    command += ["--seeds", "2", "--jobs", "2", "--set", "n_steps=64", "--track", tracker]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(load_runs(out)) == 2


def test_wandb_is_written_into_the_runs_folder(tiny_suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    tracked_sweep("wandb", tiny_suite, out)

    for folder in load_runs(out)["path"]:
        (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        assert file.stat().st_size > 1000


def test_mlflow_is_one_database_for_all_runs(tiny_suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    tracked_sweep("mlflow", tiny_suite, out)

    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name("sb3-natural")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["0", "1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    points = client.get_metric_history(runs[0].info.run_id, "eval/return_mean")
    assert [point.step for point in points][-1] == 512
    assert runs[0].data.params["n_steps"] == "64"


def test_mlflow_elsewhere_needs_an_address(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    for out, here in ((tmp_path, False), (open_folder("memory://runs"), True)):
        with pytest.raises(SpecError, match="--track: 'mlflow' needs MLFLOW_TRACKING_URI"):
            prepare(["mlflow"], out, here)
    assert "MLFLOW_TRACKING_URI" not in os.environ
