"""Which values are tried, and which trials are cut short."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from scipy.stats import wilcoxon

from benchmarks.errors import SpecError
from benchmarks.records import Evaluation
from studies.definition import define
from studies.objective import Problem
from studies.parameters import Parameter, Value, suggest
from studies.samplers import make_pruner, make_sampler
from studies.search import (
    SAMPLERS,
    Search,
    check_search,
    evenly_spaced,
    grid,
    grid_size,
    too_few_runs_to_prune,
)
from studies.search_spaces import space_for
from studies.study import quiet

DELTA = Parameter("target_kl", "delta", "", 1e-3, 0.5, log=True)
DAMPING = Parameter("cg_damping", "damping", "", 1e-3, 1.0, log=True)
LAMBDA = Parameter("gae_lambda", "lambda", "", 0.8, 1.0)
EPOCHS = Parameter("n_epochs", "n_epochs", "", 1, 20, integer=True)
GAMMA = Parameter("gamma", "gamma", "", choices=(0.98, 0.99, 0.995))

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    quiet()
    yield
    optuna.logging.set_verbosity(before)


def problem_of(*params: str) -> Problem:
    return define("npg", ["CartPole-v1"], 1, 1000, space_for("npg", params))


@pytest.mark.parametrize(
    ("parameter", "n_points", "values"),
    [
        (replace(DELTA, low=1e-3, high=1.0), 4, [0.001, 0.01, 0.1, 1.0]),
        (LAMBDA, 5, [0.8, 0.85, 0.9, 0.95, 1.0]),
        (LAMBDA, 2, [0.8, 1.0]),
        (replace(EPOCHS, high=9), 3, [1, 5, 9]),
        (replace(EPOCHS, high=3), 10, [1, 2, 3]),
        (replace(EPOCHS, high=64, log=True), 4, [1, 4, 16, 64]),
        (GAMMA, 10, [0.98, 0.99, 0.995]),
    ],
)
def test_values_are_spread_evenly_on_the_parameters_scale(
    parameter: Parameter, n_points: int, values: list[Value]
) -> None:
    assert evenly_spaced(parameter, n_points) == values


@pytest.mark.parametrize(("low", "high"), [(1e-3, 0.7), (0.1 + 0.2, 7 / 3), (1e-5, 0.123456789)])
@pytest.mark.parametrize("log", [True, False])
def test_the_ends_of_a_spread_are_exactly_those_of_the_range(
    low: float, high: float, log: bool
) -> None:
    parameter = replace(DELTA, low=low, high=high, log=log)
    for n_points in range(2, 30):
        values = evenly_spaced(parameter, n_points)
        assert (values[0], values[-1]) == (low, high)
        assert len(values) == n_points
        assert values == sorted(values)


def test_the_values_of_a_spread_are_of_pythons_own_types() -> None:
    """Others cannot be stored in JSON."""
    assert {type(value) for value in evenly_spaced(DELTA, 5)} == {float}
    assert {type(value) for value in evenly_spaced(EPOCHS, 5)} == {int}


def n_combinations(values: dict[str, list[Value]]) -> int:
    return math.prod(len(each) for each in values.values())


@pytest.mark.parametrize(
    "space",
    [
        (DELTA,),
        (DELTA, LAMBDA),
        (DELTA, LAMBDA, DAMPING),
        (GAMMA,),
        (DELTA, GAMMA),
        (GAMMA, DELTA, LAMBDA),
        (DELTA, EPOCHS, GAMMA),
    ],
    ids=lambda space: "-".join(parameter.symbol for parameter in space),
)
def test_a_grid_has_no_more_combinations_than_there_are_trials(
    space: tuple[Parameter, ...],
) -> None:
    # A range has two ends, of choices none is left out: fewer there cannot be.
    fewest = math.prod(len(parameter.choices) or 2 for parameter in space)
    for n_trials in range(1, 200):
        values = grid(space, n_trials)
        assert list(values) == [parameter.name for parameter in space]
        assert fewest <= n_combinations(values) <= max(fewest, n_trials)


def test_a_grid_takes_as_many_values_as_there_are_trials_for() -> None:
    assert len(grid((DELTA,), 10)["target_kl"]) == 10
    assert n_combinations(grid((DELTA, LAMBDA), 25)) == 25
    assert n_combinations(grid((DELTA, LAMBDA), 24)) == 16
    assert n_combinations(grid((DELTA, LAMBDA, DAMPING), 1000)) == 1000
    assert n_combinations(grid((DELTA, GAMMA), 31)) == 30


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pruner", ["none", "wilcoxon", "hyperband", "median"])
def test_every_sampler_goes_with_every_pruner(sampler: str, pruner: str) -> None:
    check_search(Search(sampler, pruner), problem_of("delta", "damping"))


@pytest.mark.parametrize(
    ("search", "params", "message"),
    [
        (
            Search(sampler="annealing"),
            ["delta"],
            "--sampler: 'annealing' is not one of tpe, gp, cmaes, random, grid",
        ),
        (
            Search(pruner="halving"),
            ["delta"],
            "--pruner: 'halving' is not one of none, wilcoxon, hyperband, median",
        ),
        (
            Search(sampler="cmaes"),
            ["delta"],
            "--sampler: 'cmaes' needs two or more parameters with ranges, got target_kl",
        ),
        (
            Search(sampler="cmaes"),
            ["delta", "gamma"],
            "--sampler: 'cmaes' needs two or more parameters with ranges, got target_kl, gamma",
        ),
        (
            Search(sampler="grid"),
            ["delta", "step_size"],
            "--sampler: 'grid' cannot choose between target_kl and step_size; tune one of them",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    search: Search, params: list[str], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        check_search(search, problem_of(*params))


def test_a_grid_of_the_step_size_alone_is_allowed() -> None:
    check_search(Search(sampler="grid"), problem_of("step_size", "lambda"))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Search(pruner="median"), "--pruner: 'median' .* with two objectives only 'none'"),
        (Search(sampler="cmaes"), "--sampler: 'cmaes' has one objective alone"),
    ],
)
def test_two_objectives_exclude_pruners_and_cmaes(search: Search, message: str) -> None:
    problem = replace(problem_of("delta", "damping"), objective="final-and-seconds")

    check_search(Search(sampler="gp"), problem)
    with pytest.raises(SpecError, match=message):
        check_search(search, problem)


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_seeds", range(1, 8))
def test_too_few_runs_are_those_whose_lowest_possible_p_is_not_low_enough(
    n_seeds: int, n_envs: int
) -> None:
    problem = replace(
        problem_of("delta"), seeds=tuple(range(n_seeds)), env_ids=("CartPole-v1",) * n_envs
    )
    n_runs = n_seeds * n_envs
    # Every run is worse than the best trial's; the last one is not worth pruning.
    lowest = [wilcoxon(-np.arange(1.0, n + 1), alternative="less").pvalue for n in range(1, n_runs)]
    search = Search(pruner="wilcoxon")

    assert too_few_runs_to_prune(search, problem) == (not any(p < 0.1 for p in lowest))
    assert lowest == pytest.approx([2.0**-n for n in range(1, n_runs)])
    assert not too_few_runs_to_prune(replace(search, pruner="median"), problem)
    # And so says the pruner itself.
    pruned_at = first_pruned(search, problem, n_runs)
    assert too_few_runs_to_prune(search, problem) == (pruned_at is None)


def first_pruned(search: Search, problem: Problem, n_runs: int) -> int | None:
    """After how many runs, but for the last one, a trial that is worse in all of them is pruned."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner(search, problem))
    best = study.ask()
    for run in range(n_runs):
        best.report(100.0, run)
    study.tell(best, 100.0)
    worse = study.ask()
    for run in range(n_runs - 1):
        worse.report(50.0 - run, run)
        if worse.should_prune():
            return run + 1
    return None


