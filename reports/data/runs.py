"""The runs of a report: read, checked for whether they compare, and labelled."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import pandas as pd

from benchmarks import manifests, results, run_files
from benchmarks.manifests import Manifest
from benchmarks.names import first_line, in_natural_order, plain
from benchmarks.records import RunKey, RunRecord
from benchmarks.storage import RECORD, Folder
from reports.data.metrics import EVALUATIONS, Metric

_CONFIG = ["algo", "env_id", "config"]
_Key: TypeAlias = tuple[str, str, str, str]  # name, algo, env_id, config


class ReportError(Exception):
    """The runs cannot be reported as they are; the message says what is wrong and where."""


SUITE = "suite"
"""The format of this suite's own runs, beside those of :mod:`reports.data.readers`."""


@dataclass(frozen=True)
class FoundRuns:
    """This suite's own runs as they were read, not yet checked for whether they compare.

    The frames are those of :class:`RunData` without what is derived: ``label`` and ``protocol``.
    Each has the column ``name``, which tells apart the runs of several places.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    failures: pd.DataFrame
    asked: pd.DataFrame
    broken: Sequence[str] = ()


@dataclass(frozen=True)
class RunData:
    """The runs of a report; the frames are sorted by environment, label and seed.

    Names are on one line each, and not longer than a line.

    ``runs``: one row per finished run, as :func:`benchmarks.results.load_runs` returns it, with
    more columns: ``label``, the name under which the run is reported (see :func:`config_labels`),
    ``protocol``, what tells its budget and evaluation from others on the environment (see
    :func:`protocols`), and ``format``. What other programs' runs have not recorded is None, NaN or
    empty.
    ``evaluations``: one row per evaluation, with the same ``label`` and ``protocol``.
    ``failures``: one row per failed run, with ``label``.
    ``asked``: one row per run that a sweep was asked for, as far as manifests are there: ``suite,
    algo, env_id, config, seed`` and ``label``.
    ``broken``: a line for each run that was left out, naming it and saying why.
    ``metric``: what the column ``return_mean`` of the evaluations has, which are its points where
    it is logged as training goes on.
    ``without_metric``: a line for each run that was left out since it has not logged that.
    ``problems``: a line for each part of a run's logs that was left out.
    ``notes``: what to know of how the runs compare.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    failures: pd.DataFrame
    asked: pd.DataFrame
    broken: Sequence[str] = ()
    metric: Metric = EVALUATIONS
    without_metric: Sequence[str] = ()
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def of_suite(self) -> pd.DataFrame:
        """The rows of this suite's own runs, without those of other programs."""
        return self.runs[self.runs["format"] == SUITE]

    @property
    def are_all_of_suite(self) -> bool:
        """Whether no run is of another program."""
        return len(self.of_suite) == len(self.runs)

    @property
    def mixed(self) -> list[str]:
        """The environments whose runs have different budgets or evaluation protocols."""
        return sorted(map(str, self.runs.loc[self.runs["protocol"] != "", "env_id"].unique()))


def read_finished(folder: Path) -> RunRecord:
    """The record of the finished run that stands in a folder.

    :raises ReportError: this is not the folder of a finished run
    :raises benchmarks.records.BrokenRunError: its record cannot be read
    """
    if not run_files.is_finished(folder):
        raise ReportError(
            f"{folder}: is not the folder of a finished run, such as "
            f"runs/classic/npg/CartPole-v1/seed-0-1a2b3c4d: it has no {RECORD}"
        )
    return run_files.read_run(folder)


def load(
    root: Path,
    allow_mixed: bool = False,
    allow_broken: bool = False,
    reading: Callable[[Sequence[Folder]], Iterable[Folder]] = iter,
) -> RunData:
    """Read the run folders under ``root``, check that they compare, and label them.

    :param allow_mixed: as for :func:`checked`
    :param allow_broken: as for :func:`read`, as is ``reading``
    :raises ReportError: see :func:`read` and :func:`checked`
    :raises benchmarks.records.BrokenRunError: see :func:`read`
    """
    return checked(read(root, allow_broken, reading), allow_mixed)


