"""One run: what it writes, and that it can be repeated."""

import dataclasses
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from sb3_contrib import TRPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sb3_natural
from benchmarks.algorithms import algorithm_class
from benchmarks.normalisation import random_returns
from benchmarks.preflight import try_environment
from benchmarks.provenance import is_dirty
from benchmarks.records import Evaluation, RunSpec
from benchmarks.run import Progress, log_interval, run
from benchmarks.storage import remove_abandoned


def parameters(folder: Path, algo: str) -> dict[str, torch.Tensor]:
    return algorithm_class(algo).load(folder / "model.zip").policy.state_dict()


def test_a_finished_folder_holds_everything(make_spec, tmp_path: Path) -> None:
    spec = make_spec(normalize=True)

    folder = run(spec, tmp_path, "the command")

    assert folder == spec.folder(tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "evaluations.csv",
        "progress.csv",
        "model.zip",
        "vecnormalize.pkl",
        "events.out.tfevents",
        *(["uncommitted.diff"] if is_dirty() else []),
    }
    record = json.loads((folder / "run.json").read_text())
    assert record["format"] == 1
    assert record["spec"] == spec.to_dict()
    assert record["config"] == spec.config
    assert record["command"] == "the command"
    assert record["timesteps"] == 256
    assert record["wall_seconds"] > 0
    assert record["evaluation_seconds"] > 0
    assert set(record["versions"]) >= {"python", "torch", "sb3_natural", "mujoco"}
    assert set(record["machine"]) == {"system", "processor", "cores", "memory_gib"}
    progress = pd.read_csv(folder / "progress.csv")
    assert list(progress["time/total_timesteps"]) == [128, 256]
    events = EventAccumulator(str(folder / "events.out.tfevents")).Reload()
    assert [event.step for event in events.Scalars("time/fps")] == [128, 256]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_record_says_how_much_memory_its_process_has_held(make_spec, tmp_path: Path) -> None:
    folder = run(make_spec(), tmp_path, "a test")
    recorded = json.loads((folder / "run.json").read_text())["peak_memory_mib"]
    now = psutil.Process().memory_info().rss / 2**20
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert 0.8 * now <= recorded <= 1.01 * highest


def test_a_run_without_normalisation_has_no_statistics(make_spec, tmp_path: Path) -> None:
    assert not (run(make_spec(), tmp_path, "") / "vecnormalize.pkl").exists()


def test_evaluations_stand_at_the_scheduled_steps_and_the_last_step_is_there(
    make_spec, tmp_path: Path
) -> None:
    # 300 steps are two rollouts of 128 and a part of a third.
    folder = run(make_spec(n_timesteps=300, points=7), tmp_path, "")

    evaluations = pd.read_csv(folder / "evaluations.csv")
    assert list(evaluations["timesteps"]) == [0, 43, 86, 129, 171, 214, 257, 300]
    assert set(evaluations["episodes"]) == {3}
    assert evaluations["wall_seconds"].is_monotonic_increasing
    assert json.loads((folder / "run.json").read_text())["timesteps"] == 384


@pytest.mark.parametrize(
    ("algo", "env_id", "hyperparams"),
    [
        ("ppo", "CartPole-v1", {}),
        ("ppo", "Pendulum-v1", {"normalize": True, "use_sde": True, "sde_sample_freq": 4}),
        ("trpo", "Pendulum-v1", {"normalize": True}),
        ("npg", "Pendulum-v1", {"normalize": True, "sub_sampling_factor": 2}),
    ],
)
def test_evaluation_does_not_disturb_training(
    make_spec, tmp_path: Path, algo: str, env_id: str, hyperparams: dict[str, Any]
) -> None:
    folders = [
        run(make_spec(algo, env_id, points=points, **hyperparams), tmp_path, "")
        for points in (1, 9)
    ]

    first, second = (parameters(folder, algo) for folder in folders)
    assert folders[0] != folders[1]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_spec_gives_the_same_evaluations(make_spec, tmp_path: Path) -> None:
    spec = make_spec("npg", "Pendulum-v1", normalize=True)

    first, second = (
        pd.read_csv(run(spec, tmp_path / name, "") / "evaluations.csv") for name in "ab"
    )

    pd.testing.assert_frame_equal(
        first.drop(columns="wall_seconds"), second.drop(columns="wall_seconds"), check_exact=True
    )


