"""RL Zoo's hyperparameter format."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule

from benchmarks.algorithms import ALGORITHMS, hyperparams_file
from benchmarks.errors import SpecError
from benchmarks.safe_yaml import parse, read_mapping
from benchmarks.suite import load_suite, suite_names
from benchmarks.zoo import action_noise, hyperparams_for, model_arguments, parse_python

TD3, DDPG, SAC = (f"stable_baselines3:{name}" for name in ("TD3", "DDPG", "SAC"))


@pytest.mark.parametrize("suite", suite_names())
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_environment_of_every_suite_has_usable_hyperparameters(suite: str, algo: str) -> None:
    for env in load_suite(suite).envs:
        hyperparams = hyperparams_for(algo, env.env_id)
        assert model_arguments(algo, hyperparams, env.env_id).n_envs >= 1


def test_policy_kwargs_are_read_as_the_zoo_writes_them() -> None:
    text = """dict(
        log_std_init=-2,
        ortho_init=False,
        activation_fn=nn.ReLU,
        optimizer_class=th.optim.RMSprop,
        net_arch=dict(pi=[256, 256], vf=[256, 256])
    )"""

    assert parse_python(text, "here") == {
        "log_std_init": -2,
        "ortho_init": False,
        "activation_fn": torch.nn.ReLU,
        "optimizer_class": torch.optim.RMSprop,
        "net_arch": {"pi": [256, 256], "vf": [256, 256]},
    }


@pytest.mark.parametrize(("algo", "least"), [("a2c", 12), ("ppo", 12), ("trpo", 12), ("dqn", 5)])
def test_the_baselines_settings_are_those_of_the_installed_zoo(algo: str, least: int) -> None:
    """But for the tasks' versions, and for tasks of which the Zoo says nothing."""
    zoo = pytest.importorskip("rl_zoo3")
    theirs = read_mapping(Path(zoo.__file__).parent / "hyperparams" / f"{algo}.yml")
    ours = read_mapping(hyperparams_file(algo))
    by_task = {_task(name): _plain(settings) for name, settings in theirs.items()}
    compared = [name for name in ours if _task(name) in by_task]
    for name in compared:
        assert _plain(ours[name]) == by_task[_task(name)], name
    assert len(compared) >= least


def test_natural_dqn_differs_from_dqn_in_the_learning_rate_alone() -> None:
    theirs, ours = (read_mapping(hyperparams_file(algo)) for algo in ("dqn", "natural_dqn"))
    assert ours.keys() == theirs.keys()
    for name, settings in theirs.items():
        others = {key: value for key, value in settings.items() if key != "learning_rate"}
        assert ours[name] == others, name


def _task(env_id: str) -> str:
    return env_id.rsplit("-v", 1)[0]


def _plain(settings: dict) -> dict:
    """Python code without its line breaks."""
    return {
        key: "".join(value.split()) if isinstance(value, str) else value
        for key, value in settings.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "dict(a=print)",
        "dict(a=nn.functional.relu)",
        "dict(a=nn.Module.__subclasses__())",
        "dict(**{'a': 1})",
        "[x for x in range(3)]",
        "dict(a=1",
    ],
)
def test_python_that_is_not_plain_data_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"^ppo\.yml: X: policy_kwargs: cannot be read"):
        parse_python(text, "ppo.yml: X: policy_kwargs")


def test_a_linear_schedule_falls_from_its_value_to_zero() -> None:
    schedule = model_arguments("ppo", {"clip_range": "lin_0.4"}, "here").constructor["clip_range"]

    assert isinstance(schedule, LinearSchedule)
    assert [schedule(1.0), schedule(0.5), schedule(0.0)] == pytest.approx([0.4, 0.2, 0.0])


