"""What studies say, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from optuna.trial import TrialState

from benchmarks.names import shield
from benchmarks.statistics import FEWEST_SEEDS, Estimate
from reports.tuning_data import StudyResult, Sweep
from reports.wording import coverage_sentence, listing
from studies.estimates import REPETITIONS, in_brackets
from studies.objective import OBJECTIVES, Problem
from studies.parameters import Parameter, Scalar
from studies.study import in_state
from studies.wording import few_seeds, shown

_MOST_NAMED = 2  # environments


def titles_of(studies: Sequence[StudyResult]) -> dict[str, str]:
    """A study's name to what it is about, such as ``npg on Hopper-v5``; never two the same."""
    plain = {}
    for study in studies:
        env_ids = study.problem.env_ids
        many = f"{len(env_ids)} environments"
        where = listing(env_ids) if len(env_ids) <= _MOST_NAMED else many
        plain[study.name] = f"{study.problem.algo} on {where}"
    counts = Counter(plain.values())
    return {
        name: title if counts[title] == 1 else f"{title} ({name})" for name, title in plain.items()
    }


def measure(problem: Problem) -> str:
    """What a score is: ``final return, normalised``."""
    what = OBJECTIVES[problem.objective].partition(" (")[0]
    return f"{what}, normalised" if problem.is_normalised else what


def estimate_text(estimate: Estimate, digits: int | None = None, sign: bool = False) -> str:
    """``0.812 [0.790, 0.831]``; with one seed ``0.812 (1 seed)``."""
    text = in_brackets(estimate, digits, sign)
    return text if estimate.has_interval else f"{text} (1 seed)"


def value_text(value: Scalar) -> str:
    """A parameter's value, shielded if it is a text."""
    return shield(value) if isinstance(value, str) else shown(value)


def not_swept(study: StudyResult) -> list[Parameter]:
    """The parameters of which there are trials, but no sweep."""
    return [
        parameter
        for parameter in study.problem.space
        if parameter.name not in study.sweeps and study.tried(parameter)
    ]


def findings(studies: Sequence[StudyResult], titles: Mapping[str, str]) -> list[str]:
    """Which value to take, how much it matters, what a wrong one costs, and what is not known.

    :param titles: as :func:`titles_of` gives them
    """
    sweeps = [
        (f"{shield(sweep.parameter.name)} of {titles[study.name]}", sweep)
        for study in studies
        for sweep in study.sweeps.values()
    ]
    sentences = [*_gains(studies, titles), *_widths(sweeps), *_costs(sweeps)]
    return sentences + _missing(studies, titles)


def _gains(studies: Sequence[StudyResult], titles: Mapping[str, str]) -> list[str]:
    better, worse, level, kept = [], [], [], []
    for study in studies:
        if study.fresh is None:
            continue
        gain = study.fresh.gain
        text = f"{titles[study.name]} ({_best_text(study)}: {estimate_text(gain, sign=True)})"
        if study.best_is_default:
            kept.append(titles[study.name])
        elif gain.is_positive:
            better.append(text)
        elif gain.is_negative:
            worse.append(text)
        elif gain.decides:
            level.append(text)
    parts = []
    if better:
        parts.append(f"better than the defaults for {listing(better)}")
    if worse:
        parts.append(f"worse for {listing(worse)}, so keep the defaults there")
    if level:
        parts.append(f"not told apart from the defaults for {listing(level)}")
    sentences = [f"**Best values**, on fresh seeds: {'; '.join(parts)}."] if parts else []
    if kept:
        sentences.append(f"No value was found that is better than the default for {listing(kept)}.")
    return sentences


def _best_text(study: StudyResult) -> str:
    assert study.best is not None
    return ", ".join(
        f"{shield(each.name)} = {value_text(study.best.params[each.name])}"
        for each in study.problem.space
        if each.name in study.best.params
    )


def _widths(sweeps: Sequence[tuple[str, Sweep]]) -> list[str]:
    """Who is easiest to choose; a width that the range cuts off may not be the smaller one."""
    if not sweeps:
        return []
    ordered = sorted(sweeps, key=lambda each: -each[1].width.decades)
    texts = [f"{name} with {sweep.width}" for name, sweep in ordered]
    text = f"**Width** of the good part of the range, in decades: {listing(texts)}"
    if len(ordered) == 1:
        return [f"{text}."]
    decided = [each for each in ordered if each[1].width.estimate.decides]
    if len(decided) < 2:
        return [f"{text}."]
    (widest, first), others = decided[0], decided[1:]
    narrower = [
        name
        for name, sweep in others
        if not sweep.width.is_open and sweep.width.decades_high < first.width.decades_low
    ]
    if len(narrower) == len(ordered) - 1:
        return [f"{text}. {widest} has the widest one, beyond the intervals."]
    if narrower:
        return [f"{text}. Beyond the intervals, {widest} has a wider one than {listing(narrower)}."]
    return [f"{text}. Which one is the widest cannot be told."]


