"""How much a parameter matters: the scores over its range, and the width of the good part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.importance import get_param_importances

from benchmarks.errors import SpecError
from benchmarks.results import read_evaluations
from benchmarks.run_files import is_finished
from benchmarks.statistics import CONFIDENCE, Estimate, final_return, interquartile_mean, interval
from benchmarks.storage import write_whole
from studies.archived import archived_sweeps
from studies.errors import StudyError
from studies.estimates import as_text
from studies.objective import Problem
from studies.parameters import Parameter, Value
from studies.search import evenly_spaced
from studies.study import best_trial, completed, values_of

# Values whose score is at least this share of the best one's are good.
GOOD = 0.9
_REPETITIONS = 2_000
RUN_COLUMNS = ["parameter", "value", "env_id", "seed", "return", "score"]
# The number of the trial that the other parameters are taken from: another trial gives another
# curve.
BASE = "base"
FILE = "sensitivity.csv"


@dataclass(frozen=True)
class Width:
    """The good values of a parameter: those around the best one that score within 10% of it.

    ``decades`` is the width of their interval, by which parameters and methods are compared;
    ``decades_low`` and ``decades_high`` are its 95% interval. Where the good values reach an end of
    the range (``reaches_low``, ``reaches_high``), the true width may be larger. With few ``seeds``
    the best value, and with it the width, is chance.
    """

    parameter: str
    best: float
    best_score: float
    low: float
    high: float
    decades: float
    decades_low: float
    decades_high: float
    reaches_low: bool
    reaches_high: bool
    seeds: int

    @property
    def estimate(self) -> Estimate:
        """The width with its interval."""
        return Estimate(self.decades, self.decades_low, self.decades_high, self.seeds)

    @property
    def is_open(self) -> bool:
        """Whether the good values reach an end of the range, so that the width is a lower bound."""
        return self.reaches_low or self.reaches_high

    def __str__(self) -> str:
        """``at least 0.54 [0.14, 0.60]``."""
        return ("at least " if self.is_open else "") + as_text(self.estimate, digits=2)


def swept(problem: Problem, name: str) -> Parameter:
    """The parameter to sweep, by its name or symbol.

    :raises SpecError: the study has no such parameter, or it has no range of positive numbers
    """
    found = [each for each in problem.space if name in (each.name, each.symbol)]
    if not found:
        allowed = ", ".join(str(each) for each in problem.space)
        raise SpecError(f"--params: {name!r} is not one of the study's parameters {allowed}")
    if found[0].choices or found[0].low <= 0:
        raise SpecError(f"--params: {name!r} has no range of positive numbers")
    return found[0]


def sweepable(problem: Problem) -> list[Parameter]:
    """The parameters whose ranges can be swept."""
    return [each for each in problem.space if not each.choices and each.low > 0]


def measure(
    study: optuna.Study,
    problem: Problem,
    folder: Path,
    parameter: Parameter,
    n_points: int,
    jobs: int,
    command: str,
    shown: bool,
    run_timeout: float | None = None,
) -> pd.DataFrame:
    """Train with values over a parameter's range, all other parameters as in the best trial.

    The best trial's value is one of them, and trials that differ from the best one in this
    parameter alone add theirs. Runs that exist, such as those of trials, are not made again.

    :param run_timeout: seconds after which a run is ended and counts as failed
    :return: one row a run, with ``RUN_COLUMNS`` and ``BASE``
    :raises StudyError: no trial has completed, or the best one does not have the parameter
    :raises TrialFailedError: a run has failed
    """
    from studies.trials import make_runs  # slow to import, and not needed to read a measurement

    best = best_trial(study)
    if best is None:
        raise StudyError("no trial has completed")
    base = values_of(problem, best)
    if parameter not in base:
        raise StudyError(f"the best trial does not use {parameter}")
    grid = [base, *({**base, parameter: value} for value in evenly_spaced(parameter, n_points))]
    specs = [spec for values in _unique(grid) for spec in problem.specs(study.study_name, values)]
    runs = folder / "runs"
    make_runs(specs, runs, jobs, command, shown, run_timeout)
    neighbours = [values_of(problem, trial) for trial in completed(study)]
    others = [values for values in neighbours if _differ_only_in(values, base, parameter)]
    rows = []
    for values in _unique([*grid, *others]):
        rows += _rows(problem, study.study_name, values, parameter, runs)
    frame = pd.DataFrame(rows, columns=RUN_COLUMNS)
    return frame.sort_values(["value", "env_id", "seed"], ignore_index=True).assign(
        **{BASE: best.number}
    )


def store(runs: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write sweeps as ``sensitivity.csv``, one row a run.

    :param runs: by the parameter's name, as :func:`measure` returns them
    """
    frame = pd.concat(runs.values())
    write_whole(folder / FILE, frame.to_csv(index=False, lineterminator="\n"))


