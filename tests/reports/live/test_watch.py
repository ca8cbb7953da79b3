"""Learning curves of runs that are finished, that go on, and that are broken."""

from __future__ import annotations

import io
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.evaluation import EvaluationRow
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import run
from reports.__main__ import app
from reports.live import runs, terminal
from reports.live.picture import draw_picture
from reports.live.watch import watch as watch_runs
from reports.rendering import figures
from tests.reports.conftest import RunFolders


def spec_of(seed: int = 0) -> RunSpec:
    hyperparams = {"n_envs": 2, "n_steps": 64, "policy_kwargs": "dict(net_arch=[8])"}
    return RunSpec(
        "tiny", "npg", "CartPole-v1", seed, 512, hyperparams, Evaluation(points=4, episodes=2)
    )


def while_running(
    spec: RunSpec, root: Path, n_evaluations: int, act: Callable[[], None]
) -> list[EvaluationRow]:
    """A real run, stopped for ``act`` after so many evaluations; what they were."""
    rows: list[EvaluationRow] = []

    def look(row: EvaluationRow) -> None:
        rows.append(row)
        if len(rows) == n_evaluations:
            act()

    run(spec, root, "", watch=look)
    return rows


def abandoned(root: Path, spec: RunSpec) -> Path:
    """The folder of a run that was killed in its last rollout but for the update."""
    kept = root / "kept"

    def keep() -> None:
        (scratch,) = root.rglob(".tmp-seed-*")
        shutil.copytree(scratch, kept)

    while_running(spec, root, 5, keep)
    folder = Path(str(spec.folder(root)))
    shutil.rmtree(folder)
    return kept.rename(folder.with_name(f".tmp-{folder.name}-1"))


def watch(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["watch", *map(str, arguments)], env={"COLUMNS": "120"})
    return result.exit_code, result.output


def test_a_run_in_progress_shows_its_evaluations_so_far(tmp_path: Path) -> None:
    run(spec_of(seed=0), tmp_path, "")
    views: list[runs.View] = []
    watcher = runs.Watcher(tmp_path)
    assert watcher.look().running == []
    rows = while_running(spec_of(seed=1), tmp_path, 5, lambda: views.append(watcher.look()))
    (view,) = views
    (running,) = view.running
    assert (running.panel, running.label, running.seed) == ("CartPole-v1", "npg", 1)
    assert running.measure == runs.EVALUATION
    # A rollout is 128 steps. Its log has the last evaluation made by then; the fifth's is to come.
    assert running.returns.tolist() == pytest.approx([row.return_mean for row in rows[1:4]])
    assert running.steps.tolist() == [128, 256, 384]
    # The curve of the finished one has all of its evaluations.
    assert view.curves["timesteps"].tolist() == [0, 128, 256, 384, 512]
    assert set(view.curves["seeds"]) == {1}
    # Now it is finished, and no longer in progress.
    after = watcher.look()
    assert after.running == []
    assert set(after.curves["seeds"]) == {2}


def test_the_command_draws_once_where_there_is_no_terminal_and_writes_the_picture(
    tmp_path: Path,
) -> None:
    out = tmp_path / "pictures" / "curves.png"
    results: list[tuple[int, str]] = []
    while_running(
        spec_of(), tmp_path / "runs", 5, lambda: results.append(watch(tmp_path, "--out", out))
    )
    ((status, output),) = results
    assert status == 0
    assert "CartPole-v1" in output
    assert "a npg seed 0 in progress: evaluation return" in output
    assert " at 384, " in output
    assert "\x1b" not in output
    assert [path.name for path in out.parent.iterdir()] == ["curves.png"]
    assert out.read_bytes().startswith(b"\x89PNG")


