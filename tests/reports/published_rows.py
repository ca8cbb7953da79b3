"""Published results made by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports.data import published, runs
from reports.data.published import BEST, FINAL, TRAINING
from tests.reports.conftest import RunFolders

COLUMNS = "source,algo,env_id,timesteps,mean,std,n_seeds,metric,kind,note"
GOOD = {
    "source": "own/repository results.md",
    "algo": "npg",
    "env_id": "CartPole-v1",
    "timesteps": "50000",
    "mean": "480.5",
    "std": "12.5",
    "n_seeds": "5",
    "metric": "last policy, 100 episodes",
    "kind": "final policy",
    "note": "",
}


def results(*rows: dict[str, Any]) -> pd.DataFrame:
    """Published results as ``load`` gives them, from what differs from ``GOOD``."""
    good = {**GOOD, "timesteps": 50_000.0, "mean": 480.5, "std": 12.5, "n_seeds": 5}
    return pd.DataFrame([{**good, **row} for row in rows], columns=COLUMNS.split(","))


def compared(folders: RunFolders, *rows: dict[str, Any]) -> pd.DataFrame:
    return published.for_runs(runs.load(folders.root), results(*rows))


def four_kinds(folders: RunFolders) -> pd.DataFrame:
    """Two algorithms of ours and a result of each kind."""
    folders.add("npg", seed=0, returns=[0.0, 600.0, 500.0], n_timesteps=1_000)
    folders.add("npg", seed=1, returns=[0.0, 620.0, 540.0], n_timesteps=1_000)
    folders.add("ppo", seed=0, returns=[0.0, 400.0, 300.0], n_timesteps=1_000)
    first = {"source": "owner/first-lab README.md", "metric": "highest, 10 seeds"}
    return compared(
        folders,
        {**first, "kind": BEST, "algo": "trpo", "mean": 580.25, "timesteps": 1_000.0},
        {**first, "kind": BEST, "algo": "a2c", "mean": 700.0, "timesteps": 9_000.0},
        {"kind": FINAL, "mean": 520.0, "timesteps": math.nan, "n_seeds": 1, "note": "a | b"},
        {"kind": TRAINING, "source": "A paper, 2017", "std": math.nan, "mean": 510.0},
    )


def shortfalls(folders: RunFolders) -> pd.DataFrame:
    """NPG and PPO on two environments; what has another algorithm, metric or budget is in it."""
    for seed, final in enumerate([390.0, 410.0]):
        folders.add("npg", seed=seed, returns=[0.0, 450.0, final])
    folders.add("ppo", seed=0, returns=[0.0, 100.0, 50.0])
    folders.add("ppo", "Pendulum-v1", seed=0, returns=[-1_500.0, -300.0])
    plain = {"metric": "p", "n_seeds": 10}
    return compared(
        folders,
        {**plain, "mean": 500.0},  # npg: 400, 20% lower
        {**plain, "kind": BEST, "mean": 450.0},  # npg: equal
        {**plain, "algo": "ppo", "mean": 200.0},  # ppo: 50, 75% lower
        {**plain, "algo": "ppo", "mean": 10.0, "timesteps": 100_000.0},  # another budget
        {**plain, "algo": "ppo", "kind": TRAINING, "mean": 300.0},  # none of ours
        {**plain, "algo": "a2c", "mean": 90.0},  # no such algorithm of ours
        {**plain, "algo": "ppo", "env_id": "Pendulum-v0", "mean": -200.0},  # ppo: -300, 50% lower
        {**plain, "algo": "ppo", "env_id": "Pendulum-v0", "mean": -600.0, "n_seeds": 1},
    )
