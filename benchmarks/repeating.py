"""Compares a finished run with its repetition: whether they are equal, and what else differs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.records import RunRecord
from benchmarks.results import read_evaluations
from benchmarks.run_files import read_run
from benchmarks.storage import Folder

_COMPARED = ("sources", "versions", "packages", "machine")


@dataclass(frozen=True)
class Comparison:
    """Two runs of one spec, side by side.

    ``n_evaluations``: of the first run. ``first_difference``: in words; None if the evaluations
    are equal, bit for bit, apart from the time they took. ``circumstances``: what else differs in
    commit, sources, versions and machine, a line each.
    """

    n_evaluations: int
    first_difference: str | None
    circumstances: list[str]


def compare(before: Folder, after: Folder) -> Comparison:
    """Compare a finished run with its repetition.

    :raises benchmarks.results.BrokenRunError: one that cannot be read
    """
    records = [_facts(read_run(folder)) for folder in (before, after)]
    there = read_evaluations(before).drop(columns="wall_seconds")
    here = read_evaluations(after).drop(columns="wall_seconds")
    return Comparison(len(there), _first_difference(there, here), _circumstances(*records))


def _facts(record: RunRecord) -> dict[str, Any]:
    # Another commit may have the same sources.
    hashes = {name: source.get("hash") for name, source in record.sources.items()}
    return {**vars(record), "machine": vars(record.machine), "sources": hashes}


def _first_difference(there: Any, here: Any) -> str | None:
    if there.equals(here):
        return None
    if list(there["timesteps"]) != list(here["timesteps"]):
        return f"{len(there)} evaluations before, {len(here)} now, or at other steps"
    for old, new in zip(there.to_dict("records"), here.to_dict("records"), strict=True):
        for key, value in old.items():
            # NaN differs from itself.
            if value != new[key] and not (value != value and new[key] != new[key]):
                return f"{key} at step {old['timesteps']:,} was {value} and is {new[key]}"
    raise AssertionError("pandas sees a difference where there is none")


def _circumstances(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    lines = [
        _line(key, before.get(key), after.get(key))
        for key in ("commit", "dirty", "uncommitted")
        if before.get(key) != after.get(key)
    ]
    for group in _COMPARED:
        old, new = before[group], after[group]
        lines += [
            _line(f"{group}: {key}", old.get(key), new.get(key))
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
    return lines


def _line(name: str, old: Any, new: Any) -> str:
    said = ["not recorded" if value is None else str(value) for value in (old, new)]
    return f"{name}: {said[0]} before, {said[1]} now"
