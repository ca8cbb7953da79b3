"""Run folders that somebody, or something, has changed: left out, named, and harmless."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.archive import archive
from benchmarks.commands import app
from benchmarks.results import BrokenRunError, load_failed_specs, load_failures, load_readable
from benchmarks.status import load_status
from benchmarks.sweep import SweepError, sweep
from reports.__main__ import app as reports_app
from reports.data.diagnostics import measure
from reports.data.runs import load
from reports.live.runs import read_progress
from tests.reports.conftest import RunFolders

NAN, INFINITE = float("nan"), float("inf")
HEADER = "timesteps,wall_seconds,return_mean,return_std,length_mean,episodes\n"
DEEP: Any = 0
for _ in range(500):
    DEEP = [DEEP]

Tamper = Callable[[Path], object]


def changed(*keys: str, to: Any) -> Tamper:
    """A value in run.json, by the keys that lead to it."""

    def tamper(folder: Path) -> None:
        record = json.loads((folder / "run.json").read_text())
        inner = record
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to
        (folder / "run.json").write_text(json.dumps(record))

    return tamper


def without(*keys: str) -> Tamper:
    def tamper(folder: Path) -> None:
        record = json.loads((folder / "run.json").read_text())
        inner = record
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        (folder / "run.json").write_text(json.dumps(record))

    return tamper


def written(name: str, content: bytes | str) -> Tamper:
    content = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(content)


def rows(*lines: str) -> Tamper:
    return written("evaluations.csv", HEADER + "".join(f"{line}\n" for line in lines))


def replaced(name: str, by: Callable[[Path], object]) -> Tamper:
    def tamper(folder: Path) -> None:
        (folder / name).unlink()
        by(folder / name)

    return tamper


def renamed(name: str) -> Tamper:
    return lambda folder: folder.rename(folder.with_name(name))


def moved(*levels: str) -> Tamper:
    def tamper(folder: Path) -> None:
        target = folder.parents[3].joinpath(*levels, folder.name)
        target.parent.mkdir(parents=True)
        folder.rename(target)

    return tamper


REQUIRED = [
    "format", "spec", "config", "command", "commit", "dirty", "versions", "machine", "started",
    "wall_seconds", "evaluation_seconds", "timesteps",
]  # fmt: skip
IN_SPEC = ["suite", "algo", "env_id", "seed", "n_timesteps", "hyperparams", "evaluation"]
OF_EVALUATION = ["points", "episodes", "seed"]
NOT_TEXT = [None, 3, True, ["a"], {"a": "b"}]
NOT_COUNTS = [None, "3", True, 1.5, -1, 10**30, NAN, [1], {}]
NOT_AMOUNTS = [None, "long", True, -1.0, NAN, INFINITE, 1e300, [1.0]]
NOT_OBJECTS = [None, "npg", 3, [], [["a", 1]]]
NOT_NAMES = ["", ".", "..", "a\0b", "a\nb", "a\\b", "\ud800", "x" * 5_000, *NOT_TEXT]

TAMPERINGS: dict[str, Tamper] = {
    **{f"no {key}": without(key) for key in REQUIRED},
    **{f"no spec {key}": without("spec", key) for key in IN_SPEC},
    **{f"no evaluation {key}": without("spec", "evaluation", key) for key in OF_EVALUATION},
    **{
        f"{key} {value!r:.20}": changed(key, to=value)
        for key, values in {
            "command": NOT_TEXT,
            "started": NOT_TEXT,
            "commit": NOT_TEXT[1:],
            "dirty": ["no", 3, []],
            "timesteps": NOT_COUNTS,
            "wall_seconds": NOT_AMOUNTS,
            "evaluation_seconds": NOT_AMOUNTS,
            "peak_memory_mib": NOT_AMOUNTS[1:],
            "versions": [*NOT_OBJECTS, {"torch": 2}, {"torch": ["2"]}],
            "packages": [*NOT_OBJECTS[1:], {"torch": 2}],
            "machine": [*NOT_OBJECTS, {"memory_gib": "8"}, {"cores": [2]}, {"processor": {}}],
            "config": [*NOT_TEXT, "", "../../../x", "0" * 9],
            "format": [0, 2, "1", None, True, [1], NAN],
            "spec": NOT_OBJECTS,
        }.items()
        for value in values
    },
    **{
        f"spec {key} {value!r:.20}": changed("spec", key, to=value)
        for key, values in {
            "suite": [*NOT_NAMES, "../../x", "a/b", "/etc", "a:b"],
            "algo": NOT_NAMES,
            "env_id": NOT_NAMES,
            "seed": [*NOT_COUNTS, 2**32],
            "n_timesteps": [*NOT_COUNTS, 0],
            "hyperparams": [
                *NOT_OBJECTS,
                {"gamma": NAN},
                {"gamma": INFINITE},
                {"a": DEEP},
                {"a": 10**400},
                {"a": "\ud800"},
                {"a\0": 1},
            ],
            "evaluation": [*NOT_OBJECTS, {}],
            "environment": [*NOT_OBJECTS[1:], {"kwargs": {"x": NAN}}],
            "more": [1],
        }.items()
        for value in values
    },
    **{
        f"evaluation {key} {value!r:.20}": changed("spec", "evaluation", key, to=value)
        for key in OF_EVALUATION
        for value in NOT_COUNTS
    },
    "evaluation more": changed("spec", "evaluation", "more", to=1),
    **{
        f"run.json {content[:20]!r}": written("run.json", content)
        for content in [
            b"",
            b"\0" * 100,
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe\xfa",
            b"[" * 200_000,
            b'{"format": ' + b"9" * 10_000 + b"}",
            b'{"format": 1}',
        ]
    },
    **{
        f"evaluations.csv {content[:20]!r}": written("evaluations.csv", content)
        for content in [b"", HEADER.encode(), b"\0\1\2", b"\xff" * 50, b"a,b\n1,2\n", b'"']
    },
    "evaluations.csv, a field of 200,000": written("evaluations.csv", "x" * 200_000),
    **{
        f"evaluations {lines}": rows(*lines)
        for lines in [
            ("0,0,1,1,1,10", "0,1,1,1,1,10"),
            ("100,0,1,1,1,10", "50,1,1,1,1,10"),
            ("-1,0,1,1,1,10",),
            ("0.5,0,1,1,1,10",),
            ("1e300,0,1,1,1,10",),
            ("inf,0,1,1,1,10",),
            (",0,1,1,1,10",),
            ("0,0,1,1,1,0",),
            ("0,0,1,1,1,2.5",),
            ("0,-1,1,1,1,10",),
            ("0,inf,1,1,1,10",),
            ("0,0,1e300,1,1,10",),
            ("0,0,1,1,1",),
            ("0,0,1,1,1,10,11",),
            ("0,0,1,1,1,10", "5,0,1"),
            ("0,0,one,1,1,10",),
            ("0,nan,1,1,1,10",),
            ("0,,1,1,1,10",),
            ("0,0,1,inf,1,10",),
            ("0,0,1,nan,1,10",),
            ("0,0,1,-1,1,10",),
            ("0,0,1,1,nan,10",),
            ("0,0,1,1,inf,10",),
            ("0,0,1,1,-1,10",),
            ("",),
        ]
    },
    **{
        f"{name} {what}": replaced(name, by)
        for name in ("run.json", "evaluations.csv")
        for what, by in {
            "folder": Path.mkdir,
            "pipe": os.mkfifo,
            "link to itself": lambda path: path.symlink_to(path),
            "link to a device": lambda path: path.symlink_to("/dev/zero"),
            "link to nothing": lambda path: path.symlink_to("nowhere"),
        }.items()
    },
}
MOVES: dict[str, Tamper] = {
    "of another seed": renamed("seed-1-0123abcd"),
    "without a seed": renamed("seed-"),
    "of another algorithm": moved("classic", "ppo", "CartPole-v1"),
    "of another environment": moved("classic", "npg", "Pendulum-v1"),
    "of another suite": moved("mujoco", "npg", "CartPole-v1"),
}


@pytest.fixture
def tampered(folders: RunFolders) -> Path:
    """The folder of the one run that is to be tampered with, beside two that are whole."""
    for seed in (7, 8):
        folders.add("npg", seed=seed)
    return folders.add("npg", seed=9)


@pytest.mark.parametrize("what", [*TAMPERINGS, *MOVES])
def test_a_run_that_was_tampered_with_is_left_out_and_named(
    folders: RunFolders, tampered: Path, what: str
) -> None:
    (TAMPERINGS | MOVES)[what](tampered)

    found = load_readable(folders.root)
    status = load_status(folders.root)

    assert found.runs["seed"].tolist() == [7, 8]
    assert set(found.evaluations["seed"]) == {7, 8}
    (line,) = map(str, found.broken)
    assert list(map(str, status.broken)) == [line]
    assert line.startswith(f"{folders.root}{os.sep}")
    assert "seed-" in line
    assert len(line) < 1_500
    assert line.isprintable()
    assert status.table["finished"].tolist() == [2]


def test_a_report_and_a_status_over_all_of_them(folders: RunFolders, tmp_path: Path) -> None:
    for seed in range(3):
        folders.add("npg", seed=seed, returns=[20.0, 60.0, 100.0])
        folders.add("ppo", seed=seed, returns=[20.0, 30.0, 50.0])
    for i, tamper in enumerate(TAMPERINGS.values()):
        tamper(folders.add("npg", seed=100 + i, returns=[20.0, 60.0, 100.0]))
    out = tmp_path / "out"

    built = CliRunner().invoke(reports_app, ["build", str(folders.root), "--out", str(out)])
    shown = CliRunner().invoke(app, ["status", str(folders.root)])

    assert built.exit_code == 0, built.output
    assert built.stderr.count("warning: left out: ") == len(TAMPERINGS)
    assert "6 runs, 3 seeds" in (out / "report.md").read_text()
    assert shown.exit_code == 2
    assert shown.stderr.count("error: ") == len(TAMPERINGS)
    assert len((out / "report.html").read_bytes()) < 3_000_000


LOGS: dict[str, Tamper] = {
    "binary": written("progress.csv", b"\0\xff" * 50),
    "a long field": written("progress.csv", "time/total_timesteps\n" + "1" * 200_000 + ",2\n"),
    "a folder": replaced("progress.csv", Path.mkdir),
    "a pipe": replaced("progress.csv", os.mkfifo),
    "a device": replaced("progress.csv", lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("tamper", LOGS.values(), ids=LOGS)
def test_a_log_that_was_tampered_with_is_left_out_and_named(
    folders: RunFolders, tmp_path: Path, tampered: Path, tamper: Tamper
) -> None:
    tamper(tampered)

    (line,) = measure(load(folders.root)).broken
    assert line.startswith(f"classic/npg/CartPole-v1/{tampered.name}/progress.csv: ")
    assert len(read_progress(tampered / "progress.csv", "rollout/ep_rew_mean")[0]) == 0
    with suppress(BrokenRunError):  # an archive leaves out what is empty
        archive(folders.root, tmp_path / "archive")


def test_foreign_text_is_cut_and_can_be_written(folders: RunFolders, tmp_path: Path) -> None:
    folders.add("npg", seed=0, command="x" * 10**6, started="\ud800", commit="\x1b[31m")
    folders.add_failure("npg", seed=1, error="ValueError: \ud800\x1b[2J" + "y" * 10**7)

    found = load_readable(folders.root)

    assert found.broken == []
    (run,), (failure,) = found.runs.to_dict("records"), found.failures.to_dict("records")
    assert len(run["command"]) < 21_000
    assert (run["started"], run["commit"]) == ("\\ud800", "\\x1b[31m")
    assert failure["error"].startswith(r"ValueError: \ud800\x1b[2Jyyyy")
    assert len(failure["error"]) < 2_100
    assert len(failure["traceback"]) < 21_000
    result = CliRunner().invoke(
        reports_app, ["build", str(folders.root), "--out", str(tmp_path), "--format", "md"]
    )
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "report.md").read_bytes()) < 100_000


@pytest.mark.parametrize("value", ["../../x", "..", "/etc", "a\0b"])
@pytest.mark.parametrize("key", ["suite", "algo", "env_id"])
def test_no_record_leads_out_of_the_folder(
    folders: RunFolders, tmp_path: Path, key: str, value: str
) -> None:
    folders.add("npg")
    path = folders.add_failure("npg", seed=1)
    record = json.loads(path.read_text())
    record["spec"][key] = value
    path.write_text(json.dumps(record))

    with pytest.raises(BrokenRunError):
        load_failed_specs(folders.root)
    with pytest.raises(BrokenRunError):
        load_failures(folders.root)
    with pytest.raises(BrokenRunError):
        archive(folders.root, tmp_path / "deep" / "archive")
    assert {each.name for each in tmp_path.iterdir()} <= {"runs", "deep"}


def test_a_failure_that_is_not_its_place_s_is_not_tried_again(folders: RunFolders) -> None:
    path = folders.add_failure("npg", seed=1)
    path.rename(path.with_name(path.name.replace("seed-1", "seed-2")))

    with pytest.raises(BrokenRunError, match="is not where the record of its run stands"):
        load_failed_specs(folders.root)
    (error,) = load_readable(folders.root).broken
    assert "seed-1-" in str(error)
    assert "its place contradicts" in str(error)


def test_a_sweep_does_not_take_another_run_for_its_own(make_spec, folders: RunFolders) -> None:
    spec = make_spec(seed=3)
    other = folders.add("npg", seed=9)
    spec.folder(folders.root).parent.mkdir(parents=True)
    other.rename(spec.folder(folders.root))

    with pytest.raises(SweepError, match="holds the run classic/npg/CartPole-v1/seed-9-"):
        sweep([spec], folders.root, 1, "the command", show_progress=False)


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1},
        {"format": 1, "command": 3, "runs": []},
        {"format": 1, "command": "c", "runs": 3},
        {"format": 1, "command": "c", "runs": [{"suite": "a"}]},
        {"format": 1, "command": "c", "runs": [["a"]]},
        {
            "format": 1,
            "command": "c",
            "runs": [
                {"suite": "../x", "algo": "a", "env_id": "e", "config": "0" * 8, "seeds": [1]}
            ],
        },
        {
            "format": 1,
            "command": "c",
            "runs": [{"suite": "x", "algo": "a", "env_id": "e", "config": "0" * 8, "seeds": "12"}],
        },
    ],
)
def test_a_note_of_a_sweep_that_was_tampered_with_is_named(
    folders: RunFolders, content: object
) -> None:
    folders.add("npg")
    (folders.root / "sweep-01234567.json").write_text(json.dumps(content))

    status = load_status(folders.root)

    (line,) = map(str, status.broken)
    assert line.startswith(f"{folders.root / 'sweep-01234567.json'}: ")
    assert status.unfinished == []


def test_locks_anywhere_do_not_end_a_status(folders: RunFolders) -> None:
    folders.add("npg")
    (folders.root / ".lock-seed-0-0123abcd").write_text("")
    (folders.root / "classic" / ".lock-seed-1-0123abcd").mkdir()

    assert load_status(folders.root).table["finished"].tolist() == [1]


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
def test_every_command_names_a_finished_run_without_a_return(
    folders: RunFolders, tmp_path: Path, value: float
) -> None:
    for seed in (7, 8):
        folders.add("npg", seed=seed)
    folders.add("npg", seed=9, returns=[20.0, value])
    said = f"seed 9: the evaluation at step 50,000 has return_mean={value}"

    shown = CliRunner().invoke(app, ["status", str(folders.root)])
    out = ["--out", str(tmp_path / "out"), "--format", "md"]
    built = CliRunner().invoke(reports_app, ["build", str(folders.root), *out])
    compared = CliRunner().invoke(reports_app, ["compare", *[str(folders.root)] * 2])

    assert shown.exit_code == 0  # it has finished, and a sweep does not make it again
    (line,) = [line for line in shown.output.splitlines() if line.startswith("no return: ")]
    assert line.endswith(f"{said}; reports leave the run out")
    assert built.exit_code == 0, built.output
    assert said in built.stderr
    assert compared.exit_code == 2
    assert said in compared.stderr
    assert load_status(folders.root).table["finished"].tolist() == [3]
