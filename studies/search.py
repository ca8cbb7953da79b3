"""How a study searches: which sampler and pruner, how many trials, and the points of a grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.errors import SpecError, check_choice
from studies.objective import Problem
from studies.parameters import Parameter, Value

SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid")
PRUNERS = ("none", "wilcoxon", "hyperband", "median")


@dataclass(frozen=True)
class Search:
    """How the values of a study's trials are chosen.

    ``seed``: with a single worker, the same seed gives the same study.
    """

    sampler: str = "tpe"
    pruner: str = "none"
    n_trials: int = 1
    seed: int = 0

    @property
    def prunes_by_run(self) -> bool:
        """Whether the pruner sees one value for each run, rather than one for each evaluation."""
        return self.pruner == "wilcoxon"


def check_search(search: Search, problem: Problem) -> None:
    """Check that a problem can be searched in this way.

    :raises SpecError: naming the option, its value and what is valid
    """
    check_choice("--sampler", [search.sampler], list(SAMPLERS))
    check_choice("--pruner", [search.pruner], list(PRUNERS))
    names = ", ".join(parameter.name for parameter in problem.space)
    ranges = [parameter for parameter in problem.space if not parameter.choices]
    if search.sampler == "cmaes" and len(ranges) < 2:
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


def too_few_runs_to_prune(search: Search, problem: Problem) -> bool:
    """Whether a trial has too few runs for the Wilcoxon test to tell it from the best one."""
    # The lowest p of n pairs is 2^-n, and to prune a trial after its last run saves nothing.
    return search.pruner == "wilcoxon" and len(problem.seeds) * len(problem.env_ids) < 5


def grid_of(search: Search, problem: Problem) -> dict[str, list[Any]]:
    """The points of a grid for the search's trials other than the defaults."""
    return grid(problem.space, search.n_trials - len(problem.defaults()))


def grid_size(search: Search, problem: Problem) -> int:
    """How many trials the grid and the defaults take."""
    return math.prod(map(len, grid_of(search, problem).values())) + len(problem.defaults())


def grid(space: Sequence[Parameter], n_trials: int) -> dict[str, list[Any]]:
    """Evenly spaced values of each parameter, in at most ``n_trials`` combinations.

    Every grid has at least two values of each range, and all choices.
    """
    n_combinations = max(1, n_trials)
    for parameter in space:
        if parameter.choices:
            n_combinations = max(1, n_combinations // len(parameter.choices))
    n_ranges = sum(not parameter.choices for parameter in space)
    n_points = int(n_combinations ** (1 / n_ranges) + 1e-9) if n_ranges else 0
    return {parameter.name: evenly_spaced(parameter, max(2, n_points)) for parameter in space}


def evenly_spaced(parameter: Parameter, n_points: int) -> list[Value]:
    """Evenly spaced values over a parameter's range, on its scale; or all of its choices."""
    if parameter.choices:
        return list(parameter.choices)
    spaced = np.geomspace if parameter.log else np.linspace
    values = spaced(parameter.low, parameter.high, n_points)
    if parameter.integer:
        return list(dict.fromkeys(round(value) for value in values))
    # Six digits are easier to read; the ends stay exact.
    rounded = [float(f"{value:.6g}") for value in values]
    rounded[0], rounded[-1] = float(parameter.low), float(parameter.high)
    return [min(max(value, parameter.low), parameter.high) for value in rounded]
