"""Published results of the same tasks, beside our own by the metric that matches."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.names import restored, shield
from benchmarks.numbers import Form, form_of, forms_of
from benchmarks.run_files import read_run
from reports.figures import count_text, seeds_text
from reports.runs import ReportError, RunData, runs_text
from reports.scores import run_scores
from reports.tables import Table
from reports.wording import listing

PUBLISHED = Path(__file__).parent / "published.csv"

BEST, FINAL, TRAINING = "best evaluation", "final policy", "training returns"
KINDS = (BEST, FINAL, TRAINING)
"""What a published value is: the highest evaluation within the budget, what the policy of the end
returns, or what training itself returned at the end."""

NO_MATCH = (
    "no value of ours matches: they are returns of the exploring policy during training, and ours "
    "are evaluations of the deterministic one; the nearest is the final return"
)
"""Why ours has no value by the metric ``training returns``."""

_HERE = "this report"
_WHOLE = Form(0)

_COLUMNS = ["source", "algo", "env_id", "timesteps", "mean", "std", "n_seeds", "metric"]
_COLUMNS += ["kind", "note"]
_RENAMED = {"env_id": "their_env_id", "timesteps": "their_timesteps", "mean": "their_mean"}
_RENAMED |= {"std": "their_std", "n_seeds": "their_seeds"}
_THEIRS = ["source", "algo", "their_env_id", "their_version", "their_timesteps", "their_seeds"]
_THEIRS += ["kind", "metric", "their_mean", "their_std", "note"]
_OURS = ["label", "our_algo", "our_seeds", "our_timesteps", "our_evaluations", "our_episodes"]
_OURS += ["our_mean", "our_std", "reason"]
_PAIR_COLUMNS = ["env_id", *_THEIRS, *_OURS, "differences"]

# What GitHub allows, so that neither an address nor a DOI is taken for a repository.
_REPOSITORY = re.compile(r"([A-Za-z\d][A-Za-z\d-]*)/([\w.-]+)(?=\s|$)")
_VERSION = re.compile(r"-(v\d+)$")
_VERSION_IN_NOTE = re.compile(r"\bv\d+(?:/v\d+)*\b")
# How much an evaluation consists of, where the metric's words say so.
_AMOUNT = re.compile(
    r"(?P<episodes>\d[\d,]*) (?:test |evaluation )?episodes?\b"
    r"|(?P<steps>(?:about )?\d[\d,.]*k? evaluation steps)"
)
_OVER_EPISODES = "± over episodes"


def load(extra: Path | None = None) -> pd.DataFrame:
    """The published results that come with the package, and those of a file of the user's own.

    :param extra: a CSV file of the same columns as ``published.csv``, in any order
    :return: one row a result, in the order of the files: ``source, algo, env_id, timesteps``
        (environment steps, NaN where the source does not say), ``mean, std`` (NaN likewise),
        ``n_seeds, metric`` (in the source's words), ``kind`` (one of ``KINDS``) and ``note``
    :raises ReportError: a file that cannot be read, or whose columns or values are not as they
        must be, naming file, line, column and value; or a row that is there twice
    """
    rows: list[dict[str, Any]] = []
    places: dict[tuple[Any, ...], str] = {}
    for path in [PUBLISHED] if extra is None else [PUBLISHED, extra]:
        for line, cells in _read(path):
            where = f"{path}: line {line}"
            key = tuple(cells[name] for name in _COLUMNS)
            if key in places:
                raise ReportError(f"{where}: is the same as {places[key]}; leave one out")
            places[key] = where
            rows.append(_result(cells, where))
    return pd.DataFrame(rows, columns=_COLUMNS)


def for_runs(data: RunData, published: pd.DataFrame) -> pd.DataFrame:
    """Every published result on a task of ours, beside each of our algorithms.

    Ours by the metric ``best evaluation`` is the best evaluation of each run as the table of scores
    has it, by ``final policy`` the last one, both as mean over runs. Runs whose environment the
    suite made with arguments are left out: those may make it another task.

    :param published: as :func:`load` gives it
    :return: tidy, one row per environment of ours, published result and label; sorted by
        environment, metric, mean (highest first) and label. Of theirs: ``source, algo,
        their_env_id, their_version`` (``""``: not known), ``their_timesteps`` (NaN: not known),
        ``their_seeds, kind, metric, their_mean, their_std, note``. Of ours: ``env_id, label,
        our_algo, our_seeds`` (finished runs), ``our_timesteps`` (budget in environment steps),
        ``our_evaluations`` (of a run), ``our_episodes`` (of an evaluation), ``our_mean, our_std``
        (sample standard deviation over runs, NaN with one), ``reason`` (why ``our_mean`` is NaN,
        else ``""``), and ``differences`` of their protocol from ours in short (``""``: none known)
    """
    theirs = published.rename(columns=_RENAMED)
    theirs["their_version"] = [
        version(env_id, note)
        for env_id, note in zip(theirs["their_env_id"], theirs["note"], strict=True)
    ]
    theirs["rank"] = theirs["kind"].map(KINDS.index)
    theirs = theirs.sort_values(["rank", "their_mean"], ascending=[True, False], kind="stable")
    tasks = theirs["their_env_id"].map(task)
    rows = []
    for env_id, group in data.runs.groupby("env_id", sort=True):
        labels = [_own(data, runs) for _, runs in group.groupby("label", sort=True)]
        ours = [own for own in labels if own is not None]
        for result in theirs.loc[tasks == task(str(env_id)), _THEIRS].to_dict("records"):
            rows += [_pair(result, own) for own in ours]
    return pd.DataFrame(rows, columns=_PAIR_COLUMNS)


@dataclass(frozen=True)
class Literature:
    """What the report says of published results.

    ``verdict`` and ``same``: ours against published results of the same algorithm, metric and
    budget, ``same`` being None where there are none. ``tables``: by environment.
    """

    verdict: str
    same: Table | None
    sentences: Sequence[str]
    measures: Table
    sources: Sequence[str]
    notes: Sequence[str]
    tables: Sequence[tuple[str, Table]]


def literature_of(data: RunData, published: pd.DataFrame | None) -> Literature | None:
    """Our results beside published ones.

    :param published: as :func:`load` gives it; None: none is wanted
    :return: None where none is wanted, or none is of a task of ours
    """
    frame = None if published is None else for_runs(data, published)
    if frame is None or frame.empty:
        return None
    return Literature(
        verdict(frame),
        same_algorithm(frame),
        sentences(frame),
        measures(frame),
        sources(frame),
        notes(frame),
        tables(frame),
    )


def verdict(frame: pd.DataFrame) -> str:
    """How often ours falls short of a published result of one algorithm, metric and budget.

    Which falls the furthest short is said of those with two or more seeds and of those with one.

    :param frame: as :func:`for_runs` gives it
    """
    rows = _compared(frame)
    if not rows:
        return "No published result is of the same algorithm, metric and budget as one of ours."
    what = "1 comparison" if len(rows) == 1 else f"{len(rows):,} comparisons"
    text = f"In {what} with a published result of the same algorithm, metric and budget, ours is "
    lower = [
        row for row in rows if row["our_mean"] < row["their_mean"] and _share_text(row) != "0%"
    ]
    if not lower:
        return f"{text}never lower."
    several = [row for row in lower if row["our_seeds"] > 1]
    single = [row for row in lower if row["our_seeds"] == 1]
    furthest = [_shortfall(found[0]) for found in (several, single) if found]
    return f"{text}lower in {len(lower):,}; the furthest: {listing(furthest)}."


def _share_text(row: Mapping[str, Any]) -> str:
    """By how much ours is higher, as a share of theirs."""
    return _percent(_relative(row["our_mean"], row["their_mean"]))


def _shortfall(row: Mapping[str, Any]) -> str:
    share = _relative(row["our_mean"], row["their_mean"])
    by = "" if math.isinf(share) else f" by {_percent(-share).lstrip('+')}"
    what = f"{row['label']} on {row['env_id']} ({row['kind']}, {count_text(row['our_seeds'])})"
    return f"{what}{by}"


def same_algorithm(frame: pd.DataFrame) -> Table | None:
    """Ours against each published result of one algorithm, metric and budget.

    The furthest that ours falls short comes first.

    :param frame: as :func:`for_runs` gives it
    :return: None where there is no such result
    """
    rows = _compared(frame)
    if not rows:
        return None
    names = _short_names(frame)
    forms = {env_id: _form(group) for env_id, group in frame.groupby("env_id")}
    cells = [
        [
            row["env_id"],
            row["label"],
            row["kind"],
            _text(row["our_mean"], _shared(forms[row["env_id"]], row["our_mean"])),
            count_text(row["our_seeds"]),
            _text(row["their_mean"], _shared(forms[row["env_id"]], row["their_mean"])),
            names[row["source"]],
            _share_text(row),
            "; ".join(text for text in _differences(row) if text != _OVER_EPISODES),
        ]
        for row in rows
    ]
    headers = ["environment", "algorithm", "metric", "ours", "seeds", "theirs", "source"]
    headers += ["difference", "what differs from ours"]
    return Table(headers, cells, "lllrrrlrl")


def tables(frame: pd.DataFrame) -> list[tuple[str, Table]]:
    """For each environment its published results and ours, the highest first for each metric.

    Bold are the highest published and, of ours with two or more runs, the highest by each metric.

    :param frame: as :func:`for_runs` gives it
    """
    names = _short_names(frame)
    return [
        (str(env_id), _table(group, names)) for env_id, group in frame.groupby("env_id", sort=True)
    ]


def measures(frame: pd.DataFrame) -> Table:
    """How ours and each source measure: what is the same in all rows of the other tables.

    :param frame: as :func:`for_runs` gives it, not empty
    """
    names = _short_names(frame)
    headers = ["source", "metric", "how it is measured", "versions", "runs", "note"]
    kinds = [kind for kind in KINDS if kind in set(frame["kind"])]
    own_versions = _listed(version(env_id) or "none" for env_id in frame["env_id"].unique())
    own_runs = _range(frame["our_seeds"])
    own = [
        [_HERE, kind, _how_ours(frame, kind), own_versions, own_runs, ""]
        if kind != TRAINING
        else [_HERE, kind, NO_MATCH, "–", "–", ""]
        for kind in kinds
    ]
    theirs = [
        [
            names[str(source)],
            str(kind),
            str(metric),
            _listed(text or "not said" for text in group["their_version"].unique()),
            _range(group["their_seeds"]),
            _listed(note for note in group["note"].unique() if note),
        ]
        for (source, kind, metric), group in frame.groupby(["source", "kind", "metric"])
    ]
    theirs.sort(key=lambda cells: (cells[0].casefold(), KINDS.index(cells[1]), cells[2]))
    rows = [*own, *theirs]
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return Table(headers, rows, "l" * len(headers))


def _how_ours(frame: pd.DataFrame, kind: str) -> str:
    """By which protocol ours has its value, by a metric by which it has one."""
    protocols = frame[["our_evaluations", "our_episodes"]].drop_duplicates()
    evaluations = " or ".join(
        f"{n_evaluations} evaluations of {_episodes_text(episodes)}"
        for n_evaluations, episodes in sorted(protocols.itertuples(index=False))
    )
    if kind == FINAL:
        return f"the last of a run's {evaluations}, mean over runs"
    return f"the highest of a run's {evaluations}, the one before training apart, mean over runs"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts)))


def _range(counts: pd.Series[int]) -> str:
    fewest, most = counts.min(), counts.max()
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def sources(frame: pd.DataFrame) -> list[str]:
    """What each short source of the tables stands for, and its address.

    :param frame: as :func:`for_runs` gives it
    """
    names = _short_names(frame)
    return [
        f"**{name}**: {_linked(source)}"
        for source, name in sorted(names.items(), key=lambda item: item[1].casefold())
    ]


def sentences(frame: pd.DataFrame) -> list[str]:
    """One sentence for each environment: the best of ours against the best published.

    For each metric the highest of ours, of those with two or more seeds where there are any, stands
    against the highest published with our budget, or, where none has it, against the highest with
    any.

    :param frame: as :func:`for_runs` gives it
    """
    names = _short_names(frame)
    return [
        f"{env_id}: {_sentence(group, names)}."
        for env_id, group in frame.groupby("env_id", sort=True)
    ]


def notes(frame: pd.DataFrame) -> list[str]:
    """How the tables are to be read.

    :param frame: as :func:`for_runs` gives it
    """
    if frame.empty:
        return []
    lines = [
        "**Difference**: of our mean from theirs, relative to theirs. It says nothing of chance: "
        "for that see ± and the number of runs.",
        "**±**: the standard deviation over runs; of one published run it is that over episodes. "
        "Of one run of ours there is none.",
        "**Bold**: by each metric the highest published mean, and the highest of ours of two or "
        "more runs, which does not say that one method is better than the other: see what differs.",
    ]
    if BEST in set(frame["kind"]):
        lines.append(f"**{BEST.capitalize()}**: the maximum of more, or noisier, values is higher.")
    return lines


def task(env_id: str) -> str:
    """``HalfCheetah`` for ``HalfCheetah-v5``, ``HalfCheetah`` and ``some.module:HalfCheetah-v3``.

    A namespace is part of it: ``phys2d/CartPole-v1`` is another task than ``CartPole-v1``.
    """
    return _VERSION.sub("", env_id.rpartition(":")[2])


def version(env_id: str, note: str = "") -> str:
    """``v5`` of ``HalfCheetah-v5``; without one, what the note says, such as ``v2/v3``, or none."""
    found = _VERSION.search(env_id)
    if found:
        return found[1]
    noted = _VERSION_IN_NOTE.search(note)
    return noted[0] if noted else ""


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a file as column to text, each with the number of its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark at the start
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(path, header)
        rows = []
        for cells in reader:
            if len(cells) not in (0, len(header)):
                raise ReportError(
                    f"{path}: line {reader.line_num}: must have {len(header)} cells, one for each "
                    f"column, got {len(cells)}; a cell with a comma stands in double quotes"
                )
            if cells:
                texts = [" ".join(cell.split()) for cell in cells]
                rows.append((reader.line_num, dict(zip(header, texts, strict=True))))
    except csv.Error as error:
        raise ReportError(f"{path}: line {reader.line_num}: is no CSV: {error}") from error
    return rows


def _check_columns(path: Path, header: Sequence[str]) -> None:
    problems = [f"{name!r} is unknown" for name in header if name not in _COLUMNS]
    problems += [f"{name!r} is missing" for name in _COLUMNS if name not in header]
    problems += [f"{name!r} is there twice" for name in _COLUMNS if header.count(name) > 1]
    if problems:
        raise ReportError(
            f"{path}: line 1: must have the columns {', '.join(_COLUMNS)}: {', '.join(problems)}"
        )


def _result(cells: Mapping[str, str], where: str) -> dict[str, Any]:
    """A row of a file with its numbers as numbers."""
    for name in ("source", "algo", "env_id", "metric"):
        if not cells[name]:
            raise ReportError(f"{where}: {name}: must not be empty, got ''")
    if cells["kind"] not in KINDS:
        allowed = ", ".join(repr(kind) for kind in KINDS)
        raise ReportError(f"{where}: kind: must be one of {allowed}, got {cells['kind']!r}")
    mean, std = _number(cells["mean"]), _number(cells["std"])
    if mean is None:
        raise ReportError(f"{where}: mean: must be a finite number, got {cells['mean']!r}")
    if cells["std"] and (std is None or std < 0):
        raise ReportError(
            f"{where}: std: must be a finite number that is not negative, or empty, "
            f"got {cells['std']!r}"
        )
    counts = {name: _number(cells[name]) for name in ("timesteps", "n_seeds")}
    for name, count in counts.items():
        empty = name == "timesteps" and not cells[name]
        if not empty and (count is None or count < 1 or count != int(count)):
            allowed = "a positive integer" + (", or empty" if name == "timesteps" else "")
            raise ReportError(f"{where}: {name}: must be {allowed}, got {cells[name]!r}")
    return {
        **{name: shield(cell) for name, cell in cells.items()},
        "timesteps": math.nan if counts["timesteps"] is None else counts["timesteps"],
        "mean": mean,
        "std": math.nan if std is None else std,
        "n_seeds": int(counts["n_seeds"] or 0),
    }


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _own(data: RunData, runs: pd.DataFrame) -> dict[str, Any] | None:
    """One label on one environment: its protocol, and mean and deviation for each metric.

    ``None`` where the environment was made with arguments.
    """
    first = runs.iloc[0]
    if _has_arguments(first["path"]):
        return None
    evaluations = data.evaluations
    own = (evaluations["env_id"] == first["env_id"]) & (evaluations["label"] == first["label"])
    by_seed = evaluations[own].sort_values("timesteps", kind="stable").groupby("seed", sort=True)
    scores = {
        BEST: run_scores(evaluations[own])["best"].to_numpy(float),
        FINAL: by_seed["return_mean"].last().to_numpy(float),
    }
    return {
        "env_id": first["env_id"],
        "label": first["label"],
        "our_algo": first["algo"],
        "our_seeds": len(runs),
        "our_timesteps": int(first["n_timesteps"]),
        "our_evaluations": int(by_seed.size().max()),
        "our_episodes": int(first["evaluation"]["episodes"]),
        "values": {
            kind: (values.mean(), values.std(ddof=1) if len(values) > 1 else math.nan)
            for kind, values in scores.items()
        },
    }


def _has_arguments(folder: Path) -> bool:
    """Whether a run's environment was made with arguments, such as LunarLander's continuous."""
    return bool(read_run(folder).spec.environment.get("kwargs"))


def _pair(theirs: Mapping[Any, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A row of :func:`for_runs`."""
    mean, std = own["values"].get(theirs["kind"], (math.nan, math.nan))
    row = {**theirs, **{name: own[name] for name in own if name != "values"}}
    row |= {"our_mean": mean, "our_std": std}
    row["reason"] = NO_MATCH if theirs["kind"] == TRAINING else ""
    row["differences"] = "; ".join(_differences(row))
    return row


def _differences(row: Mapping[Any, Any], with_runs: bool = True) -> list[str]:
    """What of their protocol is not as ours is, in a few words each.

    :param row: of :func:`for_runs`
    :param with_runs: also the number of runs
    """
    texts = []
    ours, theirs = version(row["env_id"]), row["their_version"]
    if theirs != ours or not ours:
        has_own = _VERSION.search(row["their_env_id"])
        texts.append(row["their_env_id"] if has_own else theirs or "version not said")
    if with_runs and row["our_seeds"] != row["their_seeds"]:
        texts.append(runs_text(row["their_seeds"]))
    if np.isnan(row["their_timesteps"]):
        texts.append("budget not said")
    elif row["their_timesteps"] != row["our_timesteps"]:
        texts.append(f"budget ×{row['their_timesteps'] / row['our_timesteps']:.3g}")
    if row["kind"] == TRAINING:
        return [*texts, "none of ours"]
    found = _AMOUNT.search(row["metric"])
    if found and found["steps"]:
        texts.append(found["steps"].removeprefix("about "))
    elif found and int(found["episodes"].replace(",", "")) != row["our_episodes"]:
        texts.append(_episodes_text(int(found["episodes"].replace(",", ""))))
    if row["their_seeds"] == 1 and not np.isnan(row["their_std"]):
        texts.append(_OVER_EPISODES)
    return texts


def _episodes_text(count: int) -> str:
    return "1 episode" if count == 1 else f"{count:,} episodes"


class _Line(NamedTuple):
    """A row of a table: a published result, or one of ours."""

    kind: str
    algo: str
    mean: float
    std: float
    seeds: int
    timesteps: float
    source: str
    differences: str
    ours: bool


def _table(group: pd.DataFrame, names: Mapping[str, str]) -> Table:
    """The table of one environment."""
    lines = [*_their_lines(group, names), *_our_lines(group)]
    lines.sort(key=lambda line: (KINDS.index(line.kind), -line.mean, line.ours))
    highest: dict[tuple[str, bool], float] = {}
    for line in lines:
        if _may_be_bold(line):
            highest.setdefault((line.kind, line.ours), line.mean)
    forms = forms_of([[line.mean, line.std] for line in lines])
    columns = {
        "metric": [line.kind for line in lines],
        "algorithm": [line.algo for line in lines],
        "mean": [
            _marked(
                _text(line.mean, form),
                _may_be_bold(line) and line.mean == highest[line.kind, line.ours],
            )
            for line, form in zip(lines, forms, strict=True)
        ],
        "±": [
            "(1 seed)" if line.ours and line.seeds == 1 else _text(line.std, form)
            for line, form in zip(lines, forms, strict=True)
        ],
        "runs": [_text(line.seeds) for line in lines],
        "steps": [_text(line.timesteps) for line in lines],
        "source": [line.source for line in lines],
        "what differs from ours": [line.differences for line in lines],
    }
    return Table(list(columns), list(zip(*columns.values(), strict=True)), "llrrrrll")


def _may_be_bold(line: _Line) -> bool:
    """One run of ours has no interval, and is nowhere in the report bold."""
    return not line.ours or line.seeds > 1


def _their_lines(group: pd.DataFrame, names: Mapping[str, str]) -> list[_Line]:
    lines = []
    for _, of_result in group.groupby(_THEIRS, sort=False, dropna=False):
        rows = of_result.to_dict("records")
        # From each label of ours; one text, unless budgets or evaluations are mixed.
        texts = dict.fromkeys("; ".join(_differences(row, with_runs=False)) for row in rows)
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
                ours=False,
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
            ours=True,
        )
        for row in own.to_dict("records")
    ]