def test_pruners_are_made_by_name() -> None:
    problem = problem_of("delta")
    made = {
        name: type(make_pruner(Search(pruner=name), problem))
        for name in ("none", "wilcoxon", "hyperband", "median")
    }

    assert made == {
        "none": NopPruner,
        "wilcoxon": WilcoxonPruner,
        "hyperband": HyperbandPruner,
        "median": MedianPruner,
    }


def test_the_median_pruner_waits_for_five_trials_and_a_third_of_a_run() -> None:
    problem = replace(problem_of("delta"), evaluation=Evaluation(points=8))
    pruner = make_pruner(Search(pruner="median"), problem)
    study = optuna.create_study(direction="maximize", pruner=pruner)

    pruned_at = [low_curve(study) for _ in range(2)]
    for _ in range(5):
        trial = study.ask()
        for step in range(9):
            trial.report(1.0, step)
        study.tell(trial, 1.0)
    pruned_at.append(low_curve(study))

    assert pruned_at == [None, None, 3]


def low_curve(study: optuna.Study) -> int | None:
    """The step at which a trial that returns nothing is pruned; it fails if it never is."""
    trial = study.ask()
    for step in range(9):
        trial.report(0.0, step)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return step
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return None


Synthetic = Callable[[dict[Parameter, Value]], float]


def decades_off(value: Value, optimum: float) -> float:
    return math.log10(float(value)) - math.log10(optimum)


