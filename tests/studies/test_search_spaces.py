"""What is tuned."""

import inspect

import pytest

from benchmarks.specs import SpecError
from benchmarks.zoo import algorithm_class, model_arguments
from sb3_natural.npg.npg import DEFAULT_TARGET_KL
from studies.search_spaces import SPACES, space_for, with_value


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_the_defaults_are_those_of_the_constructors(algo: str) -> None:
    parameter = SPACES[algo]

    signature = inspect.signature(algorithm_class(algo))

    assert signature.parameters[parameter.name].default == parameter.default


def test_the_default_of_npg_is_what_npg_takes_when_nothing_is_given() -> None:
    assert SPACES["npg"].default == DEFAULT_TARGET_KL


def test_the_default_comes_from_the_hyperparameters() -> None:
    assert space_for("trpo", {}).default == 0.01
    assert space_for("trpo", {"target_kl": 0.04}).default == 0.04
    assert space_for("npg", {"target_kl": "lin_0.1"}).default == 0.1


def test_the_range_reaches_to_a_default_outside_of_it() -> None:
    assert space_for("ppo", {"clip_range": 0.01}).low == 0.01
    assert space_for("ppo", {"clip_range": 0.9}).high == 0.9


def test_a_schedule_stays_a_schedule() -> None:
    hyperparams = {"target_kl": "lin_0.1", "gamma": 0.9}
    parameter = space_for("npg", hyperparams)

    tuned = with_value(hyperparams, parameter, 1e-05)

    assert tuned == {"target_kl": "lin_1e-05", "gamma": 0.9}
    schedule = model_arguments("npg", tuned, "here").constructor["target_kl"]
    assert schedule(1.0) == 1e-05
    assert with_value({"target_kl": 0.1}, parameter, 0.2) == {"target_kl": 0.2}
    assert with_value({}, parameter, 0.2) == {"target_kl": 0.2}


def test_a_schedule_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match="target_kl: must be a number or a linear schedule"):
        space_for("npg", {"target_kl": "cos_0.1"})
