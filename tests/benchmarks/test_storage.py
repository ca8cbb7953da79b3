"""Run folders on a disk, and where fsspec reaches."""

import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner
from upath import UPath

from benchmarks.__main__ import app
from benchmarks.engines import Failure
from benchmarks.results import load_evaluations, load_failures, load_runs
from benchmarks.run import run
from benchmarks.run_files import is_finished
from benchmarks.storage import (
    Folder,
    check_writable,
    is_on_disk,
    open_folder,
    publish,
    scratch_folder,
    walk,
    whole_file,
    whole_folder,
    write_whole,
)
from benchmarks.sweep import record_failure, sweep
from tests.benchmarks.crashes import disk_with_room_for, killed_at_each_step


@pytest.fixture
def remote(tmp_path: Path) -> UPath:
    """A folder reached through fsspec alone: without locks and without renaming."""
    folder = open_folder(f"file://{tmp_path}/remote/runs")
    assert not is_on_disk(folder)
    return folder


def test_a_path_is_a_path_and_a_url_is_reached_through_fsspec() -> None:
    assert open_folder("runs") == Path("runs")
    assert is_on_disk(open_folder("runs"))
    assert str(open_folder("memory://bucket/runs") / "a") == "memory://bucket/runs/a"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("foo://x", "is no URL that fsspec knows: .*foo"),
        pytest.param(
            "s3://bucket/runs",
            "a package is missing: .*s3fs",
            marks=pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed"),
        ),
    ],
)
def test_a_url_that_cannot_be_reached_is_said(tiny_suite: Path, url: str, message: str) -> None:
    for arguments in (
        ["run", str(tiny_suite), "--algos", "ppo", "--out", url],
        ["status", url],
        ["retry", url],
        ["export", url, "--csv"],
        ["archive", url, "elsewhere"],
        ["archive", ".", url],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, arguments
        assert re.search(f"{url}: {message}", result.stderr)
        assert "Traceback" not in result.output


def test_a_sweep_into_a_url_is_the_sweep_into_a_folder(
    make_spec, remote: UPath, tmp_path: Path
) -> None:
    """By worker processes, failures too; resumed, and read back."""
    good = [make_spec(seed=seed) for seed in (0, 1)]
    bad = make_spec(env_id="tests.benchmarks.envs:Raising-v0")

    first = sweep([good[0], bad], remote, 2, "", show_progress=False)
    second = sweep([*good, bad], remote, 2, "", show_progress=False)

    assert first.finished == [good[0]]
    assert second.skipped == [good[0]]
    assert second.finished == [good[1]]
    assert [failed.spec for failed in second.failed] == [bad]
    assert list(load_failures(remote)["error"]) == ["ValueError: the pole is gone"]
    assert not list(remote.rglob(".*"))
    sweep(good, tmp_path / "here", 1, "", show_progress=False)
    there, here = (
        load_evaluations(root).drop(columns="wall_seconds") for root in (remote, tmp_path / "here")
    )
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    result = CliRunner().invoke(app, ["status", str(remote)])
    assert result.exit_code == 0, result.output
    assert "2" in result.output


def test_what_is_not_whole_is_no_run(make_spec, remote: UPath) -> None:
    spec = make_spec()
    folder = spec.folder(remote)
    run(spec, remote, "")
    (folder / "run.json").unlink()  # which is written last

    assert len(load_runs(remote)) == 0
    assert sweep([spec], remote, 1, "", show_progress=False).finished == [spec]
    assert len(load_runs(remote)) == 1


def test_in_memory_too(make_spec) -> None:
    root = open_folder("memory://bucket/runs")
    spec = make_spec()

    run(spec, root, "")
    record_failure(make_spec(seed=1), root, "", "", Failure("no", ""))

    assert is_finished(spec.folder(root))
    assert list(load_runs(root)["seed"]) == [0]
    assert list(load_failures(root)["seed"]) == [1]


def test_who_publishes_later_leaves_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "seed-0"
    with scratch_folder(folder) as scratch:
        (scratch / "run.json").write_text("ours")
        folder.mkdir()
        (folder / "run.json").write_text("theirs")
        publish(scratch, folder)

    assert (folder / "run.json").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_probe_leaves_nothing_behind(tmp_path: Path, remote: UPath) -> None:
    for folder in (tmp_path / "new", remote):
        check_writable(folder)
        assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        check_writable(tmp_path / "file" / "runs")


def files_in(folder: Path) -> dict[str, str]:
    """What readers see."""
    files = {
        path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()
    }
    return {
        str(path): text
        for path, text in files.items()
        if not any(part.startswith((".tmp-", ".lock-")) for part in path.parts)
    }


def make_folder(folder: Folder, files: dict[str, str]) -> None:
    with whole_folder(folder) as unfinished:
        for name, text in files.items():
            write_whole(unfinished / name, text)


def test_a_new_folder_is_there_whole_or_not_at_all_whenever_its_maker_dies(tmp_path: Path) -> None:
    n_absent = 0
    for _ in killed_at_each_step(
        lambda: make_folder(tmp_path / "out", {"a": "text", "inner/b": "text"})
    ):
        seen = files_in(tmp_path)
        assert seen in ({}, {"out/a": "text", "out/inner/b": "text"})
        n_absent += not seen
    assert n_absent > 5
    assert not list(tmp_path.rglob(".tmp-*"))  # what the dead have left


def test_files_are_replaced_whole_whenever_the_writer_dies(tmp_path: Path) -> None:
    old, new = "old" * 10_000, "new" * 10_000
    folder = tmp_path / "out"
    write_whole(folder / "a", old)
    write_whole(folder / "of-another", old)

    def make() -> None:
        make_folder(folder, {"a": new, "b": new})
        write_whole(folder / "c", new)

    for _ in killed_at_each_step(make):
        for name, text in files_in(folder).items():
            assert text in ((old, new) if name == "a" else (old,) if name[0] == "o" else (new,))
    assert files_in(folder) == {"a": new, "b": new, "c": new, "of-another": old}


def test_what_a_full_disk_cannot_hold_is_not_there_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_whole(path, "old")
    with disk_with_room_for(10_000):
        with pytest.raises(OSError, match=f"File too large: '{path}'"):
            write_whole(path, "x" * 20_000)
        with pytest.raises(OSError, match=f"File too large: '{tmp_path}/new/inner/b'"):
            make_folder(tmp_path / "new", {"a": "y", "inner/b": "x" * 20_000})
    assert files_in(tmp_path) == {"table.csv": "old"}
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]


