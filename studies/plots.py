"""The figure of a study."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from optuna.trial import FrozenTrial

from studies.objective import Problem
from studies.search_spaces import is_scheduled
from studies.study import DEFAULT, RETURNS


def plot_returns(problem: Problem, trials: Sequence[FrozenTrial], path: Path) -> None:
    """Write the return of every trial against its parameter's value, a point for each seed.

    :param trials: completed trials, at least one
    """
    parameter = problem.parameter
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()

    # By value, so that the line does not follow the order of the trials.
    points = sorted((trial.params[parameter.name], _value(trial)) for trial in trials)
    axes.plot(*zip(*points, strict=True), "o-", linewidth=1, label="mean over seeds")
    seeds = [
        (trial.params[parameter.name], value)
        for trial in trials
        for value in trial.user_attrs[RETURNS]
    ]
    axes.plot(*zip(*seeds, strict=True), ".", color="0.55", label="one seed", zorder=1)

    best = max(trials, key=_value)
    for trial in trials:
        if trial.user_attrs.get(DEFAULT):
            _mark(axes, trial, parameter.name, "default", "s", "tab:orange")
    _mark(axes, best, parameter.name, "best", "*", "tab:red")

    if parameter.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    start = ", start of a linear schedule" if is_scheduled(parameter, problem.hyperparams) else ""
    axes.set_xlabel(f"{parameter.symbol} ({parameter.name}{start}): {parameter.meaning}")
    axes.set_ylabel("final return\n(mean of the last 10% of evaluations)")
    axes.set_title(
        f"{problem.algo} on {problem.env_id}: {problem.n_timesteps:,} steps, "
        f"{len(problem.seeds)} seeds, {len(trials)} trials"
    )
    axes.set_xlim(parameter.low / 1.1, parameter.high * 1.1)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def _mark(axes: Axes, trial: FrozenTrial, name: str, label: str, marker: str, color: str) -> None:
    axes.plot(
        trial.params[name],
        _value(trial),
        linestyle="none",
        marker=marker,
        markersize=12,
        markerfacecolor="none" if marker == "s" else color,
        markeredgecolor=color,
        label=f"{label}: {trial.params[name]:.3g}",
    )


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