def _text(value: float, form: Form = _WHOLE) -> str:
    return "–" if math.isnan(value) else form.text(value)


def _marked(text: str, bold: bool) -> str:
    """Both of one width, so that the numbers stand one below the other."""
    return f"**{text}**" if bold else f"  {text}  "


def _form(group: pd.DataFrame) -> Form:
    return form_of(group[["their_mean", "our_mean"]])


def _shared(form: Form, *values: float) -> Form:
    """The form, unless it shows nothing of these."""
    return form if form.shows(values) else form_of(values)


def _sentence(group: pd.DataFrame, names: Mapping[str, str]) -> str:
    """What one environment's rows say, a clause for each metric."""
    form = _form(group)
    kinds = [kind for kind in KINDS if kind in set(group["kind"])]
    if kinds == [TRAINING]:
        row = group.iloc[int(group["their_mean"].argmax())]
        return (
            f"the highest published is {_text(row['their_mean'], form)} ({row['algo']}, "
            f"{names[row['source']]}), by the metric {TRAINING}, by which there is nothing of ours"
        )
    return "; ".join(
        _clause(group[group["kind"] == kind], form, names) for kind in kinds if kind != TRAINING
    )


def _clause(group: pd.DataFrame, form: Form, names: Mapping[str, str]) -> str:
    """The highest of ours against the highest published, by one metric."""
    own = group.drop_duplicates("label")
    several = own[own["our_seeds"] > 1]
    pool = several if len(several) else own
    leaders = pool[pool["our_mean"] == pool["our_mean"].max()]
    group = group[group["label"] == leaders["label"].iloc[0]]
    same_budget = group["their_timesteps"] == group["our_timesteps"]
    published = group[same_budget] if same_budget.any() else group
    highest = published[published["their_mean"] == published["their_mean"].max()]
    # Of several with one mean, the one with the nearest budget.
    distance = (highest["their_timesteps"] - highest["our_timesteps"]).abs()
    row = highest.iloc[int(np.argsort(distance.to_numpy(), kind="stable")[0])].to_dict()
    others = len(highest.drop_duplicates(_THEIRS)) - 1
    ours, theirs = leaders["our_mean"].iloc[0], row["their_mean"]
    form = _shared(form, ours, theirs)
    budget = [text for text in _differences(row) if text.startswith("budget")]
    of_theirs = [row["algo"], names[row["source"]], *([f"and {others} more"] if others else [])]
    return (
        f"{row['kind']} {form.text(ours)} ({listing(leaders['label'].tolist())}, "
        f"{seeds_text(leaders['our_seeds'])}) against {form.text(theirs)} "
        f"({', '.join([*of_theirs, *budget])}), {_gap_text(ours, theirs, form)}"
    )


