"""What a report reads of studies: best values, sweeps and trials, with intervals over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from benchmarks.errors import SpecError
from benchmarks.folder_names import is_name
from benchmarks.names import plain
from benchmarks.results import load_readable
from benchmarks.secrets import mask
from benchmarks.statistics import Estimate, interquartile_mean
from reports.data.runs import ReportError, cleaned
from studies import sensitivity
from studies.confirmation import stored_confirmation
from studies.errors import BrokenStudyError, StudyError
from studies.estimates import (
    Comparison,
    compare,
    estimates,
    on_fresh_seeds,
)
from studies.objective import Problem
from studies.parameters import Parameter, Scalar, Value
from studies.search_spaces import default_value
from studies.storage import connect, is_stored, studies_in, study_folder
from studies.study import DEFAULT, SCORES, best_trial, completed, counted, in_state, load, values_of

# Multiples of a sweep's best value at which the loss is shown.
FACTORS = (1 / 3, 3.0)


@dataclass(frozen=True)
class Sweep:
    """Scores over a parameter's range, all else as in the trial ``base``.

    ``points``: as :func:`studies.sensitivity.curve` gives them. ``losses``: by how much the score
    is lower than at the sweep's best value, at ``FACTORS`` times that value; None beyond the range.
    ``default_loss``: the same at the default; None where environments have different defaults.
    ``is_of_best``: false where the best trial is another one by now, with other values of the
    other parameters.
    """

    parameter: Parameter
    points: pd.DataFrame
    width: sensitivity.Width
    losses: Sequence[Estimate | None]
    default_loss: Estimate | None
    base: int
    is_of_best: bool


@dataclass(frozen=True)
class StudyResult:
    """A study as it is stored; its name, algorithm and environments are fit to be shown.

    ``runs``: as :func:`benchmarks.results.load_runs` gives them; empty where they are elsewhere.
    ``defaults``: environment to the trial of its defaults, which need not have completed.
    ``searched``: on the search's own seeds, ``fresh``: on others; None where there are no such
    scores. ``sweeps`` and ``importances`` are by the parameter's name.
    """

    name: str
    problem: Problem
    runs: pd.DataFrame
    trials: Sequence[FrozenTrial]
    best: FrozenTrial | None
    defaults: Mapping[str, FrozenTrial]
    searched: Comparison | None
    fresh: Comparison | None
    sweeps: Mapping[str, Sweep]
    importances: Mapping[str, float]

    @property
    def completed(self) -> list[FrozenTrial]:
        """The trials that have a value."""
        return in_state(self.trials, TrialState.COMPLETE)

    @property
    def best_is_default(self) -> bool:
        """Whether the best trial is one of defaults."""
        return self.best is not None and bool(self.best.user_attrs.get(DEFAULT))

    def default_values(self, parameter: Parameter) -> dict[str, Scalar]:
        """Environment to its default, where its trial has the parameter."""
        return {
            env_id: trial.params[parameter.name]
            for env_id, trial in self.defaults.items()
            if parameter.name in trial.params
        }

    @property
    def not_swept(self) -> list[Parameter]:
        """The parameters that have trials, but no sweep."""
        space = self.problem.space
        return [each for each in space if each.name not in self.sweeps and self.tried(each)]

    def tried(self, parameter: Parameter) -> list[FrozenTrial]:
        """The completed trials that have the parameter."""
        return [trial for trial in self.completed if parameter.name in trial.params]


def read(
    names: Sequence[str],
    root: Path,
    storage: str | None,
    leave_out: Callable[[str], None] = lambda _: None,
) -> list[StudyResult]:
    """Read studies; nothing is trained, and nothing written.

    :param names: of the studies, each once
    :param root: where their folders are
    :param storage: a database's URL; None: each study's journal is in its folder
    :param leave_out: called with a line for each study, or part of one, that cannot be read
    :raises ReportError: no name, or one that is given twice; a study that is not there, naming it
        and those that are; or none that can be read
    """
    if not names:
        raise ReportError("--studies: must name at least one study")
    for name in names:
        if names.count(name) > 1:
            raise ReportError(f"--studies: {name!r} is given twice")

    def say(line: str) -> None:
        leave_out(plain(line))

    studies, broken = [], []
    for name in names:
        try:
            studies.append(_read(name, root, storage or "", say))
        except _BrokenStudyError as error:
            broken.append(plain(str(error)))
    if not studies:
        raise ReportError(f"--studies: {'; '.join(broken)}")
    for line in broken:
        leave_out(line)
    return studies


class _BrokenStudyError(Exception):
    """A study that is there and cannot be read."""


def _read(name: str, root: Path, storage: str, leave_out: Callable[[str], None]) -> StudyResult:
    try:
        folder = study_folder("--studies", name, root)
    except SpecError as error:
        raise ReportError(str(error)) from None
    # Opening a journal would make one.
    if not storage and not is_stored(folder):
        known = [each for each in studies_in(root) if is_name(each) and is_stored(root / each)]
        raise ReportError(
            f"--studies: {name!r} is not a study in {root}; there are: {', '.join(known) or 'none'}"
        )
    try:
        study, problem = load(name, connect(storage, folder))
        return _result(study, problem, folder, leave_out)
    except BrokenStudyError as error:
        raise _BrokenStudyError(str(error)) from None
    except StudyError as error:
        raise ReportError(f"--studies: {error}") from None
    except Exception as error:  # whatever a foreign journal holds, and Optuna makes of it
        reason = mask(f"{type(error).__name__}: {error}")
        raise _BrokenStudyError(f"{name!r} cannot be read: {reason}") from error


def _result(
    study: optuna.Study, problem: Problem, folder: Path, leave_out: Callable[[str], None]
) -> StudyResult:
    _check_scores(problem, completed(study))
    best = best_trial(study)
    defaults = _default_trials(study, problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        importances = sensitivity.importances(study, problem)
    return StudyResult(
        name=plain(study.study_name),
        problem=_shown(problem),
        runs=_runs(folder / "runs", leave_out),
        trials=counted(study),
        best=best,
        defaults={plain(env_id): trial for env_id, trial in defaults.items()},
        searched=None if best is None else _searched(problem, best, defaults),
        fresh=_fresh(study, problem),
        sweeps=_readable_sweeps(study, problem, folder, defaults, leave_out),
        importances={name: float(share) for name, share in importances.items()},
    )


def _shown(problem: Problem) -> Problem:
    """The problem with names that are fit to be shown, whoever chose them."""
    return replace(problem, algo=plain(problem.algo), env_ids=tuple(map(plain, problem.env_ids)))


def _runs(folder: Path, leave_out: Callable[[str], None]) -> pd.DataFrame:
    """The study's runs that are here and can be read."""
    found = load_readable(folder)
    for error in found.broken:
        leave_out(str(error))
    return cleaned(found.runs)


