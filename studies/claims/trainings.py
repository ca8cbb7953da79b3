"""The trainings that claims are about.

They are kept as a sweep's runs are, so that none is made twice, by whichever claim, and an
interrupted command goes on where it was.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd
from rich.progress import track

from benchmarks.records import Evaluation, RunSpec, check_spec
from benchmarks.results import read_evaluations
from benchmarks.run_files import read_progress
from benchmarks.statistics import mean_interval
from benchmarks.sweep import sweep
from benchmarks.zoo import hyperparams_for
from studies.claims.claim import Effort
from studies.errors import StudyError

__all__ = ["Variant", "evaluations", "final_returns", "in_parallel", "logged", "mean_curves"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")
_SUITE = "claims"
_KEYS = ["variant", "env_id", "seed"]


@dataclass(frozen=True)
class Variant:
    """An algorithm with certain settings.

    :param name: in the data
    :param algo: as in ``python -m benchmarks run --algos``
    :param settings: on top of those that its hyperparameter file has for the task, or instead of
        them
    :param alone: whether they are instead
    :param environment: ``kwargs``, ``wrappers`` and ``frame_stack``, as a suite has them
    """

    name: str
    algo: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    environment: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, env_id: str, seed: int, steps: int, points: int) -> RunSpec:
        """One training.

        :param points: the number of evaluations, evenly spread
        """
        base = {} if self.alone else hyperparams_for(self.algo, env_id)
        settings = {key: value for key, value in base.items() if key != "n_timesteps"}
        settings |= self.settings
        protocol = Evaluation(points=points)
        options = dict(self.environment)
        return RunSpec(_SUITE, self.algo, env_id, seed, steps, settings, protocol, options)


def evaluations(
    effort: Effort,
    variants: Sequence[Variant],
    tasks: Mapping[str, int],
    seeds: Sequence[int],
    points: int = 20,
) -> pd.DataFrame:
    """The evaluations of trainings: of each variant on each task, with each seed.

    :param tasks: the number of steps for each environment
    :param points: evaluations of ten episodes each, evenly spread, besides that of the start
    :return: ``variant``, ``env_id``, ``seed``, ``timesteps``, ``wall_seconds`` (of training, so
        far), ``return_mean``
    :raises StudyError: a training has failed
    """
    frames = [
        read_evaluations(spec.folder(effort.runs)).assign(**keys)
        for keys, spec in _trained(effort, variants, tasks, seeds, points)
    ]
    columns = [*_KEYS, "timesteps", "wall_seconds", "return_mean"]
    return pd.concat(frames, ignore_index=True)[columns]


def final_returns(
    effort: Effort,
    variants: Sequence[Variant],
    tasks: Mapping[str, int],
    seeds: Sequence[int],
    points: int = 20,
) -> pd.DataFrame:
    """What trainings end at: ``variant``, ``env_id``, ``seed`` and ``return``.

    ``return`` is the mean of the last tenth of the evaluations. The rest is as in
    :func:`evaluations`.
    """
    measured = evaluations(effort, variants, tasks, seeds, points)
    last = measured.groupby(_KEYS, sort=False).tail(max(1, points // 10))
    returns = last.groupby(_KEYS, sort=False)["return_mean"].mean()
    return returns.rename("return").reset_index()


def logged(
    effort: Effort,
    variants: Sequence[Variant],
    tasks: Mapping[str, int],
    seeds: Sequence[int],
    columns: Sequence[str],
    points: int = 20,
) -> pd.DataFrame:
    """What trainings have logged: a row for each update.

    :param columns: such as ``train/kl``; one that an algorithm does not log is NaN
    :return: ``variant``, ``env_id``, ``seed``, ``timesteps`` and the columns. The rest is as in
        :func:`evaluations`
    """
    frames = []
    for keys, spec in _trained(effort, variants, tasks, seeds, points):
        progress = read_progress(spec.folder(effort.runs), ["time/total_timesteps", *columns])
        if progress is None:
            raise StudyError(f"{spec}: has no log")
        renamed = progress.rename(columns={"time/total_timesteps": "timesteps"})
        frames.append(renamed.reindex(columns=["timesteps", *columns]).assign(**keys))
    return pd.concat(frames, ignore_index=True)[[*_KEYS, "timesteps", *columns]]


def _trained(
    effort: Effort,
    variants: Sequence[Variant],
    tasks: Mapping[str, int],
    seeds: Sequence[int],
    points: int,
) -> list[tuple[dict[str, Any], RunSpec]]:
    """The trainings, which exist then, with what names them in the data."""
    found = [
        (
            {"variant": variant.name, "env_id": env_id, "seed": seed},
            variant.spec(env_id, seed, steps, points),
        )
        for seed in seeds
        for env_id, steps in tasks.items()
        for variant in variants
    ]
    for _, spec in found:
        check_spec(spec)
    specs = [spec for _, spec in found]
    result = sweep(specs, effort.runs, effort.jobs, "python -m studies claims run", effort.shown)
    if result.failed:
        failures = "; ".join(f"{each.spec}: {each.error}" for each in result.failed)
        raise StudyError(f"trainings have failed: {failures}")
    return found


def in_parallel(
    effort: Effort, function: Callable[[Argument], Result], arguments: Sequence[Argument]
) -> list[Result]:
    """The function's results, computed by several processes of one thread each.

    :param function: of a module, not a local one
    """
    with ProcessPoolExecutor(
        effort.jobs, multiprocessing.get_context("spawn"), _one_thread
    ) as processes:
        results: Iterator[Result] = processes.map(function, arguments)
        if effort.shown:
            results = iter(track(results, function.__module__.rpartition(".")[2], len(arguments)))
        return list(results)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def mean_curves(data: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Means of evaluations over seeds, with 95% intervals.

    :param data: as of :func:`evaluations`; those with equal ``by`` differ in their seeds alone
    :param by: columns
    :return: ``by``, ``timesteps``, ``mean``, ``low`` and ``high``
    """
    frames = []
    for keys, group in data.groupby(list(by), sort=False):
        curves = group.pivot(index="seed", columns="timesteps", values="return_mean")
        mean, low, high = mean_interval(curves.to_numpy())
        curve = {"timesteps": curves.columns, "mean": mean, "low": low, "high": high}
        named: dict[str, Any] = dict(zip(by, keys, strict=True))
        frames.append(pd.DataFrame(curve).assign(**named))
    return pd.concat(frames, ignore_index=True)[[*by, "timesteps", "mean", "low", "high"]]
