"""Equal distances between parameters are not equal distances between policies."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, panels
from studies.exact.gradients import fisher
from studies.exact.policies import Softmax
from studies.exact.problems import garnet
from studies.exact.steps import evaluated

__all__ = ["CLAIM"]

_SHIFT = 1.0
_SIGMAS = (0.5, 3.0)


def measure(effort: Effort) -> pd.DataFrame:
    """KL per unit step: of Gaussians whose mean moves, and along the axes of a policy."""
    gaussians = [("Gaussian", sigma, _SHIFT**2 / (2 * sigma**2)) for sigma in _SIGMAS]
    rng = np.random.default_rng(0)
    mdp = garnet(rng)
    # A policy of a few features, as different in scale as those of real tasks.
    features = rng.normal(size=(mdp.n_states, mdp.n_actions, 12)) * 10 ** rng.uniform(-1, 1, 12)
    policy = Softmax(features)
    theta = 0.1 * rng.normal(size=12)
    matrix = fisher(evaluated(mdp, policy, theta), policy.scores(theta))
    axes = [
        ("axis", float(i), 0.5 * float(each))
        for i, each in enumerate(np.sort(np.diag(matrix))[::-1])
    ]
    return pd.DataFrame(gaussians + axes, columns=["what", "which", "kl"])


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    narrow, wide = data.loc[data["what"] == "Gaussian", "kl"]
    axes = data.loc[data["what"] == "axis", "kl"]
    ratio = axes.max() / axes.min()
    return Finding(
        Verdict.HOLDS if narrow > 10 * wide and ratio > 10 else Verdict.FAILS,
        f"Moving the mean of a Gaussian by {_SHIFT:g} costs {narrow:.2f} nats with σ = "
        f"{_SIGMAS[0]:g} and {wide:.3f} with σ = {_SIGMAS[1]:g}, {narrow / wide:.0f} times less. "
        f"Along the twelve axes of a softmax policy a unit step costs {axes.min():.2g} to "
        f"{axes.max():.2g} nats by F: {ratio:,.0f} times.",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The Gaussians before and after, and the axes."""
    titles = [f"σ = {sigma:g}" for sigma in _SIGMAS]
    figure, axes = panels([*titles, "Axes of a policy"])
    x = np.linspace(-7, 8, 600)
    for panel, sigma, cost in zip(axes, _SIGMAS, data["kl"], strict=False):
        panel.plot(x, norm.pdf(x, 0, sigma), color=BLUE, label="before")
        panel.plot(x, norm.pdf(x, _SHIFT, sigma), "--", color=ORANGE, label="after")
        panel.annotate(f"KL {cost:.3g} nats", (0.03, 0.9), xycoords="axes fraction")
        panel.set_xlabel("action")
        panel.set_yticks([])
    axes[0].set_ylabel("density")
    axes[0].legend(loc="center right")
    of_axes = data[data["what"] == "axis"]
    axes[2].bar(of_axes["which"] + 1, of_axes["kl"], color=BLUE)
    axes[2].set_yscale("log")
    axes[2].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[2].set_xlabel("parameter, by cost")
    axes[2].set_xticks(range(1, 13))
    axes[2].set_ylabel("nats of a unit step")
    return figure


CLAIM = Claim(
    "distance",
    "An equal distance between parameters is not an equal distance between policies.",
    "One step of the mean costs a narrow Gaussian more than ten times as many nats as a wide one, "
    "and the dearest axis of a policy more than ten times as many as the cheapest.",
    measure,
    judge,
    draw,
)
