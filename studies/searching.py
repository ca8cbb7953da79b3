"""Which values are tried, and which trials are cut short: Optuna's samplers and pruners by name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, GridSampler, RandomSampler
from optuna.samplers import TPESampler as _TPESampler

from benchmarks.errors import SpecError, check_choice
from studies.objective import Problem
from studies.search_spaces import Parameter, Value

SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid")
PRUNERS = ("none", "wilcoxon", "hyperband", "median")
_MEDIAN_STARTUP_TRIALS = 5
# Hyperband's reduction factor: of the trials that get so far, one in three goes on.
_REDUCTION = 3


class _GridSampler(GridSampler):
    """Optuna's, which would end a study after its last point; here the workers count trials.

    To do so it looks up the point of the trial that has ended, which the defaults have not: when
    they ended with one point left, as they may beside other workers, it raised a KeyError.
    """

    def after_trial(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Search:
    """How the values of a study's trials are found.

    ``seed``: a study that one worker carries out is the same each time.
    """

    sampler: str = "tpe"
    pruner: str = "none"
    n_trials: int = 1
    seed: int = 0

    @property
    def prunes_by_run(self) -> bool:
        """Whether the pruner sees a value for each run; else one for each evaluation."""
        return self.pruner == "wilcoxon"


def check_search(search: Search, problem: Problem) -> None:
    """Check that a problem can be searched in this way.

    :raises SpecError: naming the option, its value and what is allowed
    """
    check_choice("--sampler", [search.sampler], list(SAMPLERS))
    check_choice("--pruner", [search.pruner], list(PRUNERS))
    names = ", ".join(parameter.name for parameter in problem.space)
    numbers = [parameter for parameter in problem.space if not parameter.choices]
    if search.sampler == "cmaes" and len(numbers) < 2:
        raise SpecError(f"--sampler: 'cmaes' needs two or more parameters with ranges, got {names}")
    if search.sampler in ("grid", "cmaes"):
        tuned = {parameter.name for parameter in problem.space}
        for parameter in problem.space:
            if parameter.excludes in tuned:
                raise SpecError(
                    f"--sampler: {search.sampler!r} cannot choose between {parameter.excludes} and "
                    f"{parameter.name}; tune one of them"
                )
    if problem.has_two_objectives and search.pruner != "none":
        raise SpecError(
            f"--pruner: {search.pruner!r} compares returns alone; with two objectives only 'none'"
        )
    if problem.has_two_objectives and search.sampler == "cmaes":
        raise SpecError("--sampler: 'cmaes' has one objective alone")


def make_sampler(search: Search, problem: Problem, n_before: int, worker: int) -> BaseSampler:
    """The sampler of the trial that comes after ``n_before`` others.

    A generator for each trial: a study carried on proposes what it would have proposed.
    """
    seed = int(np.random.SeedSequence([search.seed, n_before, worker]).generate_state(1)[0])
    if search.sampler == "gp":
        return GPSampler(seed=seed)
    if search.sampler == "cmaes":
        return CmaEsSampler(seed=seed)
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "grid":
        return _GridSampler(_grid_of(search, problem), seed=search.seed)
    # What other workers are trying counts as bad, so that they do not try the same.
    return _TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def make_pruner(search: Search, problem: Problem) -> BasePruner:
    """The pruner; its steps are evaluations, those of the Wilcoxon pruner are runs."""
    if search.pruner == "wilcoxon":
        return WilcoxonPruner(p_threshold=0.1)
    evaluations = problem.evaluation.points + 1
    if search.pruner == "hyperband":
        return HyperbandPruner(
            # A look at an untrained policy is none.
            min_resource=max(1, evaluations // _REDUCTION),
            max_resource=evaluations * len(problem.seeds) * len(problem.env_ids),
            reduction_factor=_REDUCTION,
        )
    if search.pruner == "median":
        return MedianPruner(
            n_startup_trials=_MEDIAN_STARTUP_TRIALS, n_warmup_steps=evaluations // _REDUCTION
        )
    return NopPruner()


def too_few_runs_to_prune(search: Search, problem: Problem) -> bool:
    """Whether a trial has so few runs that the Wilcoxon test cannot tell it from the best one."""
    # The lowest p of n pairs is 2^-n; a trial with all of its runs done is not worth pruning.
    return search.pruner == "wilcoxon" and len(problem.seeds) * len(problem.env_ids) < 5


def _grid_of(search: Search, problem: Problem) -> dict[str, list[Any]]:
    return grid(problem.space, search.n_trials - len(problem.defaults()))


def grid_size(search: Search, problem: Problem) -> int:
    """How many trials the grid and the defaults are."""
    return math.prod(map(len, _grid_of(search, problem).values())) + len(problem.defaults())


def grid(space: Sequence[Parameter], n_trials: int) -> dict[str, list[Any]]:
    """Evenly spaced values of each parameter, in all at most ``n_trials`` combinations.

    Or as few as two values of each range and all choices are, should those be more.
    """
    n_combinations = max(1, n_trials)
    for parameter in space:
        if parameter.choices:
            n_combinations = max(1, n_combinations // len(parameter.choices))
    n_ranges = sum(not parameter.choices for parameter in space)
    n_points = int(n_combinations ** (1 / n_ranges) + 1e-9) if n_ranges else 0
    return {parameter.name: spread(parameter, max(2, n_points)) for parameter in space}


def spread(parameter: Parameter, n_points: int) -> list[Value]:
    """Evenly spaced values over a parameter's range, on its scale; all of its choices."""
    if parameter.choices:
        return list(parameter.choices)
    spaced = np.geomspace if parameter.log else np.linspace
    values = spaced(parameter.low, parameter.high, n_points)
    if parameter.integer:
        return list(dict.fromkeys(round(value) for value in values))
    # To six digits, for those who read them, but for the ends, which are what they are.
    rounded = [float(f"{value:.6g}") for value in values]
    rounded[0], rounded[-1] = float(parameter.low), float(parameter.high)
    return [min(max(value, parameter.low), parameter.high) for value in rounded]


def quiet() -> None:
    """Keep Optuna from logging what the workers do: the display says it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
