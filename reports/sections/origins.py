"""How the runs were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.algorithms import known_class, parameters_of
from benchmarks.errors import SpecError
from benchmarks.names import in_natural_order, plain
from benchmarks.secrets import mask
from benchmarks.tables import Code, Inline, Number, Table, Text
from benchmarks.zoo import model_arguments
from reports.data.context import Context
from reports.data.logs import NOT_SETTINGS
from reports.data.runs import SUITE, setting_text
from reports.rendering.blocks import Block, Bullets, CodeBlock, Paragraph, Section
from reports.rendering.text import counted, listing, machine_text, tally_text, versions_text

_SHOWN_DIGITS = 12  # of a commit's 40, enough for git to find it
_LONGEST_COMMAND = 20_000  # characters; one may want to run it again


def build(context: Context) -> Section | None:
    """Commits, versions, machines, commands and hyperparameters: what it takes to repeat runs."""
    if context.runs is None:
        return None
    data = context.runs
    own, others = data.of_suite, data.runs[data.runs["format"] != SUITE]
    blocks: list[Block] = []
    if len(own):
        blocks += [*_made_here(own), Paragraph(_listed(own)), *hyperparameter_tables(own)]
    if len(others):
        blocks += _made_elsewhere(others)
    return Section("How it was made", blocks)


def _made_here(table: pd.DataFrame) -> list[Block]:
    """What this suite's own runs have recorded."""
    facts: list[Inline] = [
        ("Commit: ", commits_text(table)),
        f"Versions: {tally_text(table['versions'].map(versions_text))}",
        f"Machine: {tally_text(table['machine'].map(machine_text))}",
    ]
    by_commit = commit_table(table)
    commands = sorted({mask(str(command)) for command in table["command"]})
    return [
        Bullets(facts),
        *([by_commit] if by_commit else []),
        Paragraph("Commands:"),
        CodeBlock([plain(command, _LONGEST_COMMAND) for command in commands]),
    ]


def _made_elsewhere(table: pd.DataFrame) -> list[Block]:
    """Where runs of other programs were found, and the settings that they have recorded."""
    places = table.groupby(["suite", "format"], sort=True)
    return [
        Paragraph(
            "Runs of other programs; their commits, versions, machines and commands are not "
            "recorded:"
        ),
        Table(
            [
                Text("place", [Code(str(place)) for (place, _), _ in places]),
                Text("format", [str(form) for (_, form), _ in places]),
                Text("labels", [listing(in_natural_order(rows["label"])) for _, rows in places]),
                Number("runs", [len(rows) for _, rows in places]),
            ]
        ),
        *_recorded_settings(table),
    ]


def _recorded_settings(table: pd.DataFrame) -> list[Block]:
    """For each label the settings that its runs have recorded."""
    tables: list[Block] = []
    without = []
    for label in in_natural_order(table["label"]):
        rows = table[table["label"] == label]
        by_env = rows.groupby("env_id", sort=True)
        settings = {str(env_id): _common(of_env) for env_id, of_env in by_env}
        where: dict[str, list[str]] = {}
        for env_id, own in settings.items():
            where.setdefault(json.dumps(own, sort_keys=True), []).append(str(env_id))
        names = sorted({name for own in settings.values() for name in own})
        if not names:
            without.append(label)
            continue
        columns = [
            Text(
                _heading({label: env_ids}, set(settings)),
                [Code(own[name]) if name in own else None for name in names],
            )
            for own, env_ids in ((settings[group[0]], group) for group in where.values())
        ]
        tables.append(Table([Text("setting", [Code(plain(n)) for n in names]), *columns]))
    said = "Settings that the runs have recorded; a dash: not recorded."
    if without:
        said += f" {listing(without)}: not recorded."
    return [Paragraph(said), *tables]


def _common(runs: pd.DataFrame) -> dict[str, str]:
    """The settings of these runs as text; where they differ, the values one after the other."""
    recorded = list(runs["hyperparams"])
    names = sorted({name for settings in recorded for name in settings} - NOT_SETTINGS)
    texts = {}
    for name in names:
        values = [setting_text(settings[name]) for settings in recorded if name in settings]
        texts[name] = plain(", ".join(in_natural_order(values)))
    return texts


