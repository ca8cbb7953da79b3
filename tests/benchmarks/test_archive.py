"""Archives: what is kept of runs, and that reports and sweeps can use them."""

import filecmp
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal
from pyarrow import parquet
from typer.testing import CliRunner

from benchmarks import manifests
from benchmarks.__main__ import app
from benchmarks.archive import archive, thinned
from benchmarks.engines import Failure
from benchmarks.records import BrokenRunError
from benchmarks.results import load_evaluations, load_failures, load_readable, load_runs
from benchmarks.run import run
from benchmarks.run_files import find, read_progress
from benchmarks.status import load_status
from benchmarks.storage import open_folder
from benchmarks.sweep import SweepError, record_failure, sweep
from tests.benchmarks.crashes import disk_with_room_for, killed_at_each_step
from tests.reports.conftest import RunFolders


@pytest.fixture
def runs(make_spec, tmp_path: Path) -> Path:
    """Two finished runs and a failed one."""
    root = tmp_path / "runs"
    for seed in (0, 1):
        folder = run(make_spec(seed=seed), root, "")
        (folder / "uncommitted.diff").unlink(missing_ok=True)  # whatever this code is
    record_failure(make_spec(seed=2), root, "", "", Failure("ValueError: gone", "..."))
    return root


def test_an_archive_reads_as_the_runs_do_and_lacks_what_is_large(
    runs: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"

    assert archive(runs, kept, n_rows=1) == (2, 0)

    assert_frame_equal(load_evaluations(kept), load_evaluations(runs))
    assert_frame_equal(load_runs(kept).drop(columns="path"), load_runs(runs).drop(columns="path"))
    assert_frame_equal(load_failures(kept), load_failures(runs))
    assert {path.name for path in kept.iterdir()} == {
        *("runs.parquet", "evaluations.parquet", "progress.parquet", "failures.parquet")
    }
    # The last row of the log, which has what was counted from the beginning.
    for folder in load_runs(kept)["path"]:
        assert not folder.exists()
        assert read_progress(folder)["time/total_timesteps"].to_list() == [256]


def test_what_was_not_committed_is_kept_if_it_is_short(runs: Path, tmp_path: Path) -> None:
    short, long = load_runs(runs)["path"]
    (short / "uncommitted.diff").write_text("+ü\n" * 1_000, encoding="utf-8")
    (long / "uncommitted.diff").write_text("+u\n" * 100_000)

    archive(runs, tmp_path / "kept")

    kept = {run.folder: run.diff() for run in find(tmp_path / "kept").runs}
    assert kept == {
        tmp_path / "kept" / short.relative_to(runs): "+ü\n" * 1_000,
        tmp_path / "kept" / long.relative_to(runs): None,
    }


def test_an_archive_grows_and_what_is_in_it_stays(runs: Path, make_spec, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    archive(runs, kept, n_rows=1)
    for path in runs.rglob("seed-0-*/evaluations.csv"):
        path.write_text(path.read_text().replace(",2", ",3"))  # the archive has the older ones
    before = [load_runs(kept), load_evaluations(kept)]
    logs = {folder: read_progress(folder) for folder in before[0]["path"]}
    run(make_spec(seed=2), runs, "")  # had failed

    assert archive(runs, kept) == (1, 2)

    after = [load_runs(kept), load_evaluations(kept)]
    for earlier, later in zip(before, after, strict=True):
        assert later["seed"].unique().tolist() == [0, 1, 2]
        assert_frame_equal(later[later["seed"] < 2], earlier)
    for folder, log in logs.items():
        assert_frame_equal(read_progress(folder), log, check_dtype=False)
    assert load_failures(kept).empty


def test_a_sweep_goes_on_from_an_archive(runs: Path, make_spec, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    archive(runs, kept)

    result = sweep([make_spec(seed=seed) for seed in (0, 1)], kept, 1, "")

    assert len(result.skipped) == 2
    assert not result.finished


def test_a_sweep_into_an_archive_s_folder_adds_run_folders(
    runs: Path, make_spec, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    archive(runs, kept)

    result = sweep([make_spec(seed=seed) for seed in range(3)], kept, 1, "", False)

    assert [spec.seed for spec in result.finished] == [2]  # it had failed
    assert load_runs(kept)["seed"].to_list() == [0, 1, 2]
    assert load_failures(kept).empty
    assert load_status(kept).table["finished"].to_list() == [3]
    assert archive(kept, kept) == (1, 2)
    assert archive(kept, tmp_path / "again") == (3, 0)
    shutil.rmtree(kept / "tiny")
    for root in (kept, tmp_path / "again"):
        assert load_runs(root)["seed"].to_list() == [0, 1, 2]
        assert [(len(each.runs), each.finished) for each in manifests.load(root)] == [
            (3, manifests.load(kept)[0].finished)
        ]


def test_an_archived_run_is_not_made_again_for_another_source(
    runs: Path, make_spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(runs, tmp_path / "kept")
    monkeypatch.setattr("benchmarks.sweep.changed_sources", lambda _: [["mine"]])
    with pytest.raises(SweepError, match="1 of the runs to make again are archived"):
        sweep([make_spec(seed=0)], tmp_path / "kept", 1, "", False, rerun_changed=True)


@pytest.mark.parametrize(
    "where", ["", "runs.parquet", "evaluations.parquet", "tiny", "tiny/ppo", "tiny/ppo/CartPole-v1"]
)
def test_an_archive_is_given_by_its_folder_its_table_or_a_folder_that_would_be_inside(
    runs: Path, tmp_path: Path, where: str
) -> None:
    kept = tmp_path / "kept"
    archive(runs, kept)
    result = CliRunner().invoke(app, ["status", str(kept / where)])
    assert result.exit_code == 0, result.output
    assert len(load_runs(kept / where)) == 2
    assert len(load_evaluations(kept / where)) == 6
    assert len(load_failures(kept / where)) == 1
    assert CliRunner().invoke(app, ["status", str(kept / "mujoco")]).exit_code == 2


def test_archives_may_stand_beside_run_folders(runs: Path, make_spec, tmp_path: Path) -> None:
    root = tmp_path / "all"
    archive(runs, root / "one" / "archive")
    run(make_spec(seed=7), root / "other", "")
    assert load_runs(root)["seed"].to_list() == [0, 1, 7]
    assert len(load_evaluations(root)) == 9
    assert len(load_failures(root)) == 1


def test_an_archive_holds_a_run_once(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "all" / "copy")
    shutil.copytree(runs, tmp_path / "all" / "original")
    with pytest.raises(BrokenRunError, match="is the same run as"):
        archive(tmp_path / "all", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_every_record_comes_back_as_it_was(tmp_path: Path, folders: RunFolders) -> None:
    folders.add("npg")
    folders.add("a:b", "A/B-v0", suite="other", hyperparams={"z": [1, None], "a": {"b": 1e-7}})
    folders.add(
        "ppo",
        commit=None,
        dirty=None,
        uncommitted="uncommitted.diff",
        peak_memory_mib=12.5,
        packages={"x": None, "y": "1"},
        sources={"mine": {"hash": "0" * 16, "commit": None}},
        machine={},
        returns=[-math.inf, math.nan],
        others_may_add=1,
    )
    folders.add("acer", hyperparams={"correction_term": math.inf})
    archive(folders.root, tmp_path / "kept")
    there, here = find(folders.root).runs, find(tmp_path / "kept").runs
    assert [run.folder.relative_to(folders.root) for run in there] == [
        run.folder.relative_to(tmp_path / "kept") for run in here
    ]
    for before, after in zip(there, here, strict=True):
        assert after.record() == before.record()
        np.testing.assert_array_equal(after.measured(), before.measured())


def test_every_number_of_a_log_comes_back(folders: RunFolders, tmp_path: Path) -> None:
    """In whichever precision its column is stored."""
    rng = np.random.default_rng(0)
    columns = {
        "time/total_timesteps": np.arange(50) * 2**40,
        "six digits": [
            float(f"{x:.6g}") for x in rng.normal(size=50) * 10.0 ** rng.integers(-9, 9, 50)
        ],
        "tiny": rng.uniform(size=50).round(6) * 1e-300,
        "holes": np.where(np.arange(50) % 7 == 0, np.nan, 0.5),
        "integers with holes": np.where(np.arange(50) % 7 == 0, np.nan, 3),
        "infinite": [math.inf, -math.inf] * 25,
        "never": [math.nan] * 50,
    }
    written = pd.DataFrame(columns)
    for seed, names in ((0, list(written)), (1, ["time/total_timesteps", "holes"])):
        written[names].to_csv(folders.add("npg", seed=seed) / "progress.csv", index=False)
    (folders.add("npg", seed=2) / "progress.csv").unlink()
    (folders.add("npg", seed=3) / "progress.csv").write_text("")
    (folders.add("npg", seed=4) / "progress.csv").write_text("time/total_timesteps,text\n0,a\n")

    archive(folders.root, tmp_path / "kept")

    first, second, *others, texts = (
        read_progress(path) for path in load_runs(tmp_path / "kept")["path"]
    )
    expected = written.drop(columns="never").map(lambda x: float(f"{x:.6g}") if x % 1 else x)
    assert_frame_equal(first, expected, check_exact=True, check_dtype=False)
    assert list(second) == ["time/total_timesteps", "holes"]
    assert others == [None, None]
    assert texts.to_dict("list") == {"time/total_timesteps": [0], "text": ["a"]}
    some = read_progress(load_runs(tmp_path / "kept")["path"][0], ["tiny", "absent"])
    assert list(some) == ["tiny"]


def test_an_archive_may_stand_elsewhere(runs: Path) -> None:
    kept = open_folder("memory://kept-runs")
    archive(runs, kept)
    assert_frame_equal(load_evaluations(kept), load_evaluations(runs))
    assert len(load_failures(kept)) == 1


def test_rows_are_evenly_spread_and_numbers_are_shortened() -> None:
    log = pd.DataFrame(
        {"a": [1000 * i for i in range(11)], "b": [i / 7 for i in range(11)], "c": "text"}
    )
    assert thinned(log, 3).to_dict("list") == {
        "a": [0, 5000, 10000],
        "b": [0.0, 0.714286, 1.42857],
        "c": ["text"] * 3,
    }
    assert_frame_equal(thinned(log[:1], 3), log[:1])


def test_the_command(runs: Path, tmp_path: Path) -> None:
    arguments = ["archive", str(runs), str(tmp_path / "kept")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "2 runs added, 0 were there already" in result.output
    again = CliRunner().invoke(app, arguments)
    assert "0 runs added, 2 were there already" in again.output
    other = CliRunner().invoke(app, ["archive", str(tmp_path / "none"), str(tmp_path / "b")])
    assert other.exit_code == 2
    assert "no such folder" in other.output


def test_a_broken_run_is_named_before_anything_is_written(runs: Path, tmp_path: Path) -> None:
    (broken,) = runs.rglob("seed-1-*/run.json")
    broken.write_text("{")
    with pytest.raises(BrokenRunError, match="seed-1"):
        archive(runs, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_report_is_the_same_from_an_archive(runs: Path, tmp_path: Path) -> None:
    # Here, since benchmarks does not import reports.
    from reports.data.context import load
    from reports.document import build

    archive(runs, tmp_path / "kept")
    for root in (runs, tmp_path / "kept"):
        build(load(root), tmp_path / f"report-{root.name}", formats=["md"])
    assert filecmp.cmp(
        tmp_path / "report-runs" / "scores.csv", tmp_path / "report-kept" / "scores.csv", False
    )


def test_an_archive_is_whole_whenever_its_maker_dies(runs: Path, make_spec, tmp_path: Path) -> None:
    """A new one is there or not; one that grows has whole runs only."""
    kept = tmp_path / "kept"
    for _ in killed_at_each_step(lambda: archive(runs, kept)):
        assert not kept.exists() or len(load_evaluations(kept)) == len(load_evaluations(runs))
    before = load_runs(kept)["seed"].to_list()
    run(make_spec(seed=3), runs, "")
    for _ in killed_at_each_step(lambda: archive(runs, kept)):
        assert load_runs(kept)["seed"].to_list() in (before, [*before, 3])
        load_evaluations(kept)
    assert load_runs(kept)["seed"].to_list() == [*before, 3]


def test_a_full_disk_leaves_no_archive_and_no_table(runs: Path, tmp_path: Path) -> None:
    for arguments, out in (
        (["archive", runs, tmp_path / "kept"], tmp_path / "kept"),
        (["export", runs, "--csv", "--out", tmp_path / "all.csv"], tmp_path / "all.csv"),
        (
            ["export", runs, "--parquet", "--out", tmp_path / "all.parquet"],
            tmp_path / "all.parquet",
        ),
    ):
        with disk_with_room_for(200):
            result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 2
        assert f"File too large: '{out}" in result.stderr
        assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.fixture
def kept(folders: RunFolders, tmp_path: Path) -> Path:
    """An archive of three runs and a failed one, of which there was to be another."""
    for seed in (7, 8, 9):
        folders.add("npg", seed=seed)
    folders.add_failure("npg", seed=1)
    folders.ask("npg", seeds=[1, 7, 8, 9, 10])
    archive(folders.root, tmp_path / "kept")
    return tmp_path / "kept"


def changed(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Write a table again, with the types that it had."""
    schema, frame = parquet.read_schema(path), pd.read_parquet(path)
    found = change(frame)
    frame = frame if found is None else found
    parquet.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), path)


CELLS = [
    ("run", None), ("run", "x"), ("run", "../../x"), ("run", "classic/npg/CartPole-v1/seed-8-x"),
    ("format", 2), ("format", None), ("suite", "../x"), ("suite", None), ("algo", ""),
    ("algo", "ppo"), ("env_id", "a\\b"), ("seed", -1), ("seed", 2**40), ("seed", 10),
    ("n_timesteps", 0), ("hyperparams", "{"), ("hyperparams", "[1]"), ("hyperparams", None),
    ("hyperparams", '{"a": NaN}'), ("hyperparams", "[" * 100_000), ("evaluation", "{}"),
    ("evaluation", "null"), ("environment", "3"), ("config", "x"), ("config", "01234567"),
    ("command", None), ("started", None), ("timesteps", None), ("timesteps", 0),
    ("wall_seconds", -1.0), ("wall_seconds", math.nan), ("evaluation_seconds", math.inf),
    ("peak_memory_mib", -1.0), ("versions", "[]"), ("versions", '{"a": 1}'), ("machine", "null"),
    ("machine", None), ("packages", '"x"'), ("sources", '{"a": 1}'),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), CELLS)
def test_a_row_that_was_tampered_with_is_named_and_left_out(
    kept: Path, column: str, value: object
) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame[column] = frame[column].astype(object)
        frame.loc[2, column] = value

    changed(kept / "runs.parquet", change)
    found = load_readable(kept)
    with pytest.raises(BrokenRunError):
        load_runs(kept)
    (line,) = map(str, found.broken)
    assert line.startswith(f"{kept / 'runs.parquet'}: row 3: ")
    assert len(line) < 1_500
    assert line.isprintable()
    if (column, value) != ("run", None):  # then nothing is known of the others, either
        assert found.runs["seed"].to_list() == [7, 8]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timesteps", -1), ("timesteps", None), ("timesteps", 2**60), ("episodes", 0),
        ("wall_seconds", -1.0), ("return_mean", 1e300), ("return_std", -1.0),
        ("length_mean", math.inf), ("run", "nobody"),
    ],
)  # fmt: skip
def test_evaluations_that_were_tampered_with_are_named(
    kept: Path, column: str, value: object
) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame[column] = frame[column].astype(object)
        frame.loc[frame["run"].str.contains("seed-8"), column] = value

    changed(kept / "evaluations.parquet", change)
    found = load_readable(kept)
    (line,) = map(str, found.broken)
    assert line.startswith(f"{kept / 'evaluations.parquet'}: classic/npg/CartPole-v1/seed-8-")
    assert found.runs["seed"].to_list() == [7, 9]
    assert found.evaluations["seed"].unique().tolist() == [7, 9]


@pytest.mark.parametrize("table", ["runs", "evaluations", "failures", "manifests"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"text" * 100, None])
def test_what_is_no_table_is_named(kept: Path, table: str, content: bytes | None) -> None:
    path = kept / f"{table}.parquet"
    if content is None:  # a part of it
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    for load in (load_readable, load_status):
        broken = list(map(str, load(kept).broken))
        assert broken
        assert all(line.startswith(f"{path}: ") for line in broken)
    with pytest.raises(BrokenRunError, match=f"{table}.parquet"):
        archive(kept, kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.drop(columns="seed"),
        lambda frame: frame.assign(more=1),
        lambda frame: frame.assign(seed=frame["seed"].astype(str)),
        lambda frame: frame.assign(command=[b"bytes"] * len(frame)),
        lambda frame: frame.assign(hyperparams=[{"a": 1}] * len(frame)),
        lambda frame: pd.concat([frame, frame[:1]]),
    ],
)
def test_a_table_of_other_columns_or_with_a_run_twice_is_refused(
    kept: Path, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    path = kept / "runs.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    found = load_readable(kept)
    (line,) = map(str, found.broken)
    assert line.startswith(f"{path}: ")
    assert found.runs.empty
    for arguments in (
        ["status", kept],
        ["export", kept, "--csv"],
        ["archive", kept, kept],
    ):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 2
        assert f"error: {path}: " in result.stderr


def test_a_small_file_of_a_large_table_is_refused(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.parquet._LARGEST_TABLE", 100_000)
    changed(
        kept / "evaluations.parquet",
        lambda frame: pd.concat([frame] * 500, ignore_index=True).sort_values("run"),
    )
    assert (kept / "evaluations.parquet").stat().st_size < 50_000
    assert "must have at most 100,000 bytes" in str(load_readable(kept).broken[0])


def test_a_pipe_or_a_device_is_no_table(kept: Path) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (kept / "runs.parquet").unlink()
        make(kept / "runs.parquet")
        assert "is not a file" in str(load_readable(kept).broken[0])


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("failures", "run", "../x"),
        ("failures", "algo", ".."),
        ("failures", "error", None),
        ("manifests", "file", "../sweep-x.json"),
        ("manifests", "runs", "[3]"),
        ("manifests", "command", None),
    ],
)
def test_a_failure_or_a_manifest_that_was_tampered_with_is_named(
    kept: Path, table: str, column: str, value: object
) -> None:
    changed(kept / f"{table}.parquet", lambda frame: frame.assign(**{column: [value]}))
    status = load_status(kept)
    (line,) = map(str, status.broken)
    assert line.startswith(f"{kept / table}.parquet: row 1: ")
    assert status.table["finished"].to_list() == [3]


def test_a_sweep_does_not_begin_beside_a_broken_archive(kept: Path, make_spec) -> None:
    (kept / "runs.parquet").write_bytes(b"")
    with pytest.raises(SweepError, match=r"runs\.parquet"):
        sweep([make_spec()], kept, 1, "", False)
