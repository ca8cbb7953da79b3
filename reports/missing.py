"""What runs lack: seeds that others have or that were asked for, environments, whole algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from reports import runs
from reports.wording import listing

SECTION = "[What is missing](#what-is-missing)"
_MOST_LISTED = 50  # seeds


@dataclass(frozen=True)
class Missing:
    """What has no result.

    ``lines``: one for each algorithm and what it lacks; ``is_uneven``: one of them lacks what
    another one has; ``is_unmet``: there is no result of something that a sweep was asked for;
    ``is_asked_known``: every run is in a manifest of the sweep that was asked for it.
    """

    lines: Sequence[str]
    is_uneven: bool
    is_unmet: bool
    is_asked_known: bool

    @property
    def nothing(self) -> str:
        """What may be said where nothing failed and nothing is known to be missing."""
        even = "no run failed, and no algorithm lacks a seed or an environment that another has"
        if self.is_asked_known:
            return f"Nothing: {even}, nor a seed that the commands asked for."
        return f"As far as is known nothing: {even}. Not all that was asked for is known."


def missing_of(data: runs.RunData) -> Missing:
    """What has no result although another algorithm has one, or a sweep was asked for it."""
    asked = _Asked(data)
    where: dict[tuple[str, str], list[str]] = {}
    is_uneven = is_unmet = False
    for env_id in _env_ids(data):
        of_label = _seeds_of(data, env_id)
        for label in sorted({*of_label, *asked.labels(env_id)}):
            seeds = of_label.get(label, _Seeds(set(), set(), set()))
            wanted = asked.seeds(label, env_id)
            absent = sorted((seeds.of_others | wanted) - seeds.finished)
            if absent:
                text = _seeds_text(absent, seeds.failed)
                where.setdefault((label, text), []).append(env_id)
            is_uneven |= bool(seeds.of_others - seeds.finished)
            is_unmet |= bool(wanted - seeds.finished)
    lines = [
        f"{label} on {listing(env_ids)}: no result for {seeds}"
        for (label, seeds), env_ids in where.items()
    ]
    for algo, env_ids in _without_run(data, asked.tasks).items():
        is_known_here = algo in set(data.runs["algo"])
        is_uneven |= is_known_here and bool(set(data.runs["env_id"]) & set(env_ids))
        is_unmet |= any((algo, env_id) in asked.tasks for env_id in env_ids)
        why = "" if is_known_here else ", though a command asked for it"
        lines.append(f"{algo} on {listing(env_ids)}: no run{why}")
    return Missing(lines, is_uneven, is_unmet, asked.is_known)


def all_failed(data: runs.RunData) -> list[str]:
    """Every algorithm, or algorithm on an environment, of which runs failed and none finished.

    :return: such as ``trpo on Ant-v5: every run failed (3 runs)``
    """
    finished = set(zip(data.runs["algo"], data.runs["env_id"], strict=True))
    algos = {algo for algo, _ in finished}
    texts = []
    for algo, of_algo in data.failures.groupby("algo", sort=True):
        if algo not in algos:
            texts.append(f"{algo}: every run failed ({runs.runs_text(len(of_algo))})")
            continue
        for env_id, group in of_algo.groupby("env_id", sort=True):
            if (algo, env_id) not in finished:
                count = runs.runs_text(len(group))
                texts.append(f"{algo} on {env_id}: every run failed ({count})")
    return texts


class _Asked:
    """What the sweeps were asked for, by their manifests.

    ``tasks``: algorithms and environments; ``is_known``: each run is in a manifest.
    """

    def __init__(self, data: runs.RunData) -> None:
        keys = {key for manifest in data.manifests for key in manifest.runs}
        self.tasks = {(key.algo, key.env_id) for key in keys}
        columns = ["suite", "algo", "env_id", "seed", "config"]
        self.is_known = keys.issuperset(data.runs[columns].itertuples(index=False, name=None))
        self._seeds: dict[tuple[str, str], set[int]] = {}
        labels = {
            tuple(row): label
            for frame in (data.failures, data.runs)
            for *row, label in frame[["algo", "env_id", "config", "label"]].itertuples(index=False)
        }
        tried = {(algo, env_id) for algo, env_id, _ in labels}
        for key in keys:
            label = labels.get((key.algo, key.env_id, key.config))
            if label is None and (key.algo, key.env_id) in tried:  # another configuration of it
                label = f"{key.algo} (config={key.config})"
            if label is not None:
                self._seeds.setdefault((label, key.env_id), set()).add(key.seed)

    def labels(self, env_id: str) -> set[str]:
        """The labels that sweeps were asked for on an environment, where the algorithm has runs."""
        return {label for label, of_env in self._seeds if of_env == env_id}

    def seeds(self, label: str, env_id: str) -> set[int]:
        """The seeds of a label on an environment; empty where that is not known."""
        return self._seeds.get((label, env_id), set())


@dataclass(frozen=True)
class _Seeds:
    """The seeds of a label on one environment, and those that any label of its protocol has."""

    finished: set[int]
    failed: set[int]
    of_others: set[int]


def _seeds_of(data: runs.RunData, env_id: str) -> dict[str, _Seeds]:
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


def _seeds_text(seeds: Sequence[int], failed: set[int]) -> str:
    texts = [f"{seed} (failed)" if seed in failed else str(seed) for seed in seeds[:_MOST_LISTED]]
    more = f" and {len(seeds) - len(texts):,} more" if len(seeds) > len(texts) else ""
    return f"seed{'s' if len(texts) > 1 else ''} {', '.join(texts)}{more}"


def _without_run(data: runs.RunData, asked: set[tuple[str, str]]) -> dict[str, list[str]]:
    """Algorithm to the environments on which there is no run of it and another one has runs.

    :param asked: algorithms and environments that sweeps were asked for; those count as well
    """
    frames = (data.runs, data.failures)
    tried = {pair for f in frames for pair in zip(f["algo"], f["env_id"], strict=True)}
    of_finished = set(product(data.runs["algo"].unique(), data.runs["env_id"].unique()))
    found: dict[str, list[str]] = {}
    for algo, env_id in sorted((of_finished | asked) - tried):
        found.setdefault(algo, []).append(env_id)
    return found


def _env_ids(data: runs.RunData) -> list[str]:
    return sorted({*data.runs["env_id"], *data.failures["env_id"]})
