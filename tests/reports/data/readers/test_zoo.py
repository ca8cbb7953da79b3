"""Logs of RL Baselines3 Zoo, from the program itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.monitor import load_results

from reports.data.readers.find import read
from reports.data.readers.logged import EVALUATION, TRAINING


@pytest.fixture
def logs(zoo_logs: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(zoo_logs / "ppo", tmp_path / "ppo")
    return tmp_path


def settings(logs: Path) -> Path:
    return logs / "ppo" / "CartPole-v1_1" / "CartPole-v1"


def test_a_run_of_the_zoo_says_what_it_is(zoo_logs: Path) -> None:
    (run,) = read(zoo_logs).runs

    assert (run.format, run.algo, run.env_id, run.seed) == ("zoo", "ppo", "CartPole-v1", 3)
    assert run.path == zoo_logs / "ppo" / "CartPole-v1_1"
    assert run.hyperparams["n_envs"] == 8
    assert run.hyperparams["learning_rate"] == "lin_0.001"
    assert run.problems == []


def test_its_evaluations_and_episodes_are_read(zoo_logs: Path) -> None:
    (run,) = read(zoo_logs).runs
    saved = np.load(run.path / "evaluations.npz")
    episodes = load_results(str(run.path))

    evaluation = run.metrics[EVALUATION]
    np.testing.assert_array_equal(evaluation.timesteps, saved["timesteps"])
    np.testing.assert_array_equal(evaluation.values, saved["results"].mean(axis=1))
    assert run.metrics[TRAINING].values[-1] == pytest.approx(episodes["r"].mean())
    assert run.metrics[TRAINING].episodes[-1] == len(episodes)


def test_the_folder_s_number_stands_for_a_seed_that_is_not_written(logs: Path) -> None:
    (settings(logs) / "args.yml").unlink()

    (run,) = read(logs).runs

    assert (run.algo, run.env_id, run.seed) == ("ppo", "CartPole-v1", 1)
    assert any("no args.yml says the seed; 1," in problem for problem in run.problems)


def test_without_settings_it_is_what_it_is_called(logs: Path) -> None:
    shutil.rmtree(settings(logs))

    (recognised,) = read(logs).runs
    (told,) = read(logs, form="zoo").runs

    assert (recognised.format, recognised.algo, recognised.seed) == ("sb3", None, None)
    assert (told.format, told.algo, told.env_id, told.seed) == ("zoo", "ppo", "CartPole-v1", 1)


def test_python_in_the_settings_is_not_executed(logs: Path) -> None:
    made = logs / "made"
    config = f"""!!python/object/apply:collections.OrderedDict
- - - evil
    - !!python/object/apply:os.mkdir [{str(made)!r}]
  - - activation_fn
    - !!python/name:torch.nn.modules.activation.ReLU ''
  - - train_freq
    - !!python/tuple [1, episode]
  - - nested
    - !!python/object/apply:collections.OrderedDict
      - - [gamma, 0.9]
"""
    (settings(logs) / "config.yml").write_text(config)

    (run,) = read(logs).runs

    assert run.hyperparams == {
        "evil": "!!python/object/apply:os.mkdir",
        "activation_fn": "!!python/name:torch.nn.modules.activation.ReLU",
        "train_freq": [1, "episode"],
        "nested": {"gamma": 0.9},
    }
    assert run.problems == []
    assert not made.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:collections.OrderedDict\n- - [1, 2]\n",
        "!!python/object/apply:collections.OrderedDict\n- - - [seed, 1]\n    - [seed, 2]\n",
        "!!python/object/apply:collections.OrderedDict {args: 1}\n",
        "seed: [",
        "[1, 2]",
        "a: &a [*a]",
        "x" * 2**19,
    ],
)
def test_settings_that_cannot_be_read_are_named(text: str, logs: Path) -> None:
    for name in ("args.yml", "config.yml"):
        (settings(logs) / name).write_text(text)

    (run,) = read(logs).runs

    assert run.metrics.keys() == {EVALUATION, TRAINING}
    assert (run.seed, run.hyperparams) == (1, {})
    for name in ("args.yml", "config.yml"):
        assert any(problem.startswith(str(settings(logs) / name)) for problem in run.problems)
