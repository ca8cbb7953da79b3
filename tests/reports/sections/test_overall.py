"""Scales of the user's own environments, and baselines that are never silently left out."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import statistics
from benchmarks.commands import app as benchmarks_app
from benchmarks.normalisation import Scale, load_scales, scales_with
from benchmarks.yamls import SpecError
from reports.__main__ import app
from reports.data import aggregates, runs
from studies.objective import define
from studies.search_spaces import space_for
from tests.reports.conftest import RunFolders

HEADER = "env_id,random,random_episodes,reference,reference_source\n"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 100)
    monkeypatch.setattr(aggregates, "REPETITIONS", 100)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(f"{HEADER}Mine-v0,10,100,20,given\nYours-v0,-0.002,100,0.002,given\n")
    return path


@pytest.fixture
def two_of_mine(folders: RunFolders) -> RunFolders:
    """npg ends at 15 and 0.001, ppo at 12 and 0, a2c at 20 on one of the two."""
    for seed in range(3):
        folders.add("npg", "Mine-v0", seed, [10.0, 15.0])
        folders.add("npg", "Yours-v0", seed, [-0.002, 0.001])
        folders.add("ppo", "Mine-v0", seed, [10.0, 12.0])
        folders.add("ppo", "Yours-v0", seed, [-0.002, 0.0])
        folders.add("a2c", "Mine-v0", seed, [10.0, 20.0])
    return folders


def build(root: Path, *options: str) -> tuple[int, str, str]:
    out = root.parent / "report"
    arguments = ["build", str(root), "--out", str(out), "--format", "md", *options]
    result = CliRunner().invoke(app, arguments)
    report = out / "report.md"
    return result.exit_code, result.output, report.read_text() if report.exists() else ""


def test_environments_of_ones_own_are_aggregated(two_of_mine: RunFolders, own: Path) -> None:
    _, _, without = build(two_of_mine.root)
    status, output, report = build(two_of_mine.root, "--normalisation", str(own))

    assert status == 0, output
    assert "## All environments together" not in without
    assert "## All environments together" in report
    evaluations = runs.load(two_of_mine.root).evaluations
    assert aggregates.normalized_scores(evaluations) is None
    found = aggregates.normalized_scores(evaluations, scales_with(own))
    assert found is not None
    np.testing.assert_allclose(found.finals["npg"], [[0.5, 0.75]] * 3)
    np.testing.assert_allclose(found.finals["ppo"], [[0.2, 0.5]] * 3)


def test_a_file_takes_precedence_over_what_is_shipped(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"{HEADER}CartPole-v1,0,1,1000,mine\n")

    assert scales_with(path) == {**load_scales(), "CartPole-v1": Scale(0.0, 1000.0, "mine")}
    assert scales_with(None) == load_scales()


def test_what_is_measured_can_be_given(tmp_path: Path) -> None:
    arguments = ["random", "Pendulum-v1", "--reference", "-0.000123456", "--episodes", "10"]
    measured = CliRunner().invoke(benchmarks_app, arguments)
    path = tmp_path / "own.csv"
    path.write_text(measured.stdout)

    assert load_scales(path)["Pendulum-v1"].reference == -0.000123456


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "must have the columns"),
        (b"\xff\xfe", "codec can't decode"),
        (f"{HEADER}Mine-v0,1,1,1e200,given\n".encode(), "reference: must be a number"),
        (f"{HEADER}Mine-v0,1,1,2\n".encode(), "line 2: Mine-v0: must have 5 cells"),
        (f"{HEADER}Mine-v0,1,1,2,a,b\n".encode(), "line 2: Mine-v0: must have 5 cells"),
        (HEADER.encode() + b"x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(
    two_of_mine: RunFolders, own: Path, content: bytes | None, message: str
) -> None:
    path = own.with_name("wrong.csv")
    if content is not None:
        path.write_bytes(content)

    status, output, report = build(two_of_mine.root, "--normalisation", str(path))

    assert status == 2
    assert output.startswith(f"error: {path}: ")
    assert message in output
    assert report == ""
    with pytest.raises(SpecError, match=message):
        define("npg", ["CartPole-v1"], 1, 1000, space_for("npg"), normalisation=path)


def test_a_study_scores_environments_of_ones_own(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    path.write_text(f"{HEADER}MountainCarContinuous-v0,-50,10,90,g\nPendulum-v1,-1200,10,-200,g\n")
    environments = ["MountainCarContinuous-v0", "Pendulum-v1"]

    problem = define("npg", environments, 1, 1000, space_for("npg"), normalisation=path)

    assert problem.is_normalised
    assert problem.score("Pendulum-v1", [-700.0]) == 0.5


def test_a_baseline_without_a_part_in_the_aggregates_is_said(
    two_of_mine: RunFolders, own: Path
) -> None:
    said = "nothing is compared with a2c, which has not been run on all of Mine-v0, Yours-v0"

    _, output, report = build(two_of_mine.root, "--normalisation", str(own), "--baseline", "a2c")

    assert f"warning: Over all environments {said}; these have: npg, ppo." in output
    assert said in report


def test_a_baseline_where_nothing_is_aggregated_is_said(two_of_mine: RunFolders) -> None:
    _, output, report = build(two_of_mine.root, "--baseline", "ppo")

    assert "warning: Nothing is compared with ppo over all environments: " in output
    assert "Nothing is compared with ppo over all environments: " in report


def test_an_unknown_baseline_is_refused_with_what_there_is(two_of_mine: RunFolders) -> None:
    status, output, report = build(two_of_mine.root, "--baseline", "trpo")

    assert (status, report) == (2, "")
    assert "--baseline: 'trpo' is not one of a2c, npg, ppo" in output


@pytest.mark.parametrize(
    "options",
    [
        ["--baseline", "ppo"],
        ["--normalisation", "own.csv"],
        ["--threshold", "CartPole-v1=475"],
        ["--published"],
        ["--allow-mixed"],
    ],
)
def test_what_is_about_runs_is_refused_without_them(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["build", "--studies", "mine", *options])

    assert result.exit_code == 2
    assert result.output == f"error: {options[0]}: is about runs; give RUNS, too\n"
