"""How fast plain and natural gradients converge where everything is exact."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import log_softmax

from benchmarks.statistics import mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import COLOURS, logarithmic, panels
from studies.exact.gradients import policy_gradient
from studies.exact.mdp import Mdp
from studies.exact.policies import tabular
from studies.exact.problems import garnet
from studies.exact.steps import multiplicative_step, soft_multiplicative_step, soft_values

__all__ = ["CLAIM"]

_PLAIN, _NATURAL = "plain gradient", "natural gradient"
_GROWING, _SOFT = "natural, steps that grow by 1/γ", "natural, with an entropy bonus"
_LENGTH = 0.1  # of a natural step; the first of those that grow
_TEMPERATURE = 0.1
_SMALLEST = 1e-11  # a gap below this is rounding


def measure(effort: Effort) -> pd.DataFrame:
    """The distance to the optimum after t steps, on random processes."""
    n_steps, rows = 20_000 if effort.quick else 100_000, []
    for problem in range(3 if effort.quick else 10):
        mdp = garnet(np.random.default_rng(problem), n_states=8, n_actions=3, gamma=0.8)
        for method, gaps in (
            (_PLAIN, _plain(mdp, n_steps)),
            (_NATURAL, _natural(mdp, n_steps, 1.0)),
            (_GROWING, _natural(mdp, n_steps, 1 / mdp.gamma)),
            (_SOFT, _soft(mdp, n_steps)),
        ):
            due = 1.0
            for t, gap in enumerate(gaps):
                if t >= due:
                    rows.append((problem, method, t, gap, mdp.gamma, mdp.n_actions))
                    due = max(t + 1, due * 10**0.05)
    return pd.DataFrame(rows, columns=["problem", "method", "step", "gap", "gamma", "actions"])


def _plain(mdp: Mdp, n_steps: int) -> Iterator[float]:
    policy, best = tabular(mdp.n_states, mdp.n_actions), mdp.best().performance
    theta = np.zeros(mdp.n_states * mdp.n_actions)
    # The return is smooth with constant 8 / (1 - gamma)^3 for rewards from 0 to 1 (Agarwal et al.
    # 2021, lemma 53); steps a hundred times as long as its inverse rise here, too.
    length = 100 * (1 - mdp.gamma) ** 3 / 8 / float(np.ptp(mdp.rewards))
    for _ in range(n_steps + 1):
        now = mdp.evaluate(policy.probabilities(theta))
        yield best - now.performance
        theta = theta + length * policy_gradient(now, policy.scores(theta))


def _natural(mdp: Mdp, n_steps: int, growth: float) -> Iterator[float]:
    best, log_pi, length = mdp.best().performance, _uniform(mdp), _LENGTH
    for _ in range(n_steps + 1):
        gap = best - mdp.evaluate(np.exp(log_pi)).performance
        yield gap
        if gap < _SMALLEST:
            return
        log_pi = multiplicative_step(mdp, log_pi, length)
        length *= growth


def _soft(mdp: Mdp, n_steps: int) -> Iterator[float]:
    """The distance to the optimum of the return with the bonus."""
    best = _uniform(mdp)
    for _ in range(300):
        best = soft_multiplicative_step(mdp, best, (1 - mdp.gamma) / _TEMPERATURE, _TEMPERATURE)
    optimum = float(mdp.start @ soft_values(mdp, best, _TEMPERATURE)[0])
    log_pi = _uniform(mdp)
    for _ in range(n_steps + 1):
        gap = optimum - float(mdp.start @ soft_values(mdp, log_pi, _TEMPERATURE)[0])
        yield gap
        if gap < _SMALLEST:
            return
        log_pi = soft_multiplicative_step(mdp, log_pi, _LENGTH, _TEMPERATURE)


def _uniform(mdp: Mdp) -> np.ndarray:
    return log_softmax(np.zeros((mdp.n_states, mdp.n_actions)), axis=1)


def _last_decade(data: pd.DataFrame, method: str) -> list[pd.DataFrame]:
    """The part of each problem's curve in which its steps grow tenfold to the end."""
    curves = data[(data["method"] == method) & (data["gap"] > _SMALLEST)].groupby("problem")
    return [curve[curve["step"] >= curve["step"].max() / 10] for _, curve in curves]


