"""``python -m benchmarks``, as a user runs it."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.command_line import make_console
from benchmarks.provenance import is_dirty
from benchmarks.results import load_evaluations, load_runs

REPOSITORY = Path(__file__).parents[2]
COMPLETE = {"run.json", "evaluations.csv", "progress.csv", "model.zip", "events.out.tfevents"}
if is_dirty():
    COMPLETE.add("uncommitted.diff")


def start(
    *arguments: str | Path, options: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *options, "-m", "benchmarks", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores Ctrl-C, and passes that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait, but not beyond the end of the process: a short moment can be missed."""
    deadline = time.monotonic() + 240
    while process.poll() is None:
        assert time.monotonic() < deadline, "this takes too long"
        # Folders vanish while they are being looked at.
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return
        time.sleep(0.002)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def finished(out: Path) -> list[Path]:
    return [path for path in out.rglob("seed-*") if path.is_dir()]


def test_a_killed_sweep_counts_no_partial_run_and_goes_on(tiny_suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    command = ["run", tiny_suite, "--algos", "ppo,trpo", "--seeds", "2", "--jobs", "2"]
    moments: list[Callable[[], bool]] = [
        lambda: any(out.rglob(".tmp-seed-*")),  # a run has begun
        lambda: any(out.rglob(".tmp-*/model.zip")),  # its last files are being written
        lambda: len(finished(out)) > 0,  # the first has just got its name
    ]
    changed: dict[Path, float] = {}
    for moment in moments:
        process = start(*command, "--out", out)
        wait_until(moment, process)
        workers = children(process)
        process.kill()
        process.communicate()

        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive
        for folder in finished(out):
            assert {path.name for path in folder.iterdir()} == COMPLETE
            assert changed.setdefault(folder, folder.stat().st_mtime) == folder.stat().st_mtime
        assert len(load_evaluations(out)) == 3 * len(finished(out))

    process = start(*command, "--out", out)
    output, errors = process.communicate()

    assert process.returncode == 0, errors
    assert len(load_runs(out)) == 4
    assert changed
    assert all(folder.stat().st_mtime == time for folder, time in changed.items())
    assert f"{len(changed)} of 4 runs are already there" in output
    assert not any(out.rglob(".tmp-*"))


# What ipykernel sets for the commands in a notebook's cells.
JUPYTER = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-color"}


def test_in_a_notebook_a_sweep_says_one_line_a_run(tiny_suite: Path, tmp_path: Path) -> None:
    command = ["run", tiny_suite, "--algos", "ppo", "--out", tmp_path / "runs"]
    output, errors = start(*command, variables=JUPYTER).communicate()

    assert output.startswith("[1/1] ppo CartPole-v1 seed 0 finished\n"), errors
    assert "\x1b" not in output


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
@pytest.mark.parametrize("stderr", [False, True])
def test_a_terminal_is_one_whatever_the_variables_say(
    stderr: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**JUPYTER, "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    stream = "stderr" if stderr else "stdout"
    primary, secondary = os.openpty()
    with os.fdopen(primary), os.fdopen(secondary, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, stream, terminal)
        assert make_console(stderr=stderr).is_terminal
    with monkeypatch.context() as patch:
        patch.setattr(sys, stream, io.StringIO())
        assert not make_console(stderr=stderr).is_terminal


def test_ctrl_c_ends_the_workers_and_leaves_nothing_behind(
    tiny_suite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    process = start("run", tiny_suite, "--algos", "ppo", "--steps", "9999999", "--out", out)
    wait_until(lambda: any(out.rglob(".tmp-seed-*")), process)
    workers = children(process)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    left = [path for path in out.rglob("*") if path.is_file() or "seed-" in path.name]
    (note,) = left  # but for what was asked for
    assert json.loads(note.read_text())["command"].startswith("python -m benchmarks run ")
    assert note.parent == out


def test_ctrl_c_while_the_processes_are_prepared_ends_at_once(
    tiny_suite: Path, tmp_path: Path
) -> None:
    process = start("run", tiny_suite, "--algos", "ppo", "--out", tmp_path / "runs")
    wait_until(lambda: len(children(process)) > 1, process)  # after the tracker of resources
    workers = children(process)

    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


@pytest.mark.parametrize("module", ["pydantic", "numpy", "torch"])
def test_ctrl_c_before_anything_has_begun_is_no_traceback(module: str, tmp_path: Path) -> None:
    """While modules are imported, which takes seconds."""
    process = start("run", "smoke", "--out", tmp_path / "runs", options=("-X", "importtime"))
    assert process.stderr is not None
    assert any(f" {module}." in line for line in process.stderr)

    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)

    assert process.returncode == 130
    assert errors.endswith("interrupted\n")
    assert "Traceback" not in errors
    assert output == ""


def test_a_failed_run_shows_in_the_summary_and_the_exit_status(
    tiny_suite: Path, tmp_path: Path
) -> None:
    tiny_suite.write_text(
        "{evaluation: {points: 1, episodes: 1}, environments: {CartPole-v1: {n_timesteps: 128},"
        " 'tests.benchmarks.envs:Raising-v0': {n_timesteps: 512}}}\n"
    )
    process = start(
        "run", tiny_suite, "--algos", "ppo", "--set", "n_steps=64", "--out", tmp_path / "runs"
    )
    output, _ = process.communicate()

    assert process.returncode == 1
    assert "failed: ppo tests.benchmarks.envs:Raising-v0 seed 0: ValueError: the pole is gone" in (
        output
    )
    (row,) = load_runs(tmp_path / "runs").to_dict("records")
    assert row["env_id"] == "CartPole-v1"
    assert row["hyperparams"]["n_steps"] == 64
    assert row["command"].startswith("python -m benchmarks run ")
    assert "│ CartPole-v1 │ ppo" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "suite 'nosuch' is not one of atari, classic, demo, "),
        (["smoke", "--algos", "ppo,a3c"], "--algos: 'a3c' is not one of npg, trpo, ppo"),
        (["smoke", "--algos", "ppo,ppo"], "--algos: 'ppo' is given 2 times"),
        (["smoke", "--envs", "Ant-v5"], "--envs: 'Ant-v5' is not one of CartPole-v1, Pendulum-v1"),
        (["smoke", "--envs", "Pendulum-v1,Pendulum-v1"], "--envs: 'Pendulum-v1' is given 2 times"),
        (["smoke", "--set", "gama=0.9"], "--set: gama: 0.9 is for a hyperparameter that npg"),
        (["no/such.yaml"], "no/such.yaml: No such file"),
        (["smoke", "--seeds", "0"], "--seeds"),
        (["smoke", "--steps", "-5"], "--steps"),
        (["smoke", "--jobs", "0"], "--jobs"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = tmp_path / "runs"

    result = CliRunner().invoke(app, ["run", *arguments, "--out", str(out)])

    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not out.exists()


def test_list_shows_suites_and_where_hyperparameters_come_from() -> None:
    result = CliRunner().invoke(app, ["list"])

    assert result.exit_code == 0
    shown = {tuple(row[:2]): row[2:] for row in map(str.split, result.output.splitlines())}
    assert shown["mujoco", "Hopper-v5"][:3] == ["1,000,000", "trpo,", "ppo,"]
    # Names are whole in a terminal of 80 columns.
    assert ("mujoco", "InvertedDoublePendulum-v5") in shown
