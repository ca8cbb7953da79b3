"""Stable-Baselines3's logs, against the same files read by other means."""

from __future__ import annotations

import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.atari_wrappers import MaxAndSkipEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import load_results
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reports.data.readers.find import read
from reports.data.readers.logged import EVALUATION, SUCCESS_RATE, TRAINING, LoggedRun, Series
from tests.reports.data.readers.conftest import N_ENVS, write_appended, write_monitor


def only(path: Path, **options: str) -> LoggedRun:
    found = read(path, **options)
    assert found.broken == []
    (run,) = found.runs
    return run


def part(source: Path, target: Path, pattern: str) -> LoggedRun:
    """The run of those of its logs that fit a pattern."""
    target.mkdir()
    for path in source.glob(pattern):
        shutil.copy(path, target)
    return only(target)


def test_a_run_is_read_with_what_its_logs_say_of_it(sb3_run: Path) -> None:
    run = only(sb3_run)

    assert (run.format, run.path, run.algo, run.seed) == ("sb3", sb3_run, None, None)
    assert run.env_id == "CartPole-v1"
    assert run.problems == []


def test_evaluations_are_those_of_the_callback(sb3_run: Path) -> None:
    metrics = only(sb3_run).metrics
    saved = np.load(sb3_run / "evaluations.npz")

    evaluation, success_rate = metrics[EVALUATION], metrics[SUCCESS_RATE]
    np.testing.assert_array_equal(evaluation.timesteps, saved["timesteps"])
    np.testing.assert_array_equal(evaluation.values, saved["results"].mean(axis=1))
    np.testing.assert_array_equal(evaluation.spread, saved["results"].std(axis=1))
    np.testing.assert_array_equal(evaluation.lengths, saved["ep_lengths"].mean(axis=1))
    np.testing.assert_array_equal(evaluation.episodes, np.full(4, 3))
    np.testing.assert_array_equal(success_rate.values, saved["successes"].mean(axis=1))
    # The file does not say when; the logger does.
    assert np.all(np.diff(evaluation.wall_seconds) > 0)


def test_training_is_the_same_from_monitor_csv_and_tensorboard(
    sb3_run: Path, tmp_path: Path
) -> None:
    """But for the float32 of TensorBoard; VecNormalize does not change what is read."""
    monitor = part(sb3_run, tmp_path / "monitor", "*.monitor.csv").metrics[TRAINING]
    logged = part(sb3_run, tmp_path / "csv", "progress.csv").metrics[TRAINING]
    charts = part(sb3_run, tmp_path / "tb", "*tfevents*").metrics[TRAINING]

    assert len(logged.timesteps) == 4_096 // (128 * N_ENVS)
    assert monitor.episodes[-1] == 100  # the window is full
    np.testing.assert_array_equal(charts.timesteps, logged.timesteps)
    np.testing.assert_allclose(charts.values, logged.values, rtol=1e-6)
    np.testing.assert_allclose(charts.lengths, logged.lengths, rtol=1e-6)
    latest = np.searchsorted(monitor.timesteps, logged.timesteps, side="right") - 1
    np.testing.assert_array_equal(monitor.values[latest], logged.values)
    np.testing.assert_array_equal(monitor.lengths[latest], logged.lengths)


def test_the_episodes_of_all_environments_are_one_training(sb3_run: Path) -> None:
    training = only(sb3_run).metrics[TRAINING]
    episodes = load_results(str(sb3_run))

    last = episodes["r"].to_numpy()[-100:]
    assert training.values[-1] == pytest.approx(last.mean())
    assert training.spread[-1] == pytest.approx(last.std())
    assert training.wall_seconds[-1] == pytest.approx(episodes["t"].max(), abs=1e-5)
    assert training.timesteps[-1] <= 4_096
    assert np.all(np.diff(training.timesteps) > 0)
    assert np.all(training.timesteps % N_ENVS == 0)


