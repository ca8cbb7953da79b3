"""CleanRL's event files, written by the writer that its scripts use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reports.data.readers.find import read
from reports.data.readers.logged import TRAINING
from tests.reports.data.readers.conftest import write_cleanrl

ARGUMENTS = {
    "exp_name": "ppo_continuous_action",
    "env_id": "Hopper-v4",
    "seed": 3,
    "learning_rate": 3e-4,
    "anneal_lr": True,
    "target_kl": None,
    "capture_video": False,
}
RETURNS = [float(value) for value in np.random.default_rng(0).integers(1, 500, 300)]


def test_the_arguments_say_what_a_run_is(tmp_path: Path) -> None:
    folder = tmp_path / "anything"
    write_cleanrl(folder, RETURNS, list(range(10, 3_010, 10)), **ARGUMENTS)

    (run,) = read(tmp_path).runs

    assert (run.format, run.path, run.algo) == ("cleanrl", folder, "ppo_continuous_action")
    assert (run.env_id, run.seed) == ("Hopper-v4", 3)
    assert run.hyperparams == ARGUMENTS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Hopper-v4__ppo_continuous_action__3__1670000000", ("ppo_continuous_action", "Hopper-v4")),
        ("dm_control-cheetah-run-v0__td3__3__1", ("td3", "dm_control-cheetah-run-v0")),
    ],
)
def test_without_arguments_its_name_says_it(
    name: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    write_cleanrl(tmp_path / name, [1.0], [1])

    (run,) = read(tmp_path).runs

    assert (run.algo, run.env_id) == expected
    assert run.seed == 3


def test_a_name_of_more_parts_says_nothing(tmp_path: Path) -> None:
    write_cleanrl(tmp_path / "a__b__ppo__3__1", [1.0], [1])

    (run,) = read(tmp_path).runs

    assert (run.algo, run.env_id, run.seed) == (None, None, None)


def test_training_is_the_mean_of_the_last_hundred_episodes(tmp_path: Path) -> None:
    steps = [10 * (i // 2) for i in range(300)]  # two environments, whose episodes end together
    write_cleanrl(tmp_path, RETURNS, steps, **ARGUMENTS)

    (run,) = read(tmp_path).runs

    training = run.metrics[TRAINING]
    assert training.timesteps.tolist() == list(range(0, 1_500, 10))
    expected = [np.mean(RETURNS[max(0, end - 100) : end]) for end in range(2, 301, 2)]
    np.testing.assert_allclose(training.values, expected, rtol=1e-12)
    np.testing.assert_allclose(training.lengths, 2 * training.values, rtol=1e-12)
    assert training.episodes.tolist() == [min(end, 100) for end in range(2, 301, 2)]
    assert np.all(np.diff(training.wall_seconds) >= 0)
    assert run.metrics["losses/value_loss"].values.tolist() == [0.5]
    assert run.problems == []


def test_a_resumed_run_is_joined_and_what_it_did_twice_is_said(tmp_path: Path) -> None:
    write_cleanrl(tmp_path, [1.0, 2.0, 3.0, 4.0], [10, 20, 30, 40], **ARGUMENTS)
    write_cleanrl(tmp_path, [5.0, 6.0], [25, 50], **ARGUMENTS)
    assert len(list(tmp_path.iterdir())) == 2

    (run,) = read(tmp_path).runs

    training = run.metrics[TRAINING]
    assert training.timesteps.tolist() == [10, 20, 25, 50]
    np.testing.assert_allclose(training.values, [1.0, 1.5, 8 / 3, 14 / 4])
    (problem,) = run.problems
    assert "resumed" in problem


def test_read_as_stable_baselines3_its_charts_have_their_own_names(tmp_path: Path) -> None:
    write_cleanrl(tmp_path, [1.0, 2.0], [10, 20], **ARGUMENTS)

    (run,) = read(tmp_path, form="sb3").runs

    assert run.metrics["charts/episodic_return"].values.tolist() == [1.0, 2.0]
    assert run.algo is None


def test_other_logs_are_not_cleanrl_s(sb3_run: Path) -> None:
    assert read(sb3_run / "progress.csv", form="cleanrl").runs == []
