"""What changed from one set of runs to another: the output of ``python -m reports compare``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from benchmarks.numbers import Form, form_of, forms_of
from benchmarks.results import frame_csv
from benchmarks.statistics import FEWEST_SEEDS, Estimate
from benchmarks.tables import Column, Estimates, Number, Table, Text, Writer
from reports.data.comparison import Comparison, Mismatch, MissingRuns, Side, Verdict
from reports.data.verdicts import FALSE_ALARMS
from reports.rendering import markdown, terminal
from reports.rendering.blocks import Block, Bullets, Paragraph, Section
from reports.rendering.text import commits_text, counted, listing

TITLES = {
    "final": "Final return",
    "best": "Best evaluation",
    "steps_per_second": "Training steps per second",
}


def render(comparison: Comparison, form: Literal["text", "md", "csv"]) -> str:
    """The comparison as text for a terminal, as Markdown or as CSV, with a newline at its end.

    The last line of a text is its :func:`summary`, unbroken.
    """
    if form == "csv":
        return frame_csv(comparison.table)
    blocks, last = blocks_of(comparison), summary(comparison)
    if form == "md":
        return markdown.document("Comparison", [*blocks, Paragraph(last)])
    return f"{terminal.document(blocks)}\n{last}\n"


def blocks_of(comparison: Comparison) -> list[Block]:
    """What A and B are, a table of each quantity, and what to know when reading them."""
    tables = [
        Section(title, [quantity_table(comparison, quantity)]) for quantity, title in TITLES.items()
    ]
    return [
        Bullets([_side_text(comparison.a), _side_text(comparison.b)]),
        *tables,
        Section("How to read this", [Bullets(remarks(comparison))]),
    ]


def summary(comparison: Comparison) -> str:
    """One line: how many have which verdict, what is worse, and what is missing in B."""
    verdicts = comparison.table["verdict"]
    counts = [
        f"{(verdicts == verdict.value).sum()} {verdict.value}"
        for verdict in Verdict
        if (verdicts == verdict.value).any()
    ]
    sentences = [f"By {TITLES[comparison.metric].lower()}: {'; '.join(counts)}."]
    worse = comparison.table[verdicts == Verdict.worse.value]
    if len(worse):
        names = [f"{row.label} on {row.env_id}" for row in worse.itertuples()]
        sentences.append(f"Worse: {listing(names)}.")
    if comparison.missing:
        allowed = ", which is allowed" if comparison.allow_missing else ""
        names = [_missing_text(runs) for runs in comparison.missing]
        sentences.append(f"Missing in B{allowed}: {listing(names)}.")
    if comparison.exit_status == 2:
        sentences.append("Nothing could be compared.")
    return " ".join(sentences)


def quantity_table(comparison: Comparison, quantity: str) -> Table:
    """One quantity of every environment and algorithm, with the verdicts if they are based on it.

    :param quantity: one of ``TITLES``
    """
    table = comparison.table
    forms = _forms(table, quantity)
    means: list[Writer] = [form.text for form, _ in forms]
    columns: list[Column] = [
        Text("environment", table["env_id"].tolist()),
        Text("algorithm", table["label"].tolist()),
        Number("seeds A", table["seeds_a"].tolist()),
        Number("seeds B", table["seeds_b"].tolist()),
        Number("mean A", table[f"{quantity}_a"].tolist(), means),
        Number("mean B", table[f"{quantity}_b"].tolist(), means),
        Estimates(
            "B − A",
            _estimates(table, f"{quantity}_difference"),
            [_signed(form) for _, form in forms],
        ),
        Estimates("P(B > A)", _estimates(table, f"{quantity}_improvement"), Form(2).text),
    ]
    if quantity == comparison.metric:
        columns.append(Text("verdict", table["verdict"].tolist()))
    return Table(columns)


def _forms(table: pd.DataFrame, quantity: str) -> list[tuple[Form, Form]]:
    """How each row's means are written, and how their difference is.

    The returns of different environments differ in size, so each environment has digits of its own.
    """
    names = [f"{quantity}_{name}" for name in ("a", "b", "difference")]
    names += [f"{quantity}_difference_{end}" for end in ("low", "high")]
    found = []
    for _, group in table.groupby("env_id", sort=False):
        values = group[names].to_numpy(dtype=np.float64)
        forms = forms_of(values[:, :2].tolist())
        found += [_forms_of_row(*row) for row in zip(forms, values.tolist(), strict=True)]
    return found


def _forms_of_row(form: Form, values: Sequence[float]) -> tuple[Form, Form]:
    """A difference that is beyond noise is shown, however small it is beside the means."""
    a, b, *difference = values
    _, low, high = difference
    if low > 0 or high < 0:
        form = form.apart([(a, b)])
    return form, form if form.shows(difference) else form_of(difference)


def _signed(form: Form) -> Writer:
    return lambda value: form.text(value, "+")


def _estimates(table: pd.DataFrame, name: str) -> list[Estimate | None]:
    ends = table[[name, f"{name}_low", f"{name}_high"]].to_numpy(dtype=np.float64).tolist()
    return [None if math.isnan(value) else Estimate(value, low, high) for value, low, high in ends]


def remarks(comparison: Comparison) -> list[str]:
    """What else A and B differ in, and how to read the numbers and verdicts."""
    return [
        *map(_mismatch_text, comparison.mismatches),
        *_failures(comparison.a),
        *_failures(comparison.b),
        *_reading(comparison),
    ]


def _side_text(side: Side) -> str:
    runs = side.data.runs
    commits = commits_text(zip(runs["commit"], runs["dirty"], strict=True))
    return f"{side.name}: {side.root}, {counted(len(runs), 'run')}, commit {commits}"


def _mismatch_text(mismatch: Mismatch) -> str:
    differing = [
        f"{name} is {a or 'not set'} in A, {b or 'not set'} in B"
        for name, (a, b) in mismatch.settings.items()
    ]
    hash_a, hash_b = mismatch.configs
    hashes = f"configuration {hash_a} in A, {hash_b} in B, which have the same hyperparameters"
    return (
        f"{mismatch.label} on {mismatch.env_id} was not run with the same settings: "
        f"{'; '.join(differing) or hashes}."
    )


def _missing_text(missing: MissingRuns) -> str:
    n_failed = missing.n_failed
    what = f"{counted(n_failed, 'run')} failed there" if n_failed else "no run there"
    return f"{missing.label} on {missing.env_id} ({what})"


def _failures(side: Side) -> list[str]:
    return [
        f"{side.name}: {counted(len(group), 'run')} of {label} on {env_id} failed."
        for (env_id, label), group in side.data.failures.groupby(["env_id", "label"], sort=True)
    ]


def _reading(comparison: Comparison) -> list[str]:
    metric = TITLES[comparison.metric].lower()
    alarms = {n: share for n, share in FALSE_ALARMS.items() if n >= FEWEST_SEEDS}
    shares = listing([f"{share:.0%} with {n} seeds" for n, share in alarms.items()])
    lines = [
        "B − A: difference of the means. P(B > A): probability that a run of B is higher than a "
        "run of A. In brackets: 95% bootstrap intervals over seeds, those of A and B independent.",
        f"Better or worse: the interval of P(B > A) by {metric} excludes 0.5, with at least "
        f"{FEWEST_SEEDS} seeds a side. Where nothing has changed, this still says worse in "
        f"{shares} a side, and better as often; of many comparisons some do by chance.",
    ]
    if comparison.tolerance:
        lines.append(
            "Within tolerance: the mean of B is below that of A by at most "
            f"{comparison.tolerance:.3g} times the size of A's mean."
        )
    lines += _separations(comparison)
    return [*lines, "Speed depends on what else the machines were doing, and decides nothing."]


def _separations(comparison: Comparison) -> list[str]:
    """What an interval of P(B > A) without width is worth, by the numbers of seeds behind it."""
    table = comparison.table
    compared = table[(table["seeds_a"] > 1) & (table["seeds_b"] > 1)]
    apart = compared[compared[f"{comparison.metric}_improvement"].isin([0.0, 1.0])]
    sizes = sorted(set(zip(apart["seeds_a"].tolist(), apart["seeds_b"].tolist(), strict=True)))
    return [
        f"All of one side above all of the other, {n_a} seeds against {n_b}: the interval of "
        f"P(B > A) has no width, yet this happens by chance once in {math.comb(n_a + n_b, n_a):,} "
        "times each way."
        for n_a, n_b in sizes
    ]
