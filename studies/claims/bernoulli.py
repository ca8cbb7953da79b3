"""The Fisher information of a coin, and what it makes of steps near certainty."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import brentq
from scipy.special import rel_entr

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, panels

__all__ = ["CLAIM"]

_DELTA = 0.01  # nats
_SAID = {0.1: 11.1, 0.5: 4.0, 0.9: 11.1}


def measure(effort: Effort) -> pd.DataFrame:
    """Fisher information and lengths of steps of equal KL divergence, over the probability of 1."""
    p = np.round(np.linspace(0.01, 0.99, 99), 2)
    second = 1e-4  # the step of a second difference of the KL divergence
    curvature = (_kl(p, p + second) + _kl(p, p - second)) / second**2
    scores = p * (1 / p) ** 2 + (1 - p) * (1 / (1 - p)) ** 2
    exact = [brentq(lambda x, q=q: _kl(q, x) - _DELTA, q, 1 - 1e-12) - q for q in p]
    return pd.DataFrame(
        {
            "p": p,
            "closed form": 1 / (p * (1 - p)),
            "curvature of the KL": curvature,
            "mean squared score": scores,
            "step": np.sqrt(2 * _DELTA * p * (1 - p)),
            "exact step": exact,
        }
    )


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return rel_entr(p, q) + rel_entr(1 - p, 1 - q)


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    found = data.set_index("p")
    values = {p: float(found["closed form"][p]) for p in _SAID}
    as_said = all(abs(values[p] - said) < 0.05 for p, said in _SAID.items())
    closed = data["closed form"]
    apart = max(
        float(abs(data[each] / closed - 1).max())
        for each in ("curvature of the KL", "mean squared score")
    )
    steps = found["exact step"]
    smaller = steps[0.05] < steps[0.5] and steps[0.95] < steps[0.5]
    return Finding(
        Verdict.HOLDS if as_said and apart < 1e-3 and smaller else Verdict.FAILS,
        f"F is {values[0.1]:.1f} at 0.1 and 0.9 and {values[0.5]:.1f} at 0.5, in closed form, as "
        f"the curvature of the KL divergence and as the mean squared score (within {apart:.0e}). A "
        f"step of {_DELTA:g} nats upwards is {steps[0.05]:.3f} long at 0.05, {steps[0.5]:.3f} at "
        f"0.5 and {steps[0.95]:.3f} at 0.95.",
    )


def draw(data: pd.DataFrame) -> Figure:
    """F, and the steps."""
    figure, (information, steps) = panels(["Fisher information", f"Steps of {_DELTA:g} nats"])
    p = data["p"]
    information.plot(p, data["closed form"], color=BLUE, label="1 / (p (1 - p))")
    some = data.iloc[4::10]
    information.plot(
        some["p"], some["curvature of the KL"], "o", color=ORANGE, label="curvature of KL"
    )
    for (at, said), aside in zip(_SAID.items(), (20, 0, -20), strict=True):
        information.annotate(
            f"{said:g}", (at, said), (aside, 9), textcoords="offset points", ha="center"
        )
    information.set_ylim(0, 60)
    information.set_ylabel("F")
    information.legend(loc="upper center")
    steps.plot(p, data["step"], color=BLUE, label="by F")
    steps.plot(p, data["exact step"], "--", color=ORANGE, label="exact, upwards")
    steps.set_ylim(0)
    steps.set_ylabel("change of p")
    steps.legend(loc="lower center")
    for panel in (information, steps):
        panel.set_xlabel("p, the probability of 1")
    return figure


CLAIM = Claim(
    "bernoulli",
    "For a coin with probability p, F is 11.1 at 0.1 and 0.9 and 4 at 0.5, so steps are smaller "
    "near 0 and 1.",
    "The three values agree to 0.05, closed form, curvature and scores to a thousandth, and a step "
    "of equal KL divergence is shorter at 0.05 and 0.95 than at 0.5.",
    measure,
    judge,
    draw,
)
