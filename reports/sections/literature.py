"""Published results beside ours: who is higher by the same metric, and what differs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.names import file_name
from benchmarks.tables import (
    Inline,
    Link,
    Number,
    Strong,
    Table,
    Text,
    Writer,
    writer_for,
)
from reports.data import published
from reports.data.context import Context
from reports.data.published import FINAL, KINDS, THEIRS, TRAINING, differences
from reports.data.readers.logged import EVALUATION
from reports.rendering.blocks import Block, Bullets, Paragraph, Section
from reports.rendering.text import counted, listing

NO_MATCH = (
    "nothing of ours matches: these are returns of the exploring policy during training, ours are "
    "evaluations of the deterministic one; the nearest is the final return"
)
"""Why ours has no value by the metric ``training returns``."""

_HERE = "this report"
# What GitHub allows, so that neither an address nor a DOI is taken for a repository.
_REPOSITORY = re.compile(r"([A-Za-z\d][A-Za-z\d-]*)/([\w.-]+)(?=\s|$)")
# Less than this share of theirs is shown as no difference.
_ROUNDED = 0.0005


def build(context: Context) -> Section | None:
    """Our results beside the published ones of the same tasks."""
    if context.runs is None or context.published is None:
        return None
    if context.runs.metric.name != EVALUATION:
        context.warn(f"--published: no result is of the {context.runs.metric.noun}")
        return None
    frame = published.for_runs(context.runs, context.published)
    if frame.empty:
        context.warn("--published: no result is of a task of these runs")
        return None
    same = published.same_algorithm(frame)
    names = short_names(frame)
    blocks: list[Block] = [Paragraph(how_many_are_lower(same))]
    if len(same):
        blocks.append(same_algorithm_table(same, frame, names))
    blocks.append(
        Section("Our highest beside the highest published", [highest_table(frame, names)])
    )
    sources = Bullets([source_line(source, name) for source, name in _by_name(names)])
    blocks.append(Section("Sources and how they measure", [measures_table(frame, names), sources]))
    blocks += [
        Section(f"{env_id}: ours and published results", [environment_table(group, names)])
        for env_id, group in frame.groupby("env_id", sort=True)
    ]
    return Section("Against the literature", blocks)


def how_many_are_lower(same: pd.DataFrame) -> str:
    """In how many comparisons ours is lower.

    :param same: as :func:`reports.data.published.same_algorithm` gives it
    """
    if same.empty:
        return "No published result has the same algorithm, metric and budget as one of ours."
    lower = int((same["difference"] < -_ROUNDED).sum())
    return (
        f"Ours is lower in {lower:,} of {counted(len(same), 'comparison')} with a published result "
        "of the same algorithm, metric and budget."
    )


def same_algorithm_table(
    same: pd.DataFrame, frame: pd.DataFrame, names: Mapping[str, str]
) -> Table:
    """Ours beside each published result of the same algorithm, metric and budget.

    :param same: as :func:`reports.data.published.same_algorithm` gives it
    :param frame: as :func:`reports.data.published.for_runs` gives it
    :param names: the sources' short names
    """
    rows = _records(same)
    writers = _writers(same, frame)
    columns = [
        Text("environment", same["env_id"].tolist()),
        Text("algorithm", same["label"].tolist()),
        Text("metric", same["kind"].tolist()),
        Number("ours", same["our_mean"].tolist(), writers),
        Number("seeds", same["our_seeds"].tolist()),
        Number("theirs", same["their_mean"].tolist(), writers),
        Text("source", [names[row["source"]] for row in rows]),
        Number("difference", _shares(same), _percent),
        Text("what differs from ours", [_differing(row, without="deviation") for row in rows]),
    ]
    return Table(columns, name="literature-same-algorithm")


def highest_table(frame: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """For each environment and metric our highest mean beside the highest published one.

    :param frame: as :func:`reports.data.published.for_runs` gives it
    :param names: the sources' short names
    """
    found = published.highest(frame)
    rows = _records(found)
    writers = _writers(found, frame)
    columns = [
        Text("environment", found["env_id"].tolist()),
        Text("metric", found["kind"].tolist()),
        Number("ours", found["our_mean"].tolist(), writers),
        Text("algorithm", [listing(labels) or None for labels in found["labels"]]),
        Number("seeds", [_range(seeds) for seeds in found["seeds"]]),
        Number("theirs", found["their_mean"].tolist(), writers),
        Text("their algorithm", [_and_more(row["algo"], row["others"]) for row in rows]),
        Text("source", [names[row["source"]] for row in rows]),
        Number("difference", _shares(found), _percent),
        Text("what differs from ours", [_differing(row, without="deviation") for row in rows]),
    ]
    return Table(columns, name="literature-highest")


def environment_table(group: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """One environment's published results and ours, the highest first for each metric.

    Bold are the highest published mean and the highest of ours with two or more runs.

    :param group: rows of :func:`reports.data.published.for_runs`
    :param names: the sources' short names
    """
    lines = [*_their_lines(group, names), *_our_lines(group)]
    lines.sort(key=lambda line: (KINDS.index(line.kind), -line.mean, line.is_ours))
    top: dict[tuple[str, bool], float] = {}
    for line in lines:
        if line.may_be_bold:
            top.setdefault((line.kind, line.is_ours), line.mean)
    bold = [line.may_be_bold and line.mean == top[line.kind, line.is_ours] for line in lines]
    means = [line.mean for line in lines]
    deviations = [line.std for line in lines]
    write = writer_for([*means, *deviations])
    columns = [
        Text("metric", [line.kind for line in lines]),
        Text("algorithm", [line.algo for line in lines]),
        Number("mean", means, write, bold=bold),
        Number("±", ["(1 seed)" if line.is_single else line.std for line in lines], write),
        Number("runs", [line.runs for line in lines]),
        Number("steps", [line.timesteps for line in lines]),
        Text("source", [line.source for line in lines]),
        Text("what differs from ours", [line.differences for line in lines]),
    ]
    return Table(columns, name=file_name(f"literature-{group['env_id'].iloc[0]}"))


def measures_table(frame: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """How ours and each source measure: what is the same in all rows of the other tables.

    :param frame: as :func:`reports.data.published.for_runs` gives it
    :param names: the sources' short names
    """
    kinds = [kind for kind in KINDS if kind in set(frame["kind"])]
    own_versions = _joined(published.version(env_id) or "none" for env_id in frame["env_id"])
    own_runs = str(_range(frame["our_seeds"], " to "))
    ours: list[tuple[str, str, str, str | None, str | None, None]] = [
        (_HERE, kind, NO_MATCH, None, None, None)
        if kind == TRAINING
        else (_HERE, kind, _how_ours(frame, kind), own_versions, own_runs, None)
        for kind in kinds
    ]
    theirs = [
        (
            names[str(source)],
            str(kind),
            str(metric),
            _joined(version or "not said" for version in group["their_version"]),
            str(_range(group["their_seeds"], " to ")),
            _joined(note for note in group["note"] if note) or None,
        )
        for (source, kind, metric), group in frame.groupby(["source", "kind", "metric"])
    ]
    theirs.sort(key=lambda row: (row[0].casefold(), KINDS.index(row[1]), row[2]))
    headers = ("source", "metric", "how it is measured", "versions", "runs", "note")
    cells = zip(*ours, *theirs, strict=True)
    columns = [Text(header, list(each)) for header, each in zip(headers, cells, strict=True)]
    return Table(columns, name="literature-sources").without_empty()


def source_line(source: str, name: str) -> Inline:
    """What a source's short name stands for, and its address.

    That is the repository that it begins with, or the source where it is an address itself.
    """
    found = _REPOSITORY.match(source)
    if found:
        repository = Link(found[0], f"https://github.com/{found[0]}")
        return (Strong(name), ": ", repository, source[found.end() :])
    is_address = re.fullmatch(r"https?://[^\s<>]+", source)
    return (Strong(name), ": ", Link(source, source) if is_address else source)


def short_names(frame: pd.DataFrame) -> dict[str, str]:
    """Each source's repository name, or the source itself where that name would be ambiguous."""
    found = {source: _REPOSITORY.match(source) for source in frame["source"].unique()}
    names = {source: match[2] if match else source for source, match in found.items()}
    return {
        source: name if list(names.values()).count(name) == 1 else source
        for source, name in names.items()
    }


