"""Logs of real trainings, each a few thousand steps, made once for all tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize
from torch.utils.tensorboard import SummaryWriter

N_ENVS = 4


class Succeeds(gym.Wrapper):
    """An episode of 30 steps or more is a success."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.n_steps = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.n_steps += 1
        info["is_success"] = self.n_steps >= 30
        return observation, reward, terminated, truncated, info


@pytest.fixture(scope="session")
def sb3_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every log that Stable-Baselines3 can write of one run."""
    folder = tmp_path_factory.mktemp("sb3") / "ppo" / "CartPole-v1_7"
    env = make_vec_env(
        "CartPole-v1", N_ENVS, seed=7, monitor_dir=str(folder), wrapper_class=Succeeds
    )
    model = PPO(
        "MlpPolicy",
        VecNormalize(env),
        n_steps=128,
        n_epochs=1,
        batch_size=256,
        policy_kwargs={"net_arch": [8]},
        seed=7,
        device="cpu",
    )
    model.set_logger(configure(str(folder), ["csv", "tensorboard"]))
    evaluated = VecNormalize(make_vec_env("CartPole-v1", seed=8, wrapper_class=Succeeds))
    evaluation = EvalCallback(
        evaluated, n_eval_episodes=3, eval_freq=256, log_path=str(folder), verbose=0
    )
    model.learn(4_096, callback=evaluation)
    env.close()
    return folder


@pytest.fixture(scope="session")
def zoo_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of logs of one run of RL Baselines3 Zoo."""
    pytest.importorskip("rl_zoo3", reason="RL Baselines3 Zoo is not installed")
    folder = tmp_path_factory.mktemp("zoo")
    arguments = (
        *("--algo", "ppo", "--env", "CartPole-v1", "--seed", "3", "-n", "512"),
        *("--eval-freq", "256", "--eval-episodes", "2", "--num-threads", "1"),
        *("--hyperparams", "policy_kwargs:dict(net_arch=[8])", "-f", str(folder)),
    )
    done = subprocess.run(
        [sys.executable, "-m", "rl_zoo3.train", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def write_cleanrl(folder: Path, returns: list[float], steps: list[int], **arguments: Any) -> None:
    """A run as CleanRL's scripts write it: ``charts/`` at the end of each episode."""
    writer = SummaryWriter(str(folder))
    table = "\n".join(f"|{key}|{value}|" for key, value in arguments.items())
    if arguments:
        writer.add_text("hyperparameters", f"|param|value|\n|-|-|\n{table}")
    for step, episode in zip(steps, returns, strict=True):
        writer.add_scalar("charts/episodic_return", episode, step)
        writer.add_scalar("charts/episodic_length", 2 * episode, step)
    writer.add_scalar("losses/value_loss", 0.5, steps[-1])
    writer.close()


def write_monitor(path: Path, episodes: list[tuple[float, int]], header: str | None = None) -> None:
    """A Monitor's file with these returns and lengths; an episode takes a second."""
    header = '#{"t_start": 100.0, "env_id": "Walker2d-v5"}\n' if header is None else header
    rows = [f"{ret},{length},{i + 1}.0\n" for i, (ret, length) in enumerate(episodes)]
    path.write_text(f"{header}r,l,t\n{''.join(rows)}")


def write_evaluations(path: Path, timesteps: list[int], results: np.ndarray, **more: Any) -> None:
    """An ``evaluations.npz`` as EvalCallback writes it."""
    np.savez(path, timesteps=timesteps, results=results, **more)


def write_appended(path: Path, env: gym.Env, n_episodes: int, seed: int) -> None:
    """Append the episodes of random actions to a Monitor's file, as a resumed run does."""
    monitored = Monitor(env, str(path), override_existing=not path.exists())
    for _ in range(n_episodes):
        monitored.reset(seed=seed)
        done = False
        while not done:
            _, _, terminated, truncated, _ = monitored.step(monitored.action_space.sample())
            done = terminated or truncated
    monitored.close()