def commits_text(table: pd.DataFrame) -> Inline:
    """The one commit, or that there are several.

    :param table: one row per run, as in :class:`reports.data.runs.RunData`
    """
    if _states(table) == 1:
        first = table.iloc[0]
        return _commit_text(first["commit"], first["dirty"])
    n_dirty = int((table["dirty"] == True).sum())  # noqa: E712
    text = counted(table["commit"].nunique(), "commit")
    if table["commit"].isna().any():
        text += ", and of some runs it is not known"
    text += ", listed below for each algorithm"
    if n_dirty:
        text += (
            f"; {n_dirty} of {counted(len(table), 'run')} were made from a work tree with "
            "uncommitted changes, so the commit is not all of their code"
        )
    return text


def _commit_text(commit: Any, dirty: Any) -> Inline:
    """Both are missing (None or NaN) where the run was not made in a clone."""
    if not isinstance(commit, str):
        return "unknown"
    return Code(commit), {True: " with uncommitted changes", False: " (clean)"}.get(dirty, "")


def commit_table(table: pd.DataFrame) -> Table | None:
    """The commits of each algorithm's runs, and their environments; None: there is one commit.

    :param table: one row per run, as in :class:`reports.data.runs.RunData`
    """
    if _states(table) == 1:
        return None
    groups = list(table.groupby(["algo", "commit"], sort=True, dropna=False))
    return Table(
        [
            Text("algorithm", [str(algo) for (algo, _), _ in groups]),
            Text("commit", [_short(commit) for (_, commit), _ in groups]),
            Number("runs", [len(rows) for _, rows in groups]),
            Number("with uncommitted changes", [_n_dirty(rows["dirty"]) for _, rows in groups]),
            Text("environments (runs)", [_counts(rows["env_id"]) for _, rows in groups]),
        ]
    )


def _short(commit: object) -> Inline:
    return Code(commit[:_SHOWN_DIGITS]) if isinstance(commit, str) else "unknown"


def _n_dirty(dirty: pd.Series) -> int | str:
    return "unknown" if dirty.isna().all() else int((dirty == True).sum())  # noqa: E712


def _counts(env_ids: pd.Series[str]) -> str:
    counts = env_ids.value_counts().sort_index()
    return ", ".join(f"{env_id} ({n})" for env_id, n in counts.items())


def _states(table: pd.DataFrame) -> int:
    """From how many different work trees the runs were made, as far as is known."""
    return len(table[["commit", "dirty"]].drop_duplicates())


def hyperparameter_tables(table: pd.DataFrame) -> list[Table]:
    """For each algorithm the hyperparameters that differ from its constructor's defaults.

    There is a column for each set of environments that share them.
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
        columns = [
            Text(_heading(where[key], every), [_value(values, name) for name in names] or [None])
            for key, values in settings.items()
        ]
        shown: list[Inline] = [Code(plain(name)) for name in names]
        tables.append(Table([Text("hyperparameter", shown or ["none"]), *columns]))
    return tables


def without_defaults(algo: str, hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that differ from the algorithm's defaults.

    :param algo: a known name, or the path of a class; a user's own class has no known defaults
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
    known = known_class(algo)
    if known is None:
        return None
    return {name: parameter.default for name, parameter in parameters_of(known).items()}


def _is_default(algo: str, name: str, value: Any, defaults: Mapping[str, Any]) -> bool:
    if name == "env_wrapper":  # to look at it is to import it
        return value is None
    try:
        given = model_arguments(algo, {name: value}, "hyperparams")
    except SpecError:  # of another version of the algorithm
        return False
    if name == "device":  # a run's own default is not the constructor's
        return False
    if name in given.constructor:
        return bool(given.constructor[name] == defaults[name])
    # The policy, the environments and their wrappers.
    return given == model_arguments(algo, {}, "hyperparams")


def _listed(table: pd.DataFrame) -> str:
    """Which hyperparameters are listed."""
    text = (
        "Hyperparameters that differ from the defaults of the installed versions' constructors; "
        "a dash is the default."
    )
    unknown = [algo for algo in sorted(table["algo"].unique()) if _defaults(algo) is None]
    if unknown:
        text += (
            f" The defaults of {listing(unknown)} are not known, since a report does not import "
            "users' own classes; all their hyperparameters are listed."
        )
    return text


def _heading(labels: Mapping[str, Sequence[str]], every: set[str]) -> str:
    """Whose settings a column has, such as ``npg on CartPole-v1, Hopper-v5``."""
    return "; ".join(
        f"{label} on "
        + ("all environments" if len(every) > 2 and set(envs) == every else ", ".join(envs))
        for label, envs in labels.items()
    )


def _value(settings: Mapping[str, Any], name: str) -> Inline | None:
    return Code(setting_text(settings[name])) if name in settings else None
