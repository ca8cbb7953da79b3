"""Run folders as tables."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.engines import Failure
from benchmarks.records import Evaluation, RunSpec
from benchmarks.results import (
    EVALUATION_COLUMNS,
    FAILURE_COLUMNS,
    RUN_COLUMNS,
    BrokenRunError,
    load_evaluations,
    load_failures,
    load_readable,
    load_runs,
)
from benchmarks.run import run
from benchmarks.sweep import record_failure

SETTINGS = {"n_steps": 64, "batch_size": 64}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    for algo, seed in [("trpo", 1), ("ppo", 10), ("ppo", 9)]:
        spec = RunSpec("tiny", algo, "CartPole-v1", seed, 64, SETTINGS, Evaluation(1, 1, 0))
        run(spec, out, "the command")
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.parametrize("module", ["results", "status", "archive", "commands"])
def test_reading_runs_needs_neither_training_nor_statistics(module: str) -> None:
    code = f"import sys, benchmarks.{module}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    heavy = {"torch", "stable_baselines3", "gymnasium", "scipy", "rliable", "matplotlib"}
    assert not heavy & set(loaded)


def test_runs_are_a_sorted_table(finished: Path) -> None:
    runs = load_runs(finished)

    assert list(runs.columns) == RUN_COLUMNS
    assert list(zip(runs["algo"], runs["seed"], strict=True)) == [
        ("ppo", 9),
        ("ppo", 10),
        ("trpo", 1),
    ]
    first = runs.iloc[0]
    assert first["hyperparams"] == SETTINGS
    assert first["evaluation"] == {"points": 1, "episodes": 1, "seed": 0}
    assert first["path"] == finished / f"tiny/ppo/CartPole-v1/seed-9-{first['config']}"
    assert first["command"] == "the command"


def test_evaluations_are_a_sorted_table(finished: Path) -> None:
    evaluations = load_evaluations(finished)

    assert list(evaluations.columns) == EVALUATION_COLUMNS
    assert list(evaluations["timesteps"]) == [0, 64] * 3
    assert list(evaluations["seed"]) == [9, 9, 10, 10, 1, 1]


def test_any_folder_above_or_among_the_runs_can_be_loaded(finished: Path) -> None:
    assert len(load_runs(finished / "tiny" / "ppo")) == 2


def test_no_runs_are_empty_tables(tmp_path: Path) -> None:
    assert list(load_runs(tmp_path).columns) == RUN_COLUMNS
    assert list(load_evaluations(tmp_path).columns) == EVALUATION_COLUMNS
    assert list(load_failures(tmp_path).columns) == FAILURE_COLUMNS


def test_temporary_folders_are_no_runs(out: Path) -> None:
    folder = load_runs(out)["path"][0]
    shutil.copytree(folder, folder.with_name(f".tmp-{folder.name}-1"))

    assert len(load_runs(out)) == 3


def test_what_is_inside_of_temporary_folders_is_not_looked_at(out: Path) -> None:
    folder = load_runs(out)["path"][0]
    (folder.with_name(".tmp-seed-7-aaaaaaaa-1") / "seed-7-aaaaaaaa").mkdir(parents=True)

    assert len(load_runs(out)) == 3


def test_failures_are_a_table_without_those_that_were_mended(make_spec, out: Path) -> None:
    failure = Failure("ValueError: no", "Traceback ...")
    spec = make_spec()
    record_failure(spec, out, "the command", "2026-01-01T00:00:00+00:00", failure)
    mended = load_runs(out)["path"][0]
    shutil.copy(spec.failure_file(out), mended.with_name(f"{mended.name}.failed.json"))

    failures = load_failures(out)

    assert list(failures.columns) == FAILURE_COLUMNS
    assert failures.to_dict("records") == [
        {
            "suite": "tiny",
            "algo": "ppo",
            "env_id": "CartPole-v1",
            "seed": 0,
            "config": spec.config,
            "error": "ValueError: no",
            "traceback": "Traceback ...",
        }
    ]
    assert len(load_runs(out)) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting"),
        ("[]", "must hold an object"),
        ('{"format": 2}', "has the format 2; this version reads 1"),
        ('{"format": 1, "spec": 3}', "spec: must be an object, got 3"),
        ('{"format": 1, "spec": {}}', "has no suite, algo, env_id"),
    ],
)
def test_a_broken_record_is_named(out: Path, content: str | None, message: str) -> None:
    path = load_runs(out)["path"][1] / "run.json"
    path.unlink()
    if content is not None:
        path.write_text(content)

    for load in (load_runs, load_evaluations):
        with pytest.raises(BrokenRunError, match=message) as error:
            load(out)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("", "must have the columns .*; got none"),
        ("timesteps\n0\n", "must have the columns timesteps, wall_seconds.* 'episodes' is missing"),
        (
            "timesteps,wall_seconds,return_mean,return_std,length_mean,episodes,colour\n",
            "in this order; got 'colour' is unknown",
        ),
        ("timesteps,wall_seconds,return_mean,return_std,length_mean,episodes\n", "no evaluation"),
        (
            "timesteps,wall_seconds,return_mean,return_std,length_mean,episodes\n0,0,high,0,1,1\n",
            "not a number",
        ),
        (
            "timesteps,wall_seconds,return_mean,return_std,length_mean,episodes\nnan,0,1,0,1,1\n",
            "must be integers",
        ),
    ],
)
def test_broken_evaluations_are_named(out: Path, content: str | None, message: str) -> None:
    path = load_runs(out)["path"][1] / "evaluations.csv"
    path.unlink()
    if content is not None:
        path.write_text(content)

    with pytest.raises(BrokenRunError, match=message) as error:
        load_evaluations(out)
    assert str(path) in str(error.value)
    assert len(load_runs(out)) == 3


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("wall_seconds", "long", "wall_seconds: must be a finite number, got 'long'"),
        ("timesteps", None, "timesteps: must be an integer, got None"),
        ("versions", [], "versions: must be an object"),
    ],
)
def test_a_record_with_a_value_of_another_kind_is_named(
    out: Path, key: str, value: object, message: str
) -> None:
    path = load_runs(out)["path"][1] / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    with pytest.raises(BrokenRunError, match=message):
        load_runs(out)


def test_a_record_without_a_part_of_the_protocol_is_named(out: Path) -> None:
    path = load_runs(out)["path"][1] / "run.json"
    record = json.loads(path.read_text())
    del record["spec"]["evaluation"]["episodes"]
    path.write_text(json.dumps(record))

    with pytest.raises(BrokenRunError, match="has no episodes"):
        load_runs(out)


def test_what_is_readable_is_what_the_strict_readers_read(finished: Path) -> None:
    readable = load_readable(finished)

    pd.testing.assert_frame_equal(readable.runs, load_runs(finished))
    pd.testing.assert_frame_equal(readable.evaluations, load_evaluations(finished))
    pd.testing.assert_frame_equal(readable.failures, load_failures(finished))
    assert readable.broken == []


def test_what_cannot_be_read_is_left_out_and_named(make_spec, out: Path) -> None:
    paths = load_runs(out)["path"]
    (paths[0] / "evaluations.csv").unlink()
    (paths[2] / "run.json").write_text('{"format": 2}')
    record = make_spec().failure_file(out)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("{")

    readable = load_readable(out)

    assert readable.runs["path"].tolist() == [paths[1]]
    assert readable.evaluations["seed"].tolist() == [10, 10]
    assert readable.failures.empty
    named = [str(paths[0] / "evaluations.csv"), str(paths[2] / "run.json"), str(record)]
    assert [str(error).partition(": ")[0] for error in readable.broken] == named


def test_reading_goes_through_every_folder(out: Path) -> None:
    seen = []

    def reading(folders):
        for folder in folders:
            seen.append(folder)
            yield folder

    load_readable(out, reading)

    assert sorted(seen) == sorted(load_runs(out)["path"])


def test_the_record_is_json_that_others_can_read(out: Path) -> None:
    for path in load_runs(out)["path"]:
        # NaN and Infinity are not JSON, though Python writes them.
        record = json.loads((path / "run.json").read_text(), parse_constant=pytest.fail)
        assert record["format"] == 1
