"""What runs lack: seeds that others have or that were asked for, environments, whole algorithms."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.names import plain
from reports.data.runs import RunData

_SWEEP = ["python", "-m", "benchmarks", "run"]
_MOST_SEEDS = 10_000  # a command with more was written by nobody


@dataclass(frozen=True)
class Gap:
    """What one algorithm lacks on some environments.

    ``seeds``: those without a result, and ``failed`` those of them whose run failed; without seeds
    it has no run there at all. ``only_asked``: it has no run anywhere, but a command asked for one.
    """

    label: str
    env_ids: Sequence[str]
    seeds: Sequence[int] = ()
    failed: Sequence[int] = ()
    only_asked: bool = False


@dataclass(frozen=True)
class Missing:
    """What has no result.

    ``is_uneven``: an algorithm lacks what another one has. ``is_unmet``: something that a command
    asked for has no result. ``is_asked_known``: every run has a command from which that can be
    read.
    """

    gaps: Sequence[Gap]
    is_uneven: bool
    is_unmet: bool
    is_asked_known: bool


@dataclass(frozen=True)
class AllFailed:
    """An algorithm that failed in every run, on one environment or, if that is None, on all."""

    algo: str
    env_id: str | None
    runs: int


@dataclass(frozen=True)
class Asked:
    """What a command asked for; ``algos`` and ``env_ids`` are empty if it does not name any."""

    algos: Sequence[str]
    env_ids: Sequence[str]
    seeds: range


def asked_by(command: str) -> Asked | None:
    """What a recorded command asked for; None if that cannot be read from it."""
    try:
        words = shlex.split(command)
        options = _options(words)
        first = int(options.get("--first-seed", "0"))
        n_seeds = int(options.get("--seeds", "1"))
    except ValueError:
        return None
    if words[: len(_SWEEP)] != _SWEEP or n_seeds > _MOST_SEEDS:
        return None
    seeds = range(first, first + n_seeds)
    return Asked(_names(options.get("--algos", "")), _names(options.get("--envs", "")), seeds)


def missing_of(data: RunData) -> Missing:
    """What has no result although another algorithm has one or a recorded command asked for it.

    Commands name seeds, and often algorithms and environments. What a suite held when it was run is
    not known, so a command that does not name environments asked for those that have runs.
    """
    asked = _Asked(data)
    where: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[str]] = {}
    is_uneven = is_unmet = False
    for env_id in _env_ids(data):
        for label, seeds in _seeds_of(data, env_id).items():
            wanted = asked.seeds(label, env_id)
            absent = tuple(sorted((seeds.of_others | wanted) - seeds.finished))
            if absent:
                failed = tuple(seed for seed in absent if seed in seeds.failed)
                where.setdefault((label, absent, failed), []).append(env_id)
            is_uneven |= bool(seeds.of_others - seeds.finished)
            is_unmet |= bool(wanted - seeds.finished)
    gaps = [
        Gap(label, env_ids, absent, failed) for (label, absent, failed), env_ids in where.items()
    ]
    for algo, env_ids in _without_run(data, asked.tasks).items():
        is_known_here = algo in set(data.runs["algo"])
        is_uneven |= is_known_here and bool(set(data.runs["env_id"]) & set(env_ids))
        is_unmet |= any((algo, env_id) in asked.tasks for env_id in env_ids)
        gaps.append(Gap(algo, env_ids, only_asked=not is_known_here))
    return Missing(gaps, is_uneven, is_unmet, asked.is_known)


def all_failed(data: RunData) -> list[AllFailed]:
    """Every algorithm, or algorithm on an environment, of which runs failed and none finished."""
    finished = set(zip(data.runs["algo"], data.runs["env_id"], strict=True))
    algos = {algo for algo, _ in finished}
    found = []
    for algo, of_algo in data.failures.groupby("algo", sort=True):
        if algo not in algos:
            found.append(AllFailed(str(algo), None, len(of_algo)))
            continue
        for env_id, group in of_algo.groupby("env_id", sort=True):
            if (algo, env_id) not in finished:
                found.append(AllFailed(str(algo), str(env_id), len(group)))
    return found


class _Asked:
    """What the commands of the finished runs asked for.

    ``tasks``: algorithms and environments. ``is_known``: that can be read from every command.
    """

    def __init__(self, data: RunData) -> None:
        self.tasks: set[tuple[str, str]] = set()
        self.is_known = True
        self._of_label: dict[tuple[str, str], set[int]] = {}
        of_task: dict[tuple[str, str], set[int]] = {}
        parsed = {command: asked_by(command) for command in set(data.runs["command"])}
        columns = ["label", "algo", "env_id", "command"]
        for label, algo, env_id, command in (
            data.runs[columns].drop_duplicates().itertuples(index=False)
        ):
            asked = parsed[command]
            if asked is None:
                self.is_known = False
                continue
            self._of_label.setdefault((label, env_id), set()).update(asked.seeds)
            for task in [(a, e) for a in asked.algos or [algo] for e in asked.env_ids or [env_id]]:
                of_task.setdefault(task, set()).update(asked.seeds)
        self.tasks = set(of_task)
        self._add_commands_of_others(data, of_task)

    def _add_commands_of_others(
        self, data: RunData, of_task: Mapping[tuple[str, str], set[int]]
    ) -> None:
        """Add what other runs' commands asked for, where a task has one label alone."""
        labels: dict[tuple[str, str], set[str]] = {}
        for frame in (data.runs, data.failures):
            columns = frame["algo"], frame["env_id"], frame["label"]
            for algo, env_id, label in zip(*columns, strict=True):
                labels.setdefault((algo, env_id), set()).add(label)
        for task, of_task_labels in labels.items():
            if len(of_task_labels) == 1 and task[1] not in data.mixed:
                (label,) = of_task_labels
                seeds = self._of_label.setdefault((label, task[1]), set())
                seeds.update(of_task.get(task, ()))

    def seeds(self, label: str, env_id: str) -> set[int]:
        """The seeds of a label on an environment; empty if they are not known."""
        return self._of_label.get((label, env_id), set())


