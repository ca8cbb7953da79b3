"""The angle between the natural gradient and the steepest ascent."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, panels
from studies.exact.gradients import natural_gradient, policy_gradient
from studies.exact.policies import Softmax
from studies.exact.problems import garnet
from studies.exact.steps import evaluated

__all__ = ["CLAIM"]

_DELTA = 0.01  # nats of a step
_N_PARAMS = 12


def measure(effort: Effort) -> pd.DataFrame:
    """Angles along trainings by natural steps, on random processes with shared parameters."""
    rows = []
    for problem in range(5 if effort.quick else 50):
        rng = np.random.default_rng(problem)
        mdp = garnet(rng)
        scales = 10 ** rng.uniform(-1, 1, _N_PARAMS)
        policy = Softmax(rng.normal(size=(mdp.n_states, mdp.n_actions, _N_PARAMS)) * scales)
        theta = np.zeros(_N_PARAMS)
        for step in range(60):
            now, scores = evaluated(mdp, policy, theta), policy.scores(theta)
            plain, natural = policy_gradient(now, scores), natural_gradient(now, scores)
            product = float(plain @ natural)
            if product < 1e-12:  # at the optimum, but for rounding
                break
            cosine = product / float(np.linalg.norm(plain) * np.linalg.norm(natural))
            rows.append((problem, step, math.degrees(math.acos(min(1.0, cosine)))))
            theta = theta + math.sqrt(2 * _DELTA / product) * natural
    return pd.DataFrame(rows, columns=["problem", "step", "angle"])


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    angle = data["angle"]
    return Finding(
        Verdict.HOLDS if angle.max() < 90 else Verdict.FAILS,
        f"Of {len(angle):,} angles the largest is {angle.max():.2f} degrees, the median "
        f"{angle.median():.0f}: never 90, but closer to it than to 0.",
    )


def draw(data: pd.DataFrame) -> Figure:
    """A histogram."""
    figure, (panel,) = panels(["Natural against plain gradient"])
    panel.hist(data["angle"], bins=list(range(0, 91, 3)), color=BLUE)
    panel.axvline(90, color="#222222", linestyle="--")
    panel.set_xlim(0, 95)
    panel.set_xticks(range(0, 91, 15))
    panel.set_xlabel("angle in degrees")
    panel.set_ylabel("updates")
    return figure


CLAIM = Claim(
    "angles",
    "The natural gradient never points more than 90 degrees away from the steepest ascent.",
    "No angle of any update, in trainings on random processes with parameters of different scale, "
    "reaches 90 degrees.",
    measure,
    judge,
    draw,
)
