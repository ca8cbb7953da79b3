"""What training logs say of the trust region: whether it did what it promises.

Read from SB3's ``progress.csv`` in each run folder, as far as the algorithm logs it: NPG and TRPO
the KL divergence of each update, PPO an estimate of it, ACER its importance weights and how often
its trust region changed a gradient. SB3 writes a row after a rollout and before the update on it:
what it tells is of the update on the rollout before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.numbers import form_with
from reports.data.diagnostics import FACTOR, N_BINS, Measured, measure
from reports.data.runs import RunData, runs_text
from reports.rendering import diagnostic_figures, figures
from reports.rendering.tables import Table, code

_NONE = "–"
_PREDICTED = "diagnostics_predicted"
_CAPTIONS = {
    "diagnostics_kl": "KL divergence of each update as a multiple of delta, on a logarithmic "
    "axis that all panels share: median, and as a band the 5% and 95% quantiles, over the updates "
    f"of all seeds in each of {N_BINS} bins of steps. Skipped updates are left out; the dotted "
    "line is delta",
    _PREDICTED: "Measured KL divergence of NPG's updates as a multiple of the predicted one, on a "
    "logarithmic axis that all panels share: median, and as a band the 5% and 95% quantiles, over "
    f"the updates of all seeds in each of {N_BINS} bins of steps. On the dotted line the quadratic "
    "model is exact, above it the policy moved further than predicted",
    "diagnostics_truncated": "Share of ACER's importance weights above c, which are truncated: "
    f"mean over seeds in each of {N_BINS} bins of steps, with the 5% and 95% quantiles of what was "
    "logged",
    "diagnostics_projected": "Share of ACER's samples whose gradient the trust region changed: "
    f"mean over seeds in each of {N_BINS} bins of steps, with the 5% and 95% quantiles of what was "
    "logged",
}


@dataclass(frozen=True)
class Part:
    """A table with what belongs to it.

    ``name``: can be that of a file. ``figures``: file names without their ending, and captions.
    """

    name: str
    title: str
    table: Table
    notes: Sequence[str]
    figures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Diagnostics:
    """What the report says of trust regions."""

    sentences: Sequence[str]
    parts: Sequence[Part]


def diagnostics_of(
    data: RunData,
    styles: Mapping[str, figures.Look],
    out: Path,
    warn: Callable[[str], None] = lambda _: None,
) -> Diagnostics | None:
    """The section on trust regions; its figures are written into ``out``.

    Logs that cannot be read are left out, and the section says which and why.

    :param styles: as :func:`reports.rendering.figures.looks` gives them, for all labels of the report
    :param warn: called with a line for each log that is left out
    :return: None where no run has logged anything of the kind, and no log is left out
    """
    measured = measure(data)
    for line in measured.broken:
        warn(f"left out of the diagnostics: {line}")
    if measured.table.empty and not measured.broken:
        return None
    drawn = {
        f"diagnostics_{quantity}": diagnostic_figures.over_steps(curves, str(quantity), styles)
        for quantity, curves in _by(measured.over_steps, "quantity")
    }
    for name, figure in drawn.items():
        diagnostic_figures.save(figure, out / name)
    captions = {name: _CAPTIONS[name] for name in drawn}
    left_out = [
        f"**Left out**, since its log cannot be used: {code(line)}." for line in measured.broken
    ]
    if measured.table.empty:
        return Diagnostics(left_out, [])
    parts = [tell(measured, captions) for tell in (_kl_part, _step_part, _acer_part)]
    said = [*left_out, *sentences(measured.table)]
    return Diagnostics(said, [part for part in parts if part is not None])


def sentences(table: pd.DataFrame) -> list[str]:
    """What the table says, in a sentence for each algorithm.

    :param table: :attr:`reports.data.diagnostics.Measured.table`
    """
    lines = []
    for algo, rows in table.groupby("algo", sort=True):
        several = rows["label"].nunique() > 1
        where = rows["label"] + " on " + rows["env_id"] if several else rows["env_id"]
        for tell in (_kl_sentence, _estimate_sentence, _acer_sentence):
            line = tell(rows.assign(where=where))
            lines += [] if line is None else [f"{algo}: {line}."]
    return lines


def _by(frame: pd.DataFrame, column: str) -> list[tuple[Any, pd.DataFrame]]:
    return list(frame.groupby(column, sort=True)) if len(frame) else []


def _kl_part(measured: Measured, captions: Mapping[str, str]) -> Part | None:
    table = measured.table[measured.table[["kl", "estimate"]].notna().any(axis=1)]
    if table.empty:
        return None
    measured_kl = _cells(table, "kl", _significant)
    estimates = _cells(table, "estimate", _significant)
    columns = {
        "updates logged": [f"{n:,.0f}" for n in table["updates"]],
        "delta": [_between(*ends) for ends in _pairs(table, "delta_low", "delta_high")],
        "KL per update: median [5%, 95%]": [
            f"≈ {estimate}" if kl == _NONE and estimate != _NONE else kl
            for kl, estimate in zip(measured_kl, estimates, strict=True)
        ],
        "KL / delta: median [5%, 95%]": _ratio_cells(table, "ratio"),
        f"above {FACTOR:g} delta": [_percent(share) for share in table["above"]],
        "clipped: mean [5%, 95%]": _cells(table, "clip_fraction", _percent),
    }
    return Part(
        "kl-per-update",
        "KL per update against delta",
        _table(table, columns),
        _kl_notes(table, measured.without_log),
        _of(captions, "diagnostics_kl"),
    )


def _step_part(measured: Measured, captions: Mapping[str, str]) -> Part | None:
    telling = ["accuracy", "skipped", "cg_residual"]
    table = measured.table[measured.table[telling].notna().any(axis=1)]
    if table.empty:
        return None
    columns = {
        "measured / predicted KL: median [5%, 95%]": _ratio_cells(table, "accuracy"),
        "updates skipped": [_skips(*counts) for counts in _pairs(table, "skipped", "tried")],
        "CG iterations: median [5%, 95%]": _cells(table, "cg_iterations", _significant),
        "CG residual: median [5%, 95%]": _cells(table, "cg_residual", _significant),
    }
    return Part(
        "steps",
        "Predicted KL, skipped updates, conjugate gradient",
        _table(table, columns),
        _step_notes(table),
        _of(captions, _PREDICTED),
    )


def _acer_part(measured: Measured, captions: Mapping[str, str]) -> Part | None:
    table = measured.table[measured.table["rho_mean"].notna()]
    if table.empty:
        return None
    columns = {
        "rollouts logged": [f"{n:,.0f}" for n in table["updates"]],
        "mean rho: median [5%, 95%]": _ratio_cells(table, "rho_mean"),
        "95% quantile of rho: median [5%, 95%]": _ratio_cells(table, "rho_p95"),
        "c": [_significant(c) for c in table["c"]],
        "truncated: mean [5%, 95%]": _cells(table, "truncated", _percent),
        "projected: mean [5%, 95%]": _cells(table, "projected", _percent),
        "change by projection: median [5%, 95%]": _cells(table, "projection", _percent),
        "delta": [
            _NONE if np.isnan(used) else _significant(delta)
            for delta, used in _pairs(table, "bound", "projected")
        ],
        "KL to the average policy: median [5%, 95%]": _cells(table, "kl_average", _significant),
    }
    return Part(
        "acer",
        "ACER: importance weights and projection",
        _table(table, columns),
        _acer_notes(table),
        _of(captions, "diagnostics_projected", "diagnostics_truncated"),
    )


def _kl_notes(table: pd.DataFrame, without_log: int) -> list[str]:
    notes = []
    if table["kl"].notna().any():
        notes.append(
            "**KL per update**: the divergence between the policy before and after an update, in "
            "nats, mean over the rollout's states: NPG's from the old to the new policy, that of "
            "sb3-contrib's TRPO from the new to the old. The median, and in brackets the 5% and "
            "95% quantiles, are over the logged updates of all seeds that moved the policy; those "
            "that were skipped are counted below."
        )
    if (table["delta_low"] < table["delta_high"]).any():
        notes.append("**delta** falls by a schedule where it is a range: that of logged updates.")
    if table["estimate"].notna().any():
        notes.append(
            "**≈**: PPO has no trust region and no delta. Shown is its `approx_kl`, an estimate "
            "from the actions that were taken, the mean over the minibatches of the last epoch; "
            "**clipped** is the share of probability ratios outside of the clip range."
        )
    fewer = table[table["updates"] < table["made"]]
    if len(fewer):
        logged, made = fewer["updates"].sum(), fewer["made"].sum()
        notes.append(f"Of {made:,.0f} updates {logged:,.0f} are in the logs that are kept.")
    infinite = table["infinite"].sum()
    if infinite:
        notes.append(
            f"Infinite divergences, in no quantile: {infinite:,.0f} of the logged updates."
        )
    if without_log:
        has = "has" if without_log == 1 else "have"
        notes.append(f"{runs_text(without_log)} {has} no `progress.csv` and no part in this.")
    return notes


def _step_notes(table: pd.DataFrame) -> list[str]:
    notes = []
    if table["accuracy"].notna().any():
        notes.append(
            "**Predicted KL**: the quadratic model, half the step times the Fisher information "
            "times the step. A KL-normalised step without line search makes it equal to delta."
        )
    if table["skipped"].notna().any():
        notes.append(
            "**Skipped**: NPG counts every update, of the policy or of the critic, for which there "
            "was no sound step, ACER every one whose gradient was not finite; of TRPO it is each "
            "logged update whose line search failed."
        )
    if table["cg_residual"].notna().any():
        notes.append(
            "**CG residual**: ‖(F + damping I) x − g‖ / ‖g‖ when conjugate gradient stopped. It "
            "says how exact the direction is, not how long the step."
        )
    return notes


def _acer_notes(table: pd.DataFrame) -> list[str]:
    notes = [
        "**rho**: the probability of an action under the policy over that under the policy that "
        "took it, over all samples of a rollout's updates, fresh and replayed; logged after every "
        "100th rollout. **Truncated**: the share of samples with rho above c."
    ]
    if table["projected"].notna().any():
        notes.append(
            "**Projected**: the share of samples whose gradient the trust region changed; **change "
            "by projection**: how far, relative to the mean length of the gradients. delta bounds "
            "the linear change of the KL divergence to the average policy along each sample's "
            "gradient, not that divergence itself, which may be above or below it."
        )
    return notes


def _kl_sentence(rows: pd.DataFrame) -> str | None:
    bounded, free = rows[rows["ratio"].notna()], rows[rows["ratio"].isna() & rows["kl"].notna()]
    clauses = []
    if len(bounded):
        clauses = [f"the median KL per update is {_span(bounded, 'ratio', _times_delta)}"]
        most = bounded.iloc[bounded["above"].argmax()]
        if most["above"] == 0:
            clauses.append(f"no update exceeds {FACTOR:g} delta")
        else:
            at_most = f"at most {_percent(most['above'])} of updates ({most['where']})"
            share = at_most if len(bounded) > 1 else f"{_percent(most['above'])} of updates"
            clauses.append(f"{share} exceed {FACTOR:g} delta")
    if len(free):
        clauses.append(
            f"without delta, the median KL per update is {_span(free, 'kl', _significant)}"
        )
    known = rows[rows["skipped"].notna()]
    if clauses and len(known):
        skipped, tried = known["skipped"].sum(), known["tried"].sum()
        clauses.append(
            f"{skipped:,.0f} of {tried:,.0f} updates were skipped"
            if skipped
            else "none was skipped"
        )
    return "; ".join(clauses) or None


def _estimate_sentence(rows: pd.DataFrame) -> str | None:
    rows = rows[rows["estimate"].notna()]
    if rows.empty:
        return None
    text = f"no trust region; the median estimated KL is {_span(rows, 'estimate', _significant)}"
    if rows["clip_fraction"].notna().all():
        text += f", the share of clipped ratios {_span(rows, 'clip_fraction', _percent)}"
    return text


def _acer_sentence(rows: pd.DataFrame) -> str | None:
    rows = rows[rows["rho_mean"].notna()]
    if rows.empty:
        return None
    text = f"the share of truncated importance weights is {_span(rows, 'truncated', _percent)}"
    projected = rows[rows["projected"].notna()]
    if len(projected):
        text += (
            ", that of samples whose gradient the trust region changed "
            f"{_span(projected, 'projected', _percent)}"
        )
    return text


def _span(rows: pd.DataFrame, name: str, form: Callable[[float], str]) -> str:
    """``0.93 on Hopper-v5``, or between which two values, and where these are."""
    least, most = rows.iloc[rows[name].argmin()], rows.iloc[rows[name].argmax()]
    if len(rows) == 1:
        return f"{form(least[name])} on {least['env_id']}"
    if form(least[name]) == form(most[name]):
        return f"{form(least[name])} everywhere"
    return (
        f"between {form(least[name])} ({least['where']}) and {form(most[name])} ({most['where']})"
    )


def _table(rows: pd.DataFrame, columns: Mapping[str, Sequence[str]]) -> Table:
    """One row for each environment and label, without the columns that none has."""
    shown = {name: cells for name, cells in columns.items() if set(cells) != {_NONE}}
    cells = zip(rows["env_id"], rows["label"], *shown.values(), strict=True)
    return Table(["environment", "algorithm", *shown], list(cells), "ll" + "r" * len(shown))


def _of(captions: Mapping[str, str], *names: str) -> list[tuple[str, str]]:
    return [(name, captions[name]) for name in names if name in captions]


def _pairs(rows: pd.DataFrame, *names: str) -> list[tuple[float, ...]]:
    return list(zip(*(rows[name] for name in names), strict=True))


def _cells(rows: pd.DataFrame, name: str, form: Callable[[float], str]) -> list[str]:
    """``middle [low, high]`` of each row."""
    return [
        _NONE if np.isnan(middle) else f"{form(middle)} [{form(low)}, {form(high)}]"
        for middle, low, high in _pairs(rows, name, f"{name}_low", f"{name}_high")
    ]


def _ratio_cells(rows: pd.DataFrame, name: str) -> list[str]:
    """:func:`_cells` of ratios, which are about 1."""
    return [
        cell
        for _, row in rows.groupby(level=0, sort=False)
        for cell in _cells(row, name, form_with(2, row[name]).text)
    ]


def _significant(value: float) -> str:
    return _NONE if np.isnan(value) else f"{value:.3g}"


def _times_delta(value: float) -> str:
    return f"{form_with(2, value).text(value)} delta"


def _percent(share: float) -> str:
    """With a decimal below ten percent; ``<0.1%`` is not nothing."""
    if np.isnan(share):
        return _NONE
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def _between(low: float, high: float) -> str:
    """``0.02``, or ``0.05 to 0.0001``: as a schedule falls."""
    texts = _significant(high), _significant(low)
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def _skips(skipped: float, tried: float) -> str:
    if np.isnan(skipped):
        return _NONE
    return "0" if skipped == 0 else f"{skipped:,.0f} ({_percent(skipped / tried)})"
