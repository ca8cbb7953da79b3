"""The natural gradient as the weights of the best fit to the advantages."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, logarithmic, panels
from studies.exact.gradients import compatible_weights, natural_gradient
from studies.exact.mdp import Evaluation
from studies.exact.policies import Softmax
from studies.exact.problems import garnet
from studies.exact.steps import evaluated

__all__ = ["CLAIM"]

_N_PARAMS = 6


def measure(effort: Effort) -> pd.DataFrame:
    """Relative errors of the fit's weights: over all pairs, and over sampled ones."""
    rows = []
    for problem in range(5 if effort.quick else 20):
        rng = np.random.default_rng(problem)
        mdp = garnet(rng)
        policy = Softmax(rng.normal(size=(mdp.n_states, mdp.n_actions, _N_PARAMS)))
        theta = rng.normal(size=_N_PARAMS)
        now, scores = evaluated(mdp, policy, theta), policy.scores(theta)
        x = (1 - mdp.gamma) * natural_gradient(now, scores)

        def error(w: np.ndarray, x: np.ndarray = x) -> float:
            return float(np.linalg.norm(w - x) / np.linalg.norm(x))

        rows.append((problem, 0, error(compatible_weights(now, scores))))
        for n_samples in (10**i for i in range(2, 6 if effort.quick else 7)):
            rows.append((problem, n_samples, error(_fit(now, scores, rng, n_samples))))
    return pd.DataFrame(rows, columns=["problem", "samples", "error"])


def _fit(
    now: Evaluation, scores: np.ndarray, rng: np.random.Generator, n_samples: int
) -> np.ndarray:
    """Least squares over pairs that the policy visits."""
    weights = (now.occupancy[:, None] * now.pi).reshape(-1)
    root = np.sqrt(rng.multinomial(n_samples, weights))
    rows = scores.reshape(len(root), -1) * root[:, None]
    return np.linalg.lstsq(rows, now.advantages.reshape(-1) * root, rcond=None)[0]


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    exact = data.loc[data["samples"] == 0, "error"].max()
    sampled = data[data["samples"] > 0]
    slopes = np.array(
        [
            np.polyfit(np.log(each["samples"]), np.log(each["error"]), 1)[0]
            for _, each in sampled.groupby("problem")
        ]
    )
    _, (low,), (high,) = mean_interval(slopes[:, None])
    return Finding(
        Verdict.HOLDS if exact < 1e-8 and low < -0.45 and high > -0.55 else Verdict.FAILS,
        f"Fitted to all pairs of state and action, the weights are the natural gradient to "
        f"{exact:.0e}; fitted to n sampled pairs with their exact advantages, their error falls "
        f"like n^{slopes.mean():.2f} [{low:.2f}, {high:.2f}].",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The error over the number of samples, of each problem and in the median."""
    figure, (panel,) = panels(["Weights of the fit"])
    sampled = data[data["samples"] > 0]
    for number, (_, curve) in enumerate(sampled.groupby("problem")):
        label = "_" if number else "a random process"
        panel.plot(curve["samples"], curve["error"], color=ORANGE, linewidth=0.7, label=label)
    median = sampled.groupby("samples")["error"].median()
    panel.plot(median.index, median, "o-", color=BLUE, markersize=4, label="median")
    line = median.iloc[0] * (median.index / median.index[0]) ** -0.5
    panel.plot(median.index, line, ":", color="#222222", label="1/√n")
    logarithmic(panel.xaxis)
    logarithmic(panel.yaxis)
    panel.set_xlabel("n, sampled pairs of state and action")
    panel.set_ylabel("relative error")
    panel.legend()
    return figure


CLAIM = Claim(
    "compatible",
    "The natural gradient is the weight vector of the compatible function approximation.",
    "Over all pairs the best fit's weights are the natural gradient to 1e-8; over n sampled pairs "
    "the interval of their error's power of n reaches into -0.55 to -0.45.",
    measure,
    judge,
    draw,
)