def _gap_text(ours: float, theirs: float, form: Form) -> str:
    """``12% lower``; ``equal``; in the metric's own units where theirs is zero."""
    if form.text(ours) == form.text(theirs):
        return "equal"
    which = "higher" if ours > theirs else "lower"
    if theirs == 0:
        return f"{form.text(abs(ours))} {which}"
    share = abs(_relative(ours, theirs))
    return f"less than 1% {which}" if round(share, 2) == 0 else f"{share:.0%} {which}"


def _relative(ours: float, theirs: float) -> float:
    """How much higher ours is, as a share of theirs; infinite where theirs is zero."""
    if ours == theirs:
        return 0.0
    return (ours - theirs) / abs(theirs) if theirs else math.copysign(math.inf, ours - theirs)


def _compared(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of one algorithm, metric and budget, the largest shortfall of ours first."""
    same = (frame["kind"] != TRAINING) & (frame["algo"] == frame["our_algo"])
    same &= frame["their_timesteps"] == frame["our_timesteps"]
    rows: list[dict[str, Any]] = frame[same].to_dict("records")  # type: ignore[assignment]
    return sorted(rows, key=lambda row: _relative(row["our_mean"], row["their_mean"]))


def _percent(share: float) -> str:
    """``-85%``, below ten percent with a decimal; ``–`` where it is of nothing."""
    if math.isinf(share):
        return "–"
    if round(share, 3) == 0:
        return "0%"
    return f"{share:+.0%}" if abs(share) >= 0.0995 else f"{share:+.1%}"


def _short_names(frame: pd.DataFrame) -> dict[str, str]:
    """Source to the name of its repository, or to itself where that would not say which it is."""
    found = {source: _REPOSITORY.match(source) for source in frame["source"].unique()}
    names = {source: match[2] if match else source for source, match in found.items()}
    return {
        source: name if list(names.values()).count(name) == 1 else source
        for source, name in names.items()
    }


def _linked(source: str) -> str:
    """A source with the address of the repository that it begins with, or that it is itself."""
    found = _REPOSITORY.match(source)
    if found:
        return f"[{found[0]}](https://github.com/{found[0]}){source[found.end() :]}"
    address = restored(source)
    return f"<{address}>" if re.fullmatch(r"https?://[^\s<>]+", address) else source
