"""DQN with natural gradients of Q beside DQN: how steady their trainings are.

The trainings take hours, so they are not made here: their evaluations are stored with the project.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import load_evaluations
from benchmarks.statistics import (
    best_evaluation,
    final_return,
    improvement_interval,
    interval,
    mean_interval,
)
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, panels
from studies.errors import StudyError

__all__ = ["CLAIM"]

# Made by: python -m benchmarks run classic --algos natural_dqn,dqn
#   --envs CartPole-v1,Acrobot-v1,LunarLander-v3 --seeds 5
_RESULTS = Path(__file__).parents[2] / "docs" / "results" / "dqn"
_NAMES = {"natural_dqn": "NaturalDQN", "dqn": "DQN"}


def measure(effort: Effort) -> pd.DataFrame:
    """A row for each stored training; the quick version is the same.

    In the task's units, ``final`` is the mean of the last tenth of the evaluations, ``drop`` what
    it lacks to the best evaluation, and ``change`` the mean absolute difference of one evaluation
    and the next, in the second half.
    """
    return of_runs(load_evaluations(_RESULTS))


def of_runs(evaluations: pd.DataFrame) -> pd.DataFrame:
    """See :func:`measure`.

    :param evaluations: as of :func:`benchmarks.results.load_evaluations`
    :raises StudyError: there are none of one of the two algorithms
    """
    rows = []
    for (env_id, algo, seed), run in evaluations.groupby(["env_id", "algo", "seed"]):
        steps, returns = run["timesteps"].to_numpy(), run["return_mean"].to_numpy()
        final = final_return(returns)
        second_half = returns[len(returns) // 2 :]
        change = float(np.mean(np.abs(np.diff(second_half))))
        rows.append((env_id, algo, seed, final, best_evaluation(steps, returns) - final, change))
    data = pd.DataFrame(rows, columns=["env_id", "algo", "seed", "final", "drop", "change"])
    if missing := set(_NAMES) - set(data["algo"]):
        raise StudyError(f"there are no runs of {', '.join(sorted(missing))} in {_RESULTS.name}")
    return data


def _runs(data: pd.DataFrame, env_id: str, columns: Sequence[str]) -> list[np.ndarray]:
    """What NaturalDQN's and DQN's seeds have, each (n_seeds, n_columns)."""
    task = data[data["env_id"] == env_id]
    return [task.loc[task["algo"] == algo, list(columns)].to_numpy() for algo in _NAMES]


def _less_spread(natural: np.ndarray, usual: np.ndarray) -> tuple[float, float, float]:
    """DQN's standard deviation over seeds less NaturalDQN's, with its 95% interval."""

    def difference(of_natural: np.ndarray, of_usual: np.ndarray) -> np.ndarray:
        return of_usual.std(axis=0, ddof=1) - of_natural.std(axis=0, ddof=1)

    low, high = interval((natural, usual), difference)
    return float(difference(natural, usual)[0]), float(low[0]), float(high[0])


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    steadier, said = [], []
    for env_id in data["env_id"].unique():
        finals = _runs(data, env_id, ["final"])
        if min(map(len, finals)) < 2:
            continue  # no spread
        spread = _less_spread(*finals)
        natural, usual = _runs(data, env_id, ["drop", "change", "final"])
        of_usual = np.array(improvement_interval(usual, natural))  # P(DQN's > NaturalDQN's)
        drop, change = of_usual[:, 0], of_usual[:, 1]
        lower, low, high = of_usual[:, 2]
        if spread[1] > 0 and drop[1] > 0.5 and change[1] > 0.5:
            steadier.append(env_id)
        deviations = [values.std(ddof=1) for values in finals]
        said.append(
            f"On {env_id} the final returns deviate by {deviations[0]:.3g} (NaturalDQN) and "
            f"{deviations[1]:.3g} (DQN), the difference being {_shown(spread)}; the probability "
            f"that a training of NaturalDQN drops less is {_shown(drop)}, that it changes less "
            f"{_shown(change)}, and that it ends higher {_shown((1 - lower, 1 - high, 1 - low))}."
        )
    everywhere = bool(said) and len(steadier) == data["env_id"].nunique()
    where_any = Verdict.CONDITIONAL if steadier else Verdict.FAILS
    return Finding(
        Verdict.HOLDS if everywhere else where_any,
        " ".join(said) or "There are too few trainings to say.",
        f"the task is {' or '.join(steadier)}" if steadier and not everywhere else "",
    )


def _shown(estimate: Iterable[float]) -> str:
    value, low, high = estimate
    return f"{value:.3g}" if math.isnan(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def draw(data: pd.DataFrame) -> Figure:
    """All trainings: what they end at, drop by and change by, for each task."""
    env_ids = list(data["env_id"].unique())
    figure, axes = panels(env_ids)
    columns = {"final": "final return", "drop": "drop from the best", "change": "mean change"}
    for panel, env_id in zip(axes, env_ids, strict=True):
        for place, column in enumerate(columns):
            for shift, colour, marker, (algo, values) in zip(
                (-0.15, 0.15),
                (BLUE, ORANGE),
                "oD",
                zip(_NAMES, _runs(data, env_id, [column]), strict=True),
                strict=True,
            ):
                label = _NAMES[algo] if place == 0 else None
                _draw_runs(panel, place + shift, values, colour, marker, label)
        panel.axhline(0, color="#888888", linewidth=0.8)
        panel.set_xticks(range(len(columns)), list(columns.values()))
        panel.set_xlabel("small: trainings; large: mean, 95% interval")
    axes[0].set_ylabel("return")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_runs(
    panel: Axes, place: float, values: np.ndarray, colour: str, marker: str, label: str | None
) -> None:
    if len(values) == 0:
        return
    mean, low, high = mean_interval(values)
    spread = np.array([mean - low, high - mean])
    panel.plot(np.full(len(values), place + 0.08), values[:, 0], ".", color=colour, markersize=4)
    panel.errorbar([place], mean, spread, color=colour, marker=marker, capsize=3, label=label)


CLAIM = Claim(
    "natural-dqn",
    "Natural gradients stabilise DQN.",
    "On each task NaturalDQN is steadier than DQN by all of three measures, with 95% intervals: "
    "final returns deviate less over seeds, trainings drop less from their best evaluation to the "
    "final return, and in the second half one evaluation differs less from the next. If that is so "
    "on some tasks, they are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
