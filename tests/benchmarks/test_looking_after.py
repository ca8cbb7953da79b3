"""Commands that look after a folder of runs: status, retry, export."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from benchmarks import manifests
from benchmarks.__main__ import app
from benchmarks.archive import archive
from benchmarks.engines import Ended, Failure
from benchmarks.records import RunSpec
from benchmarks.results import load_evaluations, load_failures, load_runs
from benchmarks.run import Progress, run
from benchmarks.status import load_status
from benchmarks.sweep import record_failure, sweep
from benchmarks.work_queue import WorkQueue
from tests.reports.conftest import RunFolders


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
    queue = WorkQueue([make_spec(seed=5), make_spec(env_id=raising)], out)
    assert queue.claim()
    assert queue.claim()
    abandoned = out / "tiny" / "ppo" / "CartPole-v1" / ".lock-seed-9-aaaaaaaa"
    abandoned.touch()

    rows = {row["env_id"]: row for row in load_status(out).table.to_dict("records")}

    assert rows["CartPole-v1"]["steps/s"] > 0
    counted = ("finished", "in progress", "failed")
    assert [rows["CartPole-v1"][key] for key in counted] == [2, 1, 0]
    assert [rows[raising][key] for key in counted] == [0, 1, 1]
    result = command("status", out)
    assert result.exit_code == 0
    assert "failed: ppo tests.benchmarks.envs:Raising-v0 seed 0: ValueError: the pole is gone" in (
        result.output
    )
    queue.close()
    assert set(load_status(out).table["in progress"]) == {0}


def test_status_of_nothing_says_so(tmp_path: Path) -> None:
    assert "no runs in" in command("status", tmp_path).output
    assert command("status", tmp_path / "missing").exit_code == 2


def test_retry_lists_what_failed_and_tries_it_when_told_to(make_spec, out: Path) -> None:
    fine = make_spec(seed=7)
    record_failure(fine, out, "", "", Failure("MemoryError", ""))

    listed = command("retry", out)

    assert listed.exit_code == 0
    assert str(fine.failure_file(out)) in listed.output
    assert "to forget a failure, remove its file" in listed.output
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


def test_an_exported_text_is_no_formula_in_csv_and_exact_in_parquet(
    folders: RunFolders, tmp_path: Path
) -> None:
    folders.add("=cmd()", "-1+2")
    folders.add("@SUM(1)", "+CartPole")
    csv, parquet = tmp_path / "a.csv", tmp_path / "a.parquet"

    for path in (csv, parquet):
        arguments = ("export", folders.root, f"--{path.suffix[1:]}", "--out", path)
        assert command(*arguments).exit_code == 0

    names = {("=cmd()", "-1+2"), ("@SUM(1)", "+CartPole")}
    exact, safe = pd.read_parquet(parquet), pd.read_csv(csv)
    assert set(exact[["algo", "env_id"]].itertuples(index=False, name=None)) == names
    assert set(safe[["algo", "env_id"]].itertuples(index=False, name=None)) == {
        (f"'{algo}", f"'{env_id}") for algo, env_id in names
    }
    numbers = ["seed", "timesteps", "wall_seconds", "return_mean", "episodes"]
    pd.testing.assert_frame_equal(safe[numbers], exact[numbers])


def test_a_file_where_a_folder_must_be_is_refused_before_anything_is_read(
    out: Path, tmp_path: Path
) -> None:
    (next(out.rglob("run.json"))).write_text("{")  # which would be named, if it were read
    file = tmp_path / "file"
    file.write_text("kept")
    (run_folder,) = (path.parent for path in out.rglob("seed-1-*/run.json"))

    for arguments, named in (
        (("archive", out, file), "OUT: "),
        (("repeat", run_folder, "--out", file), "--out: "),
        (("run", "classic", "--out", file), "--out: "),
        (("status", file), ""),
    ):
        result = command(*arguments)
        assert result.exit_code == 2
        assert result.stderr == f"error: {named}{file}: must be a folder, got a file\n"
    assert file.read_text() == "kept"


@pytest.mark.parametrize("arguments", [[], ["--csv", "--parquet"]])
def test_export_wants_one_format(out: Path, arguments: list[str]) -> None:
    result = command("export", out, *arguments)

    assert result.exit_code == 2
    assert "choose one of --csv and --parquet" in result.stderr


def test_status_of_a_sweep_that_was_interrupted_shows_what_has_not_begun(
    make_spec, tmp_path: Path
) -> None:
    recurrent = make_spec("sb3_contrib.ppo_recurrent.ppo_recurrent:RecurrentPPO")
    specs = [make_spec(seed=seed) for seed in range(3)]
    during: list[pd.DataFrame] = []

    def engine(queue: WorkQueue, out: Path, command: str) -> Iterator[Ended]:
        assert [queue.claim(), queue.claim(), queue.claim()] == [*specs[:2], recurrent]
        run(specs[0], out, "")
        yield Ended(specs[0], "")
        yield Ended(specs[1], "", Failure("ValueError: no", ""))
        during.append(load_status(out).table)
        raise KeyboardInterrupt

    def counted(table: pd.DataFrame, algo: str) -> list[int]:
        (row,) = table[table["algo"] == algo].to_dict("records")
        assert row["env_id"] == "CartPole-v1"
        return [row[key] for key in ("finished", "in progress", "failed", "missing")]

    with pytest.raises(KeyboardInterrupt):
        sweep([*specs[:2], recurrent, specs[2]], tmp_path, 1, "the command", False, engine)

    assert counted(during[0], "ppo") == [1, 0, 1, 1]
    assert counted(during[0], recurrent.algo) == [0, 1, 0, 0]
    after = load_status(tmp_path)
    assert counted(after.table, "ppo") == [1, 0, 1, 1]
    assert counted(after.table, recurrent.algo) == [0, 0, 0, 1]
    assert [(asked.command, number) for asked, number in after.unfinished] == [("the command", 2)]
    # Of a part, too.
    assert counted(load_status(tmp_path / "tiny" / "ppo").table, "ppo") == [1, 0, 1, 1]
    shown = command("status", tmp_path).output
    assert "missing: 2 runs of: the command\n" in shown
    assert f"remove {after.unfinished[0][0].path}\n" in shown
    assert "…" not in shown
    # Nothing else takes the manifest for a run, and one of a sweep that has finished stays.
    assert (
        "3 evaluations of 1 runs"
        in command("export", tmp_path, "--csv", "--out", os.devnull).output
    )
    assert not Path(os.devnull).is_file()
    sweep(specs, tmp_path, 1, "", show_progress=False)
    assert counted(load_status(tmp_path).table, "ppo") == [3, 0, 0, 0]
    (left, _) = load_status(tmp_path).unfinished[0]
    assert left.path == after.unfinished[0][0].path
    (ended,) = [each for each in manifests.load(tmp_path) if each.finished is not None]
    assert ended.runs == [spec.key for spec in specs]
    assert {left.path, ended.path} == {path for path in tmp_path.iterdir() if path.is_file()}


def test_a_note_that_cannot_be_read_is_named_beside_the_rest(out: Path) -> None:
    note = out / "sweep-0123abcd.json"
    for text in ("{", '{"format": 1, "command": "", "runs": [3]}', '{"format": 99}'):
        note.write_text(text)

        result = command("status", out)

        assert result.exit_code == 2
        assert f"error: {note}: " in result.stderr
        assert "CartPole-v1" in result.stdout


def test_a_damaged_run_is_named_and_what_to_do_said(tiny_suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = ("run", tiny_suite, "--algos", "ppo", "--set", "n_steps=64", "--out", out)
    assert command(*arguments, "--seeds", "2").exit_code == 0
    damaged, whole = load_runs(out)["path"]
    for name, content, message in (
        ("evaluations.csv", "", "must have the columns timesteps, "),
        ("run.json", '{"format": 1, "sp', "Unterminated string"),
        ("run.json", "", "Expecting value"),
    ):
        sound = (damaged / name).read_text()
        (damaged / name).write_text(content)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

        result = command(*arguments, "--seeds", "3")

        assert result.exit_code == 2
        assert f"{damaged / name}: {message}" in result.stderr
        assert f"remove {damaged}, and the run is made again" in result.stderr
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        shown = command("status", out)
        assert shown.exit_code == 2
        assert f"error: {damaged / name}: {message}" in shown.stderr
        assert load_status(out).table["finished"].tolist() == [1]
        assert "CartPole-v1" in shown.stdout
        (damaged / name).write_text(sound)
    shutil.rmtree(damaged)
    assert command(*arguments, "--seeds", "3").exit_code == 0
    assert len(load_runs(out)) == 3
    assert whole.is_dir()


def test_a_run_that_is_damaged_meanwhile_is_named_in_the_end(
    tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaging(specs: Sequence[RunSpec], out: Path, *arguments: Any, **options: Any) -> Any:
        result = sweep(specs, out, *arguments, **options)
        (specs[0].folder(out) / "evaluations.csv").write_text("")
        return result

    monkeypatch.setattr("benchmarks.sweep.sweep", damaging)
    arguments = ("run", tiny_suite, "--algos", "ppo", "--set", "n_steps=64", "--seeds", "2")

    result = command(*arguments, "--out", tmp_path / "runs")

    assert result.exit_code == 1
    assert "evaluations.csv: must have the columns" in result.stderr
    assert "final return" in result.stdout  # of the other one


def test_a_broken_run_is_named_by_all_of_them(out: Path) -> None:
    path = load_runs(out)["path"][0] / "run.json"
    path.write_text("{}")

    for name, *options in (["status"], ["export", "--csv"]):
        result = command(name, out, *options)
        assert result.exit_code == 2
        assert str(path) in result.stderr
    assert load_status(out).table["finished"].tolist() == [1, 0]  # all the same


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
    assert load_status(many).table["finished"][0] == 1_000


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


def test_a_run_that_does_not_get_on_is_named(make_spec, out: Path) -> None:
    stalled, fine = make_spec(seed=5), make_spec(seed=6)
    queue = WorkQueue([stalled, fine], out)
    assert queue.claim()
    assert queue.claim()
    since = time.time() - 3_600
    for spec in (stalled, fine):
        scratch = spec.folder(out).with_name(f".tmp-{spec.folder(out).name}-1")
        scratch.mkdir()
        if spec is stalled:
            os.utime(scratch, (since, since))

    (found,) = load_status(out).stalled

    assert found == (("tiny", "ppo", "CartPole-v1", stalled.folder(out).name), pytest.approx(since))
    shown = command("status", out).output
    assert "no progress since " in shown
    assert f"60 minutes ago: tiny ppo CartPole-v1 {stalled.folder(out).name}" in shown
    queue.close()
    assert load_status(out).stalled == []


def test_a_run_that_gets_on_touches_its_folder(make_spec, tmp_path: Path) -> None:
    ages = []

    def report(_: Progress) -> None:
        (scratch,) = tmp_path.rglob(".tmp-seed-*")
        ages.append(time.time() - scratch.stat().st_mtime)
        os.utime(scratch, (0, 0))

    run(make_spec(n_timesteps=20_000, points=1), tmp_path, "", report)

    assert len(ages) > 1
    assert max(ages) < 60


def test_a_suite_folder_may_be_a_link(out: Path, tmp_path: Path) -> None:
    (out / "tiny").rename(tmp_path / "elsewhere")
    (out / "tiny").symlink_to(tmp_path / "elsewhere")

    assert len(load_runs(out)) == 2
    assert len(load_failures(out)) == 1
    assert load_status(out).table["finished"].sum() == 2
    archive(out, tmp_path / "kept")
    assert len(load_runs(tmp_path / "kept")) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("suite", "../../x"),
        ("suite", "/x"),
        ("suite", ".."),
        ("suite", ""),
        ("algo", ".."),
        ("env_id", "..\\x"),
        ("env_id", None),
        ("seed", "0/../../../../x"),
        ("n_timesteps", "1"),
    ],
)
def test_no_record_leads_out_of_the_folder_of_the_runs(
    out: Path, tmp_path: Path, key: str, value: Any
) -> None:
    inside = tmp_path / "a" / "b" / "c" / "again"
    (failure,) = out.rglob("*.failed.json")
    record = next(out.rglob("seed-0-*/run.json"))
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    for path in (record, failure):
        content = json.loads(path.read_text())
        content["spec"][key] = value
        path.write_text(json.dumps(content))

    for arguments in (
        ["repeat", record.parent, "--out", inside],
        ["retry", out, "--failed"],
        ["archive", out, inside],
    ):
        result = command(*arguments)
        assert result.exit_code == 2, result.output
        assert (
            "cannot be the name of a folder" in result.stderr
            or "must be" in result.stderr
            or ("is not that of a run" in result.stderr)
        )
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} == before
