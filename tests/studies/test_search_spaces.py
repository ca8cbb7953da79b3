"""What is tuned: the parameters, their ranges, and what becomes of hyperparameters."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from benchmarks.algorithms import algorithm_class, parameters_of
from benchmarks.errors import SpecError
from benchmarks.zoo import model_arguments
from sb3_natural.nac import nac
from sb3_natural.npg.npg import DEFAULT_TARGET_KL
from studies.parameters import Parameter, suggest, with_values
from studies.search_spaces import SPACES, default_value, read_space, space_for

ALL = [
    pytest.param(algo, parameter, id=f"{algo}-{parameter.name}")
    for algo, space in SPACES.items()
    for parameter in space
]
# NPG takes one of these two; left to its constructor, both are None.
SIZES_OF_AN_UPDATE = {
    ("npg", "target_kl"): DEFAULT_TARGET_KL(1.0),
    ("npg", "step_size"): 0.05,
    ("recurrent_npg", "target_kl"): DEFAULT_TARGET_KL(1.0),
    ("recurrent_npg", "step_size"): 0.05,
    ("nac", "target_kl"): nac.DEFAULT_TARGET_KL,
    ("nac", "step_size"): 0.05,
}

WriteSpace = Callable[[str], Path]


def named(algo: str, name: str) -> Parameter:
    return next(parameter for parameter in SPACES[algo] if parameter.name == name)


def names(space: tuple[Parameter, ...]) -> list[str]:
    return [parameter.name for parameter in space]


@pytest.fixture
def write(tmp_path: Path) -> WriteSpace:
    """Write a space of one's own."""

    def write_space(text: str) -> Path:
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return path

    return write_space


@pytest.mark.parametrize(("algo", "parameter"), ALL)
def test_without_hyperparameters_the_default_is_what_the_algorithm_takes(
    algo: str, parameter: Parameter
) -> None:
    constructors = parameters_of(algorithm_class(algo))[parameter.name].default

    default = default_value(algo, parameter, {})

    assert default == SIZES_OF_AN_UPDATE.get((algo, parameter.name), constructors)
    assert parameter.widened([default]) == parameter


@pytest.mark.parametrize(("algo", "parameter"), ALL)
def test_the_algorithm_accepts_the_ends_of_every_range_and_every_choice(
    algo: str, parameter: Parameter
) -> None:
    for value in parameter.choices or (parameter.low, parameter.high):
        arguments = model_arguments(algo, with_values({}, {parameter: value}), "here")
        given = arguments.constructor[parameter.name]
        assert list(arguments.constructor) == [parameter.name]
        assert (given(1.0) if callable(given) else given) == value


@pytest.mark.parametrize(("algo", "parameter"), ALL)
def test_a_parameter_survives_the_way_through_json(algo: str, parameter: Parameter) -> None:
    assert Parameter.from_dict(json.loads(json.dumps(parameter.to_dict()))) == parameter


def test_the_parameters_of_an_algorithm_have_names_and_symbols_of_their_own() -> None:
    for space in SPACES.values():
        words = [word for each in space for word in {each.name, each.symbol}]
        assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("algo", "own"),
    [
        ("npg", ["target_kl"]),
        ("recurrent_npg", ["target_kl"]),
        ("trpo", ["target_kl"]),
        ("ppo", ["clip_range"]),
        ("acer", ["correction_term", "delta"]),
        ("nac", ["target_kl"]),
        ("a2c", ["learning_rate"]),
        ("acktr", ["kfac_clip"]),
        ("dqn", ["learning_rate"]),
        ("natural_dqn", ["learning_rate", "max_q_change"]),
    ],
)
def test_an_algorithms_own_parameters_are_tuned_unless_others_are_named(
    algo: str, own: list[str]
) -> None:
    assert names(space_for(algo)) == own


def test_extended_takes_all_parameters_that_do_not_exclude_others() -> None:
    assert names(space_for("npg", extended=True)) == [
        "target_kl",
        "cg_damping",
        "gae_lambda",
        "gamma",
    ]
    for algo in ("trpo", "ppo", "acer", "a2c", "acktr", "dqn", "natural_dqn"):
        assert space_for(algo, extended=True) == SPACES[algo]


def test_parameters_are_chosen_by_name_and_by_symbol_in_the_order_given() -> None:
    assert names(space_for("npg", ["lambda", "target_kl"])) == ["gae_lambda", "target_kl"]
    assert names(space_for("npg", ["gae_lambda", "delta"])) == ["gae_lambda", "target_kl"]
    assert names(space_for("ppo", ["n_epochs"], extended=True)) == ["n_epochs"]


