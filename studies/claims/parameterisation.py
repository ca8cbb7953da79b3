"""Natural gradients do not depend on how a policy is parameterised; plain ones do."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, COLOURS, ORANGE, logarithmic, panels, with_band
from studies.exact.lqr import PARAMETERISATIONS, Lqr
from studies.exact.policies import Chart

__all__ = ["CLAIM"]

_START = np.array([0.25, 0.0])  # k and log sigma of a poor controller
_LENGTH = 2.0  # of a path, in steps' sqrt(2 KL)
_POINTS = 40  # of a path that are kept
_STEPS = (1e-2, 1e-3, 1e-4)  # sqrt(2 KL) of a step
_NETWORKS = 10
_DAMPINGS = (1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 1.0, 100.0)
_KL = 1e-8  # of a network's step: so small that the quadratic model is right


def measure(effort: Effort) -> pd.DataFrame:
    """Paths of a regulator with three parameterisations, and steps of rescaled networks."""
    return pd.concat([_controllers(effort), _networks(effort)], ignore_index=True)


def _networks(effort: Effort) -> pd.DataFrame:
    """``apart`` for each network, gradient and damping, which plain gradients have none of."""
    from studies.claims.rescaled import Problem, apart  # imports torch

    rows = []
    for seed in range(2 if effort.quick else _NETWORKS):
        problem = Problem.drawn(seed)
        plain = apart(problem, "plain", 0.0, _KL)
        for damping in _DAMPINGS[::5] if effort.quick else _DAMPINGS:
            natural = apart(problem, "natural", damping, _KL)
            rows += [(seed, damping, "plain", plain), (seed, damping, "natural", natural)]
    return pd.DataFrame(rows, columns=["network", "damping", "gradient", "apart"])


def _controllers(effort: Effort) -> pd.DataFrame:
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
    controllers, networks = data[data["network"].isna()], data[data["network"].notna()]
    apart = _apart(controllers)
    steps = sorted(controllers["step"].unique(), reverse=True)
    plain, natural = ([apart[step, each] for step in steps] for each in ("plain", "natural"))
    vanishes = natural[-1] < 0.2 * natural[-2]
    stays = plain[-1] > 0.8 * plain[-2]
    controllers_hold = vanishes and stays and natural[-1] < 0.01 * plain[-1]
    apart_by = networks.pivot(index="network", columns=["gradient", "damping"], values="apart")
    undamped, damped = (apart_by["natural"][each] for each in (_DAMPINGS[0], 1.0))
    of_plain = apart_by["plain"][1.0]
    networks_hold = bool((undamped < 0.01 * of_plain).all())
    return Finding(
        Verdict.HOLDS if controllers_hold and networks_hold else Verdict.FAILS,
        f"With steps of {steps[-1]:g} the three natural paths are at most {natural[-1]:.2g} apart, "
        f"ten times as far with steps ten times as long ({natural[-2]:.2g}); the three plain paths "
        f"are {plain[-1]:.2g} apart, whatever the step ({plain[-2]:.2g}). Networks in other units "
        f"take plain steps that are up to {of_plain.median():.2g} of a step's KL divergence apart "
        f"(median of {len(of_plain)} networks), natural ones without damping {undamped.max():.1g} "
        f"at most; but with a damping of 1 it is {damped.median():.2g}.",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The paths with the shortest steps, and the networks over the damping."""
    figure, axes = panels(["Plain gradient", "Natural gradient", "Networks in other units"])
    _draw_networks(axes[2], data[data["network"].notna()])
    data = data[data["step"] == data["step"].min()]
    for panel, gradient in zip(axes, ("plain", "natural"), strict=False):
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


def _draw_networks(panel: Axes, networks: pd.DataFrame) -> None:
    for gradient, colour, dash in (("plain", ORANGE, "--"), ("natural", BLUE, "-")):
        of_gradient = networks[networks["gradient"] == gradient].groupby("damping")["apart"]
        ends = of_gradient.median(), of_gradient.min(), of_gradient.max()
        with_band(panel, ends[0].index, ends, dash, colour, f"{gradient}, median (band: all)")
    logarithmic(panel.xaxis, ticks=(1e-12, 1e-8, 1e-4, 1))
    logarithmic(panel.yaxis, ticks=(1e-9, 1e-6, 1e-3, 1))
    panel.set_xlabel("damping of F")
    panel.set_ylabel("KL apart / KL of a step")
    panel.legend(loc="lower right")


def _start() -> tuple[float, float]:
    return _START[0], math.exp(_START[1])


CLAIM = Claim(
    "parameterisation",
    "Natural gradients do not depend on how a policy is parameterised; plain gradients do.",
    "Along paths of equal KL divergence per step, with three parameterisations of one policy, the "
    "natural paths come together as steps shrink, to less than a hundredth of the distance between "
    "the plain paths, which stay apart. And of each network, whose layers are stored in units from "
    "0.1 to 10, natural steps without damping (1e-12) end less than a hundredth as far apart as "
    "plain steps of the same KL divergence.",
    measure,
    judge,
    draw,
)