def _powers(data: pd.DataFrame, method: str) -> tuple[float, float, float]:
    """p of gap ~ 1 / t^p over the last tenfold of steps: mean over problems, 95% interval."""
    powers = [
        -np.polyfit(np.log(end["step"]), np.log(end["gap"]), 1)[0]
        for end in _last_decade(data, method)
    ]
    mean, low, high = (float(end[0]) for end in mean_interval(np.array(powers)[:, None]))
    return mean, low, high


def _factors(data: pd.DataFrame, method: str) -> np.ndarray:
    """By what the gap is multiplied in a step, of each problem."""
    ends = _last_decade(data, method)
    return np.array([math.exp(np.polyfit(e["step"], np.log(e["gap"]), 1)[0]) for e in ends])


def _share_of_bound(data: pd.DataFrame) -> float:
    """The largest gap of fixed natural steps, as a share of what Agarwal et al. 2021 allow."""
    curve = data[data["method"] == _NATURAL]
    allowed = np.log(curve["actions"]) / _LENGTH + 1 / (1 - curve["gamma"]) ** 2
    return float((curve["gap"] * curve["step"] / allowed).max())


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    (plain, *plain_ends), (natural, *_) = (_powers(data, each) for each in (_PLAIN, _NATURAL))
    fixed, growing, soft = (_factors(data, each) for each in (_NATURAL, _GROWING, _SOFT))
    as_claimed = abs(plain - 0.5) < 0.1 and abs(natural - 1) < 0.1
    return Finding(
        Verdict.HOLDS if as_claimed else Verdict.FAILS,
        f"Both are faster. The plain gradient's distance to the optimum falls like t^-{plain:.2f} "
        f"[{plain_ends[0]:.2f}, {plain_ends[1]:.2f}]. With natural steps it falls by a factor of "
        f"{np.median(fixed):.4f} a step in the end ({min(fixed):.4f} to {max(fixed):.4f} by "
        f"process), and is at most {_share_of_bound(data):.2f} of the theorem's bound in 1/t; with "
        f"steps that grow by {np.median(growing):.2f} ({min(growing):.2f} to {max(growing):.2f}), "
        f"and with an entropy bonus, towards the optimum with the bonus, by {np.median(soft):.3f} "
        f"({min(soft):.3f} to {max(soft):.3f}).",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The curves of all problems, with both axes logarithmic and with one."""
    figure, axes = panels(["All steps", "The first 300 steps"])
    dashes = ["-", "--", ":", "-."]
    for index, method in enumerate((_PLAIN, _NATURAL, _GROWING, _SOFT)):
        style: dict[str, Any] = {
            "color": COLOURS[index],
            "linestyle": dashes[index],
            "linewidth": 1.2,
        }
        of_method = data[data["method"] == method]
        for number, (_, curve) in enumerate(of_method.groupby("problem")):
            for panel in axes:
                label = "_" if number or panel is axes[1] else method
                panel.plot(curve["step"], curve["gap"], label=label, **style)
    t = np.array([1.0, data["step"].max()])
    axes[0].plot(t, 1 / t, color="#888888", linewidth=1)
    axes[0].annotate("1/t", (t[1], 1 / t[1]), (-4, 8), textcoords="offset points", ha="right")
    logarithmic(axes[0].xaxis)
    axes[1].set_xlim(0, 300)
    for panel in axes:
        logarithmic(panel.yaxis, "{x:.0e}")
        panel.set_ylim(_SMALLEST, 10)
        panel.set_xlabel("steps")
    axes[0].set_ylabel("best return - return")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


CLAIM = Claim(
    "rates",
    "Plain gradients converge like 1/√t, natural gradients like 1/t.",
    "On random processes, with exact gradients and tabular softmax policies, the power of t over "
    "the last tenfold of steps is 0.5 for the plain gradient and 1 for the natural one, within a "
    "tenth.",
    measure,
    judge,
    draw,
)
