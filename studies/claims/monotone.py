"""How many of its updates raise the true return."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import rel_entr

from benchmarks.statistics import mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import COLOURS, logarithmic, panels, with_band
from studies.exact.mdp import Evaluation, Mdp
from studies.exact.policies import Softmax
from studies.exact.problems import garnet
from studies.exact.steps import evaluated

__all__ = ["CLAIM"]

_DELTAS = tuple(10.0 ** np.arange(-4, 0.1, 0.5))
_EXACT = 0  # samples: all pairs, by their weights
_BATCHES = (_EXACT, 1_000, 100)
_N_PARAMS = 8
_DAMPING = 1e-3
_HALVINGS = 20


def measure(effort: Effort) -> pd.DataFrame:
    """Updates of NPG and TRPO on random processes, from all pairs and from samples of them."""
    rows = []
    for problem in range(3 if effort.quick else 30):
        rng = np.random.default_rng(problem)
        mdp = garnet(rng, n_states=10, n_actions=3, gamma=0.9)
        policy = Softmax(rng.normal(size=(10, 3, _N_PARAMS)))
        for n_samples in _BATCHES:
            for search in (False, True):
                for delta in _DELTAS:
                    share = _share(mdp, policy, delta, n_samples, search, rng)
                    rows.append((problem, n_samples, "TRPO" if search else "NPG", delta, share))
    return pd.DataFrame(rows, columns=["problem", "samples", "method", "delta", "share"])


def _share(
    mdp: Mdp, policy: Softmax, delta: float, n_samples: int, search: bool, rng: np.random.Generator
) -> float:
    """The share of updates that raise the return, in the first 30 of a training."""
    theta, raised = np.zeros(_N_PARAMS), []
    now = evaluated(mdp, policy, theta)
    for _ in range(30):
        updated = _updated(now, policy, theta, delta, n_samples, search, rng)
        if updated is None:
            break
        theta = updated
        new = evaluated(mdp, policy, theta)
        raised.append(new.performance > now.performance)
        now = new
    return float(np.mean(raised)) if raised else math.nan


def _updated(
    now: Evaluation,
    policy: Softmax,
    theta: np.ndarray,
    delta: float,
    n_samples: int,
    search: bool,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """theta after one update, all of whose means are over the samples; None if they ask for none.

    That is so where the policy is certain of every action that it has tried.
    """
    weights = now.occupancy[:, None] * now.pi
    if n_samples:
        weights = rng.multinomial(n_samples, weights.reshape(-1)).reshape(weights.shape) / n_samples
    scores, advantages = policy.scores(theta), now.advantages
    gradient = np.einsum("sa,sap->p", weights * advantages, scores)
    fisher = np.einsum("sa,sap,saq->pq", weights, scores, scores) + _DAMPING * np.eye(_N_PARAMS)
    direction = np.linalg.solve(fisher, gradient)
    form = float(direction @ fisher @ direction)
    if form < 1e-12:
        return None
    step = math.sqrt(2 * delta / form) * direction
    if not search:
        return theta + step
    for _ in range(_HALVINGS):
        pi = policy.probabilities(theta + step)
        gain = float((weights * (pi / now.pi - 1) * advantages).sum())
        kl = float(weights.sum(axis=1) @ rel_entr(now.pi, pi).sum(axis=1))
        if gain > 0 and kl <= delta:
            return theta + step
        step = step / 2
    return None


def _shares(data: pd.DataFrame) -> pd.DataFrame:
    """Means over problems with 95% intervals, by samples, method and delta."""
    by_problem = data.pivot(index="problem", columns=["samples", "method", "delta"], values="share")
    by_problem = by_problem.sort_index(axis=1)
    share, low, high = mean_interval(by_problem.to_numpy())
    return pd.DataFrame({"share": share, "low": low, "high": high}, by_problem.columns)


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    shares = _shares(data)["share"]
    usual = min(data["delta"], key=lambda delta: abs(delta - 0.01))
    exact, sampled = shares[_EXACT, "TRPO"], shares[100, "TRPO"]
    always = exact[exact > 0.999].index.max() if (exact > 0.999).any() else 0.0
    monotone = exact.min() > 0.999 and sampled.min() > 0.999
    return Finding(
        Verdict.HOLDS if monotone else Verdict.CONDITIONAL if always > 0 else Verdict.FAILS,
        f"With means over all states and actions every update of TRPO raises the return up to δ = "
        f"{always:.2g}; {exact.iloc[-1]:.0%} of them do with δ = {exact.index[-1]:g}. With 100 "
        f"samples an update it is {sampled[usual]:.0%} with δ = {usual:.2g} (NPG: "
        f"{shares[100, 'NPG'][usual]:.0%}), and {sampled.iloc[0]:.0%} with the smallest δ.",
        "means are over all states and actions" if always > 0 and not monotone else "",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The shares over delta."""
    figure, axes = panels(["All states and actions", "1,000 samples", "100 samples"])
    shares = _shares(data)
    for panel, n_samples in zip(axes, _BATCHES, strict=True):
        for method, colour, dash in (("NPG", COLOURS[0], "-"), ("TRPO", COLOURS[1], "--")):
            curve = shares.xs((n_samples, method))
            ends = [curve[end] for end in ("share", "low", "high")]
            with_band(panel, curve.index, ends, dash, colour, method)
        logarithmic(panel.xaxis)
        panel.set_ylim(0, 1.05)
        panel.set_xlabel("δ in nats")
    axes[0].set_ylabel("updates that raise the return")
    axes[0].legend(loc="lower left")
    return figure


CLAIM = Claim(
    "monotone",
    "Each of TRPO's updates improves the policy.",
    "On random processes every update of TRPO raises the true return, for every δ and batch. If "
    "it does up to some δ with exact means alone, that is the condition.",
    measure,
    judge,
    draw,
)