def test_half_written_files_give_what_is_whole(tmp_path: Path) -> None:
    folder = abandoned(tmp_path, spec_of())
    (whole,) = runs.Watcher(tmp_path).look().running
    (events,) = folder.glob("events.out.tfevents.*")
    events.write_bytes(events.read_bytes()[:-10])
    (cut,) = runs.Watcher(tmp_path).look().running
    assert cut.measure == runs.EVALUATION
    assert whole.returns[: len(cut.returns)].tolist() == cut.returns.tolist()

    events.write_bytes(events.read_bytes()[:100])
    progress = folder / "progress.csv"
    lines = progress.read_text().splitlines()
    progress.write_text("\n".join(lines))  # the last line without its end
    (training,) = runs.Watcher(tmp_path).look().running
    assert training.measure == runs.TRAINING
    column = lines[0].split(",").index("rollout/ep_rew_mean")
    expected = [float(line.split(",")[column]) for line in lines[1:-1]]
    assert len(expected) >= 2
    assert training.returns.tolist() == expected
    assert training.steps.tolist() == [128 * (i + 1) for i in range(len(expected))]
    status, output = watch(tmp_path, "--once")
    assert status == 0
    assert "npg seed 0 in progress: training return" in output

    events.unlink()
    progress.write_text("time/tot")
    (empty,) = runs.Watcher(tmp_path).look().running
    assert len(empty.steps) == 0
    status, output = watch(tmp_path, "--once")
    assert status == 0
    assert "nothing to show yet" in output


def test_progress_with_columns_added_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text(
        "time/total_timesteps,rollout/ep_rew_mean,train/new\n"
        "128,20.0\n"  # of before the columns were added
        "256,,1.0\n384,30.0,1.0\n512,4x,1.0\n640,inf,1.0\n768,50.0,1.0\n896,60"
    )
    steps, returns = runs.read_progress(path, "rollout/ep_rew_mean")
    assert (steps.tolist(), returns.tolist()) == ([384, 768], [30, 50])
    assert runs.read_progress(tmp_path / "none.csv", "a")[0].shape == (0,)


def test_a_run_that_vanishes_or_is_renamed_is_gone_the_next_time(
    tmp_path: Path, folders: RunFolders
) -> None:
    folders.add("ppo", suite="tiny", evaluation={"points": 1, "episodes": 10, "seed": 0})
    spec = spec_of()
    folder = abandoned(folders.root, spec)
    watcher = runs.Watcher(folders.root)
    assert [run.label for run in watcher.look().running] == ["npg"]
    accumulator = runs.EventAccumulator(str(folder))
    steps, _ = runs.read_events(accumulator, "eval/return_mean")
    gone = folder.rename(folder.with_name("elsewhere"))
    # What was read of it before is still known to who reads it.
    assert runs.read_events(accumulator, "eval/return_mean")[0].tolist() == steps.tolist()
    view = watcher.look()
    assert view.running == []
    assert view.panels == ["CartPole-v1"]
    shutil.rmtree(gone)
    never_read = runs.EventAccumulator(str(gone))
    assert runs.read_events(never_read, "eval/return_mean")[0].shape == (0,)


def test_of_a_run_begun_again_the_newer_folder_counts(tmp_path: Path) -> None:
    spec = spec_of()
    folder = abandoned(tmp_path, spec)
    newer = folder.with_name(f"{folder.name}2")
    newer.mkdir()
    (running,) = runs.Watcher(tmp_path).look().running
    assert len(running.steps) == 0
    shutil.rmtree(newer)
    # What is finished is not in progress, whatever has been left behind.
    run(spec, tmp_path, "")
    view = runs.Watcher(tmp_path).look()
    assert view.running == []
    assert view.curves["timesteps"].tolist() == [0, 128, 256, 384, 512]


def test_broken_runs_are_left_out_and_said(folders: RunFolders) -> None:
    evaluation = {"points": 1, "episodes": 10, "seed": 0}
    for seed in range(3):
        folders.add("npg", seed=seed, evaluation=evaluation)
    no_number = folders.add("npg", seed=3, evaluation=evaluation, returns=(20.0, float("nan")))
    too_few = folders.add("npg", seed=4, evaluation=evaluation, returns=(20.0,))
    no_record = folders.add("npg", seed=5, evaluation=evaluation)
    (no_record / "run.json").write_text("{")
    view = runs.Watcher(folders.root).look()
    assert set(view.curves["seeds"]) == {3}
    assert [text.partition(": ")[0] for text in view.left_out] == [
        str(no_number),
        str(too_few),
        str(no_record / "run.json"),
    ]
    status, output = watch(folders.root)
    assert status == 0
    assert output.count("left out: ") == 3


