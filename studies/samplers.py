"""Optuna's samplers and pruners by name."""

import numpy as np
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    RandomSampler,
    TPESampler,
)

from studies.objective import Problem
from studies.search import Search, grid_of

_MEDIAN_STARTUP_TRIALS = 5
# Hyperband's reduction factor: one in three of the trials that get so far goes on.
_REDUCTION = 3


class _GridSampler(GridSampler):
    """Optuna's, which would end the study after the last point; here the workers count trials.

    To do so it looks up the grid point of the trial that has ended. The defaults have none: if they
    ended while one point was left, as they can beside other workers, it would raise a KeyError.
    """

    def after_trial(self, *_: object) -> None:
        """Leave the study running."""


def make_sampler(search: Search, problem: Problem, n_before: int) -> BaseSampler:
    """The sampler of the trial that comes after ``n_before`` others.

    Each trial has random numbers of its own, so that an interrupted study proposes the values that
    it would have proposed without the interruption, and workers that begin at once, on one machine
    or on several, do not propose the same.
    """
    seed = int(np.random.SeedSequence([search.seed, n_before]).generate_state(1)[0])
    if search.sampler == "gp":
        return GPSampler(seed=seed)
    if search.sampler == "cmaes":
        return CmaEsSampler(seed=seed)
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "grid":
        return _GridSampler(grid_of(search, problem), seed=search.seed)
    # What other workers are trying counts as bad, so that no two workers try the same.
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def make_pruner(search: Search, problem: Problem) -> BasePruner:
    """The pruner; its steps are evaluations, except that the Wilcoxon pruner's are runs."""
    if search.pruner == "wilcoxon":
        return WilcoxonPruner(p_threshold=0.1)
    evaluations = problem.evaluation.points + 1
    if search.pruner == "hyperband":
        return HyperbandPruner(
            # At least one, since the evaluation of an untrained policy says nothing.
            min_resource=max(1, evaluations // _REDUCTION),
            max_resource=evaluations * len(problem.seeds) * len(problem.env_ids),
            reduction_factor=_REDUCTION,
        )
    if search.pruner == "median":
        return MedianPruner(
            n_startup_trials=_MEDIAN_STARTUP_TRIALS, n_warmup_steps=evaluations // _REDUCTION
        )
    return NopPruner()
