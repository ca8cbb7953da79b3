"""Environments as suites and hyperparameters describe them."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor

from benchmarks.environments import check_wrappers, is_atari, make_envs
from benchmarks.errors import SpecError
from benchmarks.records import Evaluation, RunSpec
from benchmarks.results import read_evaluations
from benchmarks.run import make_env, run
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from benchmarks.zoo import model_arguments

RESCALE = {"gymnasium.wrappers.RescaleAction": {"min_action": -0.5, "max_action": 0.25}}
TIME = "gymnasium.wrappers.TimeAwareObservation"
ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"


def test_a_suite_says_what_is_around_its_environments(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"n_timesteps: 100\nevaluation: {{points: 1}}\nwrappers: [{TIME}]\nenvironments:\n"
        "  Pendulum-v1: {kwargs: {g: 5.0}, frame_stack: 3}\n"
        f"  MountainCarContinuous-v0: {{wrappers: [{RESCALE}], n_timesteps: 50}}\n"
        "  CartPole-v1: {wrappers: []}\n"
    )

    specs = plan(load_suite(str(path)), ["ppo"], _ids(path), [0])

    assert [(spec.n_timesteps, spec.environment) for spec in specs] == [
        (100, {"kwargs": {"g": 5.0}, "frame_stack": 3, "wrappers": [TIME]}),
        (50, {"wrappers": [RESCALE]}),
        (100, {}),
    ]
    arguments = model_arguments("ppo", {}, "here")
    pendulum, car, _ = (make_env(spec, arguments, 2, 0) for spec in specs)
    assert pendulum.observation_space.shape == ((3 + 1) * 3,)
    assert pendulum.get_attr("unwrapped")[1].g == 5.0
    assert car.action_space.high == 0.25
    # The monitor is inside: an episode counts what the environment says, not what wrappers make.
    assert pendulum.env_is_wrapped(Monitor) == [
        True,
        True,
    ]


def _ids(path: Path) -> list[str]:
    return [env.env_id for env in load_suite(str(path)).envs]


def test_what_surrounds_an_environment_is_part_of_the_config(make_spec) -> None:
    spec = make_spec(env_id="Pendulum-v1")
    wrapped = RunSpec.from_dict({**spec.to_dict(), "environment": {"wrappers": [TIME]}})

    assert wrapped.config != spec.config
    assert RunSpec.from_dict(wrapped.to_dict()) == wrapped
    assert "environment" not in spec.to_dict()  # the names of plain runs stay what they were


def test_wrappers_of_hyperparameters_come_after_the_suites_and_none_twice() -> None:
    hyperparams = {"env_wrapper": [TIME, RESCALE], "frame_stack": 2}
    arguments = model_arguments("ppo", hyperparams, "here")
    spec = RunSpec(
        "s", "ppo", "Pendulum-v1", 0, 100, hyperparams, Evaluation(), {"wrappers": [TIME]}
    )

    env = make_env(spec, arguments, 1, 0)

    assert env.observation_space.shape == ((3 + 1) * 2,)  # the time is in it once
    assert env.action_space.high == 0.25


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        (TIME, "must be a list"),
        ([3], "must be a dotted path"),
        ([{TIME: {}, "x": {}}], "must be a dotted path"),
        ([{TIME: 3}], "must be a dotted path"),
        (["nowhere.Wrapper"], "'nowhere.Wrapper' cannot be imported"),
        (["gymnasium.wrappers.Nothing"], "cannot be imported"),
        (["TimeLimit"], "cannot be imported"),
        (["gymnasium.Env"], "is not a subclass of gymnasium.Wrapper"),
    ],
)
def test_wrappers_that_are_none_are_refused(wrappers: object, message: str) -> None:
    with pytest.raises(
        SpecError, match=rf"^here: wrappers: {message}|^here: wrappers: .*{message}"
    ):
        check_wrappers(wrappers, "here: wrappers")


def test_atari_games_are_known_and_take_the_entry_for_all_of_them() -> None:
    pytest.importorskip("ale_py")

    assert is_atari("ale_py:PongNoFrameskip-v4")
    assert not is_atari("CartPole-v1")
    suite = load_suite("atari")
    assert len(suite.envs) == 10
    for algo in ("npg", "trpo", "ppo", "a2c", "acer"):
        (spec,) = plan(suite, [algo], [suite.envs[0].env_id], [0])
        assert spec.hyperparams["policy"] == "CnnPolicy"
        assert spec.environment == {"wrappers": [ATARI], "frame_stack": 4}


def test_a_run_on_pixels_is_evaluated_on_pixels_with_the_games_own_score(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    game = "ale_py:PongNoFrameskip-v4"
    options = {"wrappers": [ATARI], "frame_stack": 4}
    hyperparams = {"policy": "CnnPolicy", "n_envs": 2, "n_steps": 32, "batch_size": 64}
    spec = RunSpec("s", "ppo", game, 0, 64, hyperparams, Evaluation(1, 1, 0), options)

    returns = read_evaluations(run(spec, tmp_path, ""))["return_mean"]

    assert make_envs(game, 1, 0, **options).observation_space.shape == (84, 84, 4)
    assert (returns == np.round(returns)).all()
    assert (returns <= -15).all()  # nothing is learned: up to 21 points lost


def test_nothing_is_simulated_for_pictures_that_nobody_makes() -> None:
    """LunarLander's particles: none here, and steps are those of SB3's environments with them."""
    ours, theirs = make_envs("LunarLander-v3", 2, 0), make_vec_env("LunarLander-v3", 2, seed=0)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for _ in range(150):
        actions = np.array([2, 1])  # both fire
        for own, expected in zip(ours.step(actions)[:3], theirs.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(own, expected)
    unwrapped = [envs.get_attr("unwrapped") for envs in (ours, theirs)]
    particles = [[len(env.particles) for env in envs] for envs in unwrapped]
    assert particles[0] == [0, 0]
    assert min(particles[1]) > 10
