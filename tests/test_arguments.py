"""Constructors refuse what they cannot use, by name, before anything else happens."""

import inspect
import math
import pathlib
import re
import types
import typing
from collections.abc import Callable
from typing import Literal

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import LinearSchedule

from sb3_natural import ACER, ACKTR, NPG
from sb3_natural.acer import ACERPolicy, MlpPolicy
from sb3_natural.arguments import DEVICE, at_least, between, check_argument, checked
from sb3_natural.curvature.solvers import SOLVERS, Identity
from sb3_natural.environments.envpool import EnvPoolVecEnv, make_vec_env

OWN = [
    (algorithm, name)
    for algorithm in (NPG, ACER, ACKTR)
    for name in list(inspect.signature(algorithm).parameters)
    if name != "env"
]


def allowed_types(algorithm, name):
    annotation = inspect.signature(algorithm).parameters[name].annotation
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if is_union else (annotation,)
    return {typing.get_origin(part) or part for part in parts}


def refuses(algorithm, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got ") as refusal:
        check_argument(algorithm, name, value)
    return str(refusal.value)


@pytest.mark.parametrize(("algorithm", "name"), OWN)
def test_values_of_another_type_are_refused_by_name(algorithm, name):
    taken = allowed_types(algorithm, name)
    others = {
        "number": (taken & {int, float, bool}, [3, np.int64(3)]),
        "fraction": (taken & {float}, [2.5, np.float32(2.5)]),
        "truth": (taken & {bool}, [True, np.bool_(True)]),
        "text": (taken & {str, Literal}, ["512", ""]),
        "nothing": (taken & {type(None)}, [None]),
        "list": (set(), [[], [1], (1, 2), np.ones(2), torch.ones(())]),
        "class": (taken & {type, Callable}, [int]),
        "mapping": (taken & {dict}, [{}]),
    }
    for kind, (allowed, values) in others.items():
        if kind == "number" and taken & {bool} and not taken & {int, float}:
            allowed = set()
        if not allowed:
            for value in values:
                refuses(algorithm, name, value)


@pytest.mark.parametrize(("algorithm", "name"), OWN)
def test_numbers_out_of_every_range_are_refused(algorithm, name):
    for value in (math.nan, np.float64(math.nan), -math.inf):
        refuses(algorithm, name, value)
    if name != "replay_start":  # whose range depends on the replay buffer
        refuses(algorithm, name, -7)
    if name not in ("correction_term", "max_grad_norm"):
        refuses(algorithm, name, math.inf)


@pytest.mark.parametrize(("algorithm", "name"), OWN)
def test_defaults_are_valid(algorithm, name):
    default = inspect.signature(algorithm).parameters[name].default
    if default is not inspect.Parameter.empty:
        check_argument(algorithm, name, default)


VALID = {
    NPG: dict(
        policy=["MlpPolicy", "CnnPolicy", MlpPolicy],
        learning_rate=[0, 1e-3, LinearSchedule(1e-3, 0.0, 1.0), lambda p: p],
        target_kl=[np.float32(0.02), 1, lambda p: 0.02 * p, None],
        step_size=[0.1, None],
        gamma=[0, 1, np.float64(0.9)],
        gae_lambda=[0.0, 1.0],
        fisher_solver=[*SOLVERS, Identity()],
        critic_solver=["cg", "diagonal", "dense", "identity", "kfac", Identity()],
        critic=["adam", "gauss_newton"],
        cg_tol=[0],
        cg_damping=[0.0],
        n_critic_updates=[None, 3],
        verbose=[0, 1, 2, True],
        sde_sample_freq=[-1, 4],
        device=["cpu", "auto", "cuda:1", torch.device("cpu")],
        tensorboard_log=[None, "logs", pathlib.Path("logs")],
        seed=[None, 0, 2**32 - 1, np.int64(3)],
        policy_kwargs=[{}, None],
    ),
    ACER: dict(
        policy=["MlpPolicy", ACERPolicy],
        delta=[0, np.float32(1)],
        n_steps=[1, np.int64(20), np.uint8(20)],
        correction_term=[math.inf, 1],
        max_grad_norm=[math.inf],
        replay_ratio=[0, 0.5, 10_000],
        trust_region=[True, np.bool_(False)],
        replay_batch_size=[None, 1],
    ),
    ACKTR: dict(
        learning_rate=[0, 0.25, LinearSchedule(0.25, 0.0, 1.0)],
        kfac_clip=[1e-4, np.float32(1)],
        kfac_update=[1, np.int64(10)],
        max_grad_norm=[math.inf],
    ),
}


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        (algorithm, name, value)
        for algorithm, named in VALID.items()
        for name, values in named.items()
        for value in values
    ],
)
def test_what_is_valid_is_taken(algorithm, name, value):
    check_argument(algorithm, name, value)


