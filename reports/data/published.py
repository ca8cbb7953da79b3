"""Published results of the same tasks, beside our own by the metric that matches."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.names import plain
from benchmarks.run_files import read_run
from reports.data.runs import ReportError, RunData, runs_text
from reports.data.scores import run_scores

PUBLISHED = Path(__file__).parent / "published.csv"

BEST, FINAL, TRAINING = "best evaluation", "final policy", "training returns"
KINDS = (BEST, FINAL, TRAINING)
"""What a published value is: the highest evaluation within the budget, the return of the final
policy, or the return of training itself at its end."""

_COLUMNS = ["source", "algo", "env_id", "timesteps", "mean", "std", "n_seeds", "metric"]
_COLUMNS += ["kind", "note"]
_RENAMED = {"env_id": "their_env_id", "timesteps": "their_timesteps", "mean": "their_mean"}
_RENAMED |= {"std": "their_std", "n_seeds": "their_seeds"}
THEIRS = ["source", "algo", "their_env_id", "their_version", "their_timesteps", "their_seeds"]
THEIRS += ["kind", "metric", "their_mean", "their_std", "note"]
"""The columns of :func:`for_runs` that are of the published result."""
_OURS = ["label", "our_algo", "our_seeds", "our_timesteps", "our_evaluations", "our_episodes"]
_OURS += ["our_mean", "our_std"]
_PAIR_COLUMNS = ["env_id", *THEIRS, *_OURS]

_VERSION = re.compile(r"-(v\d+)$")
_VERSION_IN_NOTE = re.compile(r"\bv\d+(?:/v\d+)*\b")
# How much an evaluation consists of, where the metric's words say so.
_AMOUNT = re.compile(
    r"(?P<episodes>\d[\d,]*) (?:test |evaluation )?episodes?\b"
    r"|(?P<steps>(?:about )?\d[\d,.]*k? evaluation steps)"
)


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

    Our value by the metric ``best evaluation`` is the mean over runs of each run's best evaluation,
    as in the table of scores; by ``final policy`` it is the mean of the last evaluations. Runs
    whose environment was made with arguments are left out: these may make it another task. So are
    those of other programs, of which it is not known how they were evaluated.

    :param published: as :func:`load` gives it
    :return: tidy, one row per environment of ours, published result and label; sorted by
        environment, metric, mean (highest first) and label. Of theirs: ``source, algo,
        their_env_id, their_version`` (``""``: not known), ``their_timesteps`` (NaN: not known),
        ``their_seeds, kind, metric, their_mean, their_std, note``. Of ours: ``env_id, label,
        our_algo, our_seeds`` (finished runs), ``our_timesteps`` (budget in environment steps),
        ``our_evaluations`` (of a run), ``our_episodes`` (of an evaluation), ``our_mean`` (NaN by
        the metric ``training returns``, which nothing of ours matches) and ``our_std`` (sample
        standard deviation over runs, NaN with one)
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
    for env_id, group in data.of_suite.groupby("env_id", sort=True):
        labels = [_own(data, runs) for _, runs in group.groupby("label", sort=True)]
        ours = [own for own in labels if own is not None]
        for result in theirs.loc[tasks == task(str(env_id)), THEIRS].to_dict("records"):
            rows += [_pair(result, own) for own in ours]
    return pd.DataFrame(rows, columns=_PAIR_COLUMNS)


def same_algorithm(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the same algorithm, metric and budget, ours furthest below theirs first.

    :param frame: as :func:`for_runs` gives it
    :return: these rows, with ``difference``: of our mean from theirs as a share of theirs, infinite
        where theirs is zero
    """
    same = (frame["kind"] != TRAINING) & (frame["algo"] == frame["our_algo"])
    same &= frame["their_timesteps"] == frame["our_timesteps"]
    rows = frame[same]
    relative = [
        _relative(*means) for means in zip(rows["our_mean"], rows["their_mean"], strict=True)
    ]
    return rows.assign(difference=relative).sort_values("difference", kind="stable")