def test_seeds_differ(make_spec, tmp_path: Path) -> None:
    first, second = (parameters(run(make_spec(seed=seed), tmp_path, ""), "ppo") for seed in (0, 1))

    assert not all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("algo", "cls", "tolerance"),
    [
        ("ppo", sb3_natural.PPO, 0.0),
        ("trpo", sb3_natural.TRPO, 0.0),
        ("ppo", PPO, 1e-4),
        ("trpo", TRPO, 1e-4),
    ],
)
def test_a_run_is_what_a_user_of_stable_baselines3_would_get(
    make_spec, tmp_path: Path, algo: str, cls: Callable[..., Any], tolerance: float
) -> None:
    """Bit for bit with our classes; with the originals, whose rollouts round otherwise, nearly."""
    folder = run(make_spec(algo, "Pendulum-v1", seed=3, normalize=True, gamma=0.9), tmp_path, "")

    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=3), gamma=0.9)
    model = cls(
        "MlpPolicy",
        env,
        gamma=0.9,
        n_steps=64,
        batch_size=32,
        policy_kwargs={"net_arch": [8]},
        device="cpu",
        seed=3,
    ).learn(256)

    ours = parameters(folder, algo)
    for name, value in model.policy.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance)
    statistics = VecNormalize.load(str(folder / "vecnormalize.pkl"), make_vec_env("Pendulum-v1"))
    assert statistics.obs_rms.mean == pytest.approx(env.obs_rms.mean, rel=tolerance, abs=tolerance)
    assert statistics.ret_rms.var == pytest.approx(env.ret_rms.var, rel=tolerance, abs=0)


def test_a_finished_run_is_left_as_it_is(make_spec, tmp_path: Path) -> None:
    spec = make_spec()
    record = spec.folder(tmp_path) / "run.json"
    record.parent.mkdir(parents=True)
    record.touch()

    assert list(run(spec, tmp_path, "").iterdir()) == [record]


def test_a_run_that_another_process_finished_first_is_discarded(make_spec, tmp_path: Path) -> None:
    spec = make_spec()
    folder = spec.folder(tmp_path)

    def finish_elsewhere(progress: Progress) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text("theirs")

    run(spec, tmp_path, "", finish_elsewhere)

    assert (folder / "run.json").read_text() == "theirs"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failing_run_leaves_nothing(make_spec, tmp_path: Path) -> None:
    spec = make_spec(env_id="tests.benchmarks.envs:Raising-v0")

    with pytest.raises(ValueError, match="the pole is gone"):
        run(spec, tmp_path, "")
    assert list(spec.folder(tmp_path).parent.iterdir()) == []


def test_only_temporary_folders_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = tmp_path / ".tmp-seed-0-aaaaaaaa-999999999"
    # As if the number had gone to another process since.
    older = tmp_path / f".tmp-seed-1-aaaaaaaa-{os.getpid()}"
    alive = tmp_path / f".tmp-seed-2-aaaaaaaa-{os.getpid()}"
    for folder in (dead, older, alive):
        folder.mkdir()
        (folder / "progress.csv").write_text("half a li")
    os.utime(older, (0, 0))

    remove_abandoned([tmp_path])

    assert list(tmp_path.iterdir()) == [alive]


@pytest.mark.parametrize("algo", ["a2c", "acer"])
def test_a_short_run_logs_every_update(make_spec, tmp_path: Path, algo: str) -> None:
    """SB3 has a row for every hundred of them, which would be one or two here."""
    protocol = Evaluation(points=1, episodes=1)
    spec = RunSpec("tiny", algo, "CartPole-v1", 0, 800, {"n_steps": 8}, protocol)

    progress = pd.read_csv(run(spec, tmp_path, "") / "progress.csv")

    assert list(progress["time/total_timesteps"]) == list(range(8, 801, 8))


