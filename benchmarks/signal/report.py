"""The measurement as files: a table, a page, and all gains as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.numbers import Form
from benchmarks.signal.settings import ENOUGH_BATCHES, PLAIN, Data, Setting, Solve, as_dict
from benchmarks.statistics import Estimate, mean_intervals
from benchmarks.storage import write_whole
from benchmarks.tables import Column, Estimates, Number, Table, Text, to_csv, to_markdown


@dataclass(frozen=True)
class Signal:
    """What is known of the truth: see :class:`benchmarks.signal.measure.Truth`."""

    signal: float
    error: float
    in_sample: float
    samples: int

    @property
    def is_found(self) -> bool:
        """Whether there is a best direction to compare with."""
        return self.signal > 0

    def sentence(self) -> str:
        """The signal as text."""
        form = Form(4)
        text = (
            f"g^T F^-1 g across blocks of the {self.samples:,} samples that judge: "
            f"{form.text(self.signal)} (standard error {form.text(self.error)}); "
            f"with the noise in g: {form.text(self.in_sample)}."
        )
        if self.is_found:
            return text
        return f"{text} No signal was found, so there is no gain: more --samples are needed."


@dataclass(frozen=True)
class Row:
    """A setting, its gains and what they come to.

    ``over_plain``: the gain minus that of the plain gradient on the same batches.
    """

    setting: Setting
    gains: np.ndarray
    gain: Estimate
    over_plain: Estimate

    @property
    def share_of_kl(self) -> float:
        """The share of a step's KL divergence that goes into the true direction: the gain squared.

        0 where the gain is negative, NaN where there is none.
        """
        return float(np.maximum(self.gain.value, 0.0)) ** 2


def rows_of(improvements: Mapping[Setting, np.ndarray], best: float) -> list[Row]:
    """The rows of the table.

    :param improvements: of each setting, one for each batch
    :param best: what a gain of 1 would be; NaN: there are no gains
    """
    gains = {setting: each / best for setting, each in improvements.items()}
    if np.isnan(best):
        nothing = Estimate(np.nan)
        return [Row(setting, each, nothing, nothing) for setting, each in gains.items()]
    plain = [gains[Setting(setting.data, setting.advantages, Solve(PLAIN))] for setting in gains]
    columns = [each[:, None] for each in gains.values()]
    differences = [a - b[:, None] for a, b in zip(columns, plain, strict=True)]
    found = mean_intervals([*columns, *differences])
    estimates = [Estimate(*each[:, 0].tolist()) for each in found]
    return [
        Row(setting, each, gain, over)
        for (setting, each), gain, over in zip(
            gains.items(), estimates[: len(gains)], estimates[len(gains) :], strict=True
        )
    ]


def table(rows: list[Row], whole: bool = False) -> Table:
    """One row for each setting.

    :param whole: with the columns that say the same in all rows
    """
    settings = [as_dict(row.setting) for row in rows]
    columns: list[Column] = []
    for name in settings[0]:
        cells = [each[name] for each in settings]
        if not whole and len(set(cells)) == 1 and name not in ("batch", "solver"):
            continue
        is_text = name in ("critic", "solver")
        columns.append(Text(name, cells) if is_text else Number(name, cells, write=_short))
    plain = [row.setting.solve.solver == PLAIN for row in rows]
    over = [None if is_plain else row.over_plain for row, is_plain in zip(rows, plain, strict=True)]
    columns += [
        Number("batches", [len(row.gains) for row in rows]),
        Estimates("gain", [row.gain for row in rows], write=Form(2).text),
        Number("share of KL (%)", [100 * row.share_of_kl for row in rows], write=Form(1).text),
        Estimates("gain over plain", over, write=Form(2).text),
    ]
    return Table(columns)


def csv_table(rows: list[Row], signal: Signal, env_id: str) -> Table:
    """The whole table, with what it is relative to."""
    n_rows = len(rows)
    return Table(
        [
            Text("task", [env_id] * n_rows),
            *table(rows, whole=True).columns,
            Number("signal", [signal.signal] * n_rows),
            Number("signal error", [signal.error] * n_rows),
            Number("signal with noise", [signal.in_sample] * n_rows),
        ]
    )


def _short(number: float) -> str:
    return f"{number:,g}" if number >= 1e6 else f"{number:,.10g}"


def write(
    out: Path, rows: list[Row], signal: Signal, about: Mapping[str, Any], env_id: str
) -> None:
    """Write ``signal.json``, ``signal.csv`` and ``signal.md``.

    :param about: command, policy, samples, commit, versions and machine
    """
    document = {
        **about,
        "truth": vars(signal),
        "rows": [
            {**as_dict(row.setting), "gains": [_finite(gain) for gain in row.gains]} for row in rows
        ],
    }
    write_whole(out / "signal.json", json.dumps(document, indent=1) + "\n")
    write_whole(out / "signal.csv", to_csv(csv_table(rows, signal, env_id)))
    write_whole(out / "signal.md", page(rows, signal, about, env_id))


def _finite(gain: float) -> float | None:
    return None if np.isnan(gain) else round(float(gain), 6)


def page(rows: list[Row], signal: Signal, about: Mapping[str, Any], env_id: str) -> str:
    """The Markdown page."""
    machine = about["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    parts = [
        f"# Signal: {env_id}",
        f"```\n{about['command']}\n```",
        signal.sentence(),
        to_markdown(table(rows)),
        warning(rows),
        _NOTE,
        "![Gain on independent samples](signal.png)",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}. {versions}.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


_NOTE = (
    "*Gain*: the true improvement per unit of length in the metric of the Fisher information, "
    "relative to that of the best direction; mean over batches with a 95% bootstrap interval over "
    "them. *Share of KL*: the gain squared, the share of a step's KL divergence that goes into the "
    "true direction. *Gain over plain*: minus the gain of the plain gradient (`identity`) on the "
    "same batches. All gains share the error of the best direction's."
)


def warning(rows: list[Row]) -> str:
    """What intervals over a few batches are worth; empty if all rows have enough."""
    fewest = min(len(row.gains) for row in rows)
    if fewest >= ENOUGH_BATCHES:
        return ""
    return (
        f"Rows with fewer than {ENOUGH_BATCHES} batches (here as few as {fewest}): a bootstrap "
        "over so few is narrower than 95%; more --samples or a smaller --batch have more."
    )


def data_of(rows: list[Row]) -> list[Data]:
    """The batches of the table, each once."""
    return list(dict.fromkeys(row.setting.data for row in rows))