def _default_trials(study: optuna.Study, problem: Problem) -> dict[str, FrozenTrial]:
    """Each environment's trial of its defaults; one for all where they are the same."""
    tried = [trial for trial in counted(study) if trial.user_attrs.get(DEFAULT)]
    if len(tried) == 1:
        return dict.fromkeys(problem.env_ids, tried[0])
    found = {}
    for env_id in problem.env_ids:
        hyperparams = problem.hyperparams[env_id]
        own = {each: default_value(problem.algo, each, hyperparams) for each in problem.space}
        for trial in tried:
            if all(own[each] == value for each, value in values_of(problem, trial).items()):
                found[env_id] = trial
    return found


def _searched(
    problem: Problem, best: FrozenTrial, defaults: Mapping[str, FrozenTrial]
) -> Comparison | None:
    """None where the defaults' trial of an environment has not completed."""
    columns = []
    for position, env_id in enumerate(problem.env_ids):
        trial = defaults.get(env_id)
        if trial is None or trial.state is not TrialState.COMPLETE:
            return None
        columns.append(_by_seed(problem, trial.user_attrs[SCORES])[:, position])
    best_scores = _by_seed(problem, best.user_attrs[SCORES])
    return compare(problem.seeds, np.stack(columns, axis=1), best_scores)


def _fresh(study: optuna.Study, problem: Problem) -> Comparison | None:
    found = stored_confirmation(study)
    return None if found is None else on_fresh_seeds(problem, found)


def _by_seed(problem: Problem, scores: Sequence[float]) -> np.ndarray:
    """Scores in the order of ``Problem.specs``, of shape (seeds, environments)."""
    return np.reshape(scores, (len(problem.seeds), len(problem.env_ids)))


def _check_scores(problem: Problem, trials: Sequence[FrozenTrial]) -> None:
    """Every trial that completed has a finite score, and one for each of its runs.

    :raises ValueError: naming the first trial that has not
    """
    n_runs = len(problem.seeds) * len(problem.env_ids)
    for trial in trials:
        scores = np.asarray(trial.user_attrs.get(SCORES, []), dtype=np.float64)
        if scores.shape != (n_runs,) or not np.isfinite([*scores, *trial.values]).all():
            raise ValueError(f"trial {trial.number} must have {n_runs} finite scores")