class _Line(NamedTuple):
    """A row of an environment's table: a published result, or one of ours."""

    kind: str
    algo: str
    mean: float
    std: float
    runs: int
    timesteps: float
    source: str
    differences: str
    is_ours: bool

    @property
    def is_single(self) -> bool:
        """Whether it is one run of ours, which has no deviation."""
        return self.is_ours and self.runs == 1

    @property
    def may_be_bold(self) -> bool:
        """One run of ours has no interval, and is never bold in the report."""
        return not self.is_single


def _their_lines(group: pd.DataFrame, names: Mapping[str, str]) -> list[_Line]:
    lines = []
    for _, of_result in group.groupby(THEIRS, sort=False, dropna=False):
        rows = _records(of_result)
        # From each label of ours; one text, unless budgets or evaluations are mixed.
        texts = dict.fromkeys(_differing(row, without="runs") for row in rows)
        row = rows[0]
        lines.append(
            _Line(
                row["kind"],
                row["algo"],
                row["their_mean"],
                row["their_std"],
                row["their_seeds"],
                row["their_timesteps"],
                names[row["source"]],
                " or ".join(text or "nothing" for text in texts) if any(texts) else "",
                is_ours=False,
            )
        )
    return lines


def _our_lines(group: pd.DataFrame) -> list[_Line]:
    own = group[group["kind"] != TRAINING].drop_duplicates(["kind", "label"])
    return [
        _Line(
            row["kind"],
            row["label"],
            row["our_mean"],
            row["our_std"],
            row["our_seeds"],
            row["our_timesteps"],
            _HERE,
            "",
            is_ours=True,
        )
        for row in _records(own)
    ]


