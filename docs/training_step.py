"""The figure of one training step of NPG: which function gets what from which.

Functions are given as themselves, so that a name in the figure is the name of a function that is
there; its room is read from where it is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_natural.curvature.jacobian import Jacobian
from sb3_natural.curvature.operators import Damped, FisherOperator, GaussNewtonOperator
from sb3_natural.curvature.solvers import ConjugateGradient
from sb3_natural.curvature.surrogate import Surrogate
from sb3_natural.curvature.trust_region import (
    PolicyLine,
    kl_normalised_length,
    limited,
    shortened_step,
)
from sb3_natural.curvature.value_fit import GaussNewtonFit, descend
from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.networks.normalization import ObservationNormalizer
from sb3_natural.networks.parameters import assign_flat
from sb3_natural.npg import NPG
from sb3_natural.rollouts.actors import NumpyActor
from sb3_natural.rollouts.collection import FastRollouts
from sb3_natural.rollouts.recorders import BufferRecorder
from sb3_natural.rollouts.returns import advantages_and_returns

# Points. As narrow as the page on a telephone, so that text stays readable there.
WIDTH, MARGIN = 375, 5
LINE, GAP = 13, 12
TINTS = {
    "environments": "#f6e9dc",
    "rollouts": "#fbf3d0",
    "npg": "#eae4f6",
    "curvature": "#dfeaf7",
    "networks": "#e0efdc",
}


class Call(NamedTuple):
    """A function or a class that is called, and what comes of it."""

    function: Callable[..., Any]
    gives: str


class Stage(NamedTuple):
    """Calls that belong together, and the tensors that go on to the next stage."""

    title: str
    calls: Sequence[Call]
    passes_on: Sequence[str] = ()


STAGES = [
    Stage(
        "Act",
        [
            Call(FastRollouts.collect_rollouts, "n_steps times:"),
            Call(NumpyActor.sample, "one action for each environment"),
        ],
        ["actions (n_envs, *action)"],
    ),
    Stage(
        "Environment",
        [Call(LeanDummyVecEnv.step_wait, "one step of each environment")],
        ["observations (n_envs, *observation), rewards (n_envs,), dones (n_envs,)"],
    ),
    Stage(
        "Rollout buffer",
        [
            Call(BufferRecorder.add, "keeps the step"),
            Call(BufferRecorder.finish, "then V and log π of all, in one pass,"),
            Call(advantages_and_returns, "A and R (n_steps, n_envs)"),
        ],
    ),
    Stage(
        "Batch",
        [
            Call(NPG.train, "one update, N = n_steps · n_envs:"),
            Call(RolloutBuffer.get, "all samples in one batch"),
        ],
        ["observations (N, *observation), actions (N, *action),", "log π, A and R (N,)"],
    ),
    Stage(
        "Fisher operator",
        [Call(FisherOperator, "φ (N, K) and F = mean JᵀMJ (P, P)")],
        ["F as products F v: (P,) → (P,)"],
    ),
    Stage(
        "Surrogate gradient",
        [
            Call(Surrogate.with_gradient, "L = mean(ρA) and ∂L/∂φ (N, K)"),
            Call(Jacobian.vjp, "g = Jᵀ ∂L/∂φ (P,)"),
        ],
        ["g (P,)"],
    ),
    Stage(
        "Natural gradient",
        [
            Call(Damped, "F + λI"),
            Call(ConjugateGradient.solve, "x = (F + λI)⁻¹ g"),
            Call(Damped.__matmul__, "(F + λI) v, ten times at most"),
        ],
        ["x (P,) and xᵀFx"],
    ),
    Stage(
        "Trust region",
        [
            Call(kl_normalised_length, "β = √(2δ / xᵀFx)"),
            Call(limited, "x, with a bound on the noise's part"),
            Call(shortened_step, "shorter while KL > 1.5 δ:"),
            Call(PolicyLine.__call__, "L and KL at θ + βx, measured"),
        ],
        ["θ + βx (P,)"],
    ),
    Stage("Parameters", [Call(assign_flat, "θ ← θ + βx")], ["observations and R of the batch"]),
    Stage(
        "Critic",
        [
            Call(GaussNewtonFit.fit, "n_critic_updates times:"),
            Call(GaussNewtonOperator, "JᵀJ / N, with the J of V"),
            Call(descend, "as much of its x as lowers (R − V)²"),
        ],
    ),
    Stage(
        "Observations' mean and deviation",
        [Call(ObservationNormalizer.update, "for the next rollout")],
    ),
]


def name_of(function: Callable[..., Any]) -> str:
    """A function as the figure names it: ``Class.method``, or ``function``."""
    return function.__qualname__.removesuffix(".__call__").replace(".__matmul__", " @ v")


def path_of(function: Callable[..., Any]) -> str:
    """Where a function is defined: ``module:Class.method``."""
    return f"{function.__module__}:{function.__qualname__}"


def room_of(function: Callable[..., Any]) -> str:
    """The room of the plugin in which a function is defined, or the package if it is another's."""
    package, *within = function.__module__.split(".")
    return within[0] if package == "sb3_natural" else package


def draw() -> Figure:
    """The figure; each call's id in it is ``call-MODULE:NAME``."""
    height = 2 * MARGIN + sum(_height(stage) for stage in STAGES) + sum(map(_gap, STAGES[:-1]))
    figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    ax.set_axis_off()
    y = float(MARGIN)
    tops = {}
    for stage in STAGES:
        tops[stage.title] = y
        _draw_stage(ax, stage, y)
        y += _height(stage)
        if stage is not STAGES[-1]:
            _draw_passing(ax, stage, y)
            y += _gap(stage)
    return figure


def _height(stage: Stage) -> float:
    return LINE * (1 + len(stage.calls)) + 8


def _gap(stage: Stage) -> float:
    return GAP + LINE * len(stage.passes_on)


def _draw_stage(ax: Axes, stage: Stage, top: float) -> None:
    rooms = list(dict.fromkeys(room_of(call.function) for call in stage.calls))
    ax.add_patch(
        FancyBboxPatch(
            (MARGIN, top),
            WIDTH - 2 * MARGIN,
            _height(stage),
            boxstyle="round,pad=0,rounding_size=5",
            facecolor=TINTS[rooms[0]],
            edgecolor="#5b6673",
        )
    )
    left, right = MARGIN + 8, WIDTH - MARGIN - 8
    ax.text(left, top + LINE, stage.title, size=9.5, weight="bold")
    ax.text(right, top + LINE, ", ".join(rooms), size=8.8, ha="right", color="#4a5560")
    for row, call in enumerate(stage.calls, start=2):
        y = top + row * LINE
        name = ax.text(left, y, name_of(call.function), size=8.8, family="DejaVu Sans Mono")
        name.set_gid(f"call-{path_of(call.function)}")
        ax.text(right, y, call.gives, size=8.8, ha="right", color="#222222")


def _draw_passing(ax: Axes, stage: Stage, top: float) -> None:
    x = MARGIN + 20
    ax.add_patch(
        FancyArrowPatch(
            (x, top),
            (x, top + _gap(stage)),
            arrowstyle="-|>,head_length=4,head_width=2",
            shrinkA=0,
            shrinkB=0.5,
            color="#222222",
        )
    )
    for row, text in enumerate(stage.passes_on, start=1):
        ax.text(x + 10, top + row * LINE + 2, text, size=8.8, color="#222222")
