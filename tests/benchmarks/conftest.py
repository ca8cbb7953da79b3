"""Small runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.records import Evaluation, RunSpec

# For those that need many runs rather than true ones.
from tests.reports.conftest import folders  # noqa: F401

MakeSpec = Callable[..., RunSpec]

SMALL = {"n_envs": 2, "n_steps": 64, "batch_size": 32, "policy_kwargs": "dict(net_arch=[8])"}


@pytest.fixture
def make_spec() -> MakeSpec:
    """A run of a second, whatever the algorithm."""

    def make(
        algo: str = "ppo",
        env_id: str = "CartPole-v1",
        seed: int = 0,
        n_timesteps: int = 256,
        points: int = 2,
        **hyperparams: Any,
    ) -> RunSpec:
        return RunSpec(
            "tiny", algo, env_id, seed, n_timesteps, SMALL | hyperparams, Evaluation(points, 3, 77)
        )

    return make


@pytest.fixture
def tiny_suite(tmp_path: Path) -> Path:
    """A suite of one environment, by its path."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "evaluation: {points: 2, episodes: 2, seed: 5}\n"
        "environments:\n  CartPole-v1: {n_timesteps: 512}\n"
    )
    return path


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write an algorithm's hyperparameter file in place of the one that is shipped."""

    def write(algo: str, text: str) -> Path:
        for folder in ("HYPERPARAMS", "PLUGIN_HYPERPARAMS"):
            monkeypatch.setattr(f"benchmarks.algorithms.{folder}", tmp_path)
        path = tmp_path / f"{algo}.yml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As in a worker; more only get in each other's way with networks of this size."""
    torch.set_num_threads(1)
