"""The report in a few sentences, and who beats whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.numbers import Form, form_of
from benchmarks.statistics import FEWEST_SEEDS, interquartile_mean
from benchmarks.tables import Inline, Link, Strong, Table, Text, Verdicts
from reports.data import aggregates
from reports.data.context import Context
from reports.data.missing import all_failed
from reports.data.standings import Standings
from reports.data.verdicts import AHEAD, BEHIND, LEVEL, TOO_FEW, Verdict
from reports.rendering import figures
from reports.rendering.blocks import Block, Bullets, Figure, Paragraph, Section
from reports.rendering.curves import Curves
from reports.rendering.text import (
    MOST_LISTED,
    counted,
    curve_remarks,
    estimate_text,
    joined,
    listing,
    named,
    percent,
)

# Who is best, by what there is to go by:
BEST = {
    "scores": "{best} has the highest interquartile mean, {iqm}, over the {n} environments that "
    "{who} share.",
    "some": "Of the algorithms with at least {few} seeds, {best} has the highest interquartile "
    "mean, {iqm}, over the {n} environments that {who} share.",
    "returns": "{best} is first by the probability of improvement over the {n} environments that "
    "{who} share.",
    "pairs": "No two environments are shared by all algorithms. {best} is first by the "
    "probability of improvement, averaged over the environments that two share.",
    "one": "{best} is first by the probability of improvement on {env_id}, with a mean {final} "
    "of {mean}.",
    "alone": "{best} is the only algorithm, so nothing is compared.",
    "lone scores": "{best} is the only algorithm, with an interquartile mean of {iqm} over {n} "
    "environments.",
    "none": "No two algorithms have runs that compare, so nothing is compared.",
}
TIED = (
    "{tied} have the highest interquartile mean, {iqm}, over the {n} environments that {who} share."
)
# Where it is compared with another one, if not over the environments of the aggregates:
OVER = "Over the {n} environments that {best} and {other} share, "
ON = "On {env_id}, "
# How it stands to that one, by the verdict:
AGAINST = {
    AHEAD: "{best} is ahead of {other}",
    LEVEL: "{best} and {other} are level",
    BEHIND: "{best} is behind {other}",
    TOO_FEW: "{best} and {other} have too few seeds for a verdict",
}
GAP = (
    ": the interquartile mean of {best} differs by {gap}, and a run of it ends {higher} with "
    "probability {chance}."
)
CHANCE = ": a run of {best} ends {higher} with probability {chance}."
# Where it is behind:
BEHIND_ON = "{best} is behind another algorithm on {n} of {n_all} environments: {where}."
NEVER_BEHIND = "No algorithm is ahead of {best} on any environment."

# The row of the pairs:
PAIRWISE = "pairwise, over those shared with {over}"

_TWO = Form(2)  # decimals of normalised scores


def build(context: Context) -> Section | None:
    """Who is best and by how much, where it is behind, what is missing, and who beats whom."""
    if context.runs is None:
        return None
    blocks: list[Block] = [Bullets(sentences(context))]
    table = who_beats_whom(context)
    if table is not None:
        blocks.append(Section("Who beats whom", [Paragraph(_caption(context, table)), table]))
    return Section("Summary", [*blocks, _learning_curves(context)])


def sentences(context: Context) -> list[Inline]:
    """At most five."""
    best = context.standings.ranking[0]
    other = _other(context, best)
    said: list[Inline] = [_best(context, best)]
    if other is not None:
        said += [_against(context, best, other), _behind(context, best)]
    if (pair := context.standings.closest) is not None:
        said.append(_pairwise(context, *pair))
    # Where there are no aggregates, the best one may be one of the pair.
    return [*dict.fromkeys(said), *_missing(context)]


def _best(context: Context, best: str) -> str:
    standings, comparisons = context.standings, context.comparisons
    facts = {"best": best, "n": len(standings.env_ids), "who": _who(standings)}
    is_alone = len(standings.ranking) == 1
    if standings.is_normalised:
        iqm = estimate_text(aggregates.iqm(standings.group[best]), _TWO.text)
        # One with fewer seeds may be higher, which is no reason to prefer it.
        seeds = [len(scores) for scores in standings.group.values()]
        kind = "some" if min(seeds) < FEWEST_SEEDS <= max(seeds) else "scores"
        kind = "lone scores" if is_alone else kind
        shown = {
            x: _TWO.text(float(interquartile_mean(s, None))) for x, s in standings.group.items()
        }
        tied = sorted(label for label in shown if shown[label] == shown[best])
        if kind == "scores" and len(tied) > 1:
            return TIED.format(**facts, tied=listing(tied), iqm=shown[best])
        return BEST[kind].format(**facts, iqm=iqm, few=FEWEST_SEEDS)
    if is_alone or standings.group:
        return BEST["alone" if is_alone else "returns"].format(**facts)
    env_ids = comparisons.env_ids
    if len(env_ids) != 1:
        return BEST["pairs" if env_ids else "none"].format(**facts)
    mean = comparisons.means["final", env_ids[0], best]
    text = estimate_text(mean, form_of(mean.numbers).text)
    assert context.runs is not None
    final = context.runs.metric.heading("final")
    return BEST["one"].format(**facts, env_id=env_ids[0], final=final, mean=text)


def _who(standings: Standings) -> str:
    """Who shares the environments of the aggregates."""
    labels = list(standings.group)
    is_all = len(labels) == len(standings.ranking)
    return "all algorithms" if is_all else named(labels, "algorithm")


def _other(context: Context, best: str) -> str | None:
    """What the best one is compared with: the baseline, or if that is itself, the next one."""
    order = [context.compared_with, *context.standings.ranking]
    return next((x for x in order if x and context.comparisons.env_ids_of(best, x)), None)


def _against(context: Context, best: str, other: str) -> str:
    """How the best one stands to another one, over as many environments as possible."""
    standings = context.standings
    verdict = standings.overall(best, other)
    if verdict is None and len(standings.shared(best, other)) > 1:
        return _pairwise(context, best, other)
    if verdict is None:
        (env_id, *_) = context.comparisons.env_ids_of(best, other)
        verdict = context.comparisons.verdict(env_id, best, other)
        assert verdict is not None
        return ON.format(env_id=env_id) + _stands(context, best, other, verdict, CHANCE)
    if not standings.is_normalised:
        return _stands(context, best, other, verdict, CHANCE)
    gap = aggregates.iqm_difference(standings.group[best], standings.group[other])
    form = _TWO.apart([(gap.low, 0.0), (gap.high, 0.0)])
    text = estimate_text(gap, lambda end: form.text(end, "+"))
    return _stands(context, best, other, verdict, GAP, gap=text)


def _pairwise(context: Context, label: str, other: str) -> str:
    """How two labels stand to each other over the environments that they share."""
    verdict = context.standings.pairwise(label, other)
    assert verdict is not None
    n = len(context.standings.shared(label, other))
    where = OVER.format(n=n, best=label, other=other)
    return where + _stands(context, label, other, verdict, CHANCE)


def _stands(
    context: Context, best: str, other: str, verdict: Verdict, measures: str, **facts: str
) -> str:
    assert context.runs is not None
    template = AGAINST[verdict.word] + measures
    chance = estimate_text(verdict.improvement, percent(verdict.improvement, "%"))
    higher = context.runs.metric.higher
    return template.format(best=best, other=other, chance=chance, higher=higher, **facts)


def _behind(context: Context, best: str) -> str:
    """On which environments which labels are ahead of the best one."""
    comparisons = context.comparisons
    ahead: dict[str, list[str]] = {}
    compared = set()
    for score, env_id, label, other in comparisons.improvements:
        if score == "final" and other == best:
            compared.add(env_id)
            if comparisons.is_ahead("final", env_id, label, best):
                ahead.setdefault(env_id, []).append(label)
    if not ahead:
        return NEVER_BEHIND.format(best=best)
    texts = [f"{env_id} ({named(labels, 'algorithm')})" for env_id, labels in ahead.items()]
    more = [f"{len(texts) - MOST_LISTED} more"] if len(texts) > MOST_LISTED else []
    where = listing([*texts[:MOST_LISTED], *more])
    return BEHIND_ON.format(best=best, n=len(ahead), n_all=len(compared), where=where)


def _missing(context: Context) -> list[Inline]:
    """What is missing, if anything is."""
    data, lacking = context.runs, context.missing
    assert data is not None
    texts = [
        f"every run of {each.algo}{f' on {each.env_id}' if each.env_id else ''} failed"
        for each in all_failed(data)
    ]
    if data.broken:
        texts.append(f"{len(data.broken)} left out as unreadable")
    if data.without_metric:
        texts.append(f"{counted(len(data.without_metric), 'run')} left out without the metric")
    if len(data.failures):
        texts.append(f"{counted(len(data.failures), 'run')} failed")
    if lacking.is_uneven:
        texts.append("not every algorithm has the same seeds and environments")
    elif lacking.is_unmet:
        texts.append("not every run that was asked for is there")
    if not texts:
        return []
    link = Link("What is missing", "#what-is-missing")
    return [(Strong("Incomplete:"), f" {listing(texts)}; see ", link, ".")]


def who_beats_whom(context: Context) -> Table | None:
    """A row per environment and a column per label: how it stands to the baseline.

    Rows over several environments come last: over those of the aggregates, and if not all labels
    share these alone, pairwise. None: nothing is compared with the baseline.
    """
    over = context.compared_with
    if over is None:
        return None
    others = [label for label in context.standings.ranking if label != over]
    rows = {name: row for name, row in _rows(context, over, others) if any(row)}
    columns = []
    for i, label in enumerate(others):
        cells = [row[i] for row in rows.values()]
        decided = [
            None if cell is None or cell.word == TOO_FEW else cell.improvement for cell in cells
        ]
        columns.append(
            Verdicts(
                label,
                decided,
                [percent(each) if each else str for each in decided],
                words=[cell.word if cell else None for cell in cells],
                strong=(AHEAD, BEHIND),
            )
        )
    table = Table([Text("environment", list(rows)), *columns], name="who-beats-whom")
    shown = table.without_empty()
    return shown if len(shown.columns) > 1 else None


def _rows(
    context: Context, over: str, others: Sequence[str]
) -> list[tuple[Inline, list[Verdict | None]]]:
    standings, comparisons = context.standings, context.comparisons
    rows: list[tuple[Inline, list[Verdict | None]]] = [
        (env_id, [comparisons.verdict(env_id, label, over) for label in others])
        for env_id in comparisons.env_ids
    ]
    if standings.env_ids:
        name = f"over the {len(standings.env_ids)} that {_who(standings)} share"
        rows.append((Strong(name), [standings.overall(label, over) for label in others]))
    if any(standings.shared(label, over) not in ([], standings.env_ids) for label in others):
        chances = [standings.pairwise(label, over) for label in others]
        rows.append((Strong(PAIRWISE.format(over=over)), chances))
    return rows


def _caption(context: Context, table: Table) -> str:
    """What the table shows, and what it leaves out."""
    over, standings = context.compared_with, context.standings
    assert over is not None
    assert context.runs is not None
    higher = context.runs.metric.higher
    names = list(table.columns[0].values)
    said = [
        f"Each algorithm beside {over}: the probability in percent that a run of it ends {higher} "
        f"than one of {over}, with its 95% interval, and what that says."
    ]
    if Strong(PAIRWISE.format(over=over)) in names:
        counts: dict[int, list[str]] = {}
        for label in standings.ranking:
            if label != over:
                counts.setdefault(len(standings.shared(label, over)), []).append(label)
        shared = [
            f"{counted(n, 'environment')} with {named(labels, 'algorithm')}"
            for n, labels in sorted(counts.items())
            if n > 1
        ]
        said.append(f"Pairwise, {over} shares {listing(shared)}.")
    every = sorted(set(context.runs.runs["env_id"]))
    if absent := [x for x in every if x not in names]:
        said.append(f"Nothing is compared with {over} on {listing(absent)}.")
    return " ".join(said)


def _learning_curves(context: Context) -> Figure:
    assert context.runs is not None
    metric = context.runs.metric
    axis = replace(figures.STEPS, values=metric.axis_label)
    curves, styles = context.learning_curves, figures.looks(list(context.scores["label"]))
    runs = context.drawn_evaluations if context.show_seeds else None
    caption = (
        f"Learning curves: the mean over seeds of the {metric.noun}, with its 95% interval as a "
        "band."
    )
    return Figure(
        "learning_curves",
        "Learning curves of all environments",
        joined([caption, *curve_remarks(context.show_seeds, context.smooth)]),
        lambda: figures.learning_curves(curves, styles, axis, runs),
        data=Curves(curves, styles, context.drawn_evaluations, axis, show_runs=context.show_seeds),
    )
