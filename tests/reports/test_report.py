"""The report as a whole, from run folders to files, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import statistics
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from reports import document
from reports.__main__ import app
from reports.data import aggregates
from reports.data.context import load
from reports.data.published import PUBLISHED
from tests.reports.conftest import EVALUATION, RunFolders, build_report


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPETITIONS", 200)
    monkeypatch.setattr(aggregates, "REPETITIONS", 200)


def build(folders: RunFolders, name: str = "report") -> str:
    return build_report(folders.root, folders.root.parent / name, formats=document.FORMATS)


def test_report_names_runs_scores_and_how_it_was_made(study: RunFolders) -> None:
    text = build(study)
    assert "18 runs, 3 seeds per algorithm and environment" in text
    assert "CartPole-v1 (50,000 steps) and HalfCheetah-v5 (400,000 steps)" in text
    assert "the last 2 of 21 evaluations" in text
    assert "`0123456789abcdef0123456789abcdef01234567` (clean)" in text
    assert "python 3.11.9" in text
    assert "Linux, x86_64, 2 cores, 8 GiB memory" in text
    assert "python -m benchmarks run classic --algos npg,ppo,trpo --seeds 3" in text
    assert "Nothing: no run failed" in text


def test_every_file_the_report_names_is_there(study: RunFolders) -> None:
    text = build(study)
    out = study.root.parent / "report"
    named = {part.split(")")[0] for part in text.split("](")[1:]}
    files = {name for name in named if not name.startswith("#")}
    assert {"learning_curves.png", "learning_curves.svg"} <= files
    assert {"scores.csv", "comparisons.csv", "tests.csv"} <= files
    # Learning curves of all, of each and against time; aggregates, profiles, efficiency by steps
    # and by time, and improvement.
    assert len(files) == 2 * (4 + 5) + 3
    assert all((out / name).stat().st_size > 500 for name in files)


def test_same_runs_give_the_same_bytes(study: RunFolders) -> None:
    build(study, "first")
    build(study, "second")
    first, second = (study.root.parent / name for name in ("first", "second"))
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert len(names) == 23
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_every_table_is_aligned_in_the_source(study: RunFolders) -> None:
    study.add_failure("npg", seed=3, error="ValueError: a | b")
    blocks = [block for block in build(study).split("\n\n") if block.startswith("|")]
    # Who beats whom; scores, costs; aggregates, improvements and scales; tests; steps,
    # hyperparameters, failures.
    assert len(blocks) == 1 + 2 + 1 + 3 + 1 + 1 + 3 + 1
    for block in blocks:
        assert len({len(line) for line in block.splitlines()}) == 1, block


def test_scores_are_there_as_data(study: RunFolders) -> None:
    build(study)
    table = pd.read_csv(study.root.parent / "report" / "scores.csv")
    assert len(table) == 6
    assert set(table["seeds"]) == {3}
    assert (table["final_low"] <= table["final_mean"]).all()


def test_every_pair_is_there_as_data(study: RunFolders) -> None:
    build(study)
    out = study.root.parent / "report"
    pairs = pd.read_csv(out / "comparisons.csv")
    # Ordered pairs of three algorithms, on two environments by three scores.
    assert len(pairs) == 6 * 2 * 3
    means = pd.read_csv(out / "scores.csv").set_index(["env_id", "label"])
    for row in pairs.to_dict("records"):
        ours, theirs = (means.loc[(row["env_id"], row[key])] for key in ("label", "other"))
        apart = ours[f"{row['score']}_low"] > theirs[f"{row['score']}_high"]
        assert row["is_ahead"] == (apart and row["low"] > 0.5)
        assert row["low"] <= row["probability"] <= row["high"]
    assert 0 < pairs["is_ahead"].sum() < len(pairs) / 2


def test_evaluation_protocols_are_said_for_each_environment(folders: RunFolders) -> None:
    folders.add("npg", "CartPole-v1")
    folders.add("npg", "Hopper-v5", evaluation={**EVALUATION, "points": 40})
    assert (
        "evaluated before training and 20 times during training, 10 episodes each (CartPole-v1) "
        "or 40 times during training, 10 episodes each (Hopper-v5), with" in build(folders)
    )


def test_a_run_of_the_suite_is_reported(folders: RunFolders) -> None:
    evaluation = Evaluation(points=2, episodes=1, seed=1)
    hyperparams = {"policy": "MlpPolicy", "n_steps": 64, "batch_size": 64, "n_epochs": 1}
    spec = RunSpec("own", "ppo", "CartPole-v1", 0, 128, hyperparams, evaluation)
    run(spec, folders.root, "python -m benchmarks run own.yaml")
    text = build(folders)
    assert "ppo on CartPole-v1 (128 steps): 1 run, 1 seed per algorithm" in text
    assert "python -m benchmarks run own.yaml" in text


def test_command_writes_the_report(study: RunFolders, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    arguments = ["build", str(study.root), "--out", str(out), "--title", "Three algorithms"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert str(out / "report.md") in result.output
    assert (out / "report.md").read_text().startswith("# Three algorithms\n")


def test_command_refuses_with_a_message_and_status_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["build", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere: there is no such folder" in result.stderr
    assert "Traceback" not in result.stderr


def test_broken_run_folders_are_left_out_and_named(study: RunFolders, tmp_path: Path) -> None:
    columns, other = sorted(study.root.rglob("seed-2-*"))[:2]
    text = (columns / "evaluations.csv").read_text()
    (columns / "evaluations.csv").write_text(text.replace("return_mean", "reward"))
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**record, "format": 99}))
    out = tmp_path / "out"

    result = CliRunner().invoke(app, ["build", str(study.root), "--out", str(out)])

    assert result.exit_code == 0, result.output
    first, second = result.stderr.splitlines()
    where = columns.relative_to(study.root)
    assert first.startswith(f"warning: left out: {where}/evaluations.csv: must have the columns")
    assert first.endswith("got 'reward' is unknown, 'return_mean' is missing")
    assert f"{other.relative_to(study.root)}/run.json: has the format 99" in second
    text = (out / "report.md").read_text()
    assert "16 runs, 2–3 seeds" in text
    assert "**Incomplete:** 2 left out as unreadable" in text
    missing = text.partition("## What is missing")[2]
    assert f"- `{where}/evaluations.csv: must have the columns" in missing
    assert "has the format 99; this version reads 1" in missing
    assert str(study.root) not in text


def test_a_diverged_run_is_left_out_and_named(study: RunFolders) -> None:
    study.add("npg", seed=3, returns=[20.0, float("nan")])
    text = build(study)
    assert "18 runs, 3 seeds" in text
    assert "seed 3: the evaluation at step 50,000 has return_mean=nan`" in text


def test_no_run_that_can_be_read_is_an_error(folders: RunFolders, tmp_path: Path) -> None:
    (folders.add("npg") / "evaluations.csv").unlink()
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["build", str(folders.root), "--out", str(out)])
    assert result.exit_code == 2
    assert "no run that can be read in it; classic/npg/CartPole-v1/seed-0-" in result.stderr
    assert not out.exists()


@pytest.fixture
def mixed(study: RunFolders) -> RunFolders:
    """NPG with a larger budget, too, on one of two environments, and far better for it."""
    for seed in range(3):
        study.add("npg", seed=seed, returns=[20.0, 490.0 + seed], n_timesteps=200_000)
    return study


def test_mixed_budgets_are_refused_with_what_allows_them(mixed: RunFolders) -> None:
    result = CliRunner().invoke(app, ["build", str(mixed.root)])
    assert result.exit_code == 2
    assert "n_timesteps=200,000: classic/npg (3 runs)" in result.stderr
    assert "--allow-mixed" in result.stderr


def test_mixed_budgets_are_told_apart_and_not_compared(mixed: RunFolders, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["build", str(mixed.root), "--out", str(out), "--allow-mixed", "--csv"]

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    warning = "CartPole-v1: the runs have different budgets or evaluations"
    assert f"warning: {warning}" in result.stderr
    text = (out / "report.md").read_text()
    top, _, rest = text.partition("## Summary")
    assert f"{warning}: 200,000 steps (npg) and 50,000 steps (npg, ppo and trpo)." in top
    assert "\nnpg, ppo and trpo on CartPole-v1 (50,000 and 200,000 steps)" in top
    section = rest.partition("### CartPole-v1")[2].partition("### HalfCheetah-v5")[0]
    assert "**Mixed:** 200,000 steps and 50,000 steps do not compare" in section
    # The long run has the highest scores, but nothing to compare with.
    assert "| npg (200,000 steps) |   491.0   [490.0, 492.0]" in section
    assert "**491.0**" not in section
    others = [line for line in section.splitlines() if "| " in line and "(50,000 steps)" in line]
    assert ["**" in line.split("|")[2] for line in others] == [True, False, False]
    beaten = rest.partition("### Who beats whom")[2].partition("## Scores")[0]
    assert "npg (200,000 steps)" not in beaten
    # One environment is left, which is not aggregated.
    assert "## All environments together" not in text
    assert not (out / "tables" / "aggregates.csv").exists()


def test_with_the_mixed_environment_left_out_the_others_are_aggregated(
    mixed: RunFolders,
) -> None:
    for algo, top in [("npg", 900.0), ("ppo", 500.0), ("trpo", 400.0)]:
        for seed in range(3):
            mixed.add(algo, "InvertedPendulum-v5", seed, [10.0, top + seed], 30_000)
    made = load(mixed.root, allow_mixed=True)
    assert made.normalized is not None
    assert made.normalized.env_ids == ["HalfCheetah-v5", "InvertedPendulum-v5"]
    assert made.normalized.mixed == ["CartPole-v1"]
    assert made.normalized.partial == []
    assert list(made.normalized.finals) == ["npg", "ppo", "trpo"]


def test_published_results_stand_beside_ours_where_they_are_wanted(
    study: RunFolders, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    header = PUBLISHED.read_text().splitlines()[0]
    own.write_text(f"{header}\nOur paper,npg,CartPole-v1,50000,321.5,,2,mean,final policy,\n")
    arguments = ["build", str(study.root), "--out", str(tmp_path / "out")]

    result = CliRunner().invoke(app, [*arguments, "--published-file", str(own)])

    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text()
    section = text.partition("## Against the literature")[2].partition("## How to read this")[0]
    assert "321.5" in section
    assert "HalfCheetah-v3" in section
    assert "](https://github.com/thu-ml/tianshou)" in section
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "## Against the literature" not in (tmp_path / "out" / "report.md").read_text()


def test_a_page_and_each_table_are_written_where_they_are_wanted(
    study: RunFolders, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", str(study.root), "--out", str(out), "--csv", "--latex", "--published"]

    assert CliRunner().invoke(app, arguments).exit_code == 0

    page = (out / "report.html").read_text()
    assert page.count("<table") == (out / "report.md").read_text().count("\n| --")
    names = sorted(path.name for path in (out / "tables").iterdir())
    assert [name for name in names if name.endswith(".csv")] == [
        "aggregates.csv",
        "costs.csv",
        "improvement.csv",
        "literature-CartPole-v1.csv",
        "literature-HalfCheetah-v5.csv",
        "literature-highest.csv",
        "literature-sources.csv",
        "normalisation.csv",
        "scores-CartPole-v1.csv",
        "scores-HalfCheetah-v5.csv",
        "steps-to-threshold.csv",
        "tests.csv",
        "who-beats-whom.csv",
    ]
    assert len(names) == 26
    table = pd.read_csv(out / "tables" / "scores-CartPole-v1.csv")
    assert table["algorithm"].tolist() == ["npg", "ppo", "trpo"]
    assert table["final return"].between(0, 500).all()
    assert "\\toprule" in (out / "tables" / "aggregates.tex").read_text()

    assert CliRunner().invoke(app, [*arguments[:4], "--format", "pdf"]).exit_code == 2


def test_curves_for_a_paper_with_runs_and_moving_means_say_so(
    study: RunFolders, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", str(study.root), "--out", str(out), "--format", "md"]
    options = ["--style", "paper", "--show-seeds", "--smooth", "5", "--paired"]

    result = CliRunner().invoke(app, [*arguments, *options])

    assert result.exit_code == 0, result.output
    text = (out / "report.md").read_text()
    captions = [line for line in text.splitlines() if line.endswith(".svg).")]
    smoothed = [line for line in captions if "Smoothed: each point is the mean of 5" in line]
    # Learning curves of all, of each and against time; efficiency by steps and by time.
    assert len(smoothed) == 6
    assert sum("Thin lines: single runs." in line for line in captions) == 4
    assert "Runs of the same seed are paired in 6 of them" in text
    assert {x.stem for x in out.glob("*.pdf")} == {x.stem for x in out.glob("*.svg")}
    scores = (out / "scores.csv").read_bytes()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (out / "scores.csv").read_bytes() == scores
    plain = (out / "report.md").read_text()
    assert "Smoothed" not in plain
    assert "Thin lines" not in plain


@pytest.mark.parametrize("window", [0, 4, -3])
def test_a_moving_mean_without_a_middle_is_refused(tmp_path: Path, window: int) -> None:
    arguments = ["build", str(tmp_path), "--smooth", str(window), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--smooth: must be an odd number of evaluations" in result.stderr
    assert f"got {window}" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--studies", "a", "--paired"], "--paired: is about runs; give RUNS, too"),
        (["--studies", "a", "--published-file", "x.csv"], "--published-file: is about runs"),
        (["runs", "--storage", "sqlite://"], "--storage: is about studies; give --studies, too"),
        (["runs", "--studies-root", "x"], "--studies-root: is about studies; give --studies, too"),
    ],
)
def test_options_that_nothing_would_come_of_are_refused(
    options: list[str], message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["build", *options, "--out", str(tmp_path / "report")])
    assert result.exit_code == 2
    assert f"error: {message}" in result.stderr
    assert not (tmp_path / "report").exists()


def test_a_variable_that_says_where_studies_are_asks_for_none(
    folders: RunFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIES_STORAGE", "sqlite:///studies.db")
    folders.add("npg")
    arguments = ["build", str(folders.root), "--out", str(tmp_path / "report"), "--format", "md"]
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_published_results_that_are_of_other_tasks_are_said(
    folders: RunFolders, tmp_path: Path
) -> None:
    folders.add("npg", "Unheard-v0")
    arguments = ["build", str(folders.root), "--out", str(tmp_path / "report"), "--format", "md"]
    result = CliRunner().invoke(app, [*arguments, "--published"])
    assert result.exit_code == 0
    assert "warning: --published: no result is of a task of these runs" in result.stderr
