"""All environments together: aggregates of normalised scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.normalisation import Scale
from benchmarks.numbers import Form, form_with
from benchmarks.statistics import Estimate
from benchmarks.tables import Estimates, Number, Table, Text
from reports.data import aggregates
from reports.data.aggregates import AGGREGATES, GAP, IQM, NormalizedScores
from reports.data.context import Context
from reports.data.over_time import over_time
from reports.data.standings import Standings
from reports.data.verdicts import excludes_half, not_told_apart
from reports.rendering import aggregate_figures, figures
from reports.rendering.blocks import Block, Bullets, Figure, Paragraph, Section
from reports.rendering.text import counted, curve_remarks, joined, listing


def build(context: Context) -> Section | None:
    """Aggregates over the environments that the algorithms share; None where there are none."""
    if context.runs is None or context.normalized is None:
        return None
    scores = context.normalized
    table = aggregates.aggregate_table(scores.finals)
    final = context.runs.metric.heading("final")
    blocks: list[Block] = [
        Paragraph(
            f"Normalised {final}s over {listing(scores.env_ids)}: on each a random policy has 0 "
            "and a reference 1."
        )
    ]
    if left_out := _left_out(scores):
        blocks.append(Bullets(left_out))
    if (unused := _unused_baseline(context, scores)) is not None:
        context.warn(unused)
        blocks.append(Paragraph(unused))
    blocks += [aggregates_table(table), *_figures(context, scores, table)]
    if len(scores.finals) > 1:
        blocks.append(improvements_table(context.standings, _ranking(table)))
    return Section("All environments together", [*blocks, scale_table(scores.scales)])


def aggregates_table(table: pd.DataFrame) -> Table:
    """One row per label and one column per aggregate, the highest interquartile mean first.

    :param table: as :func:`reports.data.aggregates.aggregate_table` returns it
    """
    ranking = _ranking(table)
    columns = []
    for name in AGGREGATES:
        rows = table[table["aggregate"] == name].set_index("label").loc[ranking]
        estimates = [
            Estimate(row["value"], row["low"], row["high"], int(row["seeds"]))
            for row in rows.to_dict("records")
        ]
        bold = not_told_apart(estimates, lower_is_better=name == GAP)
        columns.append(Estimates(name, estimates, bold=bold))
    seeds = table.drop_duplicates("label").set_index("label").loc[ranking, "seeds"]
    return Table(
        [Text("algorithm", ranking), *columns, Number("seeds", seeds.tolist())], name="aggregates"
    )


def _ranking(table: pd.DataFrame) -> list[str]:
    """Labels by their interquartile mean, the highest first."""
    first = table[table["aggregate"] == IQM]
    return [str(label) for label in first.sort_values("value", ascending=False)["label"]]


def improvements_table(standings: Standings, ranking: Sequence[str]) -> Table:
    """How probable it is that a run of the row's label is better than one of the column's.

    :param ranking: labels of the aggregates
    """
    columns = []
    for other in ranking:
        found = [standings.improvement(x, other) if x != other else None for x in ranking]
        # With as many decimals as it takes to see that an end of an interval is not one half.
        ends = [(end, 0.5) for each in found if each for end in (each.low, each.high)]
        bold = [each is not None and excludes_half(each) for each in found]
        columns.append(Estimates(other, found, Form(2).apart(ends).text, bold))
    return Table([Text("P(row > column)", list(ranking)), *columns], name="improvement")


def scale_table(scales: Mapping[str, Scale]) -> Table:
    """What scores 0 and what scores 1 on each environment."""
    ends = [(scale.random, scale.reference) for scale in scales.values()]
    write = [form_with(2, pair).apart([pair]).text for pair in ends]
    return Table(
        [
            Text("environment", list(scales)),
            Number("random policy (0)", [random for random, _ in ends], write),
            Number("reference (1)", [reference for _, reference in ends], write),
            Text("the reference is", [scale.reference_source for scale in scales.values()]),
        ],
        name="normalisation",
    )


def _left_out(scores: NormalizedScores) -> list[str]:
    """What is not in the aggregates, and why."""
    reasons = [
        (scores.unshared, "not all of these algorithms have run there"),
        (
            scores.without_scale,
            "no random policy has been measured there (python -m benchmarks random does, for "
            "--normalisation)",
        ),
        (scores.mixed, "the runs there have different budgets or evaluations"),
        (scores.partial, "not run on all of these environments"),
    ]
    lines = [f"Without {listing(left_out)}: {reason}." for left_out, reason in reasons if left_out]
    if scores.surplus:
        runs = [f"{counted(n, 'run')} of {label}" for label, n in scores.surplus.items()]
        lines.append(f"Without {listing(runs)}: more seeds than on other environments.")
    return lines


def _unused_baseline(context: Context, scores: NormalizedScores) -> str | None:
    """Why nothing here is compared with a baseline that was asked for; None where it is."""
    if context.baseline is None or context.baseline in scores.finals:
        return None
    return (
        f"Over all environments nothing is compared with {context.baseline}, which has not been "
        f"run on all of {', '.join(scores.env_ids)}; these have: {', '.join(scores.finals)}."
    )


def _figures(context: Context, scores: NormalizedScores, table: pd.DataFrame) -> list[Figure]:
    styles = figures.looks(list(context.scores["label"]))
    seeds = {label: len(finals) for label, finals in scores.finals.items()}
    found = [
        Figure(
            "aggregates",
            "Aggregates over environments",
            "Aggregates over environments, each with its 95% interval.",
            lambda: aggregate_figures.aggregates(table, styles),
        ),
        Figure(
            "profiles",
            "Performance profiles",
            "Performance profiles: the share of its runs that an algorithm has above each score τ.",
            lambda: aggregate_figures.profiles(aggregates.profiles(scores.finals), styles, seeds),
        ),
    ]
    found += _curves(context, scores, styles, seeds)
    if len(scores.finals) > 1:
        over = _baseline(context, scores)
        chances = {x: context.standings.improvement(x, over) for x in scores.finals if x != over}
        found.append(
            Figure(
                "improvement",
                "Probability of improvement",
                f"Probability of improvement: that a run ends above a run of {over}, on average "
                "over environments.",
                lambda: aggregate_figures.improvements(chances, over, styles, seeds),
            )
        )
    return found


def _counted(context: Context) -> str:
    """What is not in the times of training, as far as it is known."""
    assert context.runs is not None
    return ", evaluations not counted" if context.runs.are_all_of_suite else ""


def _curves(
    context: Context,
    scores: NormalizedScores,
    styles: Mapping[str, figures.Look],
    seeds: Mapping[str, int],
) -> list[Figure]:
    """The interquartile mean of all scores against steps, and against time, where both are known"""
    remarks = curve_remarks(False, context.smooth)
    assert context.runs is not None
    metric = context.runs.metric
    normalised = (
        f"{metric.noun.capitalize()}s are normalised: a random policy has 0, the reference 1."
    )
    found = []
    if scores.curves:
        caption = "Sample efficiency: the interquartile mean of all scores as training goes on."
        found.append(
            Figure(
                "efficiency",
                "Sample efficiency",
                joined([caption, normalised, *remarks]),
                lambda: aggregate_figures.efficiency(
                    aggregates.efficiency(scores.curves, scores.shares),
                    styles,
                    seeds,
                    _budget(context, scores),
                ),
            )
        )
    timed = over_time(context.drawn_evaluations, scores)
    if timed is not None:
        caption = (
            f"The interquartile mean of all scores against the time of training{_counted(context)}"
            ": at each time the last score of a run by then, up to the end of the algorithm's "
            "shortest run."
        )
        found.append(
            Figure(
                "efficiency_time",
                "Scores against training time",
                joined([caption, normalised, "Times are not.", *remarks]),
                lambda: aggregate_figures.over_time(timed, styles, seeds),
            )
        )
    return found


def _budget(context: Context, scores: NormalizedScores) -> int | None:
    """The steps that all environments have; None: they differ."""
    assert context.runs is not None
    runs = context.runs.runs
    budgets = runs.loc[runs["env_id"].isin(list(scores.env_ids)), "n_timesteps"].unique()
    return int(budgets[0]) if len(budgets) == 1 else None


def _baseline(context: Context, scores: NormalizedScores) -> str:
    """What the figure compares with: the baseline or, if it is not among them, the second best."""
    if context.compared_with in scores.finals:
        return str(context.compared_with)
    return [label for label in context.standings.ranking if label in scores.finals][1]