def test_every_numeric_column_is_a_metric(sb3_run: Path, tmp_path: Path) -> None:
    csv = part(sb3_run, tmp_path / "csv", "progress.csv").metrics
    charts = part(sb3_run, tmp_path / "tb", "*tfevents*").metrics
    written = pd.read_csv(sb3_run / "progress.csv")

    loss = written.dropna(subset=["train/value_loss"])
    series = csv["train/value_loss"]
    np.testing.assert_array_equal(series.timesteps, loss["time/total_timesteps"])
    np.testing.assert_allclose(series.values, loss["train/value_loss"], rtol=1e-15)
    np.testing.assert_allclose(csv[EVALUATION].values, only(sb3_run).metrics[EVALUATION].values)
    assert {"rollout/success_rate", "train/approx_kl", "time/fps"} <= csv.keys() & charts.keys()
    assert "time/total_timesteps" not in csv


def test_charts_are_those_that_tensorboard_shows(sb3_run: Path, tmp_path: Path) -> None:
    charts = part(sb3_run, tmp_path / "tb", "*tfevents*").metrics
    shown = EventAccumulator(str(tmp_path / "tb"))
    shown.Reload()

    for name, tag in [
        (TRAINING, "rollout/ep_rew_mean"),
        (EVALUATION, "eval/mean_reward"),
        (SUCCESS_RATE, "eval/success_rate"),
        ("train/loss", "train/loss"),
    ]:
        events = shown.Scalars(tag)
        assert charts[name].timesteps.tolist() == [event.step for event in events]
        assert charts[name].values.tolist() == [event.value for event in events]
        elapsed = [event.wall_time - shown.FirstEventTimestamp() for event in events]
        np.testing.assert_allclose(charts[name].wall_seconds, elapsed)


def test_the_logs_below_a_folder_are_the_same_run_s(sb3_run: Path, tmp_path: Path) -> None:
    """``PPO(..., tensorboard_log=folder)`` writes to a folder of its own."""
    logs = tmp_path / "logs"
    shutil.copytree(sb3_run, logs, ignore=shutil.ignore_patterns("*tfevents*", "progress.csv"))
    (logs / "PPO_1").mkdir()
    (events,) = sb3_run.glob("*tfevents*")
    shutil.copy(events, logs / "PPO_1")

    run = only(logs)

    assert {EVALUATION, TRAINING, "train/loss"} <= run.metrics.keys()
    shutil.copytree(logs / "PPO_1", logs / "PPO_2")
    assert [run.path.name for run in read(logs).runs] == ["logs", "PPO_1", "PPO_2"]


def test_a_log_beside_the_folders_of_runs_is_one_of_its_own(sb3_run: Path, tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 1)])
    for seed in "ab":
        (tmp_path / seed / "tb").mkdir(parents=True)
        shutil.copy(sb3_run / "0.monitor.csv", tmp_path / seed)
        shutil.copy(sb3_run / "progress.csv", tmp_path / seed / "tb")

    found = read(tmp_path)

    assert [run.path for run in found.runs] == [tmp_path, tmp_path / "a", tmp_path / "b"]
    assert "train/loss" in found.runs[1].metrics


def test_a_resumed_monitor_goes_on(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    path = tmp_path / "monitor.csv"
    for _ in range(2):
        write_appended(path, env, n_episodes=3, seed=0)
    rows = pd.read_csv(path, skiprows=1)

    training = only(path).metrics[TRAINING]

    assert len(rows) == 6
    np.testing.assert_array_equal(training.timesteps, rows["l"].cumsum())
    np.testing.assert_allclose(training.values, rows["r"].expanding().mean())


def test_the_clock_of_a_resumed_monitor_goes_on(tmp_path: Path) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 10), (2.0, 10)])
    with (tmp_path / "monitor.csv").open("a") as file:
        file.write("3.0,10,0.5\n4.0,10,3.0\n")

    assert only(tmp_path).metrics[TRAINING].wall_seconds.tolist() == [1.0, 2.0, 2.5, 5.0]


