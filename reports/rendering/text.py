"""Words for values that stand in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.numbers import Form
from benchmarks.statistics import Estimate
from benchmarks.tables import Inline, Writer

MOST_LISTED = 4
"""Of more names than that, a sentence says how many there are."""


def listing(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def joined(parts: Sequence[Inline], by: str = " ") -> Inline:
    """Texts one after the other, such as sentences."""
    return tuple(piece for part in parts for piece in (by, part))[1:]


def curve_remarks(show_seeds: bool, smooth: int) -> list[str]:
    """What a caption says of curves that were asked for in another form.

    :param show_seeds: each run is drawn
    :param smooth: over how many evaluations curves are moving means; 1: none
    """
    remarks = ["Thin lines: single runs."] if show_seeds else []
    if smooth > 1:
        remarks.append(
            f"Smoothed: each point is the mean of {smooth} evaluations around it, of fewer near "
            "the ends; scores are not."
        )
    return remarks


def named(items: Sequence[str], noun: str) -> str:
    """The items, or of more than ``MOST_LISTED`` their number: ``12 environments``."""
    return listing(items) if len(items) <= MOST_LISTED else counted(len(items), noun)


def estimate_text(estimate: Estimate, write: Writer) -> str:
    """``0.85 (0.76 to 0.96)``; without an interval ``0.85 (1 seed)``."""
    value, low, high = map(write, estimate.numbers)
    return f"{value} ({low} to {high})" if estimate.has_interval else f"{value} (1 seed)"


def percent(improvement: Estimate, sign: str = "") -> Writer:
    """Writes a probability of improvement and its interval in percent.

    With as many decimals as it takes to see that an end of the interval is not one half.

    :param sign: what stands behind the numbers
    """
    form = Form(0).apart([(100 * end, 50.0) for end in (improvement.low, improvement.high)])
    return lambda probability: form.text(100 * probability) + sign


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,000 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def versions_text(versions: Mapping[str, str | None]) -> str:
    """``python 3.11.9, gymnasium 1.2.0, …``: Python first, what is absent left out."""
    names = sorted(versions, key=lambda name: (name != "python", name))
    return ", ".join(f"{name} {versions[name]}" for name in names if versions[name])


def machine_text(machine: Mapping[str, Any]) -> str:
    """``Linux, x86_64, 2 cores, 8 GiB memory``."""
    parts = [str(machine[name]) for name in ("system", "processor") if machine.get(name)]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    if machine.get("memory_gib"):
        parts.append(f"{machine['memory_gib']:g} GiB memory")
    return ", ".join(parts)


def tally_text(texts: Iterable[str]) -> str:
    """The one text, or each with how many runs it is true of."""
    counts = pd.Series(list(texts)).value_counts().sort_index()
    if len(counts) == 1:
        return str(counts.index[0])
    return "; ".join(f"{text}: {counted(n, 'run')}" for text, n in counts.items())


def commits_text(commits: Iterable[tuple[Any, Any]]) -> str:
    """:func:`commit_text` of several runs, each with how many runs it is true of."""
    return tally_text(commit_text(commit, dirty) for commit, dirty in commits)


def commit_text(commit: Any, dirty: Any) -> str:
    """The commit that a run was made from, and whether that is all of the code that ran.

    :param dirty: whether there were uncommitted changes; both are missing (None or NaN) where the
        run was not made in a clone
    """
    if not isinstance(commit, str):
        return "unknown"
    return commit + {True: " with uncommitted changes", False: " (clean)"}.get(dirty, "")