def test_an_unknown_parameter_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SpecError) as refusal:
        space_for("ppo", ["epsilon", "delta"])

    assert str(refusal.value) == (
        "--params: 'delta' is not one of ppo's parameters clip_range (epsilon), learning_rate, "
        "n_epochs, gae_lambda (lambda), gamma"
    )


def test_a_parameter_given_by_its_name_and_its_symbol_is_refused() -> None:
    with pytest.raises(SpecError, match="--params: 'delta' is given twice"):
        space_for("trpo", ["target_kl", "delta"])


def test_an_algorithm_without_a_space_is_refused() -> None:
    with pytest.raises(SpecError, match="--algo: 'sac' is not one of npg, trpo, ppo, "):
        space_for("sac")


def test_distributions_are_what_the_parameters_say() -> None:
    assert named("npg", "target_kl").distribution == FloatDistribution(1e-3, 0.5, log=True)
    assert named("npg", "gae_lambda").distribution == FloatDistribution(0.8, 1.0)
    assert named("ppo", "n_epochs").distribution == IntDistribution(1, 20)
    gamma = CategoricalDistribution((0.98, 0.99, 0.995, 0.999))
    assert named("ppo", "gamma").distribution == gamma


def test_a_space_of_ones_own_has_ranges_integers_and_choices(write: WriteSpace) -> None:
    path = write(
        "gamma: {low: 0.9, high: 1.0}\n"
        "learning_rate: {low: 1e-5, high: 1e-3, log: true}\n"
        "n_epochs: {low: 1, high: 64, integer: true, log: true}\n"
        "batch_size: {choices: [32, 64], symbol: B, meaning: transitions of a step}\n"
        "ent_coef: {low: 0, high: 0.1, default: 0.03}\n"
    )

    space = read_space("ppo", path)

    assert names(space) == ["gamma", "learning_rate", "n_epochs", "batch_size", "ent_coef"]
    assert [parameter.distribution for parameter in space] == [
        FloatDistribution(0.9, 1.0),
        FloatDistribution(1e-5, 1e-3, log=True),
        IntDistribution(1, 64, log=True),
        CategoricalDistribution((32, 64)),
        FloatDistribution(0, 0.1),
    ]
    assert space[3].symbol == "B"
    assert str(space[3]) == "batch_size (B)"
    assert space[3].meaning == "transitions of a step"
    assert space[4].default == 0.03
    assert not any(parameter.extended for parameter in space)