def read(
    root: Path,
    allow_broken: bool = False,
    reading: Callable[[Sequence[Folder]], Iterable[Folder]] = iter,
    name: str = "",
) -> FoundRuns:
    """Read the run folders under ``root``.

    :param allow_broken: leave out runs that cannot be read, that have an evaluation without a
        return, or that were evaluated at other steps than most seeds of their configuration
    :param reading: as for :func:`benchmarks.results.load_readable`
    :param name: of the runs of this place
    :raises ReportError: there is no such folder, or no finished run in it that can be read; unless
        allowed, an evaluation has no return
    :raises benchmarks.records.BrokenRunError: a run folder or a manifest that cannot be read,
        unless allowed
    """
    if not run_files.is_there(root):
        raise ReportError(f"{root}: there is no such folder")
    everything = run_files.find(root)
    found = results.readable(everything, root, reading)
    sweeps, unreadable = manifests.readable(everything, root)
    errors = [*found.broken, *unreadable]
    if errors and not allow_broken:
        raise errors[0]
    runs, evaluations, failures = map(cleaned, (found.runs, found.evaluations, found.failures))
    broken = [str(error).replace(f"{root}{os.sep}", "") for error in errors]
    if allow_broken:
        for find in (results.without_return, _with_other_grids):
            found_here = find(evaluations)
            broken += found_here.values()
            runs, evaluations = (_without(frame, list(found_here)) for frame in (runs, evaluations))
    elif without_return := results.without_return(evaluations):
        raise ReportError(next(iter(without_return.values())))
    if runs.empty:
        reason = f"; {broken[0]}" if broken else ""
        what = "no run that can be read" if broken else "no finished run folder"
        raise ReportError(f"{root}: {what} in it{reason}{_first_failure(failures)}")
    return FoundRuns(
        runs.assign(format=SUITE, name=name),
        evaluations.assign(name=name),
        failures.assign(name=name),
        cleaned(_asked(sweeps)).assign(name=name),
        broken,
    )


def joined(found: Sequence[FoundRuns]) -> FoundRuns:
    """The runs of several places, at least one."""
    if len(found) == 1:
        return found[0]
    return FoundRuns(
        pd.concat([each.runs for each in found], ignore_index=True),
        pd.concat([each.evaluations for each in found], ignore_index=True),
        pd.concat([each.failures for each in found], ignore_index=True),
        pd.concat([each.asked for each in found], ignore_index=True),
        [line for each in found for line in each.broken],
    )


