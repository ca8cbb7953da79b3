"""Sweeps in worker processes."""

import json
from pathlib import Path

import pytest

from benchmarks.results import load_evaluations, load_failures, load_runs
from benchmarks.run import run
from benchmarks.sweep import sweep


def test_failing_and_dying_runs_are_recorded_and_the_others_go_on(
    make_spec, tmp_path: Path
) -> None:
    good = [make_spec(seed=seed) for seed in (0, 1)]
    bad = [make_spec(env_id=f"tests.benchmarks.envs:{name}-v0") for name in ("Raising", "Stubborn")]
    dying = make_spec(env_id="tests.benchmarks.envs:Dying-v0")
    refused = make_spec("trpo", sub_sampling_factor="half")

    result = sweep([*bad, dying, refused, *good], tmp_path, 2, "the command", show_progress=False)

    assert sorted(spec.seed for spec in result.finished) == [0, 1]
    assert result.skipped == []
    errors = {failed.spec.env_id: failed.error for failed in result.failed}
    # What stands for the text that cannot be had differs between versions of Python.
    assert errors.pop(bad[1].env_id).startswith("tests.benchmarks.envs.StubbornError: <")
    assert errors == {
        bad[0].env_id: "ValueError: the pole is gone",
        dying.env_id: "WorkerDied: the process was killed by SIGKILL",
        "CartPole-v1": "benchmarks.errors.SpecError: hyperparams: sub_sampling_factor: must be an "
        "integer, got 'half'",
    }
    record = json.loads(bad[0].failure_file(tmp_path).read_text())
    assert record["spec"] == bad[0].to_dict()
    assert record["command"] == "the command"
    assert 'raise ValueError("the pole is gone")' in record["traceback"]
    assert json.loads(dying.failure_file(tmp_path).read_text())["traceback"] == "last words"
    assert len(load_runs(tmp_path)) == 2
    assert len(load_failures(tmp_path)) == 4
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_failure_is_tried_again_and_its_record_goes_when_it_succeeds(
    make_spec, tmp_path: Path
) -> None:
    spec, there = make_spec(seed=0), make_spec(seed=1)
    spec.failure_file(tmp_path).parent.mkdir(parents=True)
    spec.failure_file(tmp_path).write_text("{}")
    run(there, tmp_path, "")

    result = sweep([there, spec, spec], tmp_path, 1, "", show_progress=False)

    assert result.finished == [spec]
    assert result.skipped == [there]
    assert not spec.failure_file(tmp_path).exists()


def test_a_worker_gives_what_the_same_run_gives_here(make_spec, tmp_path: Path) -> None:
    spec = make_spec("npg", "Pendulum-v1", normalize=True)

    sweep([spec], tmp_path / "worker", 1, "", show_progress=False)
    run(spec, tmp_path / "here", "")

    there, here = (
        load_evaluations(tmp_path / name).drop(columns="wall_seconds")
        for name in ("worker", "here")
    )
    assert there.equals(here)


def test_off_a_terminal_each_run_is_a_line_and_a_warning_is_said_once(
    make_spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # PPO warns of a last minibatch that is smaller than the others.
    specs = [make_spec(seed=seed, batch_size=48) for seed in (0, 1)]

    sweep(specs, tmp_path, 1, "")

    output = capsys.readouterr().out
    assert "[1/2] ppo CartPole-v1 seed 0 finished" in output
    assert "[2/2] ppo CartPole-v1 seed 1 finished" in output
    assert output.count("mini-batch size of 48") == 1


def test_a_run_that_hangs_is_ended_and_what_is_done_is_kept(make_spec, tmp_path: Path) -> None:
    """One catches the exception that is to end it; the other one has only to close itself."""
    hanging, lingering = (
        make_spec(env_id=f"tests.benchmarks.envs:{name}-v0", points=1)
        for name in ("Hanging", "Lingering")
    )

    result = sweep([hanging, lingering], tmp_path, 2, "", show_progress=False, run_timeout=10)

    assert result.finished == [lingering]
    assert len(load_evaluations(tmp_path)) == 2
    (failed,) = result.failed
    assert failed.spec == hanging
    assert failed.error == ("TimeoutError: --run-timeout: the run has taken more than 10 seconds")
    traceback = json.loads(hanging.failure_file(tmp_path).read_text())["traceback"]
    assert "envs.py" in traceback  # where it hung
    assert "in fail" in traceback
