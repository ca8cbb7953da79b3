"""The Fisher information as a curvature and as a mean."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, logarithmic, panels
from studies.exact.gradients import fisher
from studies.exact.mdp import Evaluation
from studies.exact.policies import Softmax
from studies.exact.problems import garnet
from studies.exact.surrogate import mean_kl

__all__ = ["CLAIM"]

_N_PARAMS = 6


def measure(effort: Effort) -> pd.DataFrame:
    """Relative errors of two ways to F: second differences of the KL, and sampled scores."""
    rng = np.random.default_rng(0)
    mdp = garnet(rng)
    policy = Softmax(rng.normal(size=(mdp.n_states, mdp.n_actions, _N_PARAMS)))
    theta = rng.normal(size=_N_PARAMS)
    now, scores = mdp.evaluate(policy.probabilities(theta)), policy.scores(theta)
    exact = fisher(now, scores)

    def error(found: np.ndarray) -> float:
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    steps = 10.0 ** np.arange(-3, 0.1, 0.25)
    rows = [("curvature", step, 0, error(_hessian(now, policy, theta, step))) for step in steps]
    for n_samples in 10 ** np.arange(1, 6 if effort.quick else 7):
        for repeat in range(20):
            sampled = _sampled(now, scores, rng, int(n_samples))
            rows.append(("scores", float(n_samples), repeat, error(sampled)))
    return pd.DataFrame(rows, columns=["way", "size", "repeat", "error"])


def _hessian(now: Evaluation, policy: Softmax, theta: np.ndarray, step: float) -> np.ndarray:
    """Second differences of the mean KL from theta to theta + a, symmetric in the step."""
    n_params = len(theta)
    found = np.empty((n_params, n_params))
    units = step * np.eye(n_params)
    for i in range(n_params):
        for j in range(n_params):
            corners = [
                sign * mean_kl(now, policy.probabilities(theta + a * units[i] + b * units[j]))
                for a, b, sign in [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
            ]
            found[i, j] = sum(corners) / (4 * step**2)
    return found


def _sampled(
    now: Evaluation, scores: np.ndarray, rng: np.random.Generator, n_samples: int
) -> np.ndarray:
    """The mean of score score^T over states and actions that the policy visits."""
    weights = (now.occupancy[:, None] * now.pi).reshape(-1)
    counts = rng.multinomial(n_samples, weights)
    flat = scores.reshape(len(weights), -1)
    return (flat * counts[:, None]).T @ flat / n_samples


def _slope(data: pd.DataFrame) -> tuple[float, float, float]:
    """The power of the error in the number of samples, with a 95% interval over repeats."""
    sampled = data[data["way"] == "scores"]
    slopes = [
        np.polyfit(np.log(each["size"]), np.log(each["error"]), 1)[0]
        for _, each in sampled.groupby("repeat")
    ]
    mean, low, high = (float(end[0]) for end in mean_interval(np.array(slopes)[:, None]))
    return mean, low, high


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    closest = data.loc[data["way"] == "curvature", "error"].min()
    slope, low, high = _slope(data)
    holds = closest < 1e-4 and abs(slope + 0.5) < 0.05
    return Finding(
        Verdict.HOLDS if holds else Verdict.FAILS,
        f"Second differences of the mean KL divergence come as close to F as {closest:.0e}; the "
        f"error of the mean of n sampled outer products falls like n^{slope:.2f} "
        f"[{low:.2f}, {high:.2f}].",
    )


def draw(data: pd.DataFrame) -> Figure:
    """Errors over the step of the differences, and over the number of samples."""
    figure, (curvature, sampled) = panels(["As the curvature of KL", "As a mean of scores"])
    rows = data[data["way"] == "curvature"]
    curvature.plot(rows["size"], rows["error"], "o-", color=BLUE, markersize=4)
    curvature.set_xlabel("step of the second differences")
    curvature.set_ylabel("relative error of F")
    by_size = data[data["way"] == "scores"].groupby("size")["error"]
    sizes = np.array(list(by_size.groups))
    sampled.fill_between(sizes, by_size.min(), by_size.max(), color=ORANGE, alpha=0.3, linewidth=0)
    sampled.plot(sizes, by_size.median(), "o-", color=ORANGE, markersize=4, label="20 repeats")
    middle = by_size.median()
    sampled.plot(
        sizes, middle.iloc[0] * (sizes / sizes[0]) ** -0.5, ":", color="#666666", label="1/√n"
    )
    sampled.set_xlabel("n, sampled pairs of state and action")
    sampled.legend()
    for panel in (curvature, sampled):
        logarithmic(panel.xaxis)
        logarithmic(panel.yaxis)
    return figure


CLAIM = Claim(
    "fisher",
    "F is the Hessian of the KL divergence, and the expected outer product of scores.",
    "Second differences of the mean KL divergence come within 1e-4 of F in closed form, and the "
    "error of sampled outer products falls like n^-0.5, within 0.05.",
    measure,
    judge,
    draw,
)
