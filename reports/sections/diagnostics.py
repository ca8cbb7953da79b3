"""What training logs say of the trust region: whether it did what it promises.

As far as an algorithm logs it: the KL divergence of each update of NPG and TRPO, PPO's estimate of
it, ACER's importance weights and how often its trust region changed a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from benchmarks.numbers import form_with
from benchmarks.statistics import Estimate
from benchmarks.tables import (
    Code,
    Column,
    Estimates,
    Fraction,
    Inline,
    Number,
    Strong,
    Table,
    Text,
    Writer,
)
from reports.data.context import Context
from reports.data.diagnostics import FACTOR, N_BINS, Measured, measure
from reports.rendering import diagnostic_figures, figures
from reports.rendering.blocks import Block, Bullets, Figure, Section
from reports.rendering.text import counted

_BAND = f"5% and 95% quantiles, over the updates of all seeds in each of {N_BINS} bins of steps."
_RATIOS = f"on a logarithmic axis that all panels share: median, and as a band the {_BAND}"
_SHARES = (
    f"mean over seeds in each of {N_BINS} bins of steps, with the 5% and 95% quantiles of what was "
    "logged."
)
# By quantity, the title of its figure and the rest of the caption.
_CAPTIONS = {
    "kl": (
        "KL divergence of each update as a multiple of delta",
        f", {_RATIOS} Skipped updates are left out; the dotted line is delta.",
    ),
    "predicted": (
        "Measured KL divergence of NPG's updates as a multiple of the predicted one",
        f", {_RATIOS} On the dotted line the quadratic model is exact, above it the policy moved "
        "further than predicted.",
    ),
    "truncated": (
        "Share of ACER's importance weights above c, which are truncated",
        f": {_SHARES}",
    ),
    "projected": (
        "Share of ACER's samples whose gradient the trust region changed",
        f": {_SHARES}",
    ),
}
_COLOURS = 64  # of a PNG; these figures have a panel for every environment, and few colours
_MEDIAN, _MEAN = "median [5%, 95%]", "mean [5%, 95%]"
_ABOVE = f"above {FACTOR:g} delta"


def _significant(value: float) -> str:
    return f"{value:.3g}"


def _two_decimals(ratio: float) -> str:
    return form_with(2, ratio).text(ratio)


def _percent(share: float) -> str:
    """With a decimal below ten percent; ``<0.1%`` is not nothing."""
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


# Of the first table: by column, what it is called, and how it is written.
_OVERVIEW: Mapping[str, tuple[str, Writer]] = {
    "ratio": ("KL per update / delta", _two_decimals),
    "without_delta": ("KL per update, without delta", _significant),
    "above": (f"updates {_ABOVE}", _percent),
    "estimate": ("estimated KL per update", _significant),
    "clip_fraction": ("clipped probability ratios", _percent),
    "truncated": ("truncated importance weights", _percent),
    "projected": ("samples whose gradient was projected", _percent),
}


def build(context: Context) -> Section | None:
    """The trust regions of all algorithms that log something of them."""
    if context.runs is None:
        return None
    measured = measure(context.runs)
    for line in measured.broken:
        context.warn(f"left out of the diagnostics: {line}")
    blocks: list[Block] = []
    if measured.broken:
        blocks.append(Bullets([_left_out(line) for line in measured.broken]))
    if len(measured.table):
        looks = figures.looks(list(context.runs.runs["label"]))
        blocks += [overview_table(measured.table), *_parts(measured, looks)]
    return Section("Trust-region diagnostics", blocks) if blocks else None


def _parts(measured: Measured, looks: Mapping[str, figures.Look]) -> list[Section]:
    table = measured.table
    drawn = partial(_figures, measured.over_steps, looks)
    of_kl = table[table[["kl", "estimate"]].notna().any(axis=1)]
    of_steps = table[table[["accuracy", "skipped", "cg_residual"]].notna().any(axis=1)]
    of_acer = table[table["rho_mean"].notna()]
    parts: list[Section] = []
    if len(of_kl):
        missing = what_is_missing(of_kl, measured.without_log)
        beside = [Bullets(missing)] if missing else []
        title = "KL per update against delta"
        parts.append(Section(title, [kl_table(of_kl), *beside, *drawn(["kl"])]))
    if len(of_steps):
        title = "Predicted KL, skipped updates, conjugate gradient"
        parts.append(Section(title, [steps_table(of_steps), *drawn(["predicted"])]))
    if len(of_acer):
        title = "ACER: importance weights and projection"
        shares = drawn(["projected", "truncated"])
        parts.append(Section(title, [acer_table(of_acer), *shares]))
    return parts


def overview_table(table: pd.DataFrame) -> Table:
    """What each algorithm logs, over all environments and configurations, one row per quantity.

    :param table: :attr:`reports.data.diagnostics.Measured.table`
    """
    without_delta = table["kl"].where(table["ratio"].isna())
    found: list[tuple[str, str, Estimate | str, Writer]] = []
    for algo, rows in table.assign(without_delta=without_delta).groupby("algo", sort=True):
        found += [
            (str(algo), quantity, _spread(known), write)
            for name, (quantity, write) in _OVERVIEW.items()
            if len(known := rows[name].dropna())
        ]
        if (skipped := _skipped(rows)) is not None:
            found.append((str(algo), "updates skipped", "{:,} of {:,}".format(*skipped), str))
    columns = [
        Text("algorithm", [algo for algo, *_ in found]),
        Text("quantity", [quantity for _, quantity, *_ in found]),
        Estimates(
            "over environments: median [lowest, highest]",
            [value for *_, value, _ in found],
            [write for *_, write in found],
            alone="",
        ),
    ]
    return Table(columns, name="diagnostics")


def kl_table(table: pd.DataFrame) -> Table:
    """The KL divergence of the updates, PPO's estimate of it with ``≈``, and delta.

    :param table: rows of :attr:`reports.data.diagnostics.Measured.table`, as for the other tables
    """
    kl = [table[f"kl{end}"].fillna(table[f"estimate{end}"]) for end in ("", "_low", "_high")]
    prefixes = ["≈ " if is_estimate else "" for is_estimate in table["kl"].isna()]
    columns = [
        *_keys(table),
        Number("updates logged", table["updates"].tolist()),
        Number(
            "delta",
            [_delta(*ends) for ends in _rows(table, "delta_low", "delta_high")],
            _significant,
        ),
        Estimates(
            f"KL per update: {_MEDIAN}",
            list(map(Estimate, *kl)),
            _significant,
            prefixes=prefixes,
        ),
        _ratios(table, "ratio", f"KL / delta: {_MEDIAN}"),
        Number(_ABOVE, table["above"].tolist(), _percent),
        _quantiles(table, "clip_fraction", f"clipped: {_MEAN}", _percent),
    ]
    return Table(columns, name="diagnostics-kl-per-update").without_empty()


def steps_table(table: pd.DataFrame) -> Table:
    """How well the step was predicted, how often there was none, how exact its direction was."""
    skipped = [_skipped(table.iloc[[i]]) for i in range(len(table))]
    columns = [
        *_keys(table),
        _ratios(table, "accuracy", f"measured / predicted KL: {_MEDIAN}"),
        Fraction("updates skipped", skipped),
        _quantiles(table, "cg_iterations", f"CG iterations: {_MEDIAN}", _significant),
        _quantiles(table, "cg_residual", f"CG residual: {_MEDIAN}", _significant),
    ]
    return Table(columns, name="diagnostics-steps").without_empty()


def acer_table(table: pd.DataFrame) -> Table:
    """ACER's importance weights, and what its trust region changed."""
    columns = [
        *_keys(table),
        Number("rollouts logged", table["updates"].tolist()),
        _ratios(table, "rho_mean", f"mean rho: {_MEDIAN}"),
        _ratios(table, "rho_p95", f"95% quantile of rho: {_MEDIAN}"),
        Number("c", table["c"].tolist(), _significant),
        _quantiles(table, "truncated", f"truncated: {_MEAN}", _percent),
        _quantiles(table, "projected", f"projected: {_MEAN}", _percent),
        _quantiles(table, "projection", f"change by projection: {_MEDIAN}", _percent),
        # Without a trust region delta is not in use.
        Number("delta", table["bound"].where(table["projected"].notna()).tolist(), _significant),
        _quantiles(table, "kl_average", f"KL to the average policy: {_MEDIAN}", _significant),
    ]
    return Table(columns, name="diagnostics-acer").without_empty()


