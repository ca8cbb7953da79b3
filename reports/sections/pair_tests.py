"""Tests of each pair of algorithms, corrected for how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.numbers import Form, form_of, forms_of
from benchmarks.results import frame_csv
from benchmarks.statistics import Estimate
from benchmarks.tables import Estimates, Inline, Link, Number, Table, Text, Writer
from reports.data.context import Context
from reports.data.pair_tests import PairTest, PairTests
from reports.data.power import MOST_SEEDS, TARGET
from reports.data.significance import ALPHA, smallest_p
from reports.rendering.blocks import Paragraph, Section
from reports.rendering.text import counted

FILE = "tests.csv"

# What came of it:
IMPOSSIBLE = (
    "No difference can survive the correction for {n}, however large: it asks for p ≤ {level:.2g}, "
    "and with so few seeds p is at least {least:.2g}. It would take {seeds} seeds a side."
)
NONE = "Of {n}, no difference survives the correction."
SOME = "Of {n}, {k} show a difference that survives the correction (bold if it is in the table)."
PAIRED = "Runs of the same seed are paired in {k} of them; see How to read this for what that asks."


def build(context: Context) -> Section | None:
    """What the tests say of each algorithm beside the baseline; None: no pair has enough seeds."""
    if context.runs is None or not context.pair_tests.tests:
        return None
    found, over = context.pair_tests, context.compared_with
    assert over is not None
    shown = found.with_other(over)
    first: Inline = (
        f"The {context.runs.metric.heading('final')} of each algorithm beside that of {over}: how "
        "far apart, and the p-value of a permutation test, as it is and corrected by Holm's "
        "method. In the last columns the chance that such a test by itself finds a difference of "
        f"this size, and the seeds a side that this would take for {TARGET:.0%}. Every pair as "
        "data: ",
        Link(FILE, FILE),
        ".",
    )
    return Section(
        "Tests of pairs",
        [Paragraph(first), Paragraph(outcome(found)), *([tests_table(shown)] if shown else [])],
        files={FILE: frame_csv(found.frame(), "%.10g")},
    )


def outcome(found: PairTests) -> str:
    """How many differences survive, or why none can."""
    n = counted(len(found.tests), "test")
    k = sum(test.survives for test in found.tests)
    if not found.can_survive:
        said = IMPOSSIBLE.format(
            n=n,
            level=ALPHA / len(found.tests),
            least=min(smallest_p(*test.seeds, test.is_paired) for test in found.tests),
            seeds=found.fewest_seeds,
        )
    else:
        said = SOME.format(n=n, k=k) if k else NONE.format(n=n)
    if found.asked_for_pairs:
        said += " " + PAIRED.format(k=sum(test.is_paired for test in found.tests))
    return said


def tests_table(tests: Sequence[PairTest]) -> Table:
    """One row per environment and algorithm; what survives the correction has a bold p-value."""
    differences = [test.difference for test in tests]
    effects = [test.effect for test in tests]
    survives = [test.survives for test in tests]
    return Table(
        [
            Text("environment", [test.pair.env_id for test in tests]),
            Text("algorithm", [test.pair.label for test in tests]),
            Text("seeds", [_seeds(test) for test in tests]),
            Estimates("difference", differences, _writers(tests)),
            # Far larger where hardly anything varies, which the others' digits should not bear.
            Estimates("Hedges' g", effects, [form_of(each.numbers).text for each in effects]),
            Number("p", [test.p for test in tests], p_text),
            Number("p (Holm)", [test.corrected for test in tests], p_text, bold=survives),
            Number("found", [_unless_found(test, test.power) for test in tests], "{:.0%}".format),
            Number("seeds for 80%", [_unless_found(test, _needed(test)) for test in tests]),
        ],
        name="tests",
    )


def p_text(p: float) -> str:
    """A p-value with three decimals, or as a power of ten."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _seeds(test: PairTest) -> str:
    ours, theirs = test.seeds
    return counted(ours, "pair") if test.is_paired else f"{ours}+{theirs}"


def _writers(tests: Sequence[PairTest]) -> list[Writer]:
    """How each difference is written: environments have digits of their own."""
    cells: dict[str, list[Estimate]] = {}
    for test in tests:
        cells.setdefault(test.pair.env_id, []).append(test.difference)
    forms = {
        env_id: iter(forms_of([each.numbers for each in of_env]))
        for env_id, of_env in cells.items()
    }
    return [_signed(next(forms[test.pair.env_id])) for test in tests]


def _signed(form: Form) -> Writer:
    return lambda value: form.text(value, "+")


def _needed(test: PairTest) -> float | str:
    if math.isnan(test.power):  # nothing varies
        return math.nan
    return f"> {MOST_SEEDS:,}" if test.seeds_needed is None else test.seeds_needed


def _unless_found(test: PairTest, value: float | str) -> float | str | None:
    """Of a difference that is found, it is of no interest how likely that was."""
    return None if test.survives else value
