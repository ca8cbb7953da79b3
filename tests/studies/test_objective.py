"""What a trial is worth, and what a study is about."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.algorithms import hyperparams_file
from benchmarks.errors import SpecError
from benchmarks.normalisation import Scale
from benchmarks.zoo import hyperparams_for
from studies.definition import define
from studies.objective import MAX_SEEDS, Problem, fresh_seeds
from studies.parameters import Parameter
from studies.search_spaces import SPACES, space_for

SCALE = Scale(random=20.0, reference=120.0, reference_source="made up")
UNMEASURED = "tests.benchmarks.envs:Raising-v0"


@pytest.fixture
def problem() -> Problem:
    return define("ppo", ["CartPole-v1"], 3, 1000, space_for("ppo"))


@pytest.fixture
def on_two() -> Problem:
    """On two environments with different hyperparameters."""
    envs = ["HalfCheetah-v5", "Swimmer-v5"]
    return define("npg", envs, 2, 1000, space_for("npg", ["delta", "gamma"]))


@pytest.mark.parametrize("objective", ["final", "final-and-seconds"])
def test_the_final_score_is_the_mean_of_the_last_tenth_of_the_evaluations(
    problem: Problem, objective: str
) -> None:
    final = replace(problem, objective=objective, scales={"CartPole-v1": None})
    returns = [1000.0] * 19 + [70.0, 90.0]

    assert final.score("CartPole-v1", returns) == 80.0
    assert final.score("CartPole-v1", [1000.0] * 18 + [70.0]) == 70.0
    assert final.score("CartPole-v1", [70.0]) == 70.0
    scaled = replace(final, scales={"CartPole-v1": SCALE})
    assert scaled.score("CartPole-v1", returns) == pytest.approx(0.6)


def test_the_score_of_a_curve_is_its_area(problem: Problem) -> None:
    whole = replace(problem, objective="area", scales={"CartPole-v1": None})
    returns = [20.0, 20.0, 120.0, 120.0]

    # Trapezoids of 20, 70 and 120 over three steps.
    assert whole.score("CartPole-v1", returns) == pytest.approx(70.0)
    assert whole.score("CartPole-v1", [50.0]) == 50.0
    scaled = replace(whole, scales={"CartPole-v1": SCALE})
    assert scaled.score("CartPole-v1", returns) == pytest.approx(0.5)


def test_scores_of_environments_are_on_their_own_scales(on_two: Problem) -> None:
    scales: dict[str, Scale | None] = {
        "HalfCheetah-v5": Scale(0.0, 1000.0, ""),
        "Swimmer-v5": Scale(-100.0, 0.0, ""),
    }
    scaled = replace(on_two, scales=scales)

    assert scaled.score("HalfCheetah-v5", [250.0]) == 0.25
    assert scaled.score("Swimmer-v5", [-50.0]) == 0.5
    assert scaled.is_normalised
    assert not replace(scaled, scales={**scales, "Swimmer-v5": None}).is_normalised


def test_all_environments_of_a_seed_come_before_the_next_seed(on_two: Problem) -> None:
    delta, gamma = on_two.space

    specs = on_two.specs("mine", {delta: 0.1, gamma: 0.98})

    assert [(spec.seed, spec.env_id) for spec in specs] == [
        (1000, "HalfCheetah-v5"),
        (1000, "Swimmer-v5"),
        (1001, "HalfCheetah-v5"),
        (1001, "Swimmer-v5"),
    ]
    for spec in specs:
        assert (spec.suite, spec.algo, spec.n_timesteps) == ("mine", "npg", 1000)
        assert spec.evaluation == on_two.evaluation
        before = on_two.hyperparams[spec.env_id]
        # The default is a schedule, and so is what is tried instead of it.
        assert spec.hyperparams == before | {"target_kl": "lin_0.1", "gamma": 0.98}


def test_without_values_the_hyperparameters_are_as_they_are_in_the_files(on_two: Problem) -> None:
    specs = on_two.specs("mine", {}, [7])

    assert [spec.seed for spec in specs] == [7, 7]
    for spec in specs:
        written = hyperparams_for("npg", spec.env_id)
        del written["n_timesteps"]
        assert spec.hyperparams == written


def test_there_are_as_many_defaults_as_the_environments_differ_in(on_two: Problem) -> None:
    delta, gamma = on_two.space

    assert on_two.defaults() == [{delta: 0.04, gamma: 0.99}, {delta: 0.04, gamma: 0.9999}]


def test_environments_with_the_same_hyperparameters_have_one_default() -> None:
    problem = define("npg", ["HalfCheetah-v5", "Reacher-v5"], 1, 1000, space_for("npg"))

    assert problem.defaults() == [{problem.space[0]: 0.04}]


def test_a_problem_survives_the_way_through_json(problem: Problem, on_two: Problem) -> None:
    unscaled = replace(problem, scales={"CartPole-v1": None})
    for each in (problem, unscaled, on_two):
        assert Problem.from_dict(json.loads(json.dumps(each.to_dict()))) == each
        # What a study has stored is compared with what is asked for.
        assert json.loads(json.dumps(each.to_dict())) == each.to_dict()


def test_a_problem_is_what_was_asked_for() -> None:
    problem = define("ppo", ["CartPole-v1"], 3, 1000, space_for("ppo"), "area")

    assert (problem.algo, problem.env_ids, problem.n_timesteps) == ("ppo", ("CartPole-v1",), 1000)
    assert problem.seeds == (1000, 1001, 1002)
    assert problem.objective == "area"
    assert not problem.has_two_objectives
    assert "n_timesteps" not in problem.hyperparams["CartPole-v1"]
    assert replace(problem, objective="final-and-seconds").has_two_objectives


def test_what_is_not_tuned_comes_from_a_file_of_ones_own(tmp_path: Path) -> None:
    one = tmp_path / "one.yml"
    one.write_text("default: {policy: MlpPolicy, normalize: true, gae_lambda: 0.9}")
    asked = "ppo", ["HalfCheetah-v5", "Hopper-v5"], 1, 1000, space_for("ppo", ["epsilon"])

    problem = define(*asked, hyperparams_file=one)

    fields = {"policy": "MlpPolicy", "normalize": True, "gae_lambda": 0.9}
    assert problem.hyperparams == dict.fromkeys(asked[1], fields)
    assert problem.defaults() == [{problem.space[0]: 0.2}]
    assert len(define(*asked).defaults()) == 2


def test_a_file_of_ones_own_is_checked_and_named(tmp_path: Path) -> None:
    one = tmp_path / "one.yml"
    asked = "ppo", ["CartPole-v1"], 1, 1000, space_for("ppo")
    for text, message in (
        ("Hopper-v5: {policy: MlpPolicy}", "has no entry 'CartPole-v1' or 'default'"),
        ("default: {policy: MlpPolicy, delta: 1}", "default: .*delta"),
        ("default: {policy: MlpPolicy, n_steps: 0}", "n_steps"),
    ):
        one.write_text(text)
        with pytest.raises(SpecError, match=f"one.yml.*{message}"):
            define(*asked, hyperparams_file=one)


def test_one_environment_may_be_without_a_scale() -> None:
    problem = define("npg", [UNMEASURED], 1, 1000, space_for("npg"))

    assert problem.scales == {UNMEASURED: None}
    assert not problem.is_normalised


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"env_ids": ["CartPole-v1", "Acrobot-v1", "CartPole-v1"]},
            "--env: must be different ones, got CartPole-v1, Acrobot-v1, CartPole-v1",
        ),
        ({"n_timesteps": 19}, "--steps: must be at least 20, .*, got 19"),
        ({"n_seeds": MAX_SEEDS + 1}, "--seeds: must be at most 1000, got 1001"),
        (
            {"objective": "best"},
            "--objective: 'best' is not one of final, area, final-and-seconds",
        ),
        (
            {"env_ids": ["CartPole-v1", UNMEASURED]},
            f"--env: {UNMEASURED}: returns on several environments can be averaged only",
        ),
    ],
)
def test_what_cannot_be_studied_is_refused(changed: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {
        "algo": "npg",
        "env_ids": ["CartPole-v1"],
        "n_seeds": 1,
        "n_timesteps": 20,
        "space": space_for("npg"),
    }
    define(**asked)

    with pytest.raises(SpecError, match=message):
        define(**(asked | changed))


def test_ranges_and_choices_reach_to_the_defaults_of_all_environments() -> None:
    delta = Parameter("target_kl", "delta", "", 0.05, 0.1, log=True, default="lin_0.04")
    gamma = Parameter("gamma", "gamma", "", choices=(0.9, 0.95))

    problem = define("npg", ["HalfCheetah-v5", "Swimmer-v5"], 1, 1000, (delta, gamma))

    assert problem.space == (
        replace(delta, low=0.04),
        replace(gamma, choices=(0.9, 0.95, 0.99, 0.9999)),
    )


@pytest.mark.parametrize("algo", list(SPACES))
def test_the_defaults_of_every_shipped_entry_can_be_proposed(algo: str) -> None:
    """With all of an algorithm's parameters, and with those that exclude others."""
    entries = yaml.safe_load(hyperparams_file(algo).read_text())
    for env_id in entries.keys() - {"default", "atari"}:
        problem = define(algo, [env_id], 1, 1000, SPACES[algo])
        (defaults,) = problem.defaults()
        for parameter, value in defaults.items():
            distribution = parameter.distribution
            assert distribution._contains(distribution.to_internal_repr(value))


def test_fresh_seeds_are_as_many_others() -> None:
    for n_seeds in (1, 3, MAX_SEEDS):
        problem = define("npg", ["CartPole-v1"], n_seeds, 1000, space_for("npg"))
        assert len(set(fresh_seeds(problem))) == n_seeds
        assert not set(fresh_seeds(problem)) & set(problem.seeds)