def checked(
    found: FoundRuns,
    allow_mixed: bool = False,
    called: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> RunData:
    """Runs that compare, labelled.

    :param allow_mixed: runs of one environment may have different budgets or evaluation protocols;
        their labels then tell them apart
    :param called: what labels call an algorithm, by its place's ``name`` and its own; what is not
        there keeps its own
    :raises ReportError: a run is there twice; the seeds of a configuration were evaluated at
        different steps; unless allowed, budgets or evaluation protocols differ
    """
    runs, evaluations = found.runs, found.evaluations
    refuse_repeated_runs(runs)
    if not allow_mixed:
        refuse_mixed_protocols(runs)
    refuse_different_grids(evaluations)
    runs = runs.assign(protocol=protocols(runs))
    labels = _labels(runs, called)
    of_config = runs.drop_duplicates(_CONFIG).set_index(_CONFIG)["protocol"]
    return RunData(
        runs=_labelled(runs, labels),
        evaluations=_labelled(evaluations.join(of_config, on=_CONFIG), labels, "timesteps"),
        failures=_labelled(found.failures, labels),
        asked=_labelled(found.asked, labels),
        broken=found.broken,
    )


def _asked(sweeps: Iterable[Manifest]) -> pd.DataFrame:
    """One row per run that these sweeps were asked for."""
    keys = sorted({key for sweep in sweeps for key in sweep.runs})
    return pd.DataFrame(keys, columns=list(RunKey._fields)).astype({"seed": int})


def cleaned(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every name on one line, and the first lines of errors."""
    names = frame.columns.intersection(["suite", "algo", "env_id", "config", "error", "commit"])
    facts = frame.columns.intersection(["versions", "machine"])
    known = {text: first_line(text) for name in names for text in frame[name].dropna().unique()}
    texts = {name: frame[name].map(lambda text: known.get(text, text)) for name in names}
    return frame.assign(**texts, **{name: frame[name].map(_cleaned_facts) for name in facts})


def _cleaned_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        plain(name): plain(fact) if isinstance(fact, str) else fact for name, fact in facts.items()
    }


def refuse_repeated_runs(runs: pd.DataFrame) -> None:
    """Refuse a run that is there twice, since it would count as two seeds.

    :raises ReportError: naming the folders of the first such run
    """
    keys = ["name", *_CONFIG, "seed"]
    repeated = runs[runs.duplicated(keys, keep=False)]
    if repeated.empty:
        return
    first = repeated.iloc[0]
    same = repeated[(repeated[keys] == first[keys]).all(axis=1)]
    folders = "\n".join(f"  {path}" for path in same["path"])
    raise ReportError(
        f"{first['algo']} on {first['env_id']}, seed {first['seed']}: the same run is there "
        f"{len(same)} times and would count as {len(same)} seeds\n{folders}\n"
        "Build the report from one of the suites."
    )


def refuse_mixed_protocols(runs: pd.DataFrame) -> None:
    """Refuse an environment whose runs differ in budget or evaluation protocol.

    :raises ReportError: naming the environment, and which runs have which value
    """
    for env_id, group in runs.groupby("env_id", sort=True):
        _refuse_several(str(env_id), "budgets", group, group["n_timesteps"].map(_budget_text))
        _refuse_several(
            str(env_id), "evaluation protocols", group, group["evaluation"].map(describe_settings)
        )


def refuse_different_grids(evaluations: pd.DataFrame) -> None:
    """Refuse seeds of a configuration that were not evaluated at the same steps.

    :raises ReportError: naming two seeds that differ
    """
    for key, group in evaluations.groupby(["env_id", "algo", "config", "name"], sort=True):
        grids = [
            (seed, rows["timesteps"].sort_values().to_list())
            for seed, rows in group.groupby("seed")
        ]
        first_seed, first_grid = grids[0]
        for seed, grid in grids[1:]:
            if grid != first_grid:
                raise ReportError(
                    f"{key[1]} on {key[0]}, config {key[2]}: seed {first_seed} was evaluated at "
                    f"{_grid_text(first_grid)}, seed {seed} at {_grid_text(grid)}"
                )


def config_labels(runs: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """The name of each ``(algo, env_id, config)`` in the report.

    It is the algorithm's name where the environment has one configuration of it. Otherwise it says
    what the configuration sets differently from the others: ``npg (critic=adam)`` beside ``npg``,
    which has the algorithm's defaults.
    """
    labels: dict[tuple[str, str, str], str] = {}
    for (algo, env_id), group in runs.groupby(["algo", "env_id"], sort=True):
        settings = dict(zip(group["config"], group["hyperparams"], strict=True))
        for config, label in _labels_of(str(algo), settings).items():
            labels[str(algo), str(env_id), config] = label
    return labels


def describe_settings(settings: Mapping[str, Any]) -> str:
    """``{"points": 20, "episodes": 10}`` as ``episodes=10, points=20``."""
    return ", ".join(f"{plain(name)}={setting_text(settings[name])}" for name in sorted(settings))


def setting_text(value: Any) -> str:
    """A hyperparameter's value as in a YAML file, on one line."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return plain(json.dumps(value, sort_keys=True))


def protocols(runs: pd.DataFrame) -> pd.Series[str]:
    """What tells a run's budget and evaluation protocol from the others on its environment.

    :param runs: with ``env_id, n_timesteps, evaluation``
    :return: a text for each run, such as ``200,000 steps``; empty where all runs on an environment
        have the same protocol
    """
    facts = pd.Series(
        [
            _protocol_facts(*run)
            for run in zip(runs["n_timesteps"], runs["evaluation"], strict=True)
        ],
        index=runs.index,
        dtype=object,
    )
    return facts.groupby(runs["env_id"], group_keys=False).apply(_protocols_of)


def _protocols_of(facts: pd.Series) -> pd.Series[str]:
    """:func:`protocols` of the runs of one environment."""
    differing = [i for i, texts in enumerate(zip(*facts, strict=True)) if len(set(texts)) > 1]
    return facts.map(lambda texts: ", ".join(texts[i] for i in differing))


def _protocol_facts(n_timesteps: int, evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{n_timesteps:,} steps",
        f"{evaluation['points']:,} evaluations",
        f"{evaluation['episodes']:,} episodes per evaluation",
        f"evaluation seed {evaluation['seed']}",
    )


def with_protocol(label: str, protocol: str) -> str:
    """``npg (200,000 steps)``, or ``npg (critic=adam, 200,000 steps)``; the label if there is none.

    :param protocol: as :func:`protocols` returns it
    """
    if not protocol:
        return label
    return f"{label[:-1]}, {protocol})" if label.endswith(")") else f"{label} ({protocol})"


def _labels(runs: pd.DataFrame, called: Mapping[tuple[str, str], str]) -> dict[_Key, str]:
    """:func:`config_labels` of each place and protocol, with what tells these from the others."""
    return {
        (str(name), *key): with_protocol(
            called.get((str(name), key[0]), key[0]) + label.removeprefix(key[0]), str(protocol)
        )
        for (name, protocol), group in runs.groupby(["name", "protocol"], sort=True)
        for key, label in config_labels(group).items()
    }


def _with_other_grids(evaluations: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """The runs that were evaluated at other steps than most of their configuration, and why."""
    found: dict[tuple[Any, ...], str] = {}
    for _, group in evaluations.groupby(_CONFIG, sort=True):
        grids = {
            key: tuple(rows["timesteps"].sort_values())
            for key, rows in group.groupby(["suite", *_CONFIG, "seed"])
        }
        usual, count = Counter(grids.values()).most_common(1)[0]
        if 2 * count <= len(grids):
            continue  # nobody can say which of them is right
        for key, grid in grids.items():
            if grid != usual:
                _, algo, env_id, config, seed = key
                found[key] = (
                    f"{algo} on {env_id}, config {config}, seed {seed}: was evaluated at "
                    f"{_grid_text(grid)}, the others at {_grid_text(usual)}"
                )
    return found


def _without(frame: pd.DataFrame, runs: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """The rows of a frame that are not of these runs."""
    keys = pd.MultiIndex.from_frame(frame[["suite", *_CONFIG, "seed"]])
    return frame[~keys.isin(runs)].reset_index(drop=True)


def _labels_of(algo: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    if len(settings) == 1:
        return dict.fromkeys(settings, algo)
    texts = {
        config: {plain(name): setting_text(value) for name, value in values.items()}
        for config, values in settings.items()
    }
    names = sorted({name for text in texts.values() for name in text})
    differing = [name for name in names if len({text.get(name) for text in texts.values()}) > 1]
    labels = {}
    for config, text in texts.items():
        own = ", ".join(f"{name}={text[name]}" for name in differing if name in text)
        labels[config] = f"{algo} ({own})" if own else algo
    if len(set(labels.values())) < len(labels):  # they do not differ in a hyperparameter
        return {config: f"{algo} (config={config})" for config in settings}
    return labels


def _labelled(frame: pd.DataFrame, labels: Mapping[_Key, str], *then_by: str) -> pd.DataFrame:
    keys = zip(frame["name"], frame["algo"], frame["env_id"], frame["config"], strict=True)
    names = [labels.get(key) or _label_of_unfinished(key, labels) for key in keys]
    labelled = frame.assign(label=pd.Series(names, index=frame.index, dtype="object"))
    return in_order(labelled, *then_by)


def in_order(frame: pd.DataFrame, *then_by: str) -> pd.DataFrame:
    """The rows by environment, label, seed and suite, numbers in labels by their value."""
    order = ["env_id", "label", "seed", "suite", *then_by]
    places = {label: i for i, label in enumerate(in_natural_order(frame["label"]))}
    sortable = frame[order].assign(label=frame["label"].map(places))
    return frame.loc[sortable.sort_values(order, kind="stable").index].reset_index(drop=True)


def _label_of_unfinished(key: _Key, labels: Mapping[_Key, str]) -> str:
    """The label of a configuration of which no run finished, unlike that of any that did."""
    _, algo, _, config = key
    others = any(known[:3] == key[:3] for known in labels)
    return f"{algo} (config={config})" if others else algo


def _refuse_several(env_id: str, what: str, runs: pd.DataFrame, texts: pd.Series[str]) -> None:
    if texts.nunique() == 1:
        return
    lines = []
    for text, group in runs.groupby(texts, sort=True):
        counts = (group["suite"] + "/" + group["algo"]).value_counts().sort_index()
        who = ", ".join(f"{name} ({runs_text(n)})" for name, n in counts.items())
        lines.append(f"  {text}: {who}")
    raise ReportError(
        f"{env_id}: the runs have different {what} and cannot be compared\n"
        + "\n".join(lines)
        + "\nBuild one report for each, or tell them apart in one with --allow-mixed."
    )


def runs_text(count: int) -> str:
    """``1 run``, ``2 runs``."""
    return "1 run" if count == 1 else f"{count:,} runs"


def _budget_text(n_timesteps: int) -> str:
    return f"n_timesteps={n_timesteps:,}"


def _grid_text(timesteps: Sequence[int]) -> str:
    return f"{len(timesteps)} points from step {timesteps[0]:,} to {timesteps[-1]:,}"


def _first_failure(failures: pd.DataFrame) -> str:
    if failures.empty:
        return ""
    first = failures.iloc[0]
    return (
        f"; {runs_text(len(failures))} failed, the first {first['algo']} on {first['env_id']}, "
        f"seed {first['seed']}: {first['error']}"
    )