def test_configurations_and_suites_are_told_apart(folders: RunFolders) -> None:
    evaluation = {"points": 1, "episodes": 10, "seed": 0}
    folders.add("npg", evaluation=evaluation, hyperparams={"gamma": 0.9})
    folders.add("npg", evaluation=evaluation, hyperparams={"gamma": 0.99})
    folders.add("npg", evaluation=evaluation, suite="other")
    (folders.root / "classic/npg/CartPole-v1/.tmp-seed-7-0000aaaa-1").mkdir()
    view = runs.Watcher(folders.root).look()
    assert view.panels == ["CartPole-v1 (classic)", "CartPole-v1 (other)"]
    assert [(run.panel, run.label) for run in view.running] == [
        ("CartPole-v1 (classic)", "npg (config=0000aaaa)")
    ]
    assert len(view.labels) == 4


def test_a_suite_may_be_a_link_to_a_folder_elsewhere(folders: RunFolders, tmp_path: Path) -> None:
    folders.add("npg", evaluation={"points": 1, "episodes": 10, "seed": 0})
    elsewhere = tmp_path / "disk" / "classic"
    elsewhere.parent.mkdir()
    (folders.root / "classic").rename(elsewhere)
    (folders.root / "classic").symlink_to(elsewhere)
    view = runs.Watcher(folders.root).look()
    assert (view.panels, view.left_out) == (["CartPole-v1"], [])


def test_a_path_says_which_run_is_in_progress(tmp_path: Path) -> None:
    env = tmp_path / "classic" / "npg" / "ALE__Pong-v5"
    run = runs.unfinished_run(env / ".tmp-seed-12-0123abcd-4567")
    assert run == runs.Unfinished(
        folder=env / ".tmp-seed-12-0123abcd-4567",
        final=env / "seed-12-0123abcd",
        suite="classic",
        algo="npg",
        env_id="ALE__Pong-v5",
        seed=12,
        config="0123abcd",
    )
    for name in ("seed-12-0123abcd", ".tmp-seed-12-0123abcd", ".tmp-x-1", ".tmp-seed-1-xyz-1"):
        assert runs.unfinished_run(env / name) is None


def test_the_picture_has_the_reports_colours_and_thin_lines_for_what_goes_on(
    tmp_path: Path,
) -> None:
    run(spec_of(seed=0), tmp_path, "")
    abandoned(tmp_path, spec_of(seed=1))
    figure = draw_picture(runs.Watcher(tmp_path).look())
    (ax,) = figure.axes
    finished, running = ax.lines
    colour = figures.looks(["npg"])["npg"].colour
    assert to_hex(str(finished.get_color())).upper() == colour
    assert to_hex(str(running.get_color())).upper() == colour
    assert running.get_linewidth() < finished.get_linewidth()
    assert np.max(running.get_xdata()) < np.max(finished.get_xdata())
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["npg, 1 seed", "in progress: evaluation return"]


def test_colours_on_a_terminal_show_on_a_dark_one_and_stay_different() -> None:
    labels = ["npg", "ppo", "trpo", "acer", "a2c"]
    looks = figures.looks(labels)
    shown = {label: terminal._rgb(looks[label].colour) for label in labels}
    for colour in shown.values():
        assert np.dot(colour, [0.299, 0.587, 0.114]) > 0.44 * 255
        assert 0 <= min(colour) <= max(colour) <= 255
    assert shown["ppo"] == (230, 159, 0)  # bright enough as it is
    assert shown["npg"][2] > 1.4 * shown["npg"][1] > 2 * shown["npg"][0]  # still blue
    assert len(set(shown.values())) == len(labels)


