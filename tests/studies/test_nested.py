"""Hyperparameters inside of others, lists and mappings as choices: from the file to the runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from stable_baselines3 import PPO
from torch import nn
from typer.testing import CliRunner

from benchmarks.errors import SpecError
from benchmarks.results import load_runs
from benchmarks.zoo import model_arguments
from studies import nested
from studies.__main__ import app
from studies.definition import define
from studies.objective import Problem
from studies.parameters import Parameter, decode, encode, with_values
from studies.search_spaces import default_value, read_space, space_for
from studies.storage import connect
from studies.study import completed, load, values_of
from tests.studies.conftest import CarryOn

TEXT = {"policy_kwargs": "dict(net_arch=dict(pi=[8], vf=[4]), activation_fn=nn.ReLU)"}


class UsersPPO(PPO):
    """A class that the suite has never heard of."""


def read(tmp_path: Path, text: str, algo: str = "ppo") -> Any:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(algo, path)


@pytest.mark.parametrize(
    ("hyperparams", "name", "value"),
    [
        ({"gamma": 0.9}, "gamma", 0.9),
        ({"gamma": 0.9}, "policy_kwargs.log_std_init", None),
        ({"policy_kwargs": {"net_arch": {"pi": [8]}}}, "policy_kwargs.net_arch.pi", [8]),
        ({"normalize": True}, "normalize.norm_reward", None),
        (TEXT, "policy_kwargs.net_arch", {"pi": [8], "vf": [4]}),
        (TEXT, "policy_kwargs.net_arch.vf", [4]),
        (TEXT, "policy_kwargs.activation_fn", "nn.ReLU"),
        (TEXT, "policy_kwargs.activation_fn.name", None),
        ({"policy_kwargs": "{'log_std_init': -2}"}, "policy_kwargs.log_std_init", -2),
    ],
)
def test_a_dotted_name_leads_into_mappings_and_into_the_zoos_texts(
    hyperparams: dict[str, Any], name: str, value: Any
) -> None:
    assert nested.get(hyperparams, name) == value


@pytest.mark.parametrize(
    ("hyperparams", "name", "value", "changed"),
    [
        ({}, "policy_kwargs.log_std_init", -1.5, {"policy_kwargs": {"log_std_init": -1.5}}),
        ({"normalize": True}, "normalize.gamma", 0.9, {"normalize": {"gamma": 0.9}}),
        (
            {"policy_kwargs": {"net_arch": [8], "ortho_init": False}},
            "policy_kwargs.net_arch",
            {"pi": [4]},
            {"policy_kwargs": {"net_arch": {"pi": [4]}, "ortho_init": False}},
        ),
        (
            TEXT,
            "policy_kwargs.log_std_init",
            -1.5,
            {
                "policy_kwargs": "dict(net_arch=dict(pi=[8], vf=[4]), activation_fn=nn.ReLU, "
                "log_std_init=-1.5)"
            },
        ),
        (
            TEXT,
            "policy_kwargs.net_arch.pi",
            [16, 16],
            {"policy_kwargs": "dict(net_arch=dict(pi=[16, 16], vf=[4]), activation_fn=nn.ReLU)"},
        ),
        (
            {"policy_kwargs": {"net_arch": [8]}},
            "policy_kwargs.activation_fn",
            "nn.Tanh",
            {"policy_kwargs": "{'net_arch': [8], 'activation_fn': nn.Tanh}"},
        ),
        (
            {},
            "policy_kwargs.activation_fn",
            "nn.Tanh",
            {"policy_kwargs": "dict(activation_fn=nn.Tanh)"},
        ),
        (
            {"policy_kwargs": "{'log_std_init': -2}"},
            "policy_kwargs.log_std_init",
            0.5,
            {"policy_kwargs": "{'log_std_init': 0.5}"},
        ),
    ],
)
def test_a_value_inside_is_replaced_and_what_is_around_it_stays(
    hyperparams: dict[str, Any], name: str, value: Any, changed: dict[str, Any]
) -> None:
    before = repr(hyperparams)

    assert nested.put(hyperparams, name, value) == changed

    assert nested.get(changed, name) == value
    assert repr(hyperparams) == before
    kwargs = model_arguments("ppo", changed, "here").constructor.get("policy_kwargs", {})
    assert kwargs.get("activation_fn") in (None, nn.ReLU, nn.Tanh)


@pytest.mark.parametrize("value", [[64, 64], {"pi": [64], "vf": []}, [], {}, [True, None, "a"]])
def test_lists_and_mappings_survive_the_way_through_optuna(value: Any) -> None:
    held = encode(value)

    assert isinstance(held, str)
    assert decode(held) == value
    trial = optuna.trial.FixedTrial({"x": held})
    assert decode(trial.suggest_categorical("x", (held, "other"))) == value


@pytest.mark.parametrize("value", [{1: 2}, [float("nan")], [nn.ReLU], nn.ReLU, 1j])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(SpecError, match="here: must be a number, a text, true, false, null, or a"):
        encode(value, "here")


@pytest.mark.parametrize(
    "held", [1, 0.5, True, None, "nn.ReLU", "lin_0.1", "[not json", "{'a': 1}"]
)
def test_single_values_are_as_they_are(held: Any) -> None:
    assert encode(held) is held
    assert decode(held) is held


def test_a_space_of_ones_own_reaches_into_the_policy(tmp_path: Path) -> None:
    space = read(
        tmp_path,
        "policy_kwargs.log_std_init: {low: -3, high: 0.5}\n"
        "policy_kwargs.net_arch: {choices: [[8], {pi: [4], vf: [8]}], default: [8]}\n"
        "policy_kwargs.activation_fn: {choices: [nn.ReLU, nn.Tanh]}\n"
        "clip_range_vf: {choices: [null, 0.2]}\n",
    )
    log_std, net_arch, activation, clip = space

    assert net_arch.choices == ("[8]", '{"pi": [4], "vf": [8]}')
    assert [Parameter.from_dict(each.to_dict()) for each in space] == list(space)
    # The hyperparameters come first, then what the policy's constructor has.
    assert default_value("ppo", log_std, {}) == 0.0
    assert default_value("ppo", log_std, {"policy_kwargs": "dict(log_std_init=-2)"}) == -2.0
    assert default_value("ppo", net_arch, {}) == [8]
    assert default_value("ppo", activation, {}) == "nn.Tanh"
    assert default_value("ppo", activation, TEXT) == "nn.ReLU"
    assert default_value("ppo", clip, {}) is None
    widened = net_arch.widened([default_value("ppo", net_arch, TEXT)])
    assert widened.choices == (*net_arch.choices, '{"pi": [8], "vf": [4]}')
    values = {log_std: -1.0, net_arch: {"pi": [4]}, activation: "nn.Tanh", clip: None}
    assert with_values(TEXT, values) == {
        "policy_kwargs": "dict(net_arch={'pi': [4]}, activation_fn=nn.Tanh, log_std_init=-1.0)",
        "clip_range_vf": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma.x: {low: 0.1, high: 1}", "gamma: must be a number, got {'x': 0.1}"),
        ("net_arch.pi: {choices: [[8], [16]]}", "net_arch: {'pi': [8]} is for a hyperparameter"),
        ("policy_kwargs.net_arch: {choices: [[8], [8]]}", "two or more different values"),
        (
            "policy_kwargs.net_arch: {choices: [2026-01-01, 8]}",
            "must be null, true, false, a number",
        ),
        ("policy_kwargs.net_arch: {choices: [{1: 2}, 8]}", "a key must be a string"),
        (
            "policy_kwargs: {choices: [{}, {net_arch: [8]}]}\n"
            "policy_kwargs.log_std_init: {low: -1, high: 0}",
            "policy_kwargs.log_std_init: is within policy_kwargs, which is given, too",
        ),
    ],
)
def test_a_nested_space_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as refusal:
        read(tmp_path, text)
    assert str(refusal.value).startswith(str(tmp_path / "space.yaml"))
    assert message in str(refusal.value)


def test_a_study_of_lists_and_of_the_policys_arguments(
    problem: Problem, carry_on: CarryOn, tmp_path: Path
) -> None:
    """What is stored, shown, drawn and handed on is what the runs had."""
    space = read(
        tmp_path,
        "policy_kwargs.net_arch: {choices: [[4], {pi: [8], vf: [4]}]}\n"
        "policy_kwargs.ortho_init: {choices: [true, false]}\n",
    )
    space = tuple(each.widened([[8], True][i : i + 1]) for i, each in enumerate(space))
    nested_problem = replace(problem, space=space, seeds=(1000,))
    study = carry_on(nested_problem, 4, sampler="random")

    trials = completed(study)
    assert load("mine", connect("", tmp_path / "mine"))[1] == nested_problem
    assert trials[0].params["policy_kwargs.net_arch"] == "[8]"
    specs = [nested_problem.specs("mine", values_of(nested_problem, each))[0] for each in trials]
    for spec, trial in zip(specs, trials, strict=True):
        made = model_arguments("ppo", spec.hyperparams, "").constructor["policy_kwargs"]
        net_arch = trial.params["policy_kwargs.net_arch"]
        assert made["net_arch"] == {"[8]": [8], "[4]": [4]}.get(net_arch, {"pi": [8], "vf": [4]})
        assert (spec.folder(tmp_path / "mine" / "runs") / "run.json").exists()

    for command in ("show", "plot", "best"):
        result = CliRunner().invoke(app, [command, "mine", "--root", str(tmp_path)])
        assert result.exit_code == 0, result.output
        if command != "plot":
            assert "[8]" in result.stdout or "[4]" in result.stdout or '{"pi"' in result.stdout
    result = CliRunner().invoke(app, ["best", "mine", "--yaml", "--root", str(tmp_path)])
    (entry,) = yaml.safe_load(result.stdout).values()
    entry.pop("n_timesteps")
    best = trials.index(max(trials, key=lambda trial: trial.values[0]))
    assert entry == specs[best].hyperparams


def test_a_class_of_ones_own_is_studied_by_its_path(
    carry_on: CarryOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{__name__}:UsersPPO"
    # As a kind of PPO it has PPO's ranges.
    assert space_for(path, ["epsilon"]) == space_for("ppo", ["epsilon"])
    space = read(
        tmp_path,
        "gae_lambda: {choices: [0.9, 0.95]}\npolicy_kwargs.log_std_init: {low: -1, high: 0}",
        path,
    )
    small = {"CartPole-v1": {"n_steps": 64, "batch_size": 32}}
    problem = replace(define(path, ["CartPole-v1"], 1, 64, space), hyperparams=small)

    study = carry_on(problem, 2, name="theirs", sampler="random")

    first, _ = completed(study)
    # The constructors' defaults.
    assert first.params == {"gae_lambda": 0.95, "policy_kwargs.log_std_init": 0.0}
    runs = load_runs(tmp_path / "theirs" / "runs")
    assert set(runs["algo"]) == {path}
    # To look at it, the class is not needed: what is stored of others is not imported.
    monkeypatch.delattr(f"{__name__}.UsersPPO")
    again, stored = load("theirs", connect("", tmp_path / "theirs"))
    assert stored.defaults() == [values_of(stored, completed(again)[0])]
    result = CliRunner().invoke(app, ["best", "theirs", "--yaml", "--root", str(tmp_path)])
    assert "log_std_init" in result.stdout, result.output


def test_a_class_that_nothing_is_known_of_needs_a_space(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--space: must be given, since no ranges are known for"):
        space_for("stable_baselines3:SAC")
    (tau,) = read(tmp_path, "tau: {low: 0.1, high: 1}", "stable_baselines3:SAC")
    assert tau.name == "tau"
