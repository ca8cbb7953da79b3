"""Two sets of runs, of two versions of the code say: what changed beyond noise.

Runs are matched by environment and algorithm. Final return, best evaluation and training speed are
compared by the difference of the means over seeds and by P(B > A), the probability that a run of B
is higher than a run of A, each with rliable's 95% percentile bootstrap interval.

The seeds of A and B are resampled independently of each other, also where both have the same
numbers: training is chaotic, so that after any change, be it in how a sum is rounded, two runs of
one seed have no more in common than two runs of different seeds.

How much a verdict is worth depends on the seeds, see :data:`reports.verdicts.FALSE_ALARMS`. Where
every run of one side is above every run of the other, as happens by chance once in 20 times with 3
seeds against 3, P(B > A) is 0 or 1 in every resample: its interval then has no width, which is not
certainty.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.names import markdown, restored
from benchmarks.numbers import Form, differ, form_of, forms_of
from benchmarks.statistics import REPETITIONS, improvement, interval
from reports.exports import frame_csv
from reports.runs import (
    ReportError,
    RunData,
    describe_settings,
    load,
    runs_text,
    setting_text,
)
from reports.scores import run_scores, speeds
from reports.tables import Table
from reports.verdicts import FALSE_ALARMS
from reports.wording import commit_lines, listing

QUANTITIES = {
    "final": "final return",
    "best": "best evaluation",
    "steps_per_second": "training steps per second",
}
_ESTIMATES = ["a", "b", "difference", "difference_low", "difference_high"]
_ESTIMATES += ["improvement", "improvement_low", "improvement_high"]
COLUMNS = ["env_id", "label", "algo", "config_a", "config_b", "seeds_a", "seeds_b", "verdict"]
COLUMNS += [f"{quantity}_{name}" for quantity in QUANTITIES for name in _ESTIMATES]


class Metric(str, Enum):
    """What the verdicts are by."""

    final = "final"
    best = "best"


class Format(str, Enum):
    """How a comparison is written."""

    text = "text"
    md = "md"
    csv = "csv"


class Verdict(str, Enum):
    """What is said of one environment and algorithm."""

    better = "better"
    worse = "worse"
    tolerated = "worse, within tolerance"
    unchanged = "no change beyond noise"
    identical = "identical"
    too_few = "too few seeds"
    only_a = "only in A"
    only_b = "only in B"


_JUDGED = [Verdict.better, Verdict.worse, Verdict.tolerated, Verdict.unchanged, Verdict.identical]


@dataclass(frozen=True)
class Comparison:
    """``table`` has one row per environment and algorithm, with ``COLUMNS``.

    A difference is B minus A, an improvement P(B > A); intervals are NaN below two seeds on a side,
    and everything of a side that has no run. ``sides`` says what A and B are, ``remarks`` what
    else they differ in and how the verdicts are to be read. ``missing`` names what A has and B has
    no finished run of, and whether it failed there; ``allow_missing``: that is accepted.
    """

    table: pd.DataFrame
    metric: Metric
    sides: Sequence[str]
    remarks: Sequence[str]
    missing: Sequence[str] = ()
    allow_missing: bool = False

    @property
    def exit_status(self) -> int:
        """What a script is to know of it.

        1 where something is worse, or is missing in B and that is not allowed; 2 where there is no
        verdict on anything; otherwise 0.
        """
        verdicts = set(self.table["verdict"])
        if Verdict.worse.value in verdicts:
            return 1
        if not verdicts & {verdict.value for verdict in _JUDGED}:
            return 2
        return 1 if self.missing and not self.allow_missing else 0


def compare(
    a: Path,
    b: Path,
    metric: Metric = Metric.final,
    tolerance: float = 0.0,
    allow_missing: bool = False,
) -> Comparison:
    """Compare the runs below ``b`` with those below ``a``.

    :param tolerance: a mean of B that is less than A's by at most this share of A's is not worse
    :param allow_missing: B need not have all that A has
    :raises ReportError: see :func:`reports.runs.load`; different budgets or evaluation protocols
        in A and B; a tolerance that is negative or not finite
    :raises benchmarks.results.BrokenRunError: a run folder that cannot be read
    """
    if not 0 <= tolerance < math.inf:
        raise ReportError(f"--tolerance: must be a finite number of at least 0, got {tolerance}")
    data_a, data_b = _load("A", a), _load("B", b)
    matches = match(data_a.runs, data_b.runs)
    refuse_different_protocols(
        data_a.runs, data_b.runs, sorted({env_id for env_id, *labels in matches if all(labels)})
    )
    runs_a, runs_b = _scored_runs(data_a), _scored_runs(data_b)
    rows, remarks = [], []
    for env_id, label_a, label_b in matches:
        ours, theirs = _of(runs_a, env_id, label_a), _of(runs_b, env_id, label_b)
        same = _evaluations(data_a, env_id, label_a).equals(_evaluations(data_b, env_id, label_b))
        row = _row(ours, theirs, max(label_a or "", label_b or "", key=len))
        rows.append({**row, "verdict": _verdict(row, same, metric, tolerance).value})
        if len(ours) and len(theirs):
            remarks += _settings_remarks(row, ours, theirs)
    table = pd.DataFrame(rows, columns=COLUMNS)
    remarks += _failure_remarks("A", data_a) + _failure_remarks("B", data_b)
    return Comparison(
        table=table,
        metric=metric,
        sides=[_side_text("A", a, data_a.runs), _side_text("B", b, data_b.runs)],
        remarks=remarks + _reading_remarks(table, metric, tolerance),
        missing=_missing(table, data_b),
        allow_missing=allow_missing,
    )


def _load(name: str, root: Path) -> RunData:
    try:
        return load(root)
    except ReportError as error:
        raise ReportError(f"{name}: {error}") from None


def match(a: pd.DataFrame, b: pd.DataFrame) -> list[tuple[str, str | None, str | None]]:
    """Environment, label in A and label in B of what belongs together; None where one has nothing.

    An algorithm with one configuration on each side belongs together whatever the configurations
    are. Where a side has several, those with the same hash do, and of the others those with the
    same label.

    :param a: rows of runs, as in :class:`reports.runs.RunData`; ``b`` likewise
    """
    labels_a, labels_b = _labels(a), _labels(b)
    return [
        (env_id, label_a, label_b)
        for env_id, algo in sorted({*labels_a, *labels_b})
        for label_a, label_b in _match_labels(
            labels_a.get((env_id, algo), {}), labels_b.get((env_id, algo), {})
        )
    ]


def _labels(runs: pd.DataFrame) -> dict[tuple[str, str], dict[str, str]]:
    """``(env_id, algo)`` to its configurations, and those to their labels."""
    return {
        (str(env_id), str(algo)): dict(zip(group["config"], group["label"], strict=True))
        for (env_id, algo), group in runs.groupby(["env_id", "algo"], sort=True)
    }


def _match_labels(
    a: Mapping[str, str], b: Mapping[str, str]
) -> list[tuple[str | None, str | None]]:
    """Configuration to label on each side, as pairs of labels."""
    if len(a) == len(b) == 1:
        return [(next(iter(a.values())), next(iter(b.values())))]
    pairs: list[tuple[str | None, str | None]] = [
        (label, b[config]) for config, label in a.items() if config in b
    ]
    others_a = sorted(label for config, label in a.items() if config not in b)
    others_b = sorted(label for config, label in b.items() if config not in a)
    pairs += [(label, label if label in others_b else None) for label in others_a]
    pairs += [(None, label) for label in others_b if label not in others_a]
    return pairs


def refuse_different_protocols(a: pd.DataFrame, b: pd.DataFrame, env_ids: Sequence[str]) -> None:
    """Scores are comparable only at the same budget and the same evaluation protocol.

    :param a: rows of runs, each environment with one budget and protocol; ``b`` likewise
    :raises ReportError: naming every difference on ``env_ids``
    """
    lines = []
    for env_id in env_ids:
        first_a = a[a["env_id"] == env_id].iloc[0]
        first_b = b[b["env_id"] == env_id].iloc[0]
        for what, text_a, text_b in [
            ("budget", *(f"n_timesteps={run['n_timesteps']:,}" for run in (first_a, first_b))),
            ("evaluation", *(describe_settings(run["evaluation"]) for run in (first_a, first_b))),
        ]:
            if text_a != text_b:
                lines += [f"  {env_id}, {what}:", f"    A: {text_a}", f"    B: {text_b}"]
    if lines:
        raise ReportError(
            "A and B have different budgets or evaluation protocols and cannot be compared\n"
            + "\n".join(lines)
        )


def estimates(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The difference of the means over seeds, B minus A, and P(B > A), with 95% intervals.

    :param a: shape ``(n_seeds_of_a, n_columns)``; ``b`` likewise, each of at least one seed
    :return: two arrays of shape ``(3, n_columns)``: value, lower and upper end; the ends are NaN
        where a side has one seed
    """

    def statistics(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([b.mean(axis=0) - a.mean(axis=0), improvement(b, a)])

    values = statistics(a, b)
    low = high = np.full_like(values, np.nan)
    if min(len(a), len(b)) > 1:
        low, high = interval((a, b), statistics, REPETITIONS)
    difference, probability = np.split(np.stack([values, low, high]), 2, axis=1)
    return difference, probability


def _scored_runs(data: RunData) -> pd.DataFrame:
    """The rows of runs with ``QUANTITIES``."""
    scored = data.runs.merge(
        run_scores(data.evaluations), on=["env_id", "label", "seed"], validate="one_to_one"
    )
    return scored.assign(steps_per_second=speeds(scored))


def _of(frame: pd.DataFrame, env_id: str, label: str | None) -> pd.DataFrame:
    return frame[(frame["env_id"] == env_id) & (frame["label"] == label)]


def _evaluations(data: RunData, env_id: str, label: str | None) -> pd.DataFrame:
    """What is the same in two runs that went the same way."""
    columns = ["seed", "timesteps", "return_mean", "return_std", "length_mean", "episodes"]
    return _of(data.evaluations, env_id, label)[columns].reset_index(drop=True)


def _row(a: pd.DataFrame, b: pd.DataFrame, label: str) -> dict[str, Any]:
    """A row of the table but for its verdict, from the scored runs of both sides."""
    first = (a if len(a) else b).iloc[0]
    row: dict[str, Any] = {
        "env_id": first["env_id"],
        "label": label,
        "algo": first["algo"],
        "config_a": a["config"].iloc[0] if len(a) else None,
        "config_b": b["config"].iloc[0] if len(b) else None,
        "seeds_a": len(a),
        "seeds_b": len(b),
    }
    values_a, values_b = (runs[list(QUANTITIES)].to_numpy(dtype=np.float64) for runs in (a, b))
    difference = probability = np.full((3, len(QUANTITIES)), np.nan)
    if len(a) and len(b):
        difference, probability = estimates(values_a, values_b)
    for i, quantity in enumerate(QUANTITIES):
        means = [v[:, i].mean() if len(v) else np.nan for v in (values_a, values_b)]
        numbers = [*means, *difference[:, i], *probability[:, i]]
        row.update({f"{quantity}_{name}": x for name, x in zip(_ESTIMATES, numbers, strict=True)})
    return row


def _verdict(row: Mapping[str, Any], same: bool, metric: Metric, tolerance: float) -> Verdict:
    """The verdict on a row, by the metric's P(B > A); ``same``: every evaluation is the same."""
    if row["seeds_b"] == 0:
        return Verdict.only_a
    if row["seeds_a"] == 0:
        return Verdict.only_b
    if same:
        return Verdict.identical
    if min(row["seeds_a"], row["seeds_b"]) < 2:
        return Verdict.too_few
    name = metric.value
    if not differ(row[f"{name}_a"], row[f"{name}_b"]):
        return Verdict.unchanged
    if row[f"{name}_improvement_low"] > 0.5:
        return Verdict.better
    if row[f"{name}_improvement_high"] < 0.5:
        least = row[f"{name}_a"] - tolerance * abs(row[f"{name}_a"])
        forgiven = tolerance > 0 and row[f"{name}_b"] >= least
        return Verdict.tolerated if forgiven else Verdict.worse
    return Verdict.unchanged


def _missing(table: pd.DataFrame, b: RunData) -> list[str]:
    """What A has and B has no finished run of: ``trpo on Ant-v5 (3 runs failed there)``.

    :param table: as in :class:`Comparison`
    """
    texts = []
    for row in table[table["verdict"] == Verdict.only_a.value].to_dict("records"):
        runs, failed = (
            frame[(frame["env_id"] == row["env_id"]) & (frame["algo"] == row["algo"])]
            for frame in (b.runs, b.failures)
        )
        # A failure of a configuration that has finished runs as well is none of this one.
        n_failed = (~failed["config"].isin(runs["config"])).sum()
        what = f"{runs_text(n_failed)} failed there" if n_failed else "no run there"
        texts.append(f"{row['label']} on {row['env_id']} ({what})")
    return texts


def render(comparison: Comparison, form: Format) -> str:
    """The comparison as text for a terminal, as Markdown or as CSV, with a newline at its end."""
    if form is Format.csv:
        return frame_csv(comparison.table)
    tables = {
        title[0].upper() + title[1:]: quantity_table(comparison, quantity)
        for quantity, title in QUANTITIES.items()
    }
    if form is Format.md:
        parts = ["# Comparison", _bullets(comparison.sides)]
        for title, table in tables.items():
            parts += [f"## {title}", table.markdown()]
        parts += ["## How to read this", _bullets(comparison.remarks)]
    else:
        parts = ["\n".join(comparison.sides)]
        parts += [f"{title}\n{_aligned_text(table)}" for title, table in tables.items()]
        parts.append("\n".join(_wrapped(remark) for remark in comparison.remarks))
    text = "\n\n".join([*parts, summary(comparison)]) + "\n"
    return markdown(text) if form is Format.md else restored(text)


def summary(comparison: Comparison) -> str:
    """One line: how many have which verdict, what is worse, and what is missing in B."""
    verdicts = comparison.table["verdict"]
    counts = [
        f"{(verdicts == verdict.value).sum()} {verdict.value}"
        for verdict in Verdict
        if (verdicts == verdict.value).any()
    ]
    line = f"By {QUANTITIES[comparison.metric.value]}: {'; '.join(counts)}."
    worse = comparison.table[verdicts == Verdict.worse.value]
    names = [f"{row.label} on {row.env_id}" for row in worse.itertuples()]
    if names:
        line += f" Worse: {listing(names)}."
    if comparison.missing:
        allowed = ", which is allowed" if comparison.allow_missing else ""
        line += f" Missing in B{allowed}: {listing(comparison.missing)}."
    return f"{line} Nothing could be compared." if comparison.exit_status == 2 else line


def quantity_table(comparison: Comparison, quantity: str) -> Table:
    """One quantity of every environment and algorithm; with the verdicts where they are by it."""
    table = comparison.table
    names = ["a", "b", "difference", "difference_low", "difference_high"]
    texts: list[list[str]] = []
    for _, group in table.groupby("env_id", sort=False):  # of returns of different sizes
        values = group[[f"{quantity}_{name}" for name in names]].to_numpy(dtype=np.float64)
        forms = forms_of(values[:, :2].tolist())
        texts += [_row_texts(*row) for row in zip(forms, values.tolist(), strict=True)]
    mean_a, mean_b, *difference = (list(column) for column in zip(*texts, strict=True))
    probability = [
        [_number(Form(2), x) for x in table[f"{quantity}_improvement{end}"]]
        for end in ("", "_low", "_high")
    ]
    columns = {
        "environment": list(table["env_id"]),
        "algorithm": list(table["label"]),
        "seeds A": [str(n) for n in table["seeds_a"]],
        "seeds B": [str(n) for n in table["seeds_b"]],
        "mean A": mean_a,
        "mean B": mean_b,
        "B − A": _interval_cells(*difference),
        "P(B > A)": _interval_cells(*probability),
    }
    align = "llrrrrrr"
    if quantity == comparison.metric.value:
        columns["verdict"] = list(table["verdict"])
        align += "l"
    return Table(list(columns), list(zip(*columns.values(), strict=True)), align)


def _row_texts(form: Form, values: Sequence[float]) -> list[str]:
    """The means of A and B, their difference and its interval.

    A difference that is beyond noise is shown, however small it is beside the means.
    """
    a, b, difference, low, high = values
    if low > 0 or high < 0:
        form = form.apart([(a, b)])
    shown = form if form.shows([difference, low, high]) else form_of([difference, low, high])
    signed = [_number(shown, value, "+") for value in (difference, low, high)]
    return [_number(form, a), _number(form, b), *signed]


def _number(form: Form, value: float, sign: str = "") -> str:
    """Empty for NaN."""
    return "" if math.isnan(value) else form.text(value, sign)


def _interval_cells(values: list[str], lows: list[str], highs: list[str]) -> list[str]:
    """A column of ``value [low, high]``, its numbers and brackets one below the other."""
    value_width, low_width, high_width = (
        max(len(text) for text in texts) for texts in (values, lows, highs)
    )
    intervals = [
        f"[{low:>{low_width}}, {high:>{high_width}}]" if low else ""
        for low, high in zip(lows, highs, strict=True)
    ]
    width = max(len(text) for text in intervals)
    return [
        f"{value:>{value_width}} {text:{width}}"
        for value, text in zip(values, intervals, strict=True)
    ]


def _aligned_text(table: Table) -> str:
    """The table for a terminal, its columns two spaces apart."""
    lines = [table.headers, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.headers))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(line, widths, table.align, strict=True)
        ).rstrip()
        for line in lines
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _side_text(name: str, root: Path, runs: pd.DataFrame) -> str:
    return f"{name}: {root}, {runs_text(len(runs))}, commit {commit_lines(runs)}"


