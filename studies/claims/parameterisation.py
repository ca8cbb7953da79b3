"""Natural gradients do not depend on how a policy is parameterised; plain ones do."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import COLOURS, panels
from studies.exact.lqr import PARAMETERISATIONS, Lqr
from studies.exact.policies import Chart

__all__ = ["CLAIM"]

_START = np.array([0.25, 0.0])  # k and log sigma of a poor controller
_LENGTH = 2.0  # of a path, in steps' sqrt(2 KL)
_POINTS = 40  # of a path that are kept
_STEPS = (1e-2, 1e-3, 1e-4)  # sqrt(2 KL) of a step


def measure(effort: Effort) -> pd.DataFrame:
    """Paths of steps of equal KL divergence, on a regulator with its three parameterisations."""
    rows = [
        (step, gradient, chart.name, progress, theta[0], math.exp(theta[1]))
        for step in _STEPS[: 2 if effort.quick else None]
        for gradient in ("plain", "natural")
        for chart in PARAMETERISATIONS
        for progress, theta in _path(Lqr(), chart, gradient, step)
    ]
    return pd.DataFrame(rows, columns=["step", "gradient", "parameters", "progress", "k", "sigma"])


def _path(lqr: Lqr, chart: Chart, gradient: str, step: float) -> Iterator[tuple[float, np.ndarray]]:
    z, n_steps = chart.z(_START), round(_LENGTH / step)
    for i in range(n_steps + 1):
        theta, jacobian = chart.theta(z), chart.jacobian(z)
        if i % (n_steps // _POINTS) == 0:
            yield i / n_steps, theta
        direction = jacobian.T @ lqr.gradient(theta)
        metric = jacobian.T @ lqr.fisher(theta) @ jacobian
        if gradient == "natural":
            direction = np.linalg.solve(metric, direction)
        z = z + step / math.sqrt(direction @ metric @ direction) * direction


def _apart(data: pd.DataFrame) -> pd.Series:
    """How far apart the three paths come: in k and log sigma, by step and gradient."""
    keys = ["step", "gradient"]
    log_sigma = np.log(data["sigma"])
    of_point = [data[key] for key in (*keys, "progress")]
    wide, high = (column.groupby(of_point).agg(np.ptp) for column in (data["k"], log_sigma))
    distance = pd.Series(np.hypot(wide, high), wide.index)
    return distance.groupby(level=keys).max()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    apart = _apart(data)
    steps = sorted(data["step"].unique(), reverse=True)
    plain, natural = ([apart[step, each] for step in steps] for each in ("plain", "natural"))
    vanishes = natural[-1] < 0.2 * natural[-2]
    stays = plain[-1] > 0.8 * plain[-2]
    holds = vanishes and stays and natural[-1] < 0.01 * plain[-1]
    return Finding(
        Verdict.HOLDS if holds else Verdict.FAILS,
        f"With steps of {steps[-1]:g} the three natural paths are at most {natural[-1]:.2g} apart, "
        f"ten times as far with steps ten times as long ({natural[-2]:.2g}); the three plain paths "
        f"are {plain[-1]:.2g} apart, whatever the step ({plain[-2]:.2g}).",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The paths with the shortest steps."""
    figure, axes = panels(["Plain gradient", "Natural gradient"])
    data = data[data["step"] == data["step"].min()]
    for panel, gradient in zip(axes, ("plain", "natural"), strict=True):
        paths = data[data["gradient"] == gradient].groupby("parameters", sort=False)
        for (name, path), colour, width, dash in zip(
            paths, COLOURS, (6, 3.2, 1.4), ("-", "-", "--"), strict=False
        ):
            panel.plot(path["k"], path["sigma"], dash, color=colour, linewidth=width, label=name)
        panel.plot(*_start(), "o", color="#222222", markersize=7)
        panel.annotate("start", _start(), (-6, 8), textcoords="offset points", ha="right")
        panel.axvline(Lqr().best_gain(), color="#888888", linewidth=1, linestyle=":")
        panel.set_xlabel("k, the controller's gain (dotted: the best)")
    axes[0].set_ylabel("σ, its noise")
    axes[1].sharey(axes[0])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _start() -> tuple[float, float]:
    return _START[0], math.exp(_START[1])


CLAIM = Claim(
    "parameterisation",
    "Natural gradients do not depend on how a policy is parameterised; plain gradients do.",
    "Along paths of equal KL divergence per step, with three parameterisations of one policy, the "
    "natural paths come together as steps shrink, to less than a hundredth of the distance between "
    "the plain paths, which stay apart.",
    measure,
    judge,
    draw,
)