def test_normalisation_takes_the_discount_factor() -> None:
    hyperparams = {"normalize": "dict(norm_obs=False)", "gamma": 0.9}

    assert model_arguments("ppo", hyperparams, "here").normalize == {
        "norm_obs": False,
        "gamma": 0.9,
    }
    assert model_arguments("ppo", {"normalize": True}, "here").normalize == {}
    assert model_arguments("ppo", {"normalize": False}, "here").normalize is None


def test_an_environment_without_an_entry_takes_the_default(entries) -> None:
    entries("ppo", "default: {n_steps: 7}\nCartPole-v1: {n_steps: 5}\n")

    assert hyperparams_for("ppo", "CartPole-v1") == {"n_steps": 5}
    assert hyperparams_for("ppo", "Acrobot-v1") == {"n_steps": 7}


def test_an_entry_may_override_keys_of_another(entries) -> None:
    entries("ppo", "A: &a {n_steps: 7, gamma: 0.9}\nCartPole-v1:\n  <<: *a\n  gamma: 0.8\n")

    assert hyperparams_for("ppo", "CartPole-v1") == {"n_steps": 7, "gamma": 0.8}


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "!!float 1e-3", "0.001"])
def test_a_number_with_an_exponent_is_a_number(text: str) -> None:
    assert parse(text, "here") == 0.001


@pytest.mark.parametrize(
    ("algo", "line", "allowed"),
    [
        ("ppo", "n_step: 128", "n_steps"),
        ("ppo", "cg_damping: 0.1", "clip_range"),
        ("ppo", "seed: 3", "clip_range"),
        ("ppo", "n_steps: many", "an integer"),
        ("ppo", "n_steps: 12.5", "an integer"),
        ("ppo", "n_steps: true", "an integer"),
        ("ppo", "n_steps: 0", "positive"),
        ("ppo", "n_envs: -1", "positive"),
        ("ppo", "n_envs: 1.5", "an integer"),
        ("ppo", "n_timesteps: 0.5", "an integer"),
        ("ppo", "learning_rate: .nan", "finite"),
        ("ppo", "learning_rate: exp_0.1", "lin_0.001"),
        ("ppo", "learning_rate: lin_-1", "lin_0.001"),
        ("ppo", "gamma: 1.5", "at most 1"),
        ("ppo", "use_sde: 1", "true or false"),
        ("ppo", "policy: MlpLstmPolicy", "MlpPolicy"),
        ("ppo", "policy_kwargs: [1]", "a mapping"),
        ("ppo", "normalize: 3", "true, false"),
        ("ppo", "normalize: {norm_observations: true}", "norm_obs"),
        ("trpo", "target_kl: lin_0.1", "a number"),
        ("npg", "fisher_solver: 3", "a string"),
        ("ppo", "noise_type: normal", "clip_range"),
        (TD3, "noise_type: loud", "normal, ornstein-uhlenbeck"),
        (TD3, "noise_std: 0.1", "needs a noise_type"),
        (TD3, "replay_buffer_class: Buffer", "literals"),
    ],
)
def test_a_refusal_names_file_key_value_and_what_is_allowed(
    entries, algo: str, line: str, allowed: str
) -> None:
    path = entries(algo, f"CartPole-v1:\n  {line}\n")
    key, _, value = line.partition(": ")

    with pytest.raises(SpecError) as refusal:
        hyperparams_for(algo, "CartPole-v1", path)

    message = str(refusal.value)
    assert message.startswith(f"{path}: CartPole-v1: {key}: ")
    shown = value.strip("{}[]").rpartition(": ")[2].removeprefix(".")
    assert shown.lower() in message.lower()
    assert allowed in message


def test_a_key_given_twice_is_refused(entries) -> None:
    path = entries("ppo", "CartPole-v1:\n  gamma: 0.9\n  gamma: 0.8\n")

    with pytest.raises(SpecError, match="'gamma' is given twice") as refusal:
        hyperparams_for("ppo", "CartPole-v1")
    assert str(refusal.value).startswith(f"{path}: ")