@dataclass(frozen=True)
class _Seeds:
    """The seeds of a label on one environment, and those that any label of its protocol has."""

    finished: set[int]
    failed: set[int]
    of_others: set[int]


def _seeds_of(data: RunData, env_id: str) -> dict[str, _Seeds]:
    """Every label of an environment, also those of which all runs failed."""
    finished = data.runs[data.runs["env_id"] == env_id]
    failed = data.failures[data.failures["env_id"] == env_id]
    protocols = dict(zip(finished["label"], finished["protocol"], strict=True))
    of_protocol: dict[str, set[int]] = {}
    for frame in (finished, failed):
        for label, seed in zip(frame["label"], frame["seed"], strict=True):
            of_protocol.setdefault(protocols.get(label, ""), set()).add(seed)
    return {
        label: _Seeds(
            finished=set(finished.loc[finished["label"] == label, "seed"]),
            failed=set(failed.loc[failed["label"] == label, "seed"]),
            of_others=of_protocol[protocols.get(label, "")],
        )
        for label in sorted(set(finished["label"]) | set(failed["label"]))
    }


def _without_run(data: RunData, asked: set[tuple[str, str]]) -> dict[str, list[str]]:
    """Each algorithm's environments without a run of it, although another one has runs there.

    :param asked: algorithms and environments that commands asked for, which count as well
    """
    frames = (data.runs, data.failures)
    tried = {pair for f in frames for pair in zip(f["algo"], f["env_id"], strict=True)}
    of_finished = set(product(data.runs["algo"].unique(), data.runs["env_id"].unique()))
    found: dict[str, list[str]] = {}
    for algo, env_id in sorted((of_finished | asked) - tried):
        found.setdefault(algo, []).append(env_id)
    return found


def _env_ids(data: RunData) -> list[str]:
    return sorted({*data.runs["env_id"], *data.failures["env_id"]})


def _options(words: Sequence[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value``; the last of several counts."""
    options = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            options[name] = value if equals else following
    return options


def _names(text: str) -> list[str]:
    return [plain(name) for name in text.split(",") if name.strip()]
