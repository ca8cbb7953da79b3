"""Everything that the sections of a report are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from benchmarks.normalisation import Scale, scales_with
from reports.data import (
    aggregates,
    missing,
    pair_tests,
    published,
    scores,
    sources,
    standings,
    verdicts,
)
from reports.data.aggregates import NormalizedScores
from reports.data.asked import EVERYTHING, Source, Wanted
from reports.data.missing import Missing
from reports.data.pair_tests import Pair, PairTests
from reports.data.runs import ReportError, RunData
from reports.data.standings import Standings
from reports.data.thresholds import parse
from reports.data.verdicts import Comparisons


@dataclass(frozen=True)
class Studies:
    """Which studies a report shows.

    :param names: their names, in the order of the tables
    :param root: the folder with their folders, ``--root`` of ``python -m studies``
    :param storage: URL of the database that they are in; None: each study's journal is in its
        folder
    """

    names: Sequence[str]
    root: Path
    storage: str | None = None


@dataclass(frozen=True)
class Context:
    """What a report is about: runs, studies, or both, and the options it was asked for with.

    What is derived from the runs is computed once, when a section first asks for it.

    :param runs: the runs; None: the report is on studies alone
    :param studies: the studies; None: none are shown
    :param thresholds: by environment, the return that counts as solved, instead of what Gymnasium
        has registered
    :param baseline: the label that the others are compared with; None: the second best one
    :param published: results from the literature, as ``reports.data.published.load`` gives
        them; None: none are shown
    :param scales: by environment, what normalises its returns
    :param warn: called with a line for what is left out
    :param paired: whether to test the differences between runs of the same seed
    :param show_seeds: whether to draw each run of learning curves, too
    :param smooth: number of evaluations over which curves are moving means; 1: as they are
    :raises ReportError: a baseline that is not among the labels
    """

    runs: RunData | None = None
    studies: Studies | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    baseline: str | None = None
    published: pd.DataFrame | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    warn: Callable[[str], None] = lambda _: None
    paired: bool = False
    show_seeds: bool = False
    smooth: int = 1

    def __post_init__(self) -> None:
        if self.runs is not None and self.baseline is not None:
            labels = sorted(self.runs.runs["label"].unique())
            if self.baseline not in labels:
                raise ReportError(
                    f"--baseline: {self.baseline!r} is not one of {', '.join(labels)}"
                )

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores with their intervals, one row for each environment and label.

        The columns are those of ``reports.data.scores.score_table``.
        """
        assert self.runs is not None
        return scores.score_table(self.runs.runs, self.run_scores)

    @cached_property
    def run_scores(self) -> pd.DataFrame:
        """Scores of single runs, one row for each run.

        The columns are ``env_id``, ``label``, ``protocol``, ``seed``, ``final`` (return), ``best``
        (evaluation) and ``area`` (under the curve).
        """
        assert self.runs is not None
        return scores.run_scores(self.runs.evaluations, self.runs.metric.lower_is_better)

    @cached_property
    def learning_curves(self) -> pd.DataFrame:
        """The learning curves, as ``reports.data.scores.learning_curves`` returns them."""
        return scores.learning_curves(self.drawn_evaluations)

    @cached_property
    def drawn_evaluations(self) -> pd.DataFrame:
        """The evaluations that curves are made from: smoothed, if that was asked for."""
        assert self.runs is not None
        return scores.smoothed(self.runs.evaluations, self.smooth)

    @cached_property
    def comparisons(self) -> Comparisons:
        """Every pair of labels on every environment."""
        assert self.runs is not None
        lower_is_better = self.runs.metric.lower_is_better
        return verdicts.comparisons_of(self.scores, self.run_scores, lower_is_better)

    @cached_property
    def pair_tests(self) -> PairTests:
        """The tests of the pairs that are compared, by their final returns."""
        pairs = [
            Pair(env_id, label, other)
            for score, env_id, label, other in self.comparisons.improvements
            if score == "final" and label < other
        ]
        return pair_tests.pair_tests(self.run_scores, pairs, self.baseline, self.paired)

    @cached_property
    def normalized(self) -> NormalizedScores | None:
        """The scores over several environments; None where there is nothing to aggregate."""
        assert self.runs is not None
        scales = self.scales if self.runs.metric.is_return else {}
        return aggregates.normalized_scores(self.drawn_evaluations, self.run_scores, scales)

    @cached_property
    def standings(self) -> Standings:
        """How the labels stand over several environments."""
        assert self.runs is not None
        # A run is the better of two where its score, multiplied by the sign, is the higher.
        of_runs = self.run_scores.assign(final=self.runs.metric.sign * self.run_scores["final"])
        return standings.standings_of(of_runs, self.comparisons, self.normalized)

    @cached_property
    def compared_with(self) -> str | None:
        """The label that the others are compared with; None where nothing is compared."""
        return self.baseline or standings.second_best(self.standings, self.comparisons)

    @cached_property
    def missing(self) -> Missing:
        """What has no result."""
        assert self.runs is not None
        return missing.missing_of(self.runs)


def load(
    places: Path | Sequence[Source] | None = None,
    studies: Studies | None = None,
    *,
    wanted: Wanted = EVERYTHING,
    thresholds: Iterable[str] = (),
    baseline: str | None = None,
    with_published: bool = False,
    published_file: Path | None = None,
    normalisation: Path | None = None,
    allow_mixed: bool = False,
    warn: Callable[[str], None] = lambda _: None,
    paired: bool = False,
    show_seeds: bool = False,
    smooth: int = 1,
    reading: sources.Reading = iter,
) -> Context:
    """Read what a report is about.

    Runs that cannot be read are left out; the report says which and why.

    :param places: where the runs are; None: the report is on studies alone
    :param wanted: what of the runs is reported, and how
    :param thresholds: as :func:`reports.data.thresholds.parse` reads them
    :param with_published: show results from the literature; those of ``published_file``, too
    :param normalisation: as for :func:`benchmarks.normalisation.scales_with`
    :param allow_mixed: runs of one environment may have different budgets or evaluation protocols
    :param paired: as for :class:`Context`, as are ``show_seeds`` and ``smooth``
    :param reading: as for :func:`reports.data.sources.load`
    :raises ReportError: an option or a file that cannot be used, or runs that cannot be reported
    :raises benchmarks.safe_yaml.SpecError: scales that cannot be read
    """
    if smooth < 1 or smooth % 2 == 0:
        raise ReportError(
            "--smooth: must be an odd number of evaluations, so that one is in the middle; "
            f"got {smooth}"
        )
    is_published = with_published or published_file is not None
    if isinstance(places, Path):
        places = [Source(places)]
    found = None if places is None else sources.load(places, wanted, allow_mixed, reading)
    return Context(
        thresholds=parse(thresholds),
        published=published.load(published_file) if is_published else None,
        scales=scales_with(normalisation),
        runs=found,
        studies=studies,
        baseline=baseline,
        warn=warn,
        paired=paired,
        show_seeds=show_seeds,
        smooth=smooth,
    )