def score(values: dict[Parameter, Value]) -> float:
    """Highest, 0, where delta is 0.05 and the damping, if it is tuned, 0.02."""
    optima = {"target_kl": 0.05, "cg_damping": 0.02}
    return -sum(decades_off(value, optima[each.name]) ** 2 for each, value in values.items())


def searched(
    search: Search, problem: Problem, n_trials: int, objective: Synthetic = score
) -> optuna.Study:
    """A study as a worker carries it out: a sampler for each trial."""
    study = optuna.create_study(direction="maximize")
    for begun in range(n_trials):
        study.sampler = make_sampler(search, problem, begun)
        study.optimize(lambda trial: objective(suggest(trial, problem.space)), n_trials=1)
    return study


def tried(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_finds_the_optimum_and_the_same_one_each_time(sampler: str) -> None:
    problem = problem_of("delta", "damping") if sampler == "cmaes" else problem_of("delta")
    search = Search(sampler, n_trials=25, seed=3)

    study = searched(search, problem, 25)

    assert len(study.trials) == 25
    for name, optimum in {"target_kl": 0.05, "cg_damping": 0.02}.items():
        if name in study.best_params:
            assert abs(decades_off(study.best_params[name], optimum)) < 0.25
    # The first ten are drawn at random; from then on they depend on what has been found.
    assert tried(searched(search, problem, 15)) == tried(study)[:15]
    assert tried(searched(replace(search, seed=4), problem, 5)) != tried(study)[:5]


@pytest.mark.parametrize(
    ("sampler", "n_trials", "n_studies"), [("tpe", 40, 5), ("cmaes", 40, 5), ("gp", 20, 1)]
)
def test_a_sampler_learns_from_the_trials_before(
    sampler: str, n_trials: int, n_studies: int
) -> None:
    """Its last trials are nearer to the optimum than those drawn at random."""
    problem = problem_of("delta", "damping")

    def mean_of_the_last_ten(name: str, n_studies: int) -> float:
        last = []
        for seed in range(n_studies):
            study = searched(Search(name, seed=seed), problem, n_trials)
            last += [trial.values[0] for trial in study.trials[-10:]]
        return float(np.mean(last))

    assert mean_of_the_last_ten(sampler, n_studies) > mean_of_the_last_ten("random", 5) / 2


def test_a_grid_is_tried_in_whole_each_combination_once_after_the_defaults() -> None:
    problem = problem_of("delta", "gamma")
    search = Search("grid", n_trials=21)
    (default,) = problem.defaults()
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({parameter.name: value for parameter, value in default.items()})

    for begun in range(21):
        study.sampler = make_sampler(search, problem, begun)
        study.optimize(lambda trial: 0.0 * len(suggest(trial, problem.space)), n_trials=1)

    values = grid(problem.space, 20)
    assert grid_size(search, problem) == 21
    assert tried(study)[0] == {"target_kl": 0.04, "gamma": 0.99}
    assert sorted((each["target_kl"], each["gamma"]) for each in tried(study)[1:]) == sorted(
        (delta, gamma) for delta in values["target_kl"] for gamma in values["gamma"]
    )


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_two_that_exclude_each_other_are_both_searched(sampler: str) -> None:
    problem = problem_of("delta", "step_size")

    def reward(values: dict[Parameter, Value]) -> float:
        ((parameter, value),) = values.items()
        return -(decades_off(value, 0.05) ** 2) - (parameter.name == "step_size")

    study = searched(Search(sampler, n_trials=25, seed=1), problem, 25, reward)

    chosen = {trial.params["target_kl_or_step_size"] for trial in study.trials}
    assert chosen == {"target_kl", "step_size"}
    assert study.best_params["target_kl_or_step_size"] == "target_kl"
    for trial in study.trials:
        assert ("target_kl" in trial.params) != ("step_size" in trial.params)


def test_defaults_that_end_when_a_grid_has_one_point_left() -> None:
    """As beside other workers; Optuna's own sampler looked up a point that they do not have."""
    problem = define("ppo", ["CartPole-v1"], 1, 1_000, space_for("ppo"))
    sampler = make_sampler(Search("grid", n_trials=3), problem, 0)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"clip_range": 0.2})
    defaults, first = study.ask(), study.ask()
    (epsilon,) = problem.space
    assert suggest(defaults, [epsilon]) == {epsilon: 0.2}
    suggest(first, [epsilon])
    study.tell(first, 1.0)
    study.tell(defaults, 0.0)
    last = study.ask()
    suggest(last, [epsilon])
    study.tell(last, 2.0)
    assert {first.params["clip_range"], last.params["clip_range"]} == {0.02, 0.8}