def test_the_shipped_settings_make_the_networks_they_say() -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    arguments = model_arguments("ppo", hyperparams_for("ppo", "HalfCheetah-v5"), "here")
    env = make_vec_env("Pendulum-v1")
    assert isinstance(env.action_space, spaces.Box)

    policy = PPO(arguments.policy, env, **arguments.constructor).policy

    assert [layer.out_features for layer in policy.mlp_extractor.policy_net[::2]] == [256, 256]
    assert isinstance(policy.mlp_extractor.policy_net[1], torch.nn.ReLU)
    assert policy.log_std.item() == -2


@pytest.mark.parametrize(("algo", "n_unusable"), [(TD3, 0), (DDPG, 0), (SAC, 2)])
def test_the_zoos_own_files_for_off_policy_algorithms_are_read(algo: str, n_unusable: int) -> None:
    """But for those whose wrappers are not installed, or not where they were once."""
    zoo = pytest.importorskip("rl_zoo3")
    name = algo.partition(":")[2].lower()
    file = Path(zoo.__file__).parent / "hyperparams" / f"{name}.yml"
    refused = []
    for env_id, settings in read_mapping(file).items():
        try:
            arguments = model_arguments(algo, settings, env_id)
        except SpecError as error:
            refused.append(str(error))
            continue
        assert (arguments.noise is None) == (settings.get("noise_type") is None)
    assert len(refused) == n_unusable
    assert all(re.search("env_wrapper: .* cannot be imported", reason) for reason in refused)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("normal", NormalActionNoise), (" ornstein-uhlenbeck ", OrnsteinUhlenbeckActionNoise)],
)
def test_action_noise_is_the_zoos(kind: str, expected: type) -> None:
    settings = {"noise_type": kind, "noise_std": 0.25, "learning_rate": 1e-3}
    arguments = model_arguments(TD3, settings, "here")
    assert set(arguments.constructor) == {"learning_rate"}
    assert arguments.noise is not None
    space = spaces.Box(-1, 1, (3,))

    noise = action_noise(arguments.noise, space)

    assert type(noise) is expected
    np.random.seed(0)  # noqa: NPY002 (SB3's noise takes its numbers from there)
    ours = [noise() for _ in range(3)]
    np.random.seed(0)  # noqa: NPY002
    theirs = expected(mean=np.zeros(3), sigma=0.25 * np.ones(3))
    np.testing.assert_array_equal(ours, [theirs() for _ in range(3)])
    with pytest.raises(SpecError, match="is for continuous actions only, not Discrete"):
        action_noise(arguments.noise, spaces.Discrete(2))


def test_pairs_and_replay_buffers_are_read() -> None:
    settings = {
        "train_freq": [2, "episode"],
        "replay_buffer_class": "HerReplayBuffer",
        "replay_buffer_kwargs": "dict(n_sampled_goal=4)",
    }

    assert model_arguments(SAC, settings, "here").constructor == {
        "train_freq": (2, "episode"),
        "replay_buffer_class": HerReplayBuffer,
        "replay_buffer_kwargs": {"n_sampled_goal": 4},
    }


@pytest.mark.parametrize("value", [[1, "day"], [0, "step"], [1], [], [1, "step", 2], ["step"]])
def test_other_pairs_are_refused(value: list) -> None:
    with pytest.raises(SpecError) as refusal:
        model_arguments(TD3, {"train_freq": value}, "here")
    assert str(refusal.value) == (
        f"here: train_freq: must be an integer, or one with step or episode in a list, got {value}"
    )


def test_the_usual_policy_is_one_that_the_class_has() -> None:
    assert model_arguments("ppo", {}, "here").policy == "MlpPolicy"
    assert model_arguments("sb3_contrib:RecurrentPPO", {}, "here").policy == "MlpLstmPolicy"
    assert model_arguments("ppo", {"policy": "CnnPolicy"}, "here").policy == "CnnPolicy"