def _how_ours(frame: pd.DataFrame, kind: str) -> str:
    """By which protocol ours has its value, by a metric by which it has one."""
    protocols = frame[["our_evaluations", "our_episodes"]].drop_duplicates()
    evaluations = " or ".join(
        f"{n_evaluations} evaluations of {published.episodes_text(episodes)}"
        for n_evaluations, episodes in sorted(protocols.itertuples(index=False))
    )
    if kind == FINAL:
        return f"the last of a run's {evaluations}, mean over runs"
    return f"the highest of a run's {evaluations}, without the one before training, mean over runs"


def _writers(rows: pd.DataFrame, frame: pd.DataFrame) -> list[Writer]:
    """For each row what suits all means on its environment."""
    of_environment = {
        env_id: writer_for([*group["their_mean"], *group["our_mean"]])
        for env_id, group in frame.groupby("env_id")
    }
    return [of_environment[env_id] for env_id in rows["env_id"]]


def _differing(row: Mapping[Any, Any], without: str) -> str:
    """What differs from ours, but for one of the keys of :func:`published.differences`."""
    return "; ".join(text for key, text in differences(row).items() if key != without)


def _shares(rows: pd.DataFrame) -> list[float | None]:
    """The differences; None where they are of zero."""
    return [None if math.isinf(share) else share for share in rows["difference"]]


def _percent(share: float) -> str:
    """``-85%``, below ten percent with a decimal."""
    if abs(share) < _ROUNDED:
        return "0%"
    return f"{share:+.0%}" if abs(share) >= 0.0995 else f"{share:+.1%}"


def _and_more(algo: str, others: int) -> str:
    return f"{algo} and {others} more" if others else algo


def _range(counts: Iterable[int], to: str = "–") -> int | str | None:
    """The one count, or the least and the most; None where there is none."""
    each = sorted(set(counts))
    if len(each) < 2:
        return each[0] if each else None
    return f"{each[0]}{to}{each[-1]}"


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts)))


def _by_name(names: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(names.items(), key=lambda item: item[1].casefold())


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[return-value]
