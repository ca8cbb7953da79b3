"""The report in a few lines of plain words, computed from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.numbers import Form, forms_of, rough_text
from benchmarks.statistics import Estimate, improvement
from reports import aggregates, figures
from reports.aggregates import Matrices
from reports.missing import SECTION
from reports.standing import sentences, standings
from reports.tables import separate
from reports.verdicts import Comparisons, excludes_half
from reports.wording import (
    MEASURED_COVERAGE,
    interval_text,
    listing,
    probability_text,
    verdict,
)

# How far apart interquartile means may be, on the scale from a random policy to the reference, that
# are called level. The whole interval of their difference has to be within it.
LEVEL = 0.05
_TWO = Form(2)  # decimals of scores on that scale
_SCALE = (
    "the mean over the middle half of all runs' final returns, on a scale where a random policy "
    "has 0 and a reference 1: see [All environments together](#all-environments-together)"
)


def summary(
    table: pd.DataFrame,
    comparisons: Comparisons,
    scores: Matrices | None,
    baseline: str | None,
    failed: Sequence[str] = (),
) -> list[str]:
    """Which label is best overall and by how much, how sure that is, where it loses, how fast.

    "Better" and "ahead" are said by the rules of :mod:`reports.verdicts` alone.

    :param table: as :func:`reports.scores.score_table` gives it
    :param comparisons: as :func:`reports.verdicts.comparisons_of` gives them, of that table
    :param scores: as :func:`reports.aggregates.matrices` gives them
    :param baseline: the label that the others are compared with; None: the second best
    :param failed: as :func:`reports.missing.all_failed` gives it
    """
    failures = [f"{listing(failed)}; see {SECTION}."] if failed else []
    if scores is None or len(scores.finals) < 2:
        return [*_without_aggregates(table, comparisons), *failures]
    ranking = _ranked(scores)
    partial = _listed_partial(scores.partial)
    return [
        f"{_highest(ranking, scores)}{partial}",
        *_how_sure(ranking, scores, baseline),
        *_who_learns_sooner(ranking, scores),
        *_by_environment(table, comparisons, ranking.best),
        *failures,
        _speed(table, [*ranking.iqms, *scores.partial]),
    ]


@dataclass(frozen=True)
class _Ranking:
    """Interquartile means of the labels, the highest first, and what they are worth.

    ``best``: the first label with an interval, or if none has one, the first; ``level``: that, and
    all whose interquartile mean is the same for all that matters; ``alike``: that, and all from
    which it cannot be told apart by the probability of improvement.
    """

    iqms: Mapping[str, Estimate]
    best: str
    level: Sequence[str]
    alike: Sequence[str]

    @property
    def rest(self) -> list[str]:
        return [label for label in self.iqms if label not in self.level]

    @property
    def single_above(self) -> bool:
        """Whether a label with one seed is higher, which is no reason to prefer it."""
        return next(iter(self.iqms)) not in self.level


def _ranked(scores: Matrices) -> _Ranking:
    found = {label: aggregates.iqm(finals) for label, finals in scores.finals.items()}
    # Where two are the same, by all runs.
    order = {x: (-round(found[x].value, 9), -scores.finals[x].mean()) for x in found}
    iqms = {label: found[label] for label in sorted(found, key=lambda x: order[x])}
    best = next((x for x in iqms if iqms[x].has_interval), next(iter(iqms)))
    level, alike = [best], [best]
    for label in (label for label in iqms if label != best):
        ours, theirs = scores.finals[best], scores.finals[label]
        chance = aggregates.improvement(ours, theirs)
        if excludes_half(chance):
            continue
        if chance.has_interval:
            alike.append(label)
        if _is_level(aggregates.iqm_difference(ours, theirs), len(ours)):
            level.append(label)
    return _Ranking(iqms, best, level, alike)


def _is_level(gap: Estimate, n_seeds: int) -> bool:
    """Whether an interquartile mean is the same for all that matters as the highest one.

    :param gap: by how much it is lower
    :param n_seeds: of the label with the highest one; where it has several and the other one has
        one, they are not called level
    """
    if gap.has_interval:
        return gap.low >= -LEVEL and gap.high <= LEVEL
    return n_seeds == 1 and bool(np.isclose(gap.value, 0))


def _highest(ranking: _Ranking, scores: Matrices) -> str:
    """Who has the highest interquartile mean, or who share it, and what the others have."""
    on = f"over {len(scores.env_ids)} environments"
    iqms = ranking.iqms
    rest = [f"{x} {interval_text(iqms[x], _TWO, with_name=False)}" for x in ranking.rest]
    then = f"; {'beside that' if ranking.single_above else 'then'} {listing(rest)}" if rest else ""
    if len(ranking.level) == 1:
        among = " with several seeds" if ranking.single_above else ""
        return (
            f"**Highest over all{among}: {ranking.best}**, with an interquartile mean of "
            f"{interval_text(iqms[ranking.best], _TWO)} {on}{then}. That is {_SCALE}."
        )
    means = _normalised_text({label: iqms[label] for label in ranking.level})
    first, behind = _soonest(ranking.level, scores)
    sooner = "sooner" if len(ranking.level) == 2 else "soonest"
    lead = f", and {first} learned {sooner}" if len(behind) == len(ranking.level) - 1 else ""
    same = "are the same"
    if iqms[ranking.best].has_interval:
        same = f"differ from the first by at most {LEVEL}, intervals of the differences included"
    return (
        f"**{listing(ranking.level)} end level over all{lead}.** Their interquartile means {on} "
        f"{same}: {means}{then}. That is {_SCALE}."
    )


def _listed_partial(labels: Sequence[str]) -> str:
    """The labels that have no place over all environments."""
    if not labels:
        return ""
    lack = "lacks" if len(labels) == 1 else "lack"
    return f" {listing(labels)} {lack} runs on some of the environments, hence no place in it."


def _how_sure(ranking: _Ranking, scores: Matrices, baseline: str | None) -> list[str]:
    """The highest against the baseline, or against the next one that is not level with it."""
    best, others = ranking.best, ranking.rest
    if baseline in ranking.iqms and baseline != best:
        return [_against(best, str(baseline), scores)]
    # One with an interval, if there is one: of another nothing can be said.
    chosen = [label for label in others if len(scores.finals[label]) > 1] or others
    return [_against(best, chosen[0], scores)] if chosen else []


def _against(best: str, other: str, scores: Matrices) -> str:
    ours, theirs = scores.finals[best], scores.finals[other]
    by_environment = improvement(ours, theirs)
    single = [label for label in (best, other) if len(scores.finals[label]) == 1]
    chance = aggregates.improvement(ours, theirs)
    if single:
        has = "have" if len(single) == 2 else "has"
        return (
            f"A run of {best} ends above one of {other} with probability {chance.value:.2f}; "
            f"{listing(single)} {has} 1 seed, so nothing is known of how sure that is."
        )
    gap = aggregates.iqm_difference(ours, theirs)
    if (by_environment == 0.5).all() and chance.has_no_width:
        return f"The runs of {best} and {other} end level."
    little = excludes_half(chance) and chance.value > 0.5 and _is_level(gap, len(ours))
    return (
        f"Against {other}: the interquartile mean of {best} is higher by {_gap_text(gap)}. "
        f"A run of {best} ends above one of {other} with probability "
        f"{_verdict(best, other, chance, by_environment)}"
        f"{f', though by at most {LEVEL}' if little else ''}."
    )


def _gap_text(gap: Estimate) -> str:
    return interval_text(gap, _TWO.apart([(gap.value, 0.0)]))


def _verdict(best: str, other: str, chance: Estimate, by_environment: np.ndarray) -> str:
    """The probability that a run of ``best`` ends above one of ``other``, and what it says."""
    if chance.has_no_width and not excludes_half(chance):
        return _decided_alike(best, chance, by_environment)
    text = probability_text(chance)
    if excludes_half(chance) and chance.value > 0.5:
        return f"{text}: {best} is better, as far as these environments and seeds go"
    if excludes_half(chance):
        return (
            f"{text}: by that {other} is better, as far as these environments and seeds go, though "
            f"the interquartile mean of {best} is not lower"
        )
    if abs(chance.value - 0.5) < 0.1:
        return f"{text}: neither is ahead"
    ahead = best if chance.value > 0.5 else other
    return (
        f"{text}: {ahead} is ahead in these runs, but the interval contains 0.5, so that neither "
        "can be called better"
    )


def _decided_alike(best: str, chance: Estimate, by_environment: np.ndarray) -> str:
    """What a probability says whose interval has no width, though it is neither 0 nor 1."""
    n_ahead, n_all = int((by_environment > 0.5).sum()), len(by_environment)
    n_behind = int((by_environment < 0.5).sum())
    if n_ahead == n_behind:
        return (
            f"{chance.value:.2f}: it is ahead on as many environments as it is behind on, and "
            "neither is better"
        )
    return (
        f"{chance.value:.2f}, but that is no verdict: on each environment every pair of runs was "
        f"decided alike ({best} is ahead on {n_ahead} of {n_all} environments), so the interval "
        "has no width, and how sure that is remains unknown"
    )


def _who_learns_sooner(ranking: _Ranking, scores: Matrices) -> list[str]:
    """Of those that cannot be told apart by their ends, who has the larger area under the curve."""
    labels = list(dict.fromkeys([*ranking.level, *ranking.alike]))
    if len(labels) < 2:
        return []
    first, behind = _soonest(labels, scores)
    iqms = {label: aggregates.iqm(scores.areas[label]) for label in labels}
    areas = f"Interquartile means of these areas: {_normalised_text(iqms)}."
    return [f"{_sooner_text(labels, first, behind)} {areas}"]


def _soonest(labels: Sequence[str], scores: Matrices) -> tuple[str, dict[str, Estimate]]:
    """The label with the largest area under the curve, and how surely it is ahead of which."""
    areas = scores.areas
    first = max(labels, key=lambda label: aggregates.iqm(areas[label]).value)
    behind = {}
    for label in labels:
        if label != first:
            chance = aggregates.improvement(areas[first], areas[label])
            if excludes_half(chance) and chance.value > 0.5:
                behind[label] = chance
    return first, behind


def _sooner_text(labels: Sequence[str], first: str, behind: Mapping[str, Estimate]) -> str:
    """Who learned sooner, that is, has the larger area under the curve.

    :param labels: those that cannot be told apart by their ends, ``first`` among them
    :param behind: label to the probability that a run of ``first`` has a larger area
    """
    if not behind:
        none = "neither" if len(labels) == 2 else "none"
        return (
            f"Of {listing(labels)} {none} learned sooner, as far as the area under the curve can "
            "tell."
        )
    chances = [
        probability_text(chance, with_name=i == 0) for i, chance in enumerate(behind.values())
    ]
    alike = [label for label in labels if label != first and label not in behind]
    apart = f"; it cannot be told apart from {listing(alike)} by that" if alike else ""
    return (
        f"{first} learned sooner than {listing(list(behind))}: the area under its curve is larger "
        f"with probability {listing(chances)}{apart}."
    )


def _by_environment(table: pd.DataFrame, comparisons: Comparisons, best: str) -> list[str]:
    """Where the label is ahead, where it loses, and where neither."""
    found = standings(table, comparisons, best)
    return [" ".join(sentences(found, comparisons, best))]


def _speed(table: pd.DataFrame, labels: Sequence[str]) -> str:
    """How fast the labels are, and on how many seeds all of the summary rests."""
    speeds = table.groupby("label")["steps_per_second"].median()
    texts = [f"{label} {rough_text(speeds[label])}" for label in labels]
    own = table[table["label"].isin(labels)]
    is_narrow = own["seeds"].max() > 1 and own["seeds"].min() < max(MEASURED_COVERAGE)
    narrow = ", and with so few the intervals are too narrow (see [Scores](#scores))"
    return (
        f"Environment steps per second of training, median over environments: {listing(texts)}; "
        "they depend on what else the machine was doing. All of this rests on "
        f"{_seeds_text(own)}{narrow if is_narrow else ''}."
    )


def _seeds_text(table: pd.DataFrame) -> str:
    """``3 seeds each``, or how many of which label."""
    seeds = {str(x): figures.seeds_text(rows["seeds"]) for x, rows in table.groupby("label")}
    if len(set(seeds.values())) == 1:
        return f"{next(iter(seeds.values()))} each"
    return listing([f"{text} of {label}" for label, text in seeds.items()])


def _without_aggregates(table: pd.DataFrame, comparisons: Comparisons) -> list[str]:
    """What can be said of one environment, or of labels that have none in common."""
    lines = []
    for (env_id, protocol), rows in table.groupby(["env_id", "protocol"], sort=True):
        labels = list(rows.sort_values("final_mean", ascending=False)["label"])
        where = f"{env_id}, {protocol}" if protocol else str(env_id)
        finals = _means(comparisons, "final", str(env_id), labels)
        sentences = [f"{where}, final return: {finals}.", *verdict(rows, comparisons)]
        level = comparisons.not_behind("final", str(env_id), labels)
        if len(level) > 1:
            sentences.append(_sooner_on(comparisons, str(env_id), level))
        lines.append(" ".join(sentences))
    return lines


def _sooner_on(comparisons: Comparisons, env_id: str, level: Sequence[str]) -> str:
    """Which of the labels learned sooner on one environment."""
    first = comparisons.highest("area", env_id, level)
    behind = {
        label: comparisons.improvements["area", env_id, first, label]
        for label in level
        if comparisons.is_ahead("area", env_id, first, label)
    }
    areas = _means(comparisons, "area", env_id, level)
    return f"{_sooner_text(level, first, behind)} These areas: {areas}."


def _means(comparisons: Comparisons, score: str, env_id: str, labels: Sequence[str]) -> str:
    """``npg 400.0 (95% interval 390.0 to 410.0) and ppo 300.0 (280.0 to 320.0)``."""
    means = {label: comparisons.means[score, env_id, label] for label in labels}
    numbers = [each.numbers for each in means.values()]
    forms = forms_of(numbers, separate(numbers))
    return _estimates_text(means, dict(zip(means, forms, strict=True)))


def _normalised_text(estimates: Mapping[str, Estimate]) -> str:
    return _estimates_text(estimates, dict.fromkeys(estimates, _TWO))


def _estimates_text(estimates: Mapping[str, Estimate], forms: Mapping[str, Form]) -> str:
    """Each label's, the highest first; the first one with an interval says what that is."""
    ordered = sorted(estimates, key=lambda label: -estimates[label].value)
    named = next((label for label in ordered if estimates[label].has_interval), None)
    return listing(
        [f"{x} {interval_text(estimates[x], forms[x], with_name=x == named)}" for x in ordered]
    )
