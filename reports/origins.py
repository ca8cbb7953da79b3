"""How the runs were made, and which failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.algorithms import known_class, parameters_of
from benchmarks.errors import SpecError
from benchmarks.names import restored
from benchmarks.secrets import mask
from benchmarks.zoo import model_arguments
from reports import runs, wording
from reports.tables import Table, code

_SHOWN_DIGITS = 12  # of a commit's 40, enough for git to find it


@dataclass(frozen=True)
class Origins:
    """What has to be known to make the runs again."""

    commits: str
    by_commit: Table | None  # which runs each is of; none where all are of one
    versions: str
    machines: str
    commands: Sequence[str]
    hyperparameters: Sequence[Table]
    listed: str  # which hyperparameters are, in words


def origins_of(table: pd.DataFrame) -> Origins:
    """The section.

    :param table: one row a run, as in :class:`reports.runs.RunData`
    """
    unknown = [algo for algo in sorted(table["algo"].unique()) if _defaults(algo) is None]
    return Origins(
        commits=_commits(table),
        by_commit=commit_table(table),
        versions=wording.tally_text(table["versions"].map(wording.versions_text)),
        machines=wording.tally_text(table["machine"].map(wording.machine_text)),
        commands=sorted({mask(str(command)) for command in table["command"]}),
        hyperparameters=hyperparameter_tables(table),
        listed=_listed(unknown),
    )


def _commits(table: pd.DataFrame) -> str:
    """The one commit, or that there are several."""
    if _states(table) == 1:
        return wording.commit_lines(table)
    n_commits, n_dirty = table["commit"].nunique(), (table["dirty"] == True).sum()  # noqa: E712
    text = f"{n_commits} commit{'' if n_commits == 1 else 's'}"
    if table["commit"].isna().any():
        text += ", and of some runs it is not known"
    text += ", listed below for each algorithm"
    if n_dirty:
        text += (
            f"; {n_dirty} of {runs.runs_text(len(table))} were made from a work tree with "
            "uncommitted changes, so that the commit is not all of their code"
        )
    return text


def commit_table(table: pd.DataFrame) -> Table | None:
    """The commits of each algorithm's runs and the environments of those; ``None``: all are of one.

    :param table: one row a run, as in :class:`reports.runs.RunData`
    """
    if _states(table) == 1:
        return None
    rows = []
    for (algo, commit), group in table.groupby(["algo", "commit"], sort=True, dropna=False):
        counts = group["env_id"].value_counts().sort_index()
        dirty = "unknown" if group["dirty"].isna().all() else str((group["dirty"] == True).sum())  # noqa: E712
        rows.append(
            [
                str(algo),
                code(commit[:_SHOWN_DIGITS]) if isinstance(commit, str) else "unknown",
                str(len(group)),
                dirty,
                ", ".join(f"{env_id} ({n})" for env_id, n in counts.items()),
            ]
        )
    headers = ["algorithm", "commit", "runs", "with uncommitted changes", "environments (runs)"]
    return Table(headers, rows, "llrrl")


def _states(table: pd.DataFrame) -> int:
    """How many different work trees the runs were made from, as far as is known."""
    return len(table[["commit", "dirty"]].drop_duplicates())


def failure_table(failures: pd.DataFrame) -> Table | None:
    """Every failed run with its error line; ``None`` where none failed."""
    if failures.empty:
        return None
    rows = [
        [row["env_id"], row["label"], str(row["seed"]), code(row["error"])]
        for row in failures.to_dict("records")
    ]
    return Table(["environment", "algorithm", "seed", "error"], rows, "llrl")


def hyperparameter_tables(table: pd.DataFrame) -> list[Table]:
    """For each algorithm what it was given and is not its constructor's default.

    There is one column for each set of environments that share that.
    """
    every = set(table["env_id"])
    tables = []
    for algo, group in table.groupby("algo", sort=True):
        settings: dict[str, Mapping[str, Any]] = {}
        where: dict[str, dict[str, list[str]]] = {}
        for row in group.drop_duplicates(["env_id", "label"]).to_dict("records"):
            own = without_defaults(str(algo), row["hyperparams"])
            key = json.dumps(own, sort_keys=True)
            settings[key] = own
            where.setdefault(key, {}).setdefault(row["label"], []).append(row["env_id"])
        names = sorted({name for values in settings.values() for name in values})
        rows = [[code(name), *(_value_cell(v, name) for v in settings.values())] for name in names]
        rows = rows or [["none", *("–" for _ in settings)]]
        headers = ["hyperparameter", *(_heading(labels, every) for labels in where.values())]
        tables.append(Table(headers, rows, "l" + "r" * len(settings)))
    return tables


def without_defaults(algo: str, hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are not what the algorithm has by default.

    :param algo: a known name, or the path of a class; of a user's own no default is known
    :param hyperparams: as written in a file
    """
    defaults = _defaults(algo)
    if defaults is None:
        return dict(hyperparams)
    return {
        name: value
        for name, value in hyperparams.items()
        if not _is_default(algo, name, value, defaults)
    }


def _defaults(algo: str) -> dict[str, Any] | None:
    """The defaults of an algorithm's constructor; None for a user's own, which is not imported."""
    known = known_class(restored(algo))
    if known is None:
        return None
    return {name: parameter.default for name, parameter in parameters_of(known).items()}


def _is_default(algo: str, name: str, value: Any, defaults: Mapping[str, Any]) -> bool:
    if name == "env_wrapper":  # to look at it is to import it
        return value is None
    try:
        algo = restored(algo)
        given = model_arguments(algo, {name: value}, "hyperparams")
    except SpecError:  # of another version of the algorithm
        return False
    if name == "device":  # a run's own default is not the constructor's
        return False
    if name in given.constructor:
        return bool(given.constructor[name] == defaults[name])
    # The policy, the environments and their wrappers.
    return given == model_arguments(algo, {}, "hyperparams")


def _listed(unknown: Sequence[str]) -> str:
    """Which hyperparameters are listed.

    :param unknown: algorithms whose defaults are not known
    """
    text = (
        "Hyperparameters that differ from the defaults of the installed versions' constructors; "
        "a dash is the default."
    )
    if unknown:
        text += (
            f" What {wording.listing(unknown)} has by default is not known, since no class of "
            "others is imported for a report; all that was set is listed."
        )
    return text


def _heading(labels: Mapping[str, Sequence[str]], every: set[str]) -> str:
    """Whose settings a column has, such as ``npg on CartPole-v1, Hopper-v5``."""
    return "; ".join(
        f"{label} on "
        + ("all environments" if len(every) > 2 and set(envs) == every else ", ".join(envs))
        for label, envs in labels.items()
    )


def _value_cell(settings: Mapping[str, Any], name: str) -> str:
    return code(runs.setting_text(settings[name])) if name in settings else "–"