def store_widths(widths: Mapping[str, Width], folder: Path) -> None:
    """Write widths as ``widths.csv``, one row a parameter."""
    frame = pd.DataFrame([vars(each) for each in widths.values()])
    write_whole(folder / "widths.csv", frame.to_csv(index=False))


def stored(folder: Path) -> dict[str, pd.DataFrame]:
    """The sweeps that :func:`store` has written there, or of an archived study, in their order.

    :raises StudyError: they cannot be read
    """
    path = folder / FILE
    try:
        # Exactly the numbers that were written.
        frame = pd.read_csv(path, float_precision="round_trip") if path.exists() else None
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    if frame is None:
        frame = archived_sweeps(folder.parent, folder.name)
    if frame is None:
        return {}
    missing = [name for name in (*RUN_COLUMNS, BASE) if name not in frame]
    if missing:
        raise StudyError(
            f"{path}: has no column {', '.join(missing)}; remove it and measure the sensitivity "
            "again (runs that are there are not made again)"
        )
    return {
        str(name): rows.reset_index(drop=True)
        for name, rows in frame.groupby("parameter", sort=False)
    }


def _differ_only_in(
    values: dict[Parameter, Value], base: dict[Parameter, Value], parameter: Parameter
) -> bool:
    return values.keys() == base.keys() and all(
        values[each] == base[each] for each in base if each != parameter
    )


def _unique(settings: Sequence[dict[Parameter, Value]]) -> list[dict[Parameter, Value]]:
    unique: list[dict[Parameter, Value]] = []
    for values in settings:
        if values not in unique:
            unique.append(values)
    return unique


def _rows(
    problem: Problem,
    suite: str,
    values: dict[Parameter, Value],
    parameter: Parameter,
    runs: Path,
) -> list[tuple[str, Value, str, int, float, float]]:
    rows = []
    for spec in problem.specs(suite, values):
        folder = spec.folder(runs)
        if not is_finished(folder):
            return []  # a trial of another machine
        evaluations = read_evaluations(folder)["return_mean"]
        score = problem.score(spec.env_id, evaluations.tolist())
        final = final_return(evaluations)
        rows.append((parameter.name, values[parameter], spec.env_id, spec.seed, final, score))
    return rows


def curve(runs: pd.DataFrame) -> pd.DataFrame:
    """The interquartile mean of the scores at each value, with its 95% interval over seeds.

    :param runs: of one parameter, as :func:`measure` returns them
    :return: ``value, score, low, high, runs``; no interval with one seed
    """
    values, scores = scores_by_value(runs)
    n_values, n_seeds, n_envs = scores.shape
    iqm = _iqm_of_values(scores)
    low = high = np.full(n_values, np.nan)
    if n_seeds > 1:

        def of_columns(sample: np.ndarray) -> np.ndarray:
            resampled = sample.reshape(n_seeds, n_values, n_envs).transpose(1, 0, 2)
            return _iqm_of_values(resampled)

        columns = scores.transpose(1, 0, 2).reshape(n_seeds, n_values * n_envs)
        low, high = interval(columns, of_columns, _REPETITIONS)
    frame = pd.DataFrame({"value": values, "score": iqm, "low": low, "high": high})
    return frame.assign(runs=n_seeds * n_envs)