@pytest.mark.parametrize(
    ("header", "env_id"),
    [
        ('# {"gym_version": "0.5.6", "t_start": 3.0, "env_id": "Ant-v1"} \n', "Ant-v1"),
        ('#{"t_start": 3.0, "env_id": "None"}\n', None),
        ('#{"t_start": null}\n', None),
        ("#{\n", None),
        ("", None),
    ],
)
def test_headers_of_other_versions_are_read(
    header: str, env_id: str | None, tmp_path: Path
) -> None:
    write_monitor(tmp_path / "monitor.csv", [(1.0, 10), (3.0, 5)], header)

    run = only(tmp_path)

    assert run.env_id == env_id
    assert run.metrics[TRAINING].timesteps.tolist() == [10, 15]
    assert run.metrics[TRAINING].values.tolist() == [1.0, 2.0]


def test_monitors_with_names_are_a_run_each(tmp_path: Path) -> None:
    for seed in range(2):
        write_monitor(tmp_path / f"ppo_{seed}.monitor.csv", [(float(seed), 10)])
    write_monitor(tmp_path / "0.monitor.csv", [(5.0, 10)])

    found = read(tmp_path, pattern="{algo}_{seed}")

    named = {(run.algo, run.seed): run.metrics[TRAINING].values[0] for run in found.runs}
    assert named == {("ppo", 0): 0.0, ("ppo", 1): 1.0, (None, None): 5.0}


def test_one_monitor_with_a_name_is_its_folder_s(tmp_path: Path) -> None:
    write_monitor(tmp_path / "train.monitor.csv", [(1.0, 10)])
    assert only(tmp_path).path == tmp_path


def test_files_of_several_runs_are_not_taken_for_environments_of_one(tmp_path: Path) -> None:
    """``Monitor(env, f"{folder}/{seed}")`` writes such names too."""
    for seed in range(2):
        header = f'#{{"t_start": {1_000.0 * seed}, "env_id": "Ant-v5"}}\n'
        write_monitor(tmp_path / f"{seed}.monitor.csv", [(1.0, 10)] * 20, header)

    found = read(tmp_path)

    assert found.runs == []
    assert "a folder of its own" in found.broken[0]


def test_a_missing_environment_is_counted_and_said(tmp_path: Path) -> None:
    for number in (0, 2):
        write_monitor(tmp_path / f"{number}.monitor.csv", [(float(number), 10), (4.0, 6)])

    run = only(tmp_path)

    assert run.metrics[TRAINING].timesteps.tolist() == [30, 48]
    assert run.metrics[TRAINING].values.tolist() == [1.0, 2.5]
    assert "1 of 3 environments" in run.problems[0]


def test_one_huge_return_does_not_spoil_the_means_after_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    returns = [*rng.normal(size=20), -1e15, *rng.normal(size=200)]
    write_monitor(tmp_path / "monitor.csv", [(value, 10) for value in returns])

    training: Series = only(tmp_path).metrics[TRAINING]

    last = np.array(returns[-100:])
    assert training.values[-1] == pytest.approx(last.mean(), rel=1e-12)
    assert training.spread[-1] == pytest.approx(last.std(), rel=1e-12)


def test_a_monitor_that_counts_frames_is_found(tmp_path: Path) -> None:
    """As with ``make_atari_env``, where frames are skipped above the Monitor."""
    env = make_vec_env(
        "CartPole-v1",
        monitor_dir=str(tmp_path),
        wrapper_class=MaxAndSkipEnv,
        wrapper_kwargs={"skip": 4},
    )
    model = PPO("MlpPolicy", env, n_steps=64, n_epochs=1, batch_size=64, device="cpu")
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(192)

    run = only(tmp_path)

    written = pd.read_csv(tmp_path / "progress.csv").dropna(subset=["rollout/ep_rew_mean"])
    training = run.metrics[TRAINING]
    np.testing.assert_array_equal(training.timesteps, written["time/total_timesteps"])
    np.testing.assert_allclose(training.values, written["rollout/ep_rew_mean"])
    (problem,) = run.problems
    assert "skipped frames" in problem
