"""The runs a report is made of, checked for being comparable before anything is averaged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import results


class ReportError(Exception):
    """The runs cannot be reported as they are; the message says what is wrong and where."""


@dataclass(frozen=True)
class RunData:
    """Everything a report reads; the frames are sorted by environment, label and seed.

    ``runs``: one row a finished run, as :func:`benchmarks.results.load_runs` gives it, and
    ``label``, the name under which the run is reported (see :func:`config_labels`).
    ``evaluations``: one row an evaluation, with the same ``label``.
    ``failures``: one row a failed run, with ``label``.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    failures: pd.DataFrame


def load(root: Path) -> RunData:
    """Read the run folders under ``root``.

    :raises ReportError: no such folder, no finished run in it, a run that is there twice, runs of
        one environment with different budgets or evaluation protocols, or seeds of one
        configuration with evaluations that cannot be averaged.
    :raises benchmarks.results.BrokenRunError: a run folder that cannot be read.
    """
    if not root.is_dir():
        raise ReportError(f"{root}: there is no such folder")
    runs = results.load_runs(root)
    failures = results.load_failures(root)
    if runs.empty:
        raise ReportError(f"{root}: no finished run folder in it{_first_failure(failures)}")
    evaluations = results.load_evaluations(root)
    refuse_repeated_runs(runs)
    refuse_mixed_protocols(runs)
    refuse_unusable_evaluations(evaluations)
    labels = config_labels(runs)
    return RunData(
        runs=_labelled(runs, labels),
        evaluations=_labelled(evaluations, labels, "timesteps"),
        failures=_labelled(failures, labels),
    )


def refuse_repeated_runs(runs: pd.DataFrame) -> None:
    """The same algorithm, environment, configuration and seed in two suites would count twice.

    :raises ReportError: naming the folders of the first such run.
    """
    repeated = runs[runs.duplicated(["algo", "env_id", "config", "seed"], keep=False)]
    if repeated.empty:
        return
    first = repeated.iloc[0]
    same = repeated[
        (repeated["algo"] == first["algo"])
        & (repeated["env_id"] == first["env_id"])
        & (repeated["config"] == first["config"])
        & (repeated["seed"] == first["seed"])
    ]
    folders = "\n".join(f"  {path}" for path in same["path"])
    raise ReportError(
        f"{first['algo']} on {first['env_id']}, seed {first['seed']}: the same run is there "
        f"{len(same)} times and would count as {len(same)} seeds\n{folders}\n"
        "Build the report from one of the suites."
    )


def refuse_mixed_protocols(runs: pd.DataFrame) -> None:
    """Scores of one environment are comparable only at one budget and one evaluation protocol.

    :raises ReportError: naming the environment and which runs have which value.
    """
    for env_id, group in runs.groupby("env_id", sort=True):
        _refuse_several(str(env_id), "budgets", group, group["n_timesteps"].map(_budget_text))
        _refuse_several(
            str(env_id), "evaluation protocols", group, group["evaluation"].map(describe_settings)
        )


def refuse_unusable_evaluations(evaluations: pd.DataFrame) -> None:
    """Returns are numbers, and the seeds of a configuration, averaged step by step, share steps.

    :raises ReportError: naming the first run without a number, or two seeds that differ.
    """
    unusable = evaluations[~np.isfinite(evaluations["return_mean"])]
    if len(unusable):
        row = unusable.iloc[0]
        raise ReportError(
            f"{row['algo']} on {row['env_id']}, config {row['config']}, seed {row['seed']}: the "
            f"evaluation at step {row['timesteps']:,} has return_mean={row['return_mean']}"
        )
    for key, group in evaluations.groupby(["env_id", "algo", "config"], sort=True):
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
    """``(algo, env_id, config)`` to the name a reader sees.

    It is the algorithm's name where the environment has one configuration of it, and otherwise
    names what a configuration sets and others do not, or set otherwise: ``npg (critic=adam)``
    beside ``npg``, which leaves all of that to the algorithm's defaults.
    """
    labels: dict[tuple[str, str, str], str] = {}
    for (algo, env_id), group in runs.groupby(["algo", "env_id"], sort=True):
        settings = dict(zip(group["config"], group["hyperparams"], strict=True))
        for config, label in _labels_of(str(algo), settings).items():
            labels[str(algo), str(env_id), config] = label
    return labels


def describe_settings(settings: Mapping[str, Any]) -> str:
    """``{"points": 20, "episodes": 10}`` as ``episodes=10, points=20``."""
    return ", ".join(f"{name}={setting_text(settings[name])}" for name in sorted(settings))


def setting_text(value: Any) -> str:
    """A hyperparameter's value as it would stand in a YAML file, on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return json.dumps(value, sort_keys=True)


def _labels_of(algo: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    if len(settings) == 1:
        return dict.fromkeys(settings, algo)
    texts = {
        config: {name: setting_text(value) for name, value in values.items()}
        for config, values in settings.items()
    }
    names = sorted({name for text in texts.values() for name in text})
    differing = [name for name in names if len({text.get(name) for text in texts.values()}) > 1]
    labels = {}
    for config, text in texts.items():
        own = ", ".join(f"{name}={text[name]}" for name in differing if name in text)
        labels[config] = f"{algo} ({own})" if own else algo
    if len(set(labels.values())) < len(labels):  # they differ in what no hyperparameter shows
        return {config: f"{algo} (config={config})" for config in settings}
    return labels


def _labelled(
    frame: pd.DataFrame, labels: Mapping[tuple[str, str, str], str], *then_by: str
) -> pd.DataFrame:
    keys = zip(frame["algo"], frame["env_id"], frame["config"], strict=True)
    names = [labels.get(key) or _label_of_unfinished(*key, labels) for key in keys]
    order = ["env_id", "label", "seed", "suite", *then_by]
    labelled = frame.assign(label=pd.Series(names, index=frame.index, dtype="object"))
    return labelled.sort_values(order, kind="stable").reset_index(drop=True)


def _label_of_unfinished(
    algo: str, env_id: str, config: str, labels: Mapping[tuple[str, str, str], str]
) -> str:
    """A configuration of which no run finished is not to be taken for one that did."""
    others = any(key[:2] == (algo, env_id) for key in labels)
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
        + "\nBuild one report for each."
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
