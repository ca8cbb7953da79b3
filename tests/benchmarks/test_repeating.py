"""``python -m benchmarks repeat``: a finished run once more."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from benchmarks.__main__ import app
from benchmarks.archive import archive
from benchmarks.records import RunSpec
from benchmarks.repeating import compare
from benchmarks.results import load_runs, read_evaluations
from benchmarks.run import run


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("archived", [False, True])
def test_a_repeated_run_has_the_same_evaluations(tmp_path: Path, archived: bool) -> None:
    runs = tmp_path / "runs"
    arguments = ("--algos", "npg", "--envs", "Pendulum-v1", "--first-seed", "3", "--out", runs)
    assert command("run", "smoke", *arguments).exit_code == 0
    if archived:
        archive(runs, tmp_path / "kept")
        runs = tmp_path / "kept"
    (folder,) = load_runs(runs)["path"]

    result = command("repeat", folder, "--out", tmp_path / "again")

    assert result.exit_code == 0, result.output
    assert "equal: all 3 evaluations of npg Pendulum-v1 seed 3" in result.output
    (again,) = load_runs(tmp_path / "again")["path"]
    assert again.relative_to(tmp_path / "again") == folder.relative_to(runs)
    pd.testing.assert_frame_equal(
        *(read_evaluations(each).drop(columns="wall_seconds") for each in (folder, again)),
        check_exact=True,
    )


def test_another_result_is_shown_with_what_else_differs(make_spec, tmp_path: Path) -> None:
    folder = run(make_spec(), tmp_path / "runs", "")
    evaluations = read_evaluations(folder)
    evaluations.loc[1, "return_mean"] = 12.5
    evaluations.to_csv(folder / "evaluations.csv", index=False)

    def edit(record: dict[str, Any]) -> None:
        record["versions"]["numpy"] = "0.1"
        record["machine"]["processor"] = "Z80"
        record["commit"] = "abc"
        del record["packages"]  # as in runs of before

    change(folder / "run.json", edit)

    result = command("repeat", folder, "--out", tmp_path / "again")

    assert result.exit_code == 1
    assert "different: return_mean at step 128 was 12.5 and is " in result.output
    assert "  commit: abc before, " in result.output
    assert "  versions: numpy: 0.1 before, " in result.output
    assert "  machine: processor: Z80 before, " in result.output
    assert "  packages: gymnasium: not recorded before, " in result.output
    assert platform.python_version() not in result.output  # the same


def test_more_evaluations_are_a_difference_and_a_missing_number_is_none(
    make_spec, tmp_path: Path
) -> None:
    first, second = (run(make_spec(), tmp_path / name, "") for name in "ab")
    evaluations = read_evaluations(first)
    evaluations[["return_mean", "return_std"]] = float("nan")
    for folder in (first, second):
        evaluations.to_csv(folder / "evaluations.csv", index=False)
    assert compare(first, second).first_difference is None
    evaluations.loc[0, "return_std"] = 99
    evaluations.to_csv(first / "evaluations.csv", index=False)
    assert str(compare(first, second).first_difference).startswith("return_std at step 0 was 99")
    evaluations[:-1].to_csv(second / "evaluations.csv", index=False)
    assert compare(first, second).first_difference == (
        "3 evaluations before, 2 now, or at other steps"
    )
    assert compare(first, second).circumstances == []


def test_what_cannot_be_repeated_is_refused(make_spec, tmp_path: Path) -> None:
    folder = run(make_spec(), tmp_path, "")

    for arguments, message in (
        ([folder, "--out", tmp_path], "holds the run itself; name another folder"),
        ([tmp_path, "--out", tmp_path / "again"], "run.json: No such file"),
        ([tmp_path / "nothing", "--out", tmp_path / "again"], "no such folder"),
    ):
        result = command("repeat", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    assert not (tmp_path / "again").exists()


def test_a_run_that_fails_now_is_said(make_spec, tmp_path: Path) -> None:
    folder = run(make_spec(), tmp_path, "")

    def edit(record: dict[str, Any]) -> None:
        record["spec"]["env_id"] = "tests.benchmarks.envs:Raising-v0"

    change(folder / "run.json", edit)

    result = command("repeat", folder, "--out", tmp_path / "again")

    assert result.exit_code == 1
    assert "ValueError: the pole is gone" in result.output
    assert "equal" not in result.output


def test_the_spec_is_that_of_the_record(make_spec, tmp_path: Path) -> None:
    spec = make_spec("trpo", "Pendulum-v1", seed=4, normalize=True)
    folder = run(spec, tmp_path, "")
    command("repeat", folder, "--out", tmp_path / "again")

    record = json.loads((spec.folder(tmp_path / "again") / "run.json").read_text())

    assert RunSpec.from_dict(record["spec"]) == spec
