"""A report is there whole or not at all, whenever its making ends."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import statistics, storage
from reports import document
from reports.__main__ import app
from reports.data import runs
from reports.rendering import figure_style
from tests.benchmarks.crashes import disk_with_room_for, killed_at_each_step
from tests.reports.conftest import RunFolders, build_report


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 10)
    monkeypatch.setitem(figure_style.THEME, "savefig.dpi", 20)
    monkeypatch.setattr(storage, "_sync", lambda _: None)  # which takes as long as all the rest


def contents(folder: Path) -> dict[str, bytes]:
    """All files by their names; of a folder that is not there, none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not re.search(r"/\.(tmp|lock)-", str(path))
    }


@pytest.fixture
def out(folders: RunFolders) -> Path:
    """A report on two runs, beside notes of the user's; there is a third run by now."""
    for seed in range(2):
        folders.add("npg", seed=seed)
    out = folders.root.parent / "report"
    build(folders, out)
    (out / "notes.txt").write_text("mine")
    folders.add("ppo")
    return out


def build(folders: RunFolders, out: Path) -> None:
    build_report(folders.root, out, formats=["md", "html", "csv"])


def publish(out: Path, content: str) -> None:
    with storage.whole_folder(out, last=document.REPORT) as folder:
        (folder / "tables").mkdir()
        for name in ("a.png", "report.md", "scores.csv", "tables/a.csv"):
            (folder / name).write_text(content)


@pytest.mark.parametrize("is_new", [False, True])
def test_a_report_that_is_killed_at_any_step_is_as_it_was_or_none(
    tmp_path: Path, is_new: bool
) -> None:
    out = tmp_path / "report"
    states = set()

    def start() -> None:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        else:
            publish(out, "before")
            (out / "notes.txt").write_text("mine")

    start()
    for _ in killed_at_each_step(lambda: publish(out, "after")):
        now = contents(out)
        assert is_new or now.pop("notes.txt") == b"mine"
        found = set(now.values()) if "report.md" in now else {b"none"}
        assert len(found) == 1
        states |= found
        start()
    publish(out, "after")
    assert set(contents(out).values()) - {b"mine"} == {b"after"}
    assert not list(tmp_path.rglob(f"{storage.TEMPORARY}*"))
    assert states >= ({b"none"} if is_new else {b"before", b"none"})


@pytest.mark.parametrize("n_files", [1, 4, 7])
def test_a_build_that_is_killed_leaves_the_report_as_it_was(
    folders: RunFolders, out: Path, n_files: int
) -> None:
    """By a signal that nothing can catch, when so many files have been written."""
    before = contents(out)
    child = os.fork()
    if child == 0:
        left = n_files

        def die(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event == "open" and f"report/{storage.TEMPORARY}" in str(arguments[0]):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        try:
            build(folders, out)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert contents(out) == before
    build(folders, out)
    assert contents(out)["report.md"] != before["report.md"]
    assert not list(out.rglob(f"{storage.TEMPORARY}*"))


@pytest.mark.parametrize("room", [0, 1_000, 10_000, 20_000])
def test_a_full_disk_leaves_the_report_as_it_was_and_is_named(
    folders: RunFolders, out: Path, room: int
) -> None:
    before = contents(out)
    with disk_with_room_for(room), pytest.raises(OSError, match="File too large") as raised:
        build(folders, out)
    assert contents(out) == before
    named = Path(str(raised.value.filename))
    assert named.parent in (out, out / "tables")
    assert named.suffix
    assert not list(out.rglob(f"{storage.TEMPORARY}*"))


def test_the_command_says_which_file_could_not_be_written(folders: RunFolders, out: Path) -> None:
    arguments = ["build", str(folders.root), "--out", str(out)]
    with disk_with_room_for(1_000):
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert f"error: [Errno {errno.EFBIG}] File too large: '{out}/" in result.stderr


def test_an_error_while_it_is_made_leaves_the_report_as_it_was(
    folders: RunFolders, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(out)
    monkeypatch.setattr(document.html, "page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(folders, out)
    assert contents(out) == before
    with pytest.raises(ZeroDivisionError):
        build(folders, out.with_name("new"))
    assert not out.with_name("new").exists()


def test_files_are_flushed_before_they_get_their_names(
    folders: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.add("npg")
    steps: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(storage, "_sync", lambda path: steps.append(path.name))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (steps.append("replace"), replace(self, to))[1]
    )
    build(folders, tmp_path / "new")
    flushed = steps[: steps.index("replace")]
    assert {"report.md", "report.html", "learning_curves.svg", "scores.csv"} <= set(flushed)


def test_the_folder_of_a_run_takes_no_report(folders: RunFolders) -> None:
    folder = folders.add("npg")
    before = contents(folder)
    with pytest.raises(runs.ReportError, match="--out: must not be the folder of a run"):
        build(folders, folder)
    assert contents(folder) == before
    (folders.root / "file").touch()
    with pytest.raises(runs.ReportError, match="--out: must be a folder, got the file"):
        build(folders, folders.root / "file")


def test_a_comparison_and_a_picture_are_there_whole_or_not_at_all(
    folders: RunFolders, tmp_path: Path
) -> None:
    for seed in range(2):
        folders.add("npg", seed=seed, evaluation={"points": 1, "episodes": 10, "seed": 0})
    for out, arguments in (
        (tmp_path / "c.md", ["compare", str(folders.root), str(folders.root), "--format", "md"]),
        (tmp_path / "w.png", ["watch", str(folders.root), "--once"]),
    ):
        out.write_text("before")
        with disk_with_room_for(100):
            result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
        assert result.exit_code == 2, result.output
        assert str(out) in result.stderr
        assert out.read_text() == "before"
        assert [path.name for path in out.parent.glob(".tmp*")] == []
