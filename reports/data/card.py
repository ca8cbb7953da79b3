"""What a model card says: of one run, and of the other seeds of its settings.

Nothing is loaded or imported that a run's files name: they are read as text and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks import results
from benchmarks.names import first_line
from benchmarks.records import BrokenRunError, FailureRecord, RunRecord, RunSpec
from benchmarks.run_files import FinishedRun, StoredFailure, check_place, find
from benchmarks.statistics import (
    Estimate,
    area_under_curve,
    best_evaluation,
    final_return,
    final_window,
    mean_intervals,
)
from reports.data.runs import ReportError, read_finished

MODEL = "model.zip"
STATISTICS = "vecnormalize.pkl"


@dataclass(frozen=True)
class CardData:
    """A run, and what has been measured of it and of its settings' other seeds.

    ``curves``: the evaluations of each run of these settings by its seed, this run's among them,
    as :func:`benchmarks.results.read_evaluations` returns them. ``is_normalised``: there are
    statistics of ``VecNormalize`` beside the model. ``failed``: the seeds of these settings whose
    runs have failed and not finished since. ``left_out``: a line for each run beside this one that
    cannot be read.
    """

    run: RunRecord
    curves: Mapping[int, pd.DataFrame]
    is_normalised: bool
    failed: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def evaluations(self) -> pd.DataFrame:
        """This run's evaluations."""
        return self.curves[self.run.spec.seed]


class Episodes(NamedTuple):
    """Returns of evaluation episodes: how many, their mean and their standard deviation."""

    number: int
    mean: float
    deviation: float

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN with one episode.

        The deviation is that of these episodes, divided by their number; hence the ``- 1`` here.
        """
        return self.deviation / (self.number - 1) ** 0.5 if self.number > 1 else float("nan")


def read(folder: Path) -> CardData:
    """Read a run, and the runs beside it that differ from it in the seed alone.

    Beside it are the runs in the folder that has this run's folder, and in no other.

    :param folder: of a finished run with its model; a link stands for the folder it leads to
    :raises ReportError: no finished run, one without its model, or one with an evaluation without a
        return
    :raises BrokenRunError: the run's files cannot be read
    """
    folder = folder.resolve()
    run = read_finished(folder)
    if not (folder / MODEL).is_file():
        raise ReportError(
            f"{folder}: has no {MODEL}, which a card describes; copy it there, or train again in "
            "another folder"
        )
    curves = {run.spec.seed: _evaluations(folder)}
    failed, left_out = set(), []
    for found in _beside(folder):
        try:
            record = found.record()
            check_place(found.folder, folder.parent, record)
            if not _differ_in_seed_alone(record.spec, run.spec):
                continue
            if isinstance(record, FailureRecord):
                failed.add(record.spec.seed)
            else:
                curves[record.spec.seed] = _evaluations(Path(str(found.folder)))
        except (BrokenRunError, ReportError) as error:
            left_out.append(first_line(str(error)))
    return CardData(
        run,
        dict(sorted(curves.items())),
        (folder / STATISTICS).is_file(),
        tuple(sorted(failed - curves.keys())),
        tuple(left_out),
    )


def _beside(folder: Path) -> list[FinishedRun | StoredFailure]:
    """The finished and the failed runs that have the same parent folder as a run, or would."""
    found = find(folder.parent, nested=False)
    runs = [*found.runs, *found.failures]
    # Runs of archives are found at any depth.
    return [each for each in runs if Path(str(each.folder)).parent == folder.parent]


def _differ_in_seed_alone(one: RunSpec, other: RunSpec) -> bool:
    return one.seed != other.seed and replace(one, seed=other.seed) == other


def _evaluations(folder: Path) -> pd.DataFrame:
    """:func:`benchmarks.results.read_evaluations`, each with a return.

    :raises ReportError: one has none
    """
    evaluations = results.read_evaluations(folder)
    if not np.isfinite(evaluations[["return_mean", "return_std"]]).all(axis=None):
        raise ReportError(f"{folder}: has an evaluation without a finite return")
    return evaluations


def score_estimates(card: CardData) -> dict[str, tuple[float, Estimate]]:
    """Final return, best evaluation and area under the curve: of this run, and over the seeds.

    :return: by the name of the score; the estimate is that of the mean over all seeds, this run's
        among them, and has no interval where there is one seed
    """
    scores = {seed: _scores(curve) for seed, curve in card.curves.items()}
    (ends,) = mean_intervals([np.array([list(each.values()) for each in scores.values()])])
    own_scores = scores[card.run.spec.seed]
    return {
        name: (own, Estimate(float(mean), float(low), float(high), len(scores)))
        for (name, own), (mean, low, high) in zip(own_scores.items(), ends.T, strict=True)
    }


def _scores(curve: pd.DataFrame) -> dict[str, float]:
    steps, returns = curve["timesteps"].to_numpy(float), curve["return_mean"].to_numpy(float)
    return {
        "final return": final_return(returns),
        "best evaluation": best_evaluation(steps, returns),
        "area under the curve": area_under_curve(steps, returns),
    }


def last_episodes(evaluations: pd.DataFrame) -> Episodes:
    """The episodes of a run's last evaluation."""
    return _pooled(evaluations.tail(1))


def final_episodes(evaluations: pd.DataFrame) -> Episodes:
    """The episodes of the evaluations that make the final return, which is their mean."""
    return _pooled(evaluations.tail(final_window(len(evaluations))))


def _pooled(evaluations: pd.DataFrame) -> Episodes:
    """All episodes of several evaluations, which have as many each."""
    means, deviations = evaluations["return_mean"], evaluations["return_std"]
    # The variance over all is the mean of the evaluations' own and the variance of their means.
    variance = (deviations**2).mean() + means.var(ddof=0)
    return Episodes(int(evaluations["episodes"].sum()), float(means.mean()), float(variance**0.5))