@pytest.mark.parametrize(
    ("algo", "n_timesteps", "interval"),
    [
        (sb3_natural.A2C, 1_000, 1),
        (sb3_natural.A2C, 50_000, 62),  # 6,250 updates of 8 steps
        (sb3_natural.A2C, 1_000_000, 100),  # A2C's own
        (sb3_natural.PPO, 1_000_000, 1),
        (DQN, 1_000, 4),  # episodes
    ],
)
def test_there_are_a_hundred_rows_or_the_usual_number(
    algo: type[BaseAlgorithm], n_timesteps: int, interval: int
) -> None:
    arguments: dict[str, Any] = {} if algo is DQN else {"n_steps": 8}
    if algo is sb3_natural.PPO:
        arguments["batch_size"] = 8

    assert log_interval(algo("MlpPolicy", "CartPole-v1", **arguments), n_timesteps) == interval


def test_progress_is_reported(make_spec, tmp_path: Path) -> None:
    reports: list[Progress] = []

    folder = run(make_spec(), tmp_path, "", reports.append)

    evaluations = pd.read_csv(folder / "evaluations.csv")
    assert reports[0].timesteps == 0
    assert reports[0].return_mean == evaluations["return_mean"].iloc[0]


def test_episodes_of_an_evaluation_start_from_the_evaluation_seeds(
    make_spec, tmp_path: Path
) -> None:
    """The untrained policy's evaluation, made again by hand with Gymnasium."""
    spec = make_spec(seed=5)
    folder = run(spec, tmp_path, "")
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=2, seed=5),
        policy_kwargs={"net_arch": [8]},
        seed=5,
        device="cpu",
    )

    returns = []
    for episode in range(3):
        env = gym.make("CartPole-v1")
        observation, _ = env.reset(seed=77 + episode)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)

    first = pd.read_csv(folder / "evaluations.csv").iloc[0]
    assert first["return_mean"] == pytest.approx(np.mean(returns))
    assert first["return_std"] == pytest.approx(np.std(returns))
    assert first["length_mean"] == pytest.approx(np.mean(returns))


def test_a_run_is_kept_if_its_environments_cannot_be_closed(make_spec, tmp_path: Path) -> None:
    spec = make_spec(env_id="tests.benchmarks.envs:Unclosable-v0")

    with pytest.warns(UserWarning, match="close raised RuntimeError: the window is gone") as caught:
        folder = run(spec, tmp_path, "")

    assert len([each for each in caught if "the window is gone" in str(each.message)]) == 2
    assert len(pd.read_csv(folder / "evaluations.csv")) == 3
    assert (folder / "model.zip").exists()


def test_an_environment_that_cannot_be_closed_can_be_tried_and_measured() -> None:
    env_id = "tests.benchmarks.envs:Unclosable-v0"
    with pytest.warns(UserWarning, match="the window is gone"):
        try_environment(env_id, {"sutton_barto_reward": True}, [], "x.yaml: kwargs")
    with pytest.warns(UserWarning, match="the window is gone"):
        assert len(random_returns(env_id, 10)) == 10


def test_evaluations_end_though_episodes_do_not(make_spec, tmp_path: Path) -> None:
    spec = make_spec(env_id="tests.benchmarks.envs:Endless-v0")
    capped = dataclasses.replace(spec, evaluation=Evaluation(1, 2, 7, max_steps=40))

    with pytest.warns(UserWarning, match="evaluation: max_steps: an episode was cut after 40"):
        folder = run(capped, tmp_path, "")

    assert list(pd.read_csv(folder / "evaluations.csv")["length_mean"]) == [40, 40]
    assert RunSpec.from_dict(json.loads((folder / "run.json").read_text())["spec"]) == capped
    assert capped.config != spec.config