def test_a_place_that_cannot_be_written_is_named_and_an_error_of_the_block_is_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"'{tmp_path}/file/a'"):
        write_whole(tmp_path / "file" / "a", "")
    with pytest.raises(FileNotFoundError, match="'/nowhere/else'"), whole_file(tmp_path / "a"):
        Path("/nowhere/else").read_text()


def test_whole_files_elsewhere_than_on_a_disk(remote: UPath) -> None:
    with whole_file(remote / "a" / "table.csv") as unfinished:
        unfinished.write_text("1")
    make_folder(remote / "b", {"d": "2"})
    with disk_with_room_for(10_000), pytest.raises(OSError, match="File too large"):
        make_folder(remote / "c", {"d": "2", "e": "x" * 20_000})
    assert {path.name for path in remote.rglob("*") if path.is_file()} == {"table.csv", "d"}


def test_a_link_to_a_file_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write_whole(tmp_path / "link.csv", "after")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "after"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As /dev/null and /dev/stdout are, which nobody should replace by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write_whole(pipe, "through the pipe")
        assert read.result(10) == "through the pipe"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_links_to_folders_are_followed_unless_they_lead_back(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (elsewhere / "inner").mkdir(parents=True)
    (root / "folder").mkdir(parents=True)
    (root / "link").symlink_to(elsewhere)
    (elsewhere / "inner" / "root").symlink_to(root)
    (root / "folder" / "up").symlink_to(tmp_path)
    (root / "gone").symlink_to(tmp_path / "nothing")

    found = {str(folder.relative_to(root)) for folder, _, _ in walk(root)}

    assert found == {".", "folder", "link", "link/inner"}