def test_a_terminal_shows_colours_and_as_many_panels_as_it_holds(folders: RunFolders) -> None:
    evaluation = {"points": 1, "episodes": 10, "seed": 0}
    for env_id in ("Acrobot-v1", "CartPole-v1", "Pendulum-v1"):
        folders.add("npg", env_id, evaluation=evaluation)
    view = runs.Watcher(folders.root).look()

    def lines(width: int, height: int | None) -> list[str]:
        console = Console(file=io.StringIO(), width=width, force_terminal=True)
        return [
            "".join(segment.text for segment in line)
            for line in console.render_lines(terminal.draw(view, width, height, True), pad=False)
        ]

    small = lines(70, 25)
    assert len(small) <= 25
    assert "not shown: Pendulum-v1 (choose with --env)" in small[-1]
    everything = lines(70, None)
    assert all(any(env_id in line for line in everything) for env_id in view.panels)
    assert max(map(len, everything)) <= 70
    assert "Acrobot-v1" in lines(130, 40)[0]
    assert "CartPole-v1" in lines(130, 40)[0]


def test_on_a_terminal_it_goes_on_until_interrupted(folders: RunFolders, tmp_path: Path) -> None:
    folders.add("npg", evaluation={"points": 1, "episodes": 10, "seed": 0})
    out = tmp_path / "curves.png"
    over = threading.Event()

    def interrupt_once_drawn() -> None:
        while not out.exists() and not over.is_set():
            over.wait(0.05)
        shutil.rmtree(folders.root)
        out.unlink()
        folders.add("ppo", evaluation={"points": 1, "episodes": 10, "seed": 0})
        while not out.exists() and not over.is_set():
            over.wait(0.05)
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C

    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=True)
    thread = threading.Thread(target=interrupt_once_drawn)
    # A shell's background jobs ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        watch_runs(folders.root, out=out, every=0.1, console=console)
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert 0 < shown.index("npg, 1 seed") < shown.index("ppo, 1 seed")
    assert out.exists()


def test_the_environment_can_be_chosen(folders: RunFolders) -> None:
    evaluation = {"points": 1, "episodes": 10, "seed": 0}
    folders.add("npg", "CartPole-v1", evaluation=evaluation)
    folders.add("npg", "ALE/Pong-v5", evaluation=evaluation)
    status, output = watch(folders.root, "--env", "ALE/Pong-v5")
    assert status == 0
    assert "ALE/Pong-v5" in output
    assert "CartPole-v1" not in output


def test_nothing_to_show_and_arguments_out_of_range(folders: RunFolders, tmp_path: Path) -> None:
    root = folders.root
    assert watch(root)[0] == 2
    folders.add("npg", evaluation={"points": 1, "episodes": 10, "seed": 0})
    for arguments, message in [
        ((tmp_path / "none",), "none: there is no such folder"),
        ((root, "--env", "Hopper-v5"), "no run of Hopper-v5 in it"),
        ((root, "--out", tmp_path / "a.svg"), "--out: must be a file that ends in .png, got '"),
        ((root, "--every", "0"), "--every: must be a positive number of seconds, got 0"),
    ]:
        status, output = watch(*arguments)
        assert status == 2
        assert message in output.replace("\n", "")
    assert not (tmp_path / "a.svg").exists()


def test_what_nothing_would_come_of_is_refused(folders: RunFolders) -> None:
    evaluation = {"points": 1, "episodes": 10, "seed": 0}
    folders.add("npg", evaluation=evaluation)
    result = CliRunner().invoke(app, ["watch", str(folders.root), "--once", "--every", "1"])
    assert result.exit_code == 2
    assert "error: --every: is of no use with --once" in result.stderr
    envs = ["--env", "CartPole-v1", "--env", "Gone-v0"]
    result = CliRunner().invoke(app, ["watch", str(folders.root), "--once", *envs])
    assert result.exit_code == 2
    assert "error: --env: 'Gone-v0': " in result.stderr
    folders.add("npg", suite="other", evaluation=evaluation)
    result = CliRunner().invoke(app, ["watch", str(folders.root), "--once", *envs[:2]])
    assert result.exit_code == 0, result.output