def _settings_remarks(row: Mapping[str, Any], a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """What the two sides of a row were run with, where that is not the same."""
    if row["config_a"] == row["config_b"]:
        return []
    settings_a, settings_b = (
        {name: setting_text(value) for name, value in runs["hyperparams"].iloc[0].items()}
        for runs in (a, b)
    )
    differing = [
        f"{name} is {settings_a.get(name, 'not set')} in A, {settings_b.get(name, 'not set')} in B"
        for name in sorted({*settings_a, *settings_b})
        if settings_a.get(name) != settings_b.get(name)
    ]
    hashes = f"configuration {row['config_a']} in A, {row['config_b']} in B"
    what = "; ".join(differing) or f"{hashes}, which have the same hyperparameters"
    return [f"{row['label']} on {row['env_id']} was not run with the same settings: {what}."]


def _failure_remarks(name: str, data: RunData) -> list[str]:
    return [
        f"{name}: {runs_text(len(group))} of {label} on {env_id} failed."
        for (env_id, label), group in data.failures.groupby(["env_id", "label"], sort=True)
    ]


def _reading_remarks(table: pd.DataFrame, metric: Metric, tolerance: float) -> list[str]:
    """How the numbers and verdicts are to be read."""
    shares = listing([f"{share:.0%} with {n} seeds" for n, share in FALSE_ALARMS.items()])
    remarks = [
        "B − A: difference of the means; P(B > A): probability that a run of B is higher than a "
        "run of A. In brackets 95% bootstrap intervals, the seeds of A and B being independent.",
        f"Better or worse: by {QUANTITIES[metric.value]}, the interval of P(B > A) excludes 0.5. "
        f"Where nothing has changed, it still says worse in {shares} a side, and better as often; "
        "of many comparisons some do by chance.",
    ]
    if tolerance:
        remarks.append(
            f"Within tolerance: the mean of B is below that of A by at most {tolerance:.3g} times "
            "the latter's size."
        )
    remarks += _separation_remarks(table, metric)
    return [*remarks, "Speed depends on what else the machines were doing, and decides nothing."]


def _separation_remarks(table: pd.DataFrame, metric: Metric) -> list[str]:
    """What an interval of P(B > A) without width is worth, by the numbers of seeds it is from."""
    compared = table[(table["seeds_a"] > 1) & (table["seeds_b"] > 1)]
    apart = compared[compared[f"{metric.value}_improvement"].isin([0.0, 1.0])]
    sizes = sorted(set(zip(apart["seeds_a"].tolist(), apart["seeds_b"].tolist(), strict=True)))
    return [
        f"All of one side above all of the other, {n_a} seeds against {n_b}: the interval of "
        f"P(B > A) has no width, yet this happens by chance once in {math.comb(n_a + n_b, n_a):,} "
        "times each way."
        for n_a, n_b in sizes
    ]
