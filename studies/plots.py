"""The figures of a study: its trials, and the sweeps of its parameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from optuna.trial import FrozenTrial, TrialState

from benchmarks.algorithms import ALGORITHMS
from benchmarks.storage import whole_file
from studies import nested
from studies.objective import OBJECTIVES, Problem
from studies.parameters import Parameter, is_schedule
from studies.sensitivity import GOOD, Width, curve
from studies.study import DEFAULT, SCORES, completed, counted, in_state
from studies.wording import shown

_BLUE, _ORANGE, _RED, _GREY = "#0072b2", "#e69f00", "#d55e00", "0.55"
_WIDTH = 5.5  # inches of a panel


def plot_values(study: optuna.Study, problem: Problem, path: Path) -> None:
    """Write a figure of each trial's score over each parameter's value, with a point for each run.

    :raises ValueError: no trial has completed
    """
    trials = _completed(study)
    figure, panels = _panels(len(problem.space))
    for axes, parameter in zip(panels, problem.space, strict=True):
        having = [trial for trial in trials if parameter.name in trial.params]
        _draw_trials(axes, problem, parameter, having)
    panels[0].set_ylabel(_value_label(problem))
    figure.suptitle(f"{_title(problem)}, {len(trials)} trials", parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    _save(figure, path)


def _draw_trials(
    axes: Axes, problem: Problem, parameter: Parameter, trials: Sequence[FrozenTrial]
) -> None:
    points = sorted((_position(parameter, trial), trial.values[0]) for trial in trials)
    runs = [
        (_position(parameter, trial), score)
        for trial in trials
        for score in trial.user_attrs[SCORES]
    ]
    axes.plot(*zip(*runs, strict=True), ".", color=_GREY, label="one run", zorder=1)
    style = "o-" if len(problem.space) == 1 else "o"
    axes.plot(*zip(*points, strict=True), style, color=_BLUE, linewidth=1, label="trial")
    for trial in trials:
        if trial.user_attrs.get(DEFAULT):
            _mark(axes, parameter, trial, "defaults", "s", _ORANGE)
    best = max(trials, key=lambda trial: trial.values[0])
    _mark(axes, parameter, best, "best trial", "*", _RED)
    if parameter.choices:
        axes.set_xticks(range(len(parameter.choices)), map(shown, parameter.choices))
    else:
        _scale(axes, parameter)
    axes.set_xlabel(parameter_label(problem, parameter), parse_math=False)
    axes.grid(alpha=0.3)


def _position(parameter: Parameter, trial: FrozenTrial) -> float:
    value = trial.params[parameter.name]
    return float(parameter.choices.index(value)) if parameter.choices else float(value)


def _mark(
    axes: Axes, parameter: Parameter, trial: FrozenTrial, label: str, marker: str, color: str
) -> None:
    axes.plot(
        _position(parameter, trial),
        trial.values[0],
        linestyle="none",
        marker=marker,
        markersize=13,
        markerfacecolor="none" if marker == "s" else color,
        markeredgecolor=color,
        markeredgewidth=1.5,
        label=label if label not in axes.get_legend_handles_labels()[1] else None,
    )


def plot_history(study: optuna.Study, problem: Problem, path: Path) -> None:
    """Write a figure of the trials' scores in their order, and the best score so far.

    :raises ValueError: no trial has completed
    """
    trials = _completed(study)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    numbers = [trial.number for trial in trials]
    values = [trial.values[0] for trial in trials]
    axes.plot(numbers, values, "o", color=_BLUE, label="trial")
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=_RED, label="best so far")
    for state, marker, label in (
        (TrialState.PRUNED, "|", "pruned"),
        (TrialState.FAIL, "x", "failed"),
    ):
        if ended := in_state(counted(study), state):
            low = [min(values)] * len(ended)
            axes.plot([t.number for t in ended], low, marker, color="black", ls="", label=label)
    axes.set_xlabel("trial")
    axes.set_ylabel(_value_label(problem))
    axes.set_title(_title(problem), parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_sensitivity(
    problem: Problem, runs: Mapping[str, pd.DataFrame], widths: Mapping[str, Width], path: Path
) -> None:
    """Write a figure of the scores over each parameter's range, and the good part of the range.

    :param runs: by the parameter's name, as ``sensitivity.measure`` returns them
    :param widths: the good parts, by the same names
    """
    figure, panels = _panels(len(runs))
    for axes, (name, frame) in zip(panels, runs.items(), strict=True):
        parameter = next(each for each in problem.space if each.name == name)
        _draw_curve(axes, problem, parameter, frame, widths[name])
    panels[0].set_ylabel(_value_label(problem))
    figure.suptitle(_title(problem), parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    _save(figure, path)


def _draw_curve(
    axes: Axes, problem: Problem, parameter: Parameter, runs: pd.DataFrame, good: Width
) -> None:
    points = curve(runs)
    axes.axvspan(good.low, good.high, color=_ORANGE, alpha=0.15, label="within 10% of the best")
    bound = good.best_score - (1 - GOOD) * abs(good.best_score)
    axes.axhline(bound, color=_ORANGE, linestyle=":")
    axes.plot(runs["value"], runs["score"], ".", color=_GREY, label="one run", zorder=1)
    axes.plot(points["value"], points["score"], "o-", color=_BLUE, label="interquartile mean")
    if points["low"].notna().all():
        axes.fill_between(
            points["value"], points["low"], points["high"], color=_BLUE, alpha=0.2, linewidth=0,
            label="95% interval over seeds",
        )  # fmt: skip
    _scale(axes, parameter, always_log=True)
    axes.set_xlabel(parameter_label(problem, parameter), parse_math=False)
    axes.set_title(f"{good} decades wide", fontsize="medium")
    axes.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=150)


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(max(7, _WIDTH * n), 4.8), layout="constrained")
    return figure, list(figure.subplots(1, n, squeeze=False, sharey=True)[0])


def _completed(study: optuna.Study) -> list[FrozenTrial]:
    trials = completed(study)
    if not trials:
        raise ValueError("no trial has completed")
    return trials


def _scale(axes: Axes, parameter: Parameter, always_log: bool = False) -> None:
    """Show the whole range, even where nothing of it has been tried."""
    if parameter.log or always_log:
        axes.set_xscale("log")
        axes.set_xlim(parameter.low / 1.2, parameter.high * 1.2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.03 * (parameter.high - parameter.low)
        axes.set_xlim(parameter.low - margin, parameter.high + margin)


def parameter_label(problem: Problem, parameter: Parameter) -> str:
    """A parameter's name and symbol, with its meaning on a second line."""
    scheduled = any(
        is_schedule(nested.get(hyperparams, parameter.name))
        for hyperparams in problem.hyperparams.values()
    )
    start = ", start of a linear schedule" if scheduled else ""
    return f"{parameter}{start}" + (f":\n{parameter.meaning}" if parameter.meaning else "")


def _value_label(problem: Problem) -> str:
    what = OBJECTIVES[problem.objective].split(", and")[0].replace(" (", "\n(")
    if not problem.is_normalised:
        return what
    if len(problem.env_ids) > 1:
        return f"score: {what}\n0: random policy, 1: each environment's reference"
    (scale,) = problem.scales.values()
    assert scale is not None
    return (
        f"score: {what}\n0: random policy ({shown(scale.random)}), "
        f"1: reference ({shown(scale.reference)})"
    )


def _title(problem: Problem) -> str:
    algo = problem.algo.upper() if problem.algo in ALGORITHMS else problem.algo
    n_seeds = len(problem.seeds)
    return (
        f"{algo} on {', '.join(problem.env_ids)}: {problem.n_timesteps:,} steps, "
        f"{n_seeds} {'seed' if n_seeds == 1 else 'seeds'}"
    )