def width(runs: pd.DataFrame) -> Width:
    """The width of the good part of a parameter's range.

    Its interval comes from resampling seeds, each with its runs at all values, since runs of one
    seed have much in common.

    :param runs: of one parameter, as :func:`measure` returns them
    """
    values, scores = scores_by_value(runs)
    positions = np.log10(values)
    iqm = _iqm_of_values(scores)
    low, high = good_interval(positions, iqm)

    def decades(seeds: np.ndarray) -> float:
        ends = good_interval(positions, _iqm_of_values(scores[:, seeds]))
        return ends[1] - ends[0]

    decades_low = decades_high = np.nan
    n_seeds = scores.shape[1]
    if n_seeds > 1:
        from scipy.stats import bootstrap  # which takes a second to import

        resampled = bootstrap(
            (np.arange(n_seeds),),
            decades,
            n_resamples=_REPETITIONS,
            vectorized=False,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        decades_low, decades_high = resampled.confidence_interval
    best = int(np.argmax(iqm))
    return Width(
        parameter=str(runs["parameter"].iloc[0]),
        best=float(values[best]),
        best_score=float(iqm[best]),
        low=float(10**low),
        high=float(10**high),
        decades=high - low,
        decades_low=float(decades_low),
        decades_high=float(decades_high),
        reaches_low=bool(low <= positions[0]),
        reaches_high=bool(high >= positions[-1]),
        seeds=n_seeds,
    )


def good_interval(positions: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The ends of the interval around the best score in which no score is more than 10% below it.

    Between the points, scores are interpolated linearly.

    :param positions: in ascending order, shape ``(n,)``, as is ``scores``
    """
    best = int(np.argmax(scores))
    bound = scores[best] - (1 - GOOD) * abs(scores[best])
    return (
        _crossing(positions[: best + 1][::-1], scores[: best + 1][::-1], bound),
        _crossing(positions[best:], scores[best:], bound),
    )


def _crossing(positions: np.ndarray, scores: np.ndarray, bound: float) -> float:
    """Where scores, the best one first, fall below the bound; the last position if they do not."""
    below = np.flatnonzero(scores < bound)
    if len(below) == 0:
        return float(positions[-1])
    i = int(below[0])
    share = (scores[i - 1] - bound) / (scores[i - 1] - scores[i])
    return float(positions[i - 1] + share * (positions[i] - positions[i - 1]))


def scores_by_value(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The values in ascending order, and scores of shape ``(n_values, n_seeds, n_environments)``.

    :param runs: of one parameter, as :func:`measure` returns them
    """
    table = runs.pivot(index="value", columns=["seed", "env_id"], values="score").sort_index()
    n_seeds, n_envs = runs["seed"].nunique(), runs["env_id"].nunique()
    table = table.sort_index(axis=1)
    return table.index.to_numpy(float), table.to_numpy().reshape(len(table), n_seeds, n_envs)


def _iqm_of_values(scores: np.ndarray) -> np.ndarray:
    """The interquartile mean for each value, over seeds and environments."""
    return interquartile_mean(scores.reshape(len(scores), -1), axis=1)


def importances(study: optuna.Study, problem: Problem) -> dict[str, float]:
    """The share of what makes trials good that each parameter explains, by PED-ANOVA.

    Empty for a study of one parameter, or one with too few trials.
    """
    if len(problem.space) < 2 or len(completed(study)) < 4:
        return {}
    if problem.has_two_objectives:
        # Given a target, PED-ANOVA looks for what makes it low.
        return get_param_importances(study, target=lambda trial: -trial.values[0])
    return get_param_importances(study)