MESSAGES = [
    (NPG, "n_steps", 512.0, "n_steps must be an integer that is at least 1, got 512.0"),
    (NPG, "n_steps", 0, "n_steps must be at least 1, got 0"),
    (NPG, "gamma", 1.5, "gamma must be between 0 and 1, got 1.5"),
    (NPG, "gamma", np.float32(2), "gamma must be between 0 and 1, got 2.0"),
    (
        NPG,
        "target_kl",
        "lin_0.05",
        "target_kl must be a number that is positive and finite, or a schedule, or None, "
        "got 'lin_0.05'",
    ),
    (NPG, "target_kl", -1, "target_kl must be positive and finite, or a schedule, or None, got -1"),
    (NPG, "critic", "foo", "critic must be 'adam' or 'gauss_newton', or a ValueFit, got 'foo'"),
    (
        NPG,
        "fisher_solver",
        3,
        "fisher_solver must be a string that is one of cg, diagonal, empirical, dense, identity, "
        "kfac, or a Solver, got 3",
    ),
    (NPG, "line_search", "abc", "line_search must be True or False, got 'abc'"),
    (NPG, "seed", 2**32, "seed must be between 0 and 4294967295, or None, got 4294967296"),
    (NPG, "device", "cdua", r"device must be .*such as 'cpu' or 'cuda:0', got 'cdua'"),
    (
        ACER,
        "policy",
        dict,
        "policy must be a string, or a class derived from ACERPolicy, got dict",
    ),
    (ACER, "replay_ratio", 1e12, r"replay_ratio must be .*at most 10000, got 1000000000000\.0"),
    (ACKTR, "kfac_clip", 0, "kfac_clip must be positive and finite, got 0"),
    (ACKTR, "kfac_update", 0, "kfac_update must be at least 1, got 0"),
    (ACKTR, "kfac_decay", 1.0, "kfac_decay must be between 0 and 1, exclusive, got 1.0"),
    (ACER, "n_steps", list(range(99)), r"n_steps must be .*, got \[0, 1, .{85,95}\.\.\."),
]


@pytest.mark.parametrize(("algorithm", "name", "value", "message"), MESSAGES)
def test_messages_say_what_is_valid(algorithm, name, value, message):
    text = refuses(algorithm, name, value)
    assert re.fullmatch(message, text)


@pytest.mark.parametrize("algorithm", [NPG, ACER, ACKTR])
def test_nothing_is_made_before_the_check(algorithm):
    class NeverMade(gym.Env):
        def __init__(self):
            raise AssertionError("an environment was made")

    gym.register("NeverMade-v0", NeverMade)
    try:
        with pytest.raises(ValueError, match=r"stats_window_size must be .*, got '100'"):
            algorithm("MlpPolicy", "NeverMade-v0", stats_window_size="100")
        with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
            algorithm("MlpPolicy", "NeverMade-v0", 1e-3, 0)
    finally:
        del gym.registry["NeverMade-v0"]
    with pytest.raises(ValueError, match="env must be an environment or the id of one, got None"):
        algorithm("MlpPolicy", None)


@pytest.mark.parametrize("algorithm", [NPG, ACER, ACKTR])
def test_scalars_of_numpy_are_kept_as_pythons(algorithm):
    model = algorithm("MlpPolicy", "CartPole-v1", gamma=np.float32(0.5), n_steps=np.int64(32))
    assert (model.gamma, type(model.gamma)) == (0.5, float)
    assert (model.n_steps, type(model.n_steps)) == (32, int)


@pytest.mark.parametrize("algorithm", [NPG, ACER, ACKTR])
def test_derived_classes_are_checked_as_well(algorithm):
    class Derived(algorithm):
        def __init__(self, *args, tau=3, **kwargs):
            super().__init__(*args, **kwargs)

    with pytest.raises(ValueError, match="gamma must be between 0 and 1, got 2"):
        Derived("MlpPolicy", "CartPole-v1", gamma=2)
    model = Derived("MlpPolicy", "CartPole-v1", tau="anything")
    with pytest.raises(ValueError, match="gamma must be between 0 and 1, got nan"):
        check_argument(model, "gamma", math.nan)


def test_a_loaded_model_is_checked(tmp_path):
    NPG("MlpPolicy", "CartPole-v1", n_steps=32).save(tmp_path / "model")
    for name, value in dict(critic="sgd", gamma=2, line_search="yes", seed=-1).items():
        with pytest.raises(ValueError, match=f"{name} must be .*got {value!r}"):
            NPG.load(tmp_path / "model", **{name: value})


def test_signatures_stay_as_they_are_written():
    @checked(n=at_least(1), p=between(0, 1), device=DEVICE)
    def function(n: int, /, p: float = 0.5, *, device: str = "cpu", q=None) -> tuple:
        """What it does."""
        return n, p, device, q

    plain = inspect.unwrap(function)
    assert inspect.signature(function) == inspect.signature(plain)
    assert function.__doc__ == "What it does."
    assert function(2, 1, q=3) == (2, 1, "cpu", 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        function(1, m=2)
    with pytest.raises(ValueError, match="p must be between 0 and 1, got -1"):
        function(1, -1)


@pytest.mark.parametrize("backend", ["dummy", "subproc", "processes", "envpool"])
def test_vectorised_environments_name_the_argument(backend):
    for name, value in dict(n_envs=2.5, seed="0", env_kwargs=[], start_index=None).items():
        with pytest.raises(ValueError, match=f"^{name} must be .*, got {re.escape(repr(value))}"):
            make_vec_env("CartPole-v1", backend=backend, **{name: value})
    with pytest.raises(
        ValueError, match=r"^n_envs must be an integer that is at least 1, got 2\.0"
    ):
        EnvPoolVecEnv("CartPole-v1", 2.0)
    with pytest.raises(ValueError, match=r"^env_id must be a string, or a function, got 3"):
        make_vec_env(3, backend=backend)


def test_paths_are_as_good_as_their_names(tmp_path):
    model = NPG("MlpPolicy", "CartPole-v1", n_steps=32, tensorboard_log=tmp_path)
    model.learn(32)
    assert [path.name for path in tmp_path.iterdir()] == ["NPG_1"]
