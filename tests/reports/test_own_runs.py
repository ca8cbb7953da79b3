"""Reports on the runs of other programs, from the command line to the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from benchmarks import statistics
from reports.__main__ import app
from reports.data import aggregates
from tests.reports.conftest import RunFolders
from tests.reports.other_programs import cleanrl_run, zoo_run


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)
    monkeypatch.setattr(aggregates, "REPETITIONS", 200)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def built(out: Path, *arguments: object) -> str:
    result = command("build", *arguments, "--out", out, "--format", "md")
    assert result.exit_code == 0, result.output
    text = (out / "report.md").read_text()
    assert "nan" not in text.split()
    return text


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The RL Zoo's ``logs/`` and CleanRL's ``runs/``."""
    logs, runs = tmp_path / "logs", tmp_path / "runs"
    for seed in range(3):
        zoo_run(logs, seed=seed)
        zoo_run(logs, "a2c", seed=seed, level=-30)
        cleanrl_run(runs, seed=seed)
    return logs, runs


def test_report_on_two_programs_says_what_it_compares(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    logs, runs = both
    names = ["--name", f"{logs}/=zoo", "--name", f"{runs}/=cleanrl"]
    text = built(tmp_path / "report", logs, runs, *names)
    assert "cleanrl, zoo a2c and zoo ppo on CartPole-v1 (100,000 steps): 9 runs" in text
    assert "All returns here are training returns" in text
    assert "event files of CleanRL (3 runs) and logs of the RL Zoo (6 runs)" in text
    assert "| final training return |" in " ".join(text.split())
    assert "mean over seeds of the training return" in text
    assert "the last 10 of 100 points" in text
    assert "**Training returns** are the mean return of the last 100 episodes" in text
    assert "their commits, versions, machines and commands are not recorded" in text
    assert "evaluation return" not in text.replace("They are not evaluation returns", "")


def test_report_on_a_column_of_which_less_is_better(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    logs, runs = both
    cleanrl_run(runs, seed=0, algo="ppo2")
    arguments = ["--metric", "losses/approx_kl", "--lower-is-better"]
    text = built(tmp_path / "report", logs, runs, "--name", f"{logs}=zoo", *arguments)
    words = " ".join(text.split())
    assert "what the runs logged as losses/approx_kl, not returns" in words
    assert "Lower is better." in words
    assert "| final losses/approx_kl |" in words
    assert "6 runs left out without the metric" in words
    assert "`zoo a2c on CartPole-v1, seed 0" in words
    assert "## All environments together" not in text
    assert "## Steps to threshold" not in text


def test_report_on_own_runs_by_their_training_returns(folders: RunFolders, tmp_path: Path) -> None:
    for algo in ("npg", "ppo"):
        for seed in range(3):
            steps = np.arange(1, 26) * 2_000
            rows = [f"{step},{10 * i + seed}" for i, step in enumerate(steps)]
            head = "time/total_timesteps,rollout/ep_rew_mean"
            folder = folders.add(algo, seed=seed)
            (folder / "progress.csv").write_text("\n".join([head, *rows]) + "\n")
    text = built(tmp_path / "report", folders.root, "--metric", "training", "--published")
    assert "All returns here are training returns" in text
    assert "python -m benchmarks run classic" in text
    assert "## Against the literature" not in text


def test_inspect_lists_what_is_recognised_and_what_is_missing(tmp_path: Path) -> None:
    zoo = zoo_run(tmp_path / "logs", seed=7)
    (tmp_path / "plain").mkdir()
    (zoo / "evaluations.npz").rename(tmp_path / "plain" / "evaluations.npz")
    RunFolders(tmp_path / "suite").add("npg", seed=2)
    result = command("inspect", tmp_path / "logs", tmp_path / "plain", tmp_path / "suite")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == (
        ["run", "format", "algorithm", "environment", "seed", "evaluation", "training", "missing"]
    )
    row = next(line for line in lines if line.startswith(str(zoo)))
    assert row.split()[1:5] == ["zoo", "ppo", "CartPole-v1", "7"]
    assert "500 to step 100,000" in row
    assert "algorithm, environment and seed" in next(line for line in lines if "/plain" in line)
    assert "suite" in next(line for line in lines if "npg" in line)
    assert "2 of 3 runs can be reported: 2 algorithms on 1 environment" in result.output


def test_inspect_fails_where_nothing_can_be_reported(tmp_path: Path) -> None:
    result = command("inspect", tmp_path)
    assert result.exit_code == 1
    assert "Nothing can be reported of 0 runs." in result.output


def test_broken_logs_are_listed(both: tuple[Path, Path], tmp_path: Path) -> None:
    logs, runs = both
    broken = zoo_run(logs, seed=9)
    (broken / "evaluations.npz").write_bytes(b"PK no zip")
    (broken / "0.monitor.csv").write_text("no log\n")
    text = built(tmp_path / "report", logs, "--metric", "training")
    assert f"{broken.name}" in text.partition("## What is missing")[2]
    assert runs.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "colour=red"], "--where: no run has a field 'colour'"),
        (["--metric", "success_rate"], "--metric: no run has 'success_rate'"),
        (["--columns", "algo"], "--columns: must be a YAML file"),
    ],
)
def test_refusals_name_the_option(arguments: list[str], said: str, tmp_path: Path) -> None:
    zoo_run(tmp_path / "logs")
    result = command("build", tmp_path / "logs", *arguments, "--out", tmp_path / "report")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "report").exists()