def what_is_missing(table: pd.DataFrame, without_log: int) -> list[Inline]:
    """The updates and runs that are not among the numbers of the table.

    :param without_log: how many runs have no log
    """
    lines: list[Inline] = []
    fewer = table[table["updates"] < table["made"]]
    if len(fewer):
        logged, made = fewer["updates"].sum(), fewer["made"].sum()
        lines.append(f"Of {made:,.0f} updates, {logged:,.0f} are in the logs that are kept.")
    infinite = table["infinite"].sum()
    if infinite:
        lines.append(
            f"Infinite divergences, in no quantile: {infinite:,.0f} of the updates logged."
        )
    if without_log:
        lines.append(("Without ", Code("progress.csv"), f": {counted(without_log, 'run')}."))
    return lines


def _figures(
    curves: pd.DataFrame, looks: Mapping[str, figures.Look], quantities: Sequence[str]
) -> list[Figure]:
    """The figures of those quantities that there are values of."""
    found = []
    for quantity in quantities:
        rows = curves[curves["quantity"] == quantity] if len(curves) else curves
        if len(rows):
            title, rest = _CAPTIONS[quantity]
            draw = partial(diagnostic_figures.over_steps, rows, quantity, looks)
            name = f"diagnostics_{quantity}"
            found.append(Figure(name, title, title + rest, draw, _COLOURS))
    return found


