"""Aggregates over several environments, the user's own among them."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import statistics
from benchmarks.commands import app as benchmarks_app
from benchmarks.errors import SpecError
from benchmarks.normalisation import Scale, load_scales, scales_with
from reports.__main__ import app
from reports.data import aggregates, context
from reports.data.verdicts import AHEAD
from reports.rendering.blocks import Section, tables_of
from reports.sections import overall
from studies.definition import define
from studies.search_spaces import space_for
from tests.reports.conftest import RunFolders
from tests.reports.values import column, headers, shown, texts

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
    assert context.load(two_of_mine.root).normalized is None
    found = context.load(two_of_mine.root, normalisation=own).normalized
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


def test_without_scales_a_baseline_is_compared_with_all_the_same(two_of_mine: RunFolders) -> None:
    made = context.load(two_of_mine.root, baseline="ppo")

    assert overall.build(made) is None
    verdict = made.standings.overall("npg", "ppo")
    assert verdict is not None
    assert (verdict.word, verdict.improvement.value) == (AHEAD, 1.0)


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


def section(folders: RunFolders, **options: bool) -> Section:
    built = overall.build(context.load(folders.root, **options))
    assert built is not None
    return built


def add(folders: RunFolders, algo: str, *finals: float, seeds: int = 3) -> None:
    """Runs on three environments, or the first of them, that end a little apart."""
    for env_id, final in zip(["CartPole-v1", "HalfCheetah-v5", "Hopper-v5"], finals, strict=False):
        for seed in range(seeds):
            folders.add(algo, env_id, seed, [0.0, final + seed])


def test_aggregates_are_a_row_for_each_algorithm(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)
    add(folders, "a2c", 500, 5000, seeds=2)
    tables = tables_of(section(folders).blocks)
    assert list(tables) == ["aggregates", "improvement", "normalisation"]
    table = tables["aggregates"]
    assert headers(table) == [
        "algorithm",
        "interquartile mean",
        "median",
        "mean",
        "optimality gap",
        "seeds",
    ]
    assert column(table, "algorithm") == ["a2c", "npg", "ppo"]
    assert column(table, "seeds") == [2, 3, 3]
    finals = context.load(folders.root).standings.group
    iqms = column(table, "interquartile mean")
    assert iqms == [aggregates.iqm(finals[label]) for label in ("a2c", "npg", "ppo")]
    # a2c has too few seeds for a part in that.
    assert list(table.columns[1].bold) == [False, True, False]  # type: ignore[attr-defined]


def test_one_algorithm_alone_has_nothing_bold(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    tables = tables_of(section(folders).blocks)
    assert list(tables) == ["aggregates", "normalisation"]
    assert not any(cell.bold for each in tables["aggregates"].columns for cell in each.shown())


def test_an_improvement_is_bold_where_its_interval_excludes_one_half(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000)
    add(folders, "ppo", 200, 2000)
    table = tables_of(section(folders).blocks)["improvement"]
    assert headers(table) == ["P(row > column)", "npg", "ppo"]
    assert shown(table) == [
        ["npg", "–", "**1.00** [1.00, 1.00]"],
        ["ppo", "**0.00** [0.00, 0.00]", "–"],
    ]


def test_won_here_and_lost_there_is_not_bold(folders: RunFolders) -> None:
    add(folders, "npg", 450, 4500, 300)
    add(folders, "trpo", 200, 2000, 500)
    table = tables_of(section(folders).blocks)["improvement"]
    assert shown(table) == [
        ["npg", "–", "0.67 [0.67, 0.67]"],
        ["trpo", "0.33 [0.33, 0.33]", "–"],
    ]


def test_what_is_left_out_is_said(folders: RunFolders) -> None:
    add(folders, "npg", 400, 4000, 100)
    add(folders, "ppo", 200, 2000)
    add(folders, "trpo", 300)
    folders.add("npg", "CartPole-v1", 3, [0.0, 400.0])
    folders.add("npg", "Mine-v0")
    for n_timesteps in (100, 200):
        folders.add("npg", "Walker2d-v5", n_timesteps=n_timesteps)
    said = texts(section(folders, allow_mixed=True).blocks)
    assert said[0].startswith("Normalised final returns over CartPole-v1 and HalfCheetah-v5: ")
    starts = [text.partition(":")[0] for text in said[1:]]
    assert starts == [
        "Without Hopper-v5",
        "Without Mine-v0",
        "Without Walker2d-v5",
        "Without trpo",
        "Without 1 run of npg",
    ]


def test_figures_compare_with_the_baseline_where_they_can(study: RunFolders) -> None:
    made = context.load(study.root, baseline="ppo")
    assert overall._baseline(made, made.normalized) == "ppo"  # type: ignore[arg-type]
