"""Reads the runs that people already have, whichever program has logged them.

=======================  =====================================  ===================================
Format                   Read from                              What it gives
=======================  =====================================  ===================================
``sb3``                  ``evaluations.npz`` of EvalCallback    evaluations, success rates
Stable-Baselines3
                         ``monitor.csv``, ``0.monitor.csv``,    the training's episodes,
                         ``1.monitor.csv``, ... of Monitor      environment, wall time

                         ``progress.csv`` and event files of    training, evaluations and everything
                         the logger                             else that was logged
``zoo``                  folders ``ALGO/ENV_N`` with            the same, and algorithm,
RL Baselines3 Zoo        ``ENV/args.yml``, ``ENV/config.yml``   environment, seed, hyperparameters
``cleanrl``              event files in folders                 the training's episodes, all other
CleanRL, Open RL         ``ENV__EXP__SEED__TIME``               charts, algorithm, environment,
Benchmark                                                       seed, arguments
``table``                CSV or Parquet, and a mapping that     the runs of a whole study; see
W&B, MLflow, Tianshou    says which column is what              :mod:`reports.data.readers.table`
=======================  =====================================  ===================================

Several formats may lie below one folder: all but tables are recognised by themselves. A run is a
folder with logs. Logs in folders below it belong to it too, such as TensorBoard's ``PPO_1``, unless
two of these folders have logs of the same kind. Folders of this suite's own runs are not read here.

Training means the same in every format: the mean return of the last 100 episodes that had ended by
a step, which is Stable-Baselines3's ``rollout/ep_rew_mean``. It is computed where the episodes are
known. If several logs of a run have a metric, the most exact one is taken: ``evaluations.npz``,
then Monitor, then ``progress.csv``, then event files.

A pattern reads from a path what the logs do not say of algorithm, environment and seed:
``{algo}/{env_id}_{seed}`` fits ``logs/ppo/CartPole-v1_3``, and ``{_}`` stands for anything.

Three things are not known from Monitor. An episode that never ended, because the training was
stopped and resumed, has left no line: later steps are too small by its length. The one file of a
``VecMonitor`` does not say in which environment an episode was: there, a step is the sum of the
lengths of the episodes that have ended. And a Monitor below a wrapper that skips frames, as that of
Atari games, counts frames; its episodes are left out where the other logs show that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.errors import SpecError
from benchmarks.names import message
from reports.data.readers import layout, one_run, patterns, table
from reports.data.readers.logged import LoggedRun

FORMS = ("sb3", "zoo", "cleanrl", "table")
Reading = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True)
class FoundLogs:
    """The runs that could be read, in the order of their paths.

    ``broken``: a line for each log that was left out, and why.
    """

    runs: Sequence[LoggedRun]
    broken: Sequence[str]


def read(
    path: Path,
    form: str | None = None,
    pattern: str | None = None,
    columns: Mapping[str, str] | None = None,
    reading: Reading = iter,
) -> FoundLogs:
    """The runs whose logs are at or below a path.

    :param path: a folder, or one log
    :param form: one of ``FORMS``, to read everything as that; None: each folder is recognised, or,
        with ``columns``, everything is a table
    :param pattern: of the ends of the runs' paths; see :mod:`reports.data.readers.patterns`
    :param columns: which column of a table is what; see :mod:`reports.data.readers.table`
    :param reading: iterates over the paths that are read, to show the progress
    :raises SpecError: (a ValueError) naming the argument that is not valid and what would be
    """
    if form not in (None, *FORMS):
        raise SpecError(f"form: {form!r} is not one of {', '.join(FORMS)}")
    if form == "table" and columns is None:
        raise SpecError("columns: must say which column of a table is what")
    if form not in (None, "table") and columns is not None:
        raise SpecError(f"columns: are for the form table, got the form {form}")
    if not path.exists():
        raise SpecError(f"path: {path} does not exist")
    named = None if pattern is None else patterns.compiled(pattern)
    if columns is None:
        return _logs(path, form, named, reading)
    table.check_columns(columns)
    return _tables(path, columns, named, reading)


def _logs(
    path: Path, form: str | None, named: re.Pattern[str] | None, reading: Reading
) -> FoundLogs:
    found = [logs for logs in layout.find(path) if logs.events or form != "cleanrl"]
    runs, broken = [], []
    if path.is_file() and not found:
        what = "its name is not that of a log; to read a table, say what its columns are"
        broken.append(message(f"{path}: {what}"))
    for _, logs in zip(reading([logs.path for logs in found]), found, strict=True):
        run = one_run.read(logs, form)
        if run.metrics:
            runs.append(_named(run, logs.place, named))
        else:
            why = "; ".join(run.problems) or f"{logs.path}: nothing has been logged yet"
            broken.append(message(why))
    return FoundLogs(runs, broken)


def _tables(
    path: Path, columns: Mapping[str, str], named: re.Pattern[str] | None, reading: Reading
) -> FoundLogs:
    broken: list[str] = []
    paths = layout.tables(path)
    # A wrong mapping is found before the first table is read.
    wrong = [file for file in paths if not _is_table(file, columns, broken)]
    paths = [file for file in paths if file not in wrong]
    runs: list[LoggedRun] = []
    for _, file in zip(reading(paths), paths, strict=True):
        found = one_run.attempt(broken, file, partial(table.read, file, columns))
        for run in [] if found is None else found.runs:
            if run.metrics:
                runs.append(_named(run, file.with_suffix(""), named))
            else:
                broken.append(message(f"{file}: a run without a number; {'; '.join(run.problems)}"))
        broken.extend([] if found is None else found.broken)
    return FoundLogs(runs, broken)


def _is_table(file: Path, columns: Mapping[str, str], broken: list[str]) -> bool:
    """:raises SpecError: the table lacks a column that the mapping names"""
    names = one_run.attempt(broken, file, partial(table.column_names, file))
    if names is not None:
        table.check_file(file, names, columns)
    return names is not None


def _named(run: LoggedRun, place: Path, named: re.Pattern[str] | None) -> LoggedRun:
    """A run with what its path says, where its logs do not say it."""
    if named is None:
        return run
    missing = [name for name in ("algo", "env_id", "seed") if getattr(run, name) is None]
    said = patterns.fields_of(place, named)
    if said is None and not missing:
        return run
    if said is None:
        problem = message(
            f"{run.path}: the pattern, which is to say {', '.join(missing)}, does not fit"
        )
        return replace(run, problems=[*run.problems, problem])
    seed = int(said["seed"]) if "seed" in said else None
    known = {"algo": run.algo, "env_id": run.env_id, "seed": run.seed}
    problems = [
        message(f"{run.path}: {name}: the logs say {known[name]}, which counts; its path {text}")
        for name, text in said.items()
        if known.get(name) is not None and str(known[name]) != str(seed if name == "seed" else text)
    ]
    return replace(
        run,
        problems=[*run.problems, *problems],
        algo=run.algo or said.get("algo"),
        env_id=run.env_id or said.get("env_id"),
        seed=seed if run.seed is None else run.seed,
    )
