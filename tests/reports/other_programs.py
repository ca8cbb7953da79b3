"""Logs of other programs, written as these write them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

EPISODES = 500


def zoo_run(
    logs: Path,
    algo: str = "ppo",
    env_id: str = "CartPole-v1",
    seed: int = 0,
    *,
    n_timesteps: int = 100_000,
    n_evaluations: int = 100,
    level: float = 0.0,
    hyperparams: Mapping[str, Any] | None = None,
) -> Path:
    """A run of the RL Zoo: evaluations that rise to about 500, and 500 episodes of training."""
    number = 1 + len(list((logs / algo).glob(f"{env_id}_*")))
    folder = logs / algo / f"{env_id}_{number}"
    settings = folder / env_id
    settings.mkdir(parents=True)
    rng = np.random.default_rng([seed, len(algo), len(env_id)])
    arguments = [["algo", algo], ["env", env_id], ["seed", seed], ["n_timesteps", n_timesteps]]
    chosen = dict(hyperparams or {"n_steps": 2048, "learning_rate": 3e-4})
    for name, pairs in (("args", arguments), ("config", [list(p) for p in chosen.items()])):
        tagged = [f"- !!python/tuple\n  - {key}\n  - {value}\n" for key, value in pairs]
        text = "!!python/object/apply:collections.OrderedDict\n- " + "  ".join(
            line + "\n" for entry in tagged for line in entry.splitlines()
        )
        (settings / f"{name}.yml").write_text(text)
        yaml.compose(text)  # it is YAML
    write_evaluations(folder, n_timesteps, n_evaluations, rng, level)
    write_monitor(folder, env_id, n_timesteps, rng, level)
    return folder


def write_evaluations(
    folder: Path, n_timesteps: int, n_evaluations: int, rng: np.random.Generator, level: float = 0.0
) -> np.ndarray:
    """``evaluations.npz``, five episodes each; their returns, ``(n_evaluations, 5)``."""
    steps = np.linspace(0, n_timesteps, n_evaluations + 1)[1:].astype(int)
    rise = 500 * (1 - np.exp(-3 * steps / steps[-1])) + level
    results = rise[:, None] + 10 * rng.normal(size=(n_evaluations, 5))
    lengths = np.full((n_evaluations, 5), 200)
    np.savez(folder / "evaluations.npz", timesteps=steps, results=results, ep_lengths=lengths)
    return results


def write_monitor(
    folder: Path, env_id: str, n_timesteps: int, rng: np.random.Generator, level: float = 0.0
) -> np.ndarray:
    """``0.monitor.csv`` with 500 episodes of one length; their returns."""
    length = n_timesteps // EPISODES
    returns = np.linspace(20, 480, EPISODES) + level + 10 * rng.normal(size=EPISODES)
    head = {"t_start": 1_700_000_000.0, "env_id": env_id}
    with (folder / "0.monitor.csv").open("w", newline="") as file:
        file.write(f"#{json.dumps(head)}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["r", "l", "t"])
        for i, value in enumerate(returns):
            writer.writerow([f"{value:.6f}", length, f"{0.1 * (i + 1):.3f}"])
    return np.round(returns, 6)


def cleanrl_run(
    runs: Path,
    env_id: str = "CartPole-v1",
    algo: str = "ppo",
    seed: int = 1,
    *,
    n_timesteps: int = 100_000,
    level: float = 0.0,
    **arguments: Any,
) -> np.ndarray:
    """A run of CleanRL: an event file of 200 episodes; their returns."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    settings = {"exp_name": algo, "env_id": env_id, "seed": seed, "num_envs": 4, **arguments}
    writer = SummaryWriter(str(runs / f"{env_id}__{algo}__{seed}__1700000000"))
    rows = "\n".join(f"|{key}|{value}|" for key, value in settings.items())
    writer.add_text("hyperparameters", f"|param|value|\n|-|-|\n{rows}")
    steps = np.linspace(0, n_timesteps, 201)[1:].astype(int)
    rng = np.random.default_rng(seed)
    returns = (np.linspace(20, 400, 200) + level + 10 * rng.normal(size=200)).astype(np.float32)
    for step, value in zip(steps, returns, strict=True):
        writer.add_scalar("charts/episodic_return", float(value), int(step))
        writer.add_scalar("losses/approx_kl", 0.01 + 0.001 * seed, int(step))
    writer.close()
    return returns.astype(float)
