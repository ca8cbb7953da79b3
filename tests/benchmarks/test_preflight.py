"""Hyperparameters that a class refuses, found before anything runs."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import SpecError
from benchmarks.processes import call_in_fork
from benchmarks.records import RunSpec
from benchmarks.run import run
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from studies.definition import define
from studies.parameters import Parameter

SAC = "stable_baselines3:SAC"


@pytest.fixture
def planned(tmp_path: Path):
    """The runs of a sweep over two environments."""
    path = tmp_path / "two.yaml"
    path.write_text(
        "evaluation: {points: 1, episodes: 1}\nn_timesteps: 64\n"
        "environments: {CartPole-v1: , Pendulum-v1: }\n"
    )

    def planned(algo: str, env_id: str = "CartPole-v1", **overrides: Any) -> list[RunSpec]:
        return plan(load_suite(str(path)), [algo], [env_id], [3], overrides=overrides)

    return planned


@pytest.mark.parametrize("algo", ["npg", "trpo", "ppo", "acer", "nac", "a2c"])
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("device", "cdua", "cdua"),
        ("policy_kwargs", "dict(net_arh=[8])", "'net_arh'"),
        ("policy_kwargs", {"net_arch": [-3]}, "negative dimension"),
        ("policy_kwargs", "dict(features_extractor_class=nn.ReLU)", "features_dim"),
    ],
)
def test_what_every_class_refuses(planned, algo: str, key: str, value: Any, reason: str) -> None:
    with pytest.raises(SpecError, match=reason) as error:
        planned(algo, **{key: value})

    assert f"--set: {key}: {value!r} cannot be used by {algo} on CartPole-v1: " in str(error.value)


@pytest.mark.parametrize(
    ("algo", "env_id", "key", "value"),
    [
        ("npg", "CartPole-v1", "critic", "foo"),
        ("npg", "CartPole-v1", "fisher_solver", "foo"),
        ("ppo", "CartPole-v1", "use_sde", True),
        ("ppo", "CartPole-v1", "policy_kwargs", "dict(optimizer_kwargs=dict(momentun=1))"),
        ("ppo", "CartPole-v1", "n_steps", 10**13),
        ("acer", "CartPole-v1", "buffer_size", 10**14),
        (SAC, "Pendulum-v1", "replay_buffer_class", "HerReplayBuffer"),
        (SAC, "Pendulum-v1", "policy_kwargs", {"n_critics": "many"}),
        ("sb3_contrib:TQC", "Pendulum-v1", "top_quantiles_to_drop_per_net", None),
    ],
)
def test_what_one_class_refuses(planned, algo: str, env_id: str, key: str, value: Any) -> None:
    with pytest.raises(SpecError, match=rf"--set: {key}: "):
        planned(algo, env_id, **{key: value})


def test_the_file_is_named_where_the_value_stands_there(tmp_path: Path, planned) -> None:
    path = tmp_path / "own.yml"
    path.write_text("default: {critic: foo, gamma: 0.9}\n")
    suite = load_suite(str(tmp_path / "two.yaml"))

    with pytest.raises(SpecError) as error:
        plan(suite, ["npg"], ["CartPole-v1"], [0], files={"npg": path}, overrides={"gamma": 0.8})
    assert str(error.value).startswith(f"{path}: CartPole-v1: critic: 'foo' cannot be used by npg")


def test_a_class_that_cannot_do_the_task_is_said(planned) -> None:
    with pytest.raises(SpecError, match=f"--algos: cannot be used by {SAC} on CartPole-v1"):
        planned(SAC)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30, True])
def test_seeds_that_numpy_cannot_take(tmp_path: Path, planned, seed: int) -> None:
    with pytest.raises(SpecError, match="seed: must be"):
        plan(load_suite(str(tmp_path / "two.yaml")), ["ppo"], ["CartPole-v1"], [seed])


def test_a_rollout_of_one_step_is_fine_with_several_environments(planned) -> None:
    """PPO refuses one with one environment: the trial has as many as the run."""
    assert planned("ppo", n_steps=1, n_envs=8, batch_size=8)
    with pytest.raises(SpecError, match="n_steps: 1 cannot be used by ppo"):
        planned("ppo", n_steps=1, n_envs=1)


def test_trying_changes_nothing(planned) -> None:
    """Neither the generators that are seeded nor what was given, to which A2C adds."""
    random.seed(0)
    given = {"net_arch": [8]}

    (spec,) = planned("a2c", policy_kwargs=given)

    assert given == spec.hyperparams["policy_kwargs"] == {"net_arch": [8]}
    drawn = random.random()
    random.seed(0)
    assert drawn == random.random()


def test_a_run_does_not_change_its_hyperparameters_either(tmp_path: Path, planned) -> None:
    (spec,) = planned("a2c", policy_kwargs={"net_arch": [8]}, n_steps=8)

    folder = run(spec, tmp_path / "runs", "the command")

    assert folder == spec.folder(tmp_path / "runs")


@pytest.mark.parametrize("env", ["Unmakable-v0", "Exiting-v0", "Vanishing-v0"])
def test_an_environment_that_cannot_be_made_is_left_to_its_run(tmp_path: Path, env: str) -> None:
    path = tmp_path / "three.yaml"
    path.write_text(
        "evaluation: {points: 1, episodes: 1}\nn_timesteps: 64\n"
        f"environments: {{'tests.benchmarks.envs:{env}': , CartPole-v1: }}\n"
    )
    suite = load_suite(str(path))

    assert len(plan(suite, ["ppo"], [env.env_id for env in suite.envs], [0])) == 2
    with pytest.raises(SpecError, match="net_arh"):
        plan(
            suite,
            ["ppo"],
            [env.env_id for env in suite.envs],
            [0],
            overrides={"policy_kwargs": {"net_arh": [8]}},
        )


def test_what_hangs_is_given_up() -> None:
    def slow() -> int:
        time.sleep(60)
        return 1

    start = time.monotonic()
    assert call_in_fork(slow, seconds=0.2) is None
    assert time.monotonic() - start < 30
    assert call_in_fork(lambda: (1, "two")) == (1, "two")


def test_a_study_tries_the_ends_of_its_ranges() -> None:
    space = [Parameter("critic", "critic", "", choices=("adam", "gauss_newton", "foo"))]

    with pytest.raises(SpecError, match="critic: 'foo' cannot be used by npg on CartPole-v1"):
        define("npg", ["CartPole-v1"], 1, 1000, space)
