"""Commands that look after a folder of runs: status, retry, export."""

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from benchmarks.__main__ import app
from benchmarks.claims import Agenda
from benchmarks.engines import Failure
from benchmarks.results import load_evaluations, load_failures, load_runs
from benchmarks.run import run
from benchmarks.status import load_status
from benchmarks.sweep import record_failure


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def out(make_spec, tmp_path: Path) -> Path:
    """Two finished runs and a failed one, of an environment whose name is no file name."""
    out = tmp_path / "runs"
    for seed in (0, 1):
        run(make_spec(seed=seed), out, "")
    failed = make_spec(env_id="tests.benchmarks.envs:Raising-v0")
    record_failure(failed, out, "", "", Failure("ValueError: the pole is gone\nmore", "..."))
    return out


def test_status_counts_what_is_finished_in_progress_and_failed(make_spec, out: Path) -> None:
    raising = "tests.benchmarks.envs:Raising-v0"
    agenda = Agenda([make_spec(seed=5), make_spec(env_id=raising)], out)
    assert agenda.claim()
    assert agenda.claim()
    abandoned = out / "tiny" / "ppo" / "CartPole-v1" / ".lock-seed-9-aaaaaaaa"
    abandoned.touch()

    rows = {row["env_id"]: row for row in load_status(out).to_dict("records")}

    assert rows["CartPole-v1"]["steps/s"] > 0
    counted = ("finished", "in progress", "failed")
    assert [rows["CartPole-v1"][key] for key in counted] == [2, 1, 0]
    assert [rows[raising][key] for key in counted] == [0, 1, 1]
    result = command("status", out)
    assert result.exit_code == 0
    assert "failed: ppo tests.benchmarks.envs:Raising-v0 seed 0: ValueError: the pole is gone" in (
        result.output
    )
    agenda.close()
    assert set(load_status(out)["in progress"]) == {0}


def test_status_of_nothing_says_so(tmp_path: Path) -> None:
    assert "no runs in" in command("status", tmp_path).output
    assert command("status", tmp_path / "missing").exit_code == 2


def test_retry_lists_what_failed_and_tries_it_when_told_to(make_spec, out: Path) -> None:
    fine = make_spec(seed=7)
    record_failure(fine, out, "", "", Failure("MemoryError", ""))

    listed = command("retry", out)

    assert listed.exit_code == 0
    assert str(fine.failure_file(out)) in listed.output
    assert len(load_failures(out)) == 2

    # From any folder above the runs, and as they were.
    tried = command("retry", out / "tiny", "--failed", "--jobs", "2")

    assert tried.exit_code == 1  # one fails again
    assert fine.folder(out).is_dir()
    (left,) = load_failures(out).to_dict("records")
    assert left["env_id"] == "tests.benchmarks.envs:Raising-v0"
    assert "no failed runs" in command("retry", out / "tiny/ppo/CartPole-v1").output


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_export_is_one_tidy_table(out: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"table.{kind}"

    result = command("export", out, f"--{kind}", "--out", path)

    assert result.exit_code == 0, result.output
    assert "6 evaluations of 2 runs" in result.output
    table = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(table, load_evaluations(out), check_dtype=kind == "parquet")
    assert list(table.columns[:9]) == [
        *("suite", "algo", "env_id", "seed", "config"),
        *("timesteps", "wall_seconds", "return_mean", "return_std"),
    ]


@pytest.mark.parametrize("arguments", [[], ["--csv", "--parquet"]])
def test_export_wants_one_format(out: Path, arguments: list[str]) -> None:
    result = command("export", out, *arguments)

    assert result.exit_code == 2
    assert "choose one of --csv and --parquet" in result.stderr


def test_a_broken_run_is_named_by_all_of_them(out: Path) -> None:
    path = load_runs(out)["path"][0] / "run.json"
    path.write_text("{}")

    for name, *options in (["status"], ["export", "--csv"]):
        result = command(name, out, *options)
        assert result.exit_code == 2
        assert str(path) in result.stderr


def test_runs_of_several_sweeps_are_not_mixed(make_spec, out: Path) -> None:
    other = out.parent / "other"
    record_failure(make_spec(seed=8), other, "", "", Failure("MemoryError", ""))

    result = command("retry", out.parent, "--failed")

    assert result.exit_code == 2
    assert f"name one of {other}, {out}" in result.stderr
    assert len(load_failures(out.parent)) == 2


def test_each_of_many_runs_is_read_once(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = load_runs(out)["path"][0]
    record = json.loads((folder / "run.json").read_text())
    many = tmp_path / "many"
    for seed in range(1_000):
        copy = many / "tiny" / "ppo" / "CartPole-v1" / f"seed-{seed}-{record['config']}"
        copy.mkdir(parents=True)
        shutil.copy(folder / "evaluations.csv", copy)
        record["spec"]["seed"] = seed
        (copy / "run.json").write_text(json.dumps(record))

    opened: list[str] = []
    original = Path.open

    def logged(path: Path, *arguments, **options):
        opened.append(path.name)
        return original(path, *arguments, **options)

    with monkeypatch.context() as counting:
        counting.setattr(Path, "open", logged)
        evaluations = load_evaluations(many)

    assert len(evaluations) == 3_000
    assert sorted(set(evaluations["seed"])) == list(range(1_000))
    assert opened.count("evaluations.csv") == 1_000
    assert opened.count("run.json") <= 1_000  # read_text need not go through open
    assert load_status(many)["finished"][0] == 1_000


def test_an_unwritable_folder_is_said_before_anything_runs(
    tiny_suite: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()

    result = command("run", tiny_suite, "--algos", "ppo", "--out", file / "runs")

    assert result.exit_code == 2
    assert f"--out: {file / 'runs'}: " in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tiny_suite: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)

    result = command("run", tiny_suite, "--algos", "ppo", "--out", closed / "runs")

    assert result.exit_code == 2
    assert "Permission denied" in result.stderr


def test_a_folder_of_another_version_is_left_alone(tiny_suite: Path, out: Path) -> None:
    path = load_runs(out)["path"][0] / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 99}))

    result = command("run", tiny_suite, "--algos", "ppo", "--out", out)

    assert result.exit_code == 2
    assert f"{path}: has the format 99; this version reads 1" in result.stderr
    assert json.loads(path.read_text())["format"] == 99


def test_a_full_disk_costs_nothing_that_is_finished(tiny_suite: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        arguments = ["run", tiny_suite, "--algos", "ppo", "--set", "policy_kwargs={net_arch: [8]}"]
        assert command(*arguments, "--out", disk).exit_code == 0
        finished = {path: path.read_bytes() for path in disk.rglob("seed-*/*")}
        with suppress(OSError), (disk / "else").open("wb") as file:
            file.write(bytes(2**20))

        result = command(*arguments, "--seeds", "2", "--out", disk)

        assert result.exit_code in (1, 2)
        assert "No space left on device" in result.output
        assert {path: path.read_bytes() for path in disk.rglob("seed-*/*")} == finished
        (disk / "else").unlink()
        assert command(*arguments, "--seeds", "2", "--out", disk).exit_code == 0
        assert len(load_runs(disk)) == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)