def _costs(sweeps: Sequence[tuple[str, Sweep]]) -> list[str]:
    """Where a factor of three from the best value costs score, and where that may be chance."""
    costly, perhaps = [], []
    for name, sweep in sweeps:
        losses = [loss for loss in sweep.losses if loss is not None and loss.decides]
        beyond_chance = [loss for loss in losses if loss.is_positive]
        if beyond_chance:
            most = max(beyond_chance, key=lambda loss: loss.value)
            costly.append(f"{name} (up to {estimate_text(most)})")
        elif losses:
            perhaps.append(name)
    start = "**A wrong value**, a third of the best one or three times it, costs score"
    if not costly:
        return [f"{start} no more than chance may for {listing(perhaps)}."] if perhaps else []
    rest = f"; no more than chance may for {listing(perhaps)}" if perhaps else ""
    return [f"{start} beyond chance for {listing(costly)}{rest}."]


def _missing(studies: Sequence[StudyResult], titles: Mapping[str, str]) -> list[str]:
    empty = [titles[study.name] for study in studies if study.best is None]
    unconfirmed = [
        titles[study.name] for study in studies if study.best is not None and study.fresh is None
    ]
    unswept = [
        f"{listing([shield(each.name) for each in not_swept(study)])} of {titles[study.name]}"
        for study in studies
        if not_swept(study)
    ]
    earlier = [
        f"{shield(sweep.parameter.name)} of {titles[study.name]} (trial {sweep.base})"
        for study in studies
        for sweep in study.sweeps.values()
        if not sweep.is_of_best
    ]
    active = [
        f"{titles[study.name]} ({n})"
        for study in studies
        if (n := len(in_state(study.trials, TrialState.RUNNING, TrialState.WAITING)))
    ]
    few = [
        f"{titles[study.name]}{few_seeds(len(study.problem.seeds))}"
        for study in studies
        if study.best is not None and len(study.problem.seeds) < FEWEST_SEEDS
    ]
    parts = [
        f"{what}: {listing(which)}"
        for what, which in (
            (f"fewer than {FEWEST_SEEDS} seeds, which decide nothing", few),
            ("no trial has completed", empty),
            ("best values not tried on fresh seeds", unconfirmed),
            ("range not swept, so that there are trials alone", unswept),
            ("swept around a trial that is not the best one any more", earlier),
            ("trials that have not ended", active),
        )
        if which
    ]
    return [f"**Not known yet**: {'; '.join(parts)}."] if parts else []


def notes(studies: Sequence[StudyResult]) -> dict[str, list[str]]:
    """How the tables are to be read, by the table: ``scores``, ``sensitivity``, ``importances``."""
    scales = []
    if any(study.problem.is_normalised for study in studies):
        scales.append("A normalised score is 0 for a random policy and 1 for the reference.")
    if any(len(study.problem.seeds) > 1 for study in studies):
        scales.append(
            "In brackets: 95% intervals, percentile bootstrap over seeds "
            f"({REPETITIONS:,} resamples, fixed seed). {coverage_sentence()}"
        )
    if any(len(study.problem.seeds) < FEWEST_SEEDS for study in studies):
        scales.append(
            f"With fewer than {FEWEST_SEEDS} seeds nothing is said to be better or worse: of two "
            "equal settings one is the better one with both of two seeds in half of all cases."
        )
    return {
        "scores": [
            "Scores are interquartile means over seeds and environments; the difference is of runs "
            "with the same seeds.",
            *scales,
            "On the search's own seeds the best values are the highest of many noisy ones, and so "
            "look better than they are: **the fresh seeds decide**.",
        ],
        "sensitivity": [
            "Good are the values around the best one whose scores are within 10% of its score; "
            "between the values that were tried the scores are taken to be on straight lines. One "
            "decade is a factor of 10. At least: the good values reach an end of the range.",
            "Lost is the score at the best value less that at another; an interval that contains 0 "
            "may be chance.",
        ],
        "importances": [
            "The share of what makes trials good that a parameter explains (PED-ANOVA over the "
            "completed trials). It has no interval: with few trials it is a hint."
        ],
    }