def test_a_space_of_ones_own_keeps_what_is_known_of_a_parameter(write: WriteSpace) -> None:
    path = write("step_size: {choices: [0.1, 0.2]}\ntarget_kl: {low: 0.2, high: 0.3}\n")

    step_size, delta = read_space("npg", path)

    assert step_size.meaning == named("npg", "step_size").meaning
    assert (step_size.excludes, step_size.default) == ("target_kl", 0.05)
    assert (step_size.low, step_size.high, step_size.log) == (0.0, 0.0, False)
    assert (delta.symbol, delta.default) == ("delta", "lin_0.04")
    assert (delta.low, delta.high, delta.log) == (0.2, 0.3, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "gamma: {low: 0.9, high: 1, step: 0.1}",
            "gamma: step: 0.1 is for an unknown key; allowed are low, high, log, integer, "
            "choices, default, symbol, meaning",
        ),
        ("gamma: {low: 1, high: 0.9}", "gamma: low: must be below high, got 1 and 0.9"),
        ("gamma: {low: 1, high: 1}", "gamma: low: must be below high, got 1 and 1"),
        ("gamma: {low: .nan, high: 1}", "gamma: low: must be a finite number, got nan"),
        ("gamma: {high: 1}", "gamma: low: must be a finite number, got None"),
        ("gamma: {low: 0.9, high: true}", "gamma: high: must be a finite number, got True"),
        ("gamma: {low: 0.9, high: 1, log: 2}", "gamma: log: must be true or false, got 2"),
        (
            "n_steps: {low: 1, high: 9, integer: yes please}",
            "n_steps: integer: must be true or false, got 'yes please'",
        ),
        (
            "ent_coef: {low: 0, high: 0.1, log: true}",
            "ent_coef: low: must be positive on a logarithmic range, got 0",
        ),
        (
            "n_epochs: {low: 1.5, high: 4, integer: true}",
            "n_epochs: integer: low and high must be integers, got 1.5 and 4",
        ),
        (
            "n_steps: {choices: [32, 64], low: 1, log: true}",
            "n_steps: choices: exclude low, log",
        ),
        (
            "n_steps: {choices: 64}",
            "n_steps: choices: must be a list of two or more different values, got 64",
        ),
        (
            "n_steps: {choices: [64]}",
            "n_steps: choices: must be a list of two or more different values, got [64]",
        ),
        (
            "n_steps: {choices: [64, [1]]}",
            "n_steps: must be an integer, got [1]",
        ),
        (
            "gamma: 0.9",
            "gamma: must be a mapping such as {low: 0.1, high: 1}, got 0.9",
        ),
        ("target_klo: {low: 0.1, high: 1}", "target_klo: 0.1 is for a hyperparameter that ppo"),
        ("gamma: {low: 0.9, high: 1.1}", "gamma: must be at most 1, got 1.1"),
        ("clip_range: {low: 0, high: 1}", "clip_range: must be positive, got 0"),
        ("n_steps: {choices: [64, many]}", "n_steps: must be an integer, got 'many'"),
        ("n_steps: {choices: [64, 64]}", "choices: must be a list of two or more different values"),
        (
            "n_steps: {low: 64, high: .inf, integer: true}",
            "n_steps: high: must be a finite number, got inf",
        ),
        (
            "gamma: {low: 0.9, high: 1, default: high}",
            "gamma: default: must be a number, got 'high'",
        ),
        ("gamma: {low: 0.9, high: 1, default: 2}", "gamma: must be at most 1, got 2"),
        ("n_timesteps: {low: 1, high: 2}", "n_timesteps: is the same for all trials; use --steps"),
        ("", "must be a mapping, got None"),
        ("{}", "must name at least one parameter"),
        ("[gamma]", "must be a mapping, got ['gamma']"),
        (
            "{gamma: {low: 0.9, high: 1}, gamma: {low: 0.8, high: 1}}",
            "'gamma' is given twice",
        ),
    ],
)
def test_a_space_that_is_wrong_is_refused_with_file_key_and_value(
    write: WriteSpace, text: str, message: str
) -> None:
    path = write(text + "\n")

    with pytest.raises(SpecError, match=re.escape(message)) as refusal:
        read_space("ppo", path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_fractions_for_an_argument_that_takes_integers_are_refused(write: WriteSpace) -> None:
    """The ends would do, what lies between them would not."""
    path = write("n_steps: {low: 64, high: 128}\n")

    with pytest.raises(SpecError, match="n_steps: must be an integer"):
        read_space("ppo", path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: No such file"):
        read_space("ppo", tmp_path / "none.yaml")


def test_the_default_comes_from_the_hyperparameters_then_the_constructor() -> None:
    delta = named("trpo", "target_kl")

    assert default_value("trpo", delta, {"target_kl": 0.04, "gamma": 0.9}) == 0.04
    assert default_value("trpo", delta, {"gamma": 0.9}) == 0.01
    assert default_value("trpo", named("trpo", "gamma"), {"gamma": 0.9}) == 0.9


def test_the_default_of_a_schedule_is_its_start() -> None:
    default = default_value("npg", named("npg", "target_kl"), {"target_kl": "lin_0.1"})

    assert default == 0.1


def test_the_parameters_own_default_counts_last() -> None:
    parameter = Parameter("target_kl", "kl", "", 0.01, 1.0, default=0.3)

    assert default_value("ppo", parameter, {}) == 0.3
    assert default_value("ppo", parameter, {"target_kl": 0.2}) == 0.2
    assert default_value("trpo", parameter, {}) == 0.01


def test_the_default_of_a_range_is_what_optuna_stores_of_it() -> None:
    default = default_value("acer", named("acer", "delta"), {"delta": 1})

    assert default == 1
    assert isinstance(default, float)


def test_the_default_of_an_integer_is_one() -> None:
    default = default_value("ppo", named("ppo", "n_epochs"), {"n_epochs": 5.0})

    assert default == 5
    assert isinstance(default, int)


def test_a_parameter_without_any_default_is_refused() -> None:
    parameter = Parameter("target_kl", "kl", "", 0.01, 1.0)

    with pytest.raises(SpecError, match="target_kl: has no default; a space of your own can give"):
        default_value("ppo", parameter, {})


def test_a_range_is_widened_to_values_outside_of_it() -> None:
    clip_range = named("ppo", "clip_range")

    assert clip_range.widened([0.2, 0.3]) == clip_range
    wider = clip_range.widened([0.01, 0.9])
    assert (wider.low, wider.high) == (0.01, 0.9)
    assert wider.distribution == FloatDistribution(0.01, 0.9, log=True)


def test_an_integer_range_stays_one_when_it_is_widened() -> None:
    wider = named("ppo", "n_epochs").widened([30])

    assert wider.distribution == IntDistribution(1, 30)


def test_a_logarithmic_range_can_be_widened_to_zero() -> None:
    """As for ACER's entropy on Pendulum-v1; logarithmic it cannot be then."""
    wider = named("acer", "ent_coef").widened([0.0])

    assert wider.distribution == FloatDistribution(0.0, 0.1)


def test_choices_are_completed_with_values_that_are_not_among_them() -> None:
    gamma = named("ppo", "gamma")

    assert gamma.widened([0.99]) == gamma
    assert gamma.widened([0.9, 0.99, 0.9]).choices == (0.98, 0.99, 0.995, 0.999, 0.9)


def test_a_schedule_stays_a_schedule() -> None:
    hyperparams = {"target_kl": "lin_0.1", "gamma": 0.9}

    tuned = with_values(hyperparams, {named("npg", "target_kl"): 1e-05})

    assert tuned == {"target_kl": "lin_1e-05", "gamma": 0.9}
    schedule = model_arguments("npg", tuned, "here").constructor["target_kl"]
    assert schedule(1.0) == 1e-05
    assert schedule(0.5) == 5e-06


def test_other_values_replace_what_is_there_or_are_added() -> None:
    delta, gamma = named("npg", "target_kl"), named("npg", "gamma")

    assert with_values({"target_kl": 0.1, "n_envs": 4}, {delta: 0.2, gamma: 0.98}) == {
        "target_kl": 0.2,
        "n_envs": 4,
        "gamma": 0.98,
    }
    assert with_values({"target_kl": 0.1}, {}) == {"target_kl": 0.1}


def test_a_choice_that_is_a_text_replaces_a_schedule() -> None:
    parameter = Parameter("learning_rate", "lr", "", choices=("lin_0.1", 0.2))

    assert with_values({"learning_rate": "lin_0.3"}, {parameter: "lin_0.1"}) == {
        "learning_rate": "lin_0.1"
    }


def test_the_step_size_takes_the_place_of_the_divergence() -> None:
    hyperparams: dict[str, Any] = {"target_kl": "lin_0.1", "gamma": 0.9}
    step_size = named("npg", "step_size")

    assert with_values(hyperparams, {step_size: 0.3}) == {"step_size": 0.3, "gamma": 0.9}
    assert with_values({}, {step_size: 0.3}) == {"step_size": 0.3}
    assert hyperparams == {"target_kl": "lin_0.1", "gamma": 0.9}


def sampled(space: tuple[Parameter, ...], n_trials: int) -> list[dict[Parameter, Any]]:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    return [suggest(study.ask(), space) for _ in range(n_trials)]


def test_each_parameter_is_given_a_value_of_its_kind() -> None:
    space = (named("ppo", "clip_range"), named("ppo", "n_epochs"), named("ppo", "gamma"))

    trials = sampled(space, 50)

    clip_ranges, epochs, gammas = ([trial[each] for trial in trials] for each in space)
    assert all(isinstance(value, float) and 0.02 <= value <= 0.8 for value in clip_ranges)
    # Half of the draws from a logarithmic range lie below its geometric mean.
    assert 15 <= sum(value < (0.02 * 0.8) ** 0.5 for value in clip_ranges) <= 35
    assert all(isinstance(value, int) and 1 <= value <= 20 for value in epochs)
    assert len(set(epochs)) > 10
    assert set(gammas) == {0.98, 0.99, 0.995, 0.999}


@pytest.mark.parametrize("params", [["delta", "step_size"], ["step_size", "delta"]])
def test_of_two_that_exclude_each_other_each_trial_has_one(params: list[str]) -> None:
    space = space_for("npg", [*params, "lambda"])

    trials = sampled(space, 20)

    kinds = [tuple(sorted(parameter.name for parameter in trial)) for trial in trials]
    assert set(kinds) == {("gae_lambda", "target_kl"), ("gae_lambda", "step_size")}
    for trial in trials:
        tuned = with_values({"target_kl": "lin_0.1"}, trial)
        assert ("target_kl" in tuned) != ("step_size" in tuned)


def test_a_parameter_that_excludes_one_that_is_not_tuned_is_always_there() -> None:
    space = space_for("npg", ["step_size"])

    assert [list(trial) for trial in sampled(space, 5)] == [list(space)] * 5
