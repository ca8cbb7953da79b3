"""What ACER's parts are worth, and what its replay buys."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.statistics import (
    Estimate,
    area_under_curve,
    improvement_intervals,
    mean_interval,
)
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, panels
from studies.claims.trainings import Variant, evaluations

__all__ = ["CLAIM"]

_TASKS = {"CartPole-v1": 50_000, "Acrobot-v1": 50_000}
_REACHED = {"CartPole-v1": 475.0, "Acrobot-v1": -100.0}  # as Gymnasium has them
_POINTS = 20
_ALL = "all parts"
_ESSENTIAL = {
    "no replay": {"replay_ratio": 0},
    "no trust region": {"trust_region": False},
    "no Retrace": {"retrace": False},
}
_TRUNCATION = {
    "no truncation": {"correction_term": math.inf},  # and so nothing to correct
    "truncation at 1": {"correction_term": 1.0},
}
_RATIOS = (0, 1, 4, 8)


def measure(effort: Effort) -> pd.DataFrame:
    """Areas under learning curves, and steps until a return, of each training.

    ``steps`` is infinite where the return was not reached.
    """
    # A ratio that is the hyperparameter file's is the very training that has all parts.
    ratios = {_ratio(ratio): {"replay_ratio": ratio} for ratio in _RATIOS}
    settings: dict[str, Any] = {_ALL: {}, **_ESSENTIAL, **_TRUNCATION, **ratios}
    tasks, seeds, names = _TASKS, range(5), list(settings)
    if effort.quick:
        tasks, seeds, names = {"CartPole-v1": 2_000}, range(1), [_ALL, "no replay", _ratio(0)]
    variants = [Variant(name, "acer", settings[name]) for name in names]
    measured = evaluations(effort, variants, tasks, seeds, _POINTS)
    rows = [
        (*keys, *_scores(str(keys[1]), run["timesteps"].to_numpy(), run["return_mean"].to_numpy()))
        for keys, run in measured.groupby(["variant", "env_id", "seed"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["variant", "env_id", "seed", "area", "steps"])


def _scores(env_id: str, steps: np.ndarray, returns: np.ndarray) -> tuple[float, float]:
    """The mean return over the training, and the steps until the task's return."""
    reached = steps[returns >= _REACHED[env_id]]
    return area_under_curve(steps, returns), float(reached[0]) if len(reached) else math.inf


def _ratio(ratio: int) -> str:
    return f"replay ratio {ratio}"


def _areas(data: pd.DataFrame, env_id: str) -> dict[str, np.ndarray]:
    """The seeds' areas, (n_seeds, 1), by variant."""
    task = data[data["env_id"] == env_id].sort_values("seed")
    return {str(name): group[["area"]].to_numpy() for name, group in task.groupby("variant")}


def _better(
    areas: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Estimate]:
    """P(X > Y) of the areas with 95% intervals, for pairs of variants that were measured."""
    there = [(x, y) for x, y in pairs if x in areas and y in areas]
    found = improvement_intervals([(areas[x], areas[y]) for x, y in there])
    return {pair: Estimate(*each[:, 0]) for pair, each in zip(there, found, strict=True)}


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    as_claimed, buys, said = [], [], []
    for env_id in data["env_id"].unique():
        areas = _areas(data, env_id)
        pairs = [(_ALL, name) for name in (*_ESSENTIAL, *_TRUNCATION)]
        replay = (_ratio(4), _ratio(0))
        better = _better(areas, [*pairs, replay])
        surely = {pair for pair, each in better.items() if each.low > 0.5}
        as_claimed.append({y for x, y in surely if x == _ALL} == set(_ESSENTIAL))
        buys.append(replay in surely)
        shown = [f"{_shown(better[pair])} ({pair[1]})" for pair in pairs if pair in better]
        said.append(
            f"On {env_id} the probabilities that all parts have the larger area are "
            f"{', '.join(shown)}; the median steps to {_REACHED[env_id]:g} are, by replay ratio, "
            f"{_steps(data, env_id)}."
        )
    holds = all(as_claimed) and all(buys)
    partly = all(buys) or any(as_claimed)
    where = [each for each, so in zip(data["env_id"].unique(), as_claimed, strict=True) if so]
    only = "only replay is meant" if all(buys) else f"only {' and '.join(where)} is meant"
    return Finding(
        Verdict.HOLDS if holds else Verdict.CONDITIONAL if partly else Verdict.FAILS,
        " ".join(said),
        only if partly and not holds else "",
    )


def _shown(estimate: Estimate) -> str:
    value, low, high = estimate.numbers
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if estimate.has_interval else f"{value:.2f}"


def _steps(data: pd.DataFrame, env_id: str) -> str:
    """Medians of the steps until the return, by replay ratio."""
    medians = data[data["env_id"] == env_id].groupby("variant")["steps"].median()
    ratios = [(ratio, medians[_ratio(ratio)]) for ratio in _RATIOS if _ratio(ratio) in medians]
    return ", ".join(
        f"{ratio}: {steps:,.0f}" if math.isfinite(steps) else f"{ratio}: never"
        for ratio, steps in ratios
    )


def draw(data: pd.DataFrame) -> Figure:
    """Areas without parts, and by replay ratio."""
    env_ids = list(data["env_id"].unique())
    figure, axes = panels([f"{each}, {what}" for each in env_ids for what in ("parts", "replay")])
    names = [_ALL, *_ESSENTIAL, *_TRUNCATION]
    for env_id, parts, replay in zip(env_ids, axes[::2], axes[1::2], strict=True):
        areas = _areas(data, env_id)
        shown = [name for name in names if name in areas]
        _draw_means(parts, areas, shown, range(len(shown)), horizontal=True)
        parts.set_yticks(range(len(shown)), shown)
        parts.invert_yaxis()
        parts.set_xlabel("mean return over training")
        ratios = [ratio for ratio in _RATIOS if _ratio(ratio) in areas]
        _draw_means(replay, areas, [_ratio(each) for each in ratios], ratios, horizontal=False)
        replay.set_xticks(ratios)
        replay.set_xlabel("replay ratio: updates on replay per rollout")
        replay.set_ylabel("mean return over training")
    figure.supxlabel("points: seeds; diamonds: their mean with its 95% interval", fontsize="small")
    return figure


def _draw_means(
    panel: Axes,
    areas: Mapping[str, np.ndarray],
    names: Sequence[str],
    places: Sequence[int],
    horizontal: bool,
) -> None:
    for name, place in zip(names, places, strict=True):
        area = areas[name]
        mean, low, high = (float(each[0]) for each in mean_interval(area))
        spread = [[mean - low], [high - mean]]
        look: dict[str, Any] = {
            "color": BLUE if name == _ALL else ORANGE,
            "marker": "D",
            "capsize": 3,
        }
        seeds, at = area[:, 0], np.full(len(area), place)
        if horizontal:
            panel.plot(seeds, at, ".", color="#888888")
            panel.errorbar([mean], [place], xerr=spread, **look)
        else:
            panel.plot(at, seeds, ".", color="#888888")
            panel.errorbar([place], [mean], yerr=spread, **look)


CLAIM = Claim(
    "acer",
    "In ACER every part but the truncation is essential, and replay buys samples.",
    "On each task the area under the learning curve is smaller without replay, without the trust "
    "region and without Retrace: the 95% interval of the probability that a training with all "
    "parts has the larger area lies above a half. Without truncation, or with truncation at 1, it "
    "does not. And a replay ratio of 4 beats one of 0 in the same way. If only the last is so on "
    "each task, or all of it on some, that is the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
