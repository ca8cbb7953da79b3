"""Numbers with intervals over seeds, and what may be claimed of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.numbers import form_of, form_with
from benchmarks.statistics import Estimate, interquartile_mean, interval
from studies.confirmation import Confirmation
from studies.objective import Problem
from studies.wording import caution, few_seeds

REPETITIONS = 2_000
_DIGITS = 3  # of scores, which are about 1


def writer_for(
    estimate: Estimate, digits: int | None = None, sign: bool = False
) -> Callable[[float], str]:
    """Writes the numbers of an estimate, a difference with its sign."""
    numbers = estimate.numbers
    small = np.nanmax(np.abs(numbers)) < 10
    form = form_with(digits or _DIGITS, numbers) if digits or small else form_of(numbers)
    if sign:  # a difference must not look like zero unless it is zero
        form = form.apart((number, 0.0) for number in numbers)
    return lambda number: form.text(number, "+" if sign else "")


def in_brackets(estimate: Estimate, digits: int | None = None, sign: bool = False) -> str:
    """``0.812 [0.790, 0.831]``; without an interval ``0.812``."""
    value, low, high = map(writer_for(estimate, digits, sign), estimate.numbers)
    return f"{value} [{low}, {high}]" if estimate.has_interval else value


def as_text(estimate: Estimate, digits: int | None = None, sign: bool = False) -> str:
    """As :func:`in_brackets`, and the number of seeds if they are too few for a claim."""
    few = "" if estimate.seeds is None else few_seeds(estimate.seeds)
    return in_brackets(estimate, digits, sign) + few


@dataclass(frozen=True)
class Comparison:
    """The defaults and the best trial's values, compared on the same seeds.

    :param seeds: the seeds
    :param defaults: interquartile mean of the scores with the defaults
    :param best: that with the best trial's values
    :param gain: the difference of the two, best less defaults
    """

    seeds: Sequence[int]
    defaults: Estimate
    best: Estimate
    gain: Estimate


def compare(seeds: Sequence[int], defaults: np.ndarray, best: np.ndarray) -> Comparison:
    """Two settings on the same seeds, which are resampled in pairs.

    :param defaults: scores of shape ``(n_seeds, n_environments)``, as ``best``
    """

    def statistic(pairs: np.ndarray) -> np.ndarray:
        first, second = interquartile_mean(pairs.reshape(-1, 2))
        return np.array([first, second, second - first])

    return Comparison(seeds, *estimates(np.stack([defaults, best], axis=-1), statistic))


def on_fresh_seeds(problem: Problem, found: Confirmation) -> Comparison:
    """The best trial's values and the defaults, compared on seeds that the search has not seen.

    :param problem: what the study is about
    :param found: what :func:`studies.confirmation.stored_confirmation` has given
    """
    defaults, best = (
        np.reshape(scores, (len(found.seeds), len(problem.env_ids)))
        for scores in (found.default_scores, found.scores)
    )
    return compare(found.seeds, defaults, best)


def verdict(gain: Estimate) -> str:
    """What may be said of the best values beside the defaults, both on fresh seeds.

    :param gain: the ``gain`` of a :class:`Comparison`
    :return: words, which claim nothing of fewer than three seeds
    """
    if not gain.decides:
        return caution(gain.seeds or 0)
    if gain.is_positive:
        return "they beat the defaults beyond chance"
    if gain.is_negative:
        return "they are worse than the defaults beyond chance: keep the defaults"
    return "they are not told apart from the defaults: keep the defaults"


def estimates(scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> list[Estimate]:
    """A statistic with its interval; a seed is drawn with all that it has.

    :param scores: shape ``(n_seeds, n_environments, n_settings)``
    """
    values = statistic(scores)
    low = high = np.full(len(values), np.nan)
    if len(scores) > 1:
        # Resampled by themselves, settings would not be compared on the same seeds.
        seeds = np.arange(len(scores))[:, None]
        low, high = interval(seeds, lambda drawn: statistic(scores[drawn[:, 0]]), REPETITIONS)
    return [
        Estimate(float(value), float(lower), float(upper), len(scores))
        for value, lower, upper in zip(values, low, high, strict=True)
    ]
