"""On a plateau of the return, natural gradients get away sooner."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, logarithmic, panels
from studies.exact.gradients import fisher, natural_gradient, policy_gradient
from studies.exact.policies import tabular
from studies.exact.problems import two_states
from studies.exact.steps import evaluated

__all__ = ["CLAIM"]

_MDP = two_states(gamma=0.99)
_FIRST = 0.02  # sqrt(2 KL) of the first step, for both gradients
_REACHED = 0.95  # of the best policy's return
_RARE = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
_SHOWN = 0.05
_MOST_STEPS = 200_000


def measure(effort: Effort) -> pd.DataFrame:
    """Steps from a policy that seldom leaves the first state, and seldom stays in the second."""
    rows = [
        (rare, gradient, steps, i, value)
        for rare in (_RARE[:4] if effort.quick else _RARE)
        for steps in ("equal length", "equal KL")
        for gradient in ("plain", "natural")
        for i, value in _returns(rare, gradient, steps)
    ]
    return pd.DataFrame(rows, columns=["rare", "gradient", "steps", "step", "return"])


def _returns(rare: float, gradient: str, steps: str) -> Iterator[tuple[int, float]]:
    """The mean reward per step, ten times as the number of steps doubles, and at the end."""
    policy, best = tabular(2, 2), _MDP.best().performance
    theta = np.log(np.array([1 - rare, rare, rare, 1 - rare]))
    length, due = 0.0, 1.0
    for i in range(_MOST_STEPS + 1):
        now, scores = evaluated(_MDP, policy, theta), policy.scores(theta)
        is_there = now.performance > _REACHED * best
        if i == 0 or i >= due or is_there:
            yield i, now.performance * (1 - _MDP.gamma)
            due *= 2**0.1
        if is_there:
            return
        find = policy_gradient if gradient == "plain" else natural_gradient
        direction = find(now, scores)
        if not length or steps == "equal KL":
            length = _FIRST / math.sqrt(direction @ fisher(now, scores) @ direction)
        theta = theta + length * direction


def _needed(data: pd.DataFrame) -> pd.Series:
    """Steps until the return is reached, by start, gradient and kind of steps."""
    return data.groupby(["steps", "gradient", "rare"])["step"].max()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    needed, rare = _needed(data), data["rare"].min()
    plain, natural = (needed["equal length", each, rare] for each in ("plain", "natural"))
    at_equal_kl = needed["equal KL", "plain"] / needed["equal KL", "natural"]
    sooner = plain > 10 * natural
    as_soon = at_equal_kl.between(0.5, 2.0).all()
    where_it_holds = Verdict.CONDITIONAL if as_soon else Verdict.HOLDS
    return Finding(
        where_it_holds if sooner else Verdict.FAILS,
        f"From a policy that leaves the first state with probability {rare:g}, steps of fixed "
        f"length need {plain:,} (plain) and {natural:,} (natural) until the return is 95% of the "
        f"best. With steps of equal KL divergence the plain gradient needs "
        f"{at_equal_kl.min():.2f} to {at_equal_kl.max():.2f} times as many as the natural one.",
        "steps have a fixed length" if sooner and as_soon else "",
    )


def draw(data: pd.DataFrame) -> Figure:
    """Returns over steps from one start, and the steps needed from all."""
    figure, (curves, needed) = panels(["On the plateau", "Until it is left"])
    colours, dashes = {"plain": ORANGE, "natural": BLUE}, {"equal length": "-", "equal KL": "--"}
    shown = data[data["rare"] == _SHOWN]
    for (steps, gradient), path in shown.groupby(["steps", "gradient"], sort=False):
        look: dict[str, Any] = {
            "color": colours[str(gradient)],
            "linestyle": dashes[str(steps)],
            "label": f"{gradient} gradient, steps of {steps}",
        }
        curves.plot(path["step"].clip(lower=0.8), path["return"], **look)
        all_starts = _needed(data)[str(steps), str(gradient)]
        needed.plot(all_starts.index, all_starts, marker="o", markersize=4, **look)
    logarithmic(curves.xaxis)
    curves.set_xlabel("steps")
    curves.set_ylabel("reward per step")
    curves.axhline(1.0, color="#888888", linewidth=1, linestyle=":")
    logarithmic(needed.xaxis, ticks=_RARE)
    logarithmic(needed.yaxis)
    needed.invert_xaxis()
    needed.set_xlabel("probability of leaving the first state, at the start")
    needed.set_ylabel("steps until 95% of the best")
    figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


CLAIM = Claim(
    "plateau",
    "On a plateau of the return, natural gradients get away sooner than plain ones.",
    "With steps of fixed length, the first of which have the same KL divergence, the natural "
    "gradient needs less than a tenth of the plain gradient's steps from the farthest start. If "
    "the two need as many, within a factor of two, once every step has the same KL divergence, the "
    "claim is about steps of fixed length.",
    measure,
    judge,
    draw,
)