def _left_out(line: str) -> Inline:
    return (Strong("Left out"), ", since its log cannot be used: ", Code(line), ".")


def _keys(table: pd.DataFrame) -> list[Column]:
    return [
        Text("environment", table["env_id"].tolist()),
        Text("algorithm", table["label"].tolist()),
    ]


def _ratios(table: pd.DataFrame, name: str, header: str) -> Estimates:
    """:func:`_quantiles` of ratios, which are about 1."""
    return _quantiles(table, name, header, [form_with(2, value).text for value in table[name]])


def _quantiles(
    table: pd.DataFrame, name: str, header: str, write: Writer | Sequence[Writer]
) -> Estimates:
    """A value with its 5% and 95% quantiles."""
    rows = _rows(table, name, f"{name}_low", f"{name}_high")
    values = [Estimate(value, low, high) for value, low, high in rows]
    return Estimates(header, values, write)


def _spread(values: pd.Series[float]) -> Estimate:
    """The median with the lowest and the highest value, if there are several."""
    median = values.median()
    return Estimate(median, values.min(), values.max()) if len(values) > 1 else Estimate(median)


def _skipped(table: pd.DataFrame) -> tuple[int, int] | None:
    """How many updates were skipped, of how many; None where that is not known."""
    known = table[table["skipped"].notna()]
    return (int(known["skipped"].sum()), int(known["tried"].sum())) if len(known) else None


def _delta(low: float, high: float) -> float | str | None:
    """The delta, or its range (``0.05 to 0.0001``) where a schedule lets it fall."""
    if math.isnan(low):
        return None
    first, last = _significant(high), _significant(low)
    return high if first == last else f"{first} to {last}"


def _rows(table: pd.DataFrame, *names: str) -> list[tuple[float, ...]]:
    return list(zip(*(table[name] for name in names), strict=True))
