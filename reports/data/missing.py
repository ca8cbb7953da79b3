"""What runs lack: seeds that others have or that were asked for, environments, whole algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from reports.data.runs import SUITE, RunData


@dataclass(frozen=True)
class Gap:
    """What one algorithm lacks on some environments.

    ``seeds``: those without a result, and ``failed`` those of them whose run failed; without seeds
    it has no run there at all.
    """

    label: str
    env_ids: Sequence[str]
    seeds: Sequence[int] = ()
    failed: Sequence[int] = ()


@dataclass(frozen=True)
class Missing:
    """What has no result.

    ``is_uneven``: an algorithm lacks what another one has. ``is_unmet``: a run that a sweep was
    asked for has no result. ``is_asked_known``: every run is in the manifest of a sweep.
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


def missing_of(data: RunData) -> Missing:
    """What has no result although another algorithm has one or a sweep was asked for it."""
    where: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[str]] = {}
    is_uneven = is_unmet = False
    frames = (data.runs, data.failures, data.asked)
    for env_id in sorted({env_id for frame in frames for env_id in frame["env_id"]}):
        for label, seeds in _seeds_of(data, env_id).items():
            absent = tuple(sorted((seeds.of_others | seeds.asked) - seeds.finished))
            if absent:
                failed = tuple(seed for seed in absent if seed in seeds.failed)
                where.setdefault((label, absent, failed), []).append(env_id)
            is_uneven |= bool(seeds.of_others - seeds.finished)
            is_unmet |= bool(seeds.asked - seeds.finished)
    gaps = [
        Gap(label, env_ids, absent, failed) for (label, absent, failed), env_ids in where.items()
    ]
    without = _without_run(data)
    gaps += [Gap(algo, env_ids) for algo, env_ids in without.items()]
    asked, there = (_keys(frame) for frame in (data.asked, data.runs))
    return Missing(gaps, is_uneven or bool(without), is_unmet, there <= asked)


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


@dataclass(frozen=True)
class _Seeds:
    """The seeds of a label on one environment, and those that any label of its protocol has.

    A label that was asked for and never begun is not measured by the others.
    """

    finished: set[int]
    failed: set[int]
    asked: set[int]
    of_others: set[int]


def _seeds_of(data: RunData, env_id: str) -> dict[str, _Seeds]:
    """Every label of an environment, also those without a finished run."""
    finished, failed, asked = (
        frame.loc[frame["env_id"] == env_id, ["label", "seed"]]
        for frame in (data.runs, data.failures, data.asked)
    )
    here = data.runs[data.runs["env_id"] == env_id]
    protocols = dict(zip(here["label"], here["protocol"], strict=True))
    begun = pd.concat([finished, failed])
    # Other programs number seeds as they like, often at random, so that none of theirs is missing.
    foreign = here.loc[here["format"] != SUITE, "label"]
    own = begun[~begun["label"].isin(foreign)]
    of_protocol: dict[str, set[int]] = {}
    for label, seed in own.itertuples(index=False):
        of_protocol.setdefault(protocols.get(label, ""), set()).add(seed)
    of_others = {label: of_protocol[protocols.get(label, "")] for label in own["label"]}
    return {
        label: _Seeds(
            finished=set(finished.loc[finished["label"] == label, "seed"]),
            failed=set(failed.loc[failed["label"] == label, "seed"]),
            asked=set(asked.loc[asked["label"] == label, "seed"]),
            of_others=of_others.get(label, set()),
        )
        for label in sorted({*begun["label"], *asked["label"]})
    }


def _without_run(data: RunData) -> dict[str, list[str]]:
    """Each algorithm's environments that it has not been tried on, although another one has."""
    tried = {
        pair
        for frame in (data.runs, data.failures, data.asked)
        for pair in zip(frame["algo"], frame["env_id"], strict=True)
    }
    found: dict[str, list[str]] = {}
    for algo, env_id in product(data.runs["algo"].unique(), data.runs["env_id"].unique()):
        if (algo, env_id) not in tried:
            found.setdefault(str(algo), []).append(str(env_id))
    return {algo: sorted(env_ids) for algo, env_ids in sorted(found.items())}


def _keys(runs: pd.DataFrame) -> set[tuple[object, ...]]:
    """What tells runs apart."""
    return set(
        runs[["suite", "algo", "env_id", "config", "seed"]].itertuples(index=False, name=None)
    )
