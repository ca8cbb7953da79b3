"""Archives: what is kept of runs, and that reports and sweeps can use them."""

import filecmp
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.archive import archive, thinned
from benchmarks.engines import Failure
from benchmarks.results import BrokenRunError, load_evaluations, load_failures, load_runs
from benchmarks.run import run
from benchmarks.run_files import find, read_progress
from benchmarks.storage import open_folder
from benchmarks.sweep import record_failure, sweep
from tests.benchmarks.crashes import disk_with_room_for, killed_at_each_step


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
    other = CliRunner().invoke(
        app, ["archive", str(tmp_path / "none"), str(tmp_path / "b")]
    )
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