def highest(frame: pd.DataFrame) -> pd.DataFrame:
    """For each environment and metric our highest mean beside the highest published one.

    Ours is the highest of labels with two or more seeds, or with one where no label has more.
    Theirs is the highest at our budget, or at any where there is none at ours; of several with the
    same mean it is the one with the budget nearest to ours.

    :param frame: as :func:`for_runs` gives it
    :return: the rows of ``frame``, one per environment and metric, with ``labels`` (all of ours
        with that mean), ``seeds`` (of each label), ``others`` (how many further published results
        have their mean) and ``difference`` (as for :func:`same_algorithm`). By the metric
        ``training returns``, only where there is no other on the environment, with no ``labels``
    """
    rows = []
    for _, group in frame.groupby("env_id", sort=True):
        comparable = group[group["kind"] != TRAINING]
        rows += [
            _highest(of_kind)
            for _, of_kind in (comparable if len(comparable) else group).groupby("kind", sort=True)
        ]
    return pd.DataFrame(rows, columns=[*_PAIR_COLUMNS, "labels", "seeds", "others", "difference"])


def differences(row: Mapping[Any, Any]) -> dict[str, str]:
    """What of their protocol differs from ours, in a few words each.

    :param row: of :func:`for_runs`
    :return: of ``version, runs, budget, evaluation`` and ``deviation`` those that differ
    """
    found = {}
    ours, theirs = version(row["env_id"]), row["their_version"]
    if theirs != ours or not ours:
        has_own = _VERSION.search(row["their_env_id"])
        found["version"] = row["their_env_id"] if has_own else theirs or "version not said"
    if row["our_seeds"] != row["their_seeds"]:
        found["runs"] = runs_text(row["their_seeds"])
    if np.isnan(row["their_timesteps"]):
        found["budget"] = "budget not said"
    elif row["their_timesteps"] != row["our_timesteps"]:
        found["budget"] = f"budget ×{row['their_timesteps'] / row['our_timesteps']:.3g}"
    if row["kind"] == TRAINING:
        return found | {"evaluation": "none of ours"}
    amount = _AMOUNT.search(row["metric"])
    if amount and amount["steps"]:
        found["evaluation"] = amount["steps"].removeprefix("about ")
    elif amount and (episodes := int(amount["episodes"].replace(",", ""))) != row["our_episodes"]:
        found["evaluation"] = episodes_text(episodes)
    if row["their_seeds"] == 1 and not np.isnan(row["their_std"]):
        found["deviation"] = "± over episodes"
    return found


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


def episodes_text(count: int) -> str:
    """``1 episode``, ``2 episodes``."""
    return "1 episode" if count == 1 else f"{count:,} episodes"


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
        **{name: plain(cell) for name, cell in cells.items()},
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
    ours = {name: value for name, value in own.items() if name != "values"}
    return {**theirs, **ours, "our_mean": mean, "our_std": std}


def _highest(group: pd.DataFrame) -> dict[Any, Any]:
    """A row of :func:`highest`.

    :param group: the rows of one environment and metric
    """
    own = group.drop_duplicates("label")
    several = own[own["our_seeds"] > 1]
    pool = several if len(several) else own
    leaders = pool[pool["our_mean"] == pool["our_mean"].max()]
    rows = group if leaders.empty else group[group["label"] == leaders["label"].iloc[0]]
    at_our_budget = rows["their_timesteps"] == rows["our_timesteps"]
    published = rows[at_our_budget] if at_our_budget.any() else rows
    best = published[published["their_mean"] == published["their_mean"].max()]
    distance = (best["their_timesteps"] - best["our_timesteps"]).abs()
    row = best.iloc[int(np.argsort(distance.to_numpy(), kind="stable")[0])].to_dict()
    return row | {
        "labels": leaders["label"].tolist(),
        "seeds": leaders["our_seeds"].tolist(),
        "others": len(best.drop_duplicates(THEIRS)) - 1,
        "difference": _relative(row["our_mean"], row["their_mean"]),
    }


def _relative(ours: float, theirs: float) -> float:
    """How much higher ours is, as a share of theirs; infinite where theirs is zero."""
    if ours == theirs:
        return 0.0
    return (ours - theirs) / abs(theirs) if theirs else math.copysign(math.inf, ours - theirs)