def _readable_sweeps(
    study: optuna.Study,
    problem: Problem,
    folder: Path,
    defaults: Mapping[str, FrozenTrial],
    leave_out: Callable[[str], None],
) -> dict[str, Sweep]:
    """The sweeps; none where their file cannot be read."""
    try:
        return _sweeps(study, problem, folder, defaults)
    except StudyError as error:
        leave_out(str(error))
    except Exception as error:  # whatever a foreign file holds, and pandas makes of it
        leave_out(f"{folder / sensitivity.FILE}: {type(error).__name__}: {error}")
    return {}


def _sweeps(
    study: optuna.Study, problem: Problem, folder: Path, defaults: Mapping[str, FrozenTrial]
) -> dict[str, Sweep]:
    sweeps = {}
    stored = sensitivity.stored(folder)
    for parameter in problem.space:
        if parameter.name in stored:
            runs = stored[parameter.name]
            _check_runs(problem, runs, folder)
            sweeps[parameter.name] = _sweep(study, problem, parameter, runs, defaults)
    return sweeps


def _check_runs(problem: Problem, runs: pd.DataFrame, folder: Path) -> None:
    """Check that the file belongs to this study, and not to one that had the folder before.

    :raises StudyError: naming the file
    """
    numbers = runs[["value", "score", sensitivity.BASE]].to_numpy(dtype=np.float64)
    if not (np.isfinite(numbers).all() and (runs["value"] > 0).all()):
        raise StudyError(
            f"{folder / sensitivity.FILE}: value, score and {sensitivity.BASE} must be finite "
            "numbers, and values positive"
        )
    expected = {(seed, env_id) for seed in problem.seeds for env_id in problem.env_ids}
    if any(
        sorted(zip(of_value["seed"], of_value["env_id"], strict=True)) != sorted(expected)
        for _, of_value in runs.groupby("value")
    ):
        raise StudyError(
            f"{folder / sensitivity.FILE}: must have a run for each value, environment and seed of "
            f"the study ({', '.join(problem.env_ids)}; {problem.seeds[0]} to {problem.seeds[-1]})"
        )


def _sweep(
    study: optuna.Study,
    problem: Problem,
    parameter: Parameter,
    runs: pd.DataFrame,
    defaults: Mapping[str, FrozenTrial],
) -> Sweep:
    width, base = sensitivity.width(runs), int(runs[sensitivity.BASE].iloc[0])
    of_defaults = {trial.params.get(parameter.name) for trial in defaults.values()}
    targets = [factor * width.best for factor in FACTORS]
    if len(of_defaults) == 1 and None not in of_defaults:
        targets += [float(value) for value in of_defaults if value is not None]
    losses = losses_at(runs, targets)
    return Sweep(
        parameter=parameter,
        points=sensitivity.curve(runs),
        width=width,
        losses=losses[: len(FACTORS)],
        default_loss=losses[-1] if len(losses) > len(FACTORS) else None,
        base=base,
        is_of_best=_rest(study, problem, base, parameter)
        == _rest(study, problem, _best_number(study), parameter),
    )


def _best_number(study: optuna.Study) -> int | None:
    best = best_trial(study)
    return None if best is None else best.number


def _rest(
    study: optuna.Study, problem: Problem, number: int | None, parameter: Parameter
) -> dict[Parameter, Value] | None:
    """A trial's values of all parameters but one; None if there is no such trial."""
    for trial in completed(study):
        if trial.number == number:
            values = values_of(problem, trial)
            return {each: value for each, value in values.items() if each != parameter}
    return None


def losses_at(runs: pd.DataFrame, targets: Sequence[float]) -> list[Estimate | None]:
    """By how much the score is lower at some values than at the best one of a sweep.

    Scores between the points lie on straight lines over the logarithms of the values. Seeds are
    resampled, each with its runs at all values; the best value stays the same.

    :param runs: of one parameter, as :func:`studies.sensitivity.measure` returns them
    :return: None for a value beyond the range
    """
    values, scores = sensitivity.scores_by_value(runs)
    positions = np.log10(values)
    best = int(np.argmax(interquartile_mean(scores.transpose(1, 2, 0).reshape(-1, len(values)))))
    wanted = np.log10(targets)
    # A target that was computed from an end of the range may differ from it in the last digit.
    within = (wanted > positions[0] - 1e-9) & (wanted < positions[-1] + 1e-9)

    def statistic(sample: np.ndarray) -> np.ndarray:
        iqm = interquartile_mean(sample.reshape(-1, len(values)))
        lost: np.ndarray = iqm[best] - np.interp(wanted, positions, iqm)
        return lost

    found = estimates(scores.transpose(1, 2, 0), statistic)
    return [estimate if inside else None for estimate, inside in zip(found, within, strict=True)]
