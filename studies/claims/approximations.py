"""Cheap approximations of the natural gradient, beside the exact one."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.signal.samples import fisher_of
from benchmarks.statistics import mean_interval
from sb3_natural.curvature.operators import Damped
from sb3_natural.curvature.solvers import (
    KFAC,
    ConjugateGradient,
    Dense,
    Diagonal,
    Empirical,
    Identity,
    Solver,
)
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.directions import Checkpoint, checkpoints, fisher_cosine, policy_gradient
from studies.claims.drawing import COLOURS, logarithmic, panels
from studies.claims.trainings import in_parallel

__all__ = ["CLAIM"]

_TASKS = ("CartPole-v1", "Pendulum-v1", "HalfCheetah-v5")
_UPDATES = (1, 5, 10, 20, 40)
_DAMPINGS = (1.0, 0.1, 0.01)
_JUDGED = 0.1
_BATCH = 2_048
_CLOSE, _CHEAP = 0.9, 10.0
_SOLVERS: dict[str, Callable[[], Solver]] = {
    "conjugate gradient": ConjugateGradient,
    "K-FAC": KFAC,  # with the averages of the training
    "K-FAC, one batch": KFAC,
    "diagonal": Diagonal,
    "empirical Fisher": Empirical,
    "plain gradient": Identity,
}
_CLAIMED = ("conjugate gradient", "K-FAC", "diagonal", "empirical Fisher")


def measure(effort: Effort) -> pd.DataFrame:
    """Directions at five points of trainings: means over these, and costs at the last."""
    tasks = _TASKS[:1] if effort.quick else _TASKS
    points = (1,) if effort.quick else _UPDATES
    n_samples = 256 if effort.quick else _BATCH
    seeds = range(1 if effort.quick else 3)
    runs = [(task, seed, points, n_samples) for task in tasks for seed in seeds]
    return pd.concat(in_parallel(effort, _measured, runs), ignore_index=True)


def _measured(run: tuple[str, int, tuple[int, ...], int]) -> pd.DataFrame:
    """A training's directions: by solver and damping."""
    env_id, seed, points, n_samples = run
    rows, costs = [], {}
    for checkpoint in checkpoints(env_id, seed, points, 5 * n_samples):
        rows += list(_compared(checkpoint, n_samples))
        if checkpoint.updates == points[-1]:
            costs = _costs(checkpoint, n_samples)
    columns = ["updates", "damping", "solver", "cosine", "fisher cosine", "gain"]
    data = pd.DataFrame(rows, columns=columns).drop(columns="updates")
    means = data.groupby(["damping", "solver"], sort=False).mean().reset_index()
    means["cost"] = means["solver"].map(costs)
    return means.assign(env_id=env_id, seed=seed)


def _compared(checkpoint: Checkpoint, n_samples: int) -> Iterator[tuple[Any, ...]]:
    """Each direction beside the exact one: cosines, and gains as shares of the exact one's."""
    batch = checkpoint.batch(0, n_samples)
    unseen = checkpoint.batch(n_samples, 5 * n_samples)
    matrix = batch.fisher.dense().double()
    for damping in _DAMPINGS:
        damped = Damped(batch.fisher, damping)
        exact = _solved(matrix, damping, batch.gradient)
        best = unseen.gain(exact)
        for name in _SOLVERS:
            x = _solver(name, checkpoint).solve(damped, batch.gradient).direction
            euclidean = torch.cosine_similarity(exact.double(), x.double(), dim=0).item()
            cosine = fisher_cosine(batch.fisher, exact, x)
            yield checkpoint.updates, damping, name, euclidean, cosine, unseen.gain(x) / best


def _solved(matrix: Tensor, damping: float, gradient: Tensor) -> Tensor:
    """(F + damping I)^-1 g by Cholesky, in double precision, for several dampings of one F."""
    damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype)
    factor = torch.linalg.cholesky(damped)
    solution = torch.cholesky_solve(gradient.to(matrix.dtype)[:, None], factor)
    return solution.flatten().to(gradient.dtype)


def _solver(name: str, checkpoint: Checkpoint) -> Solver:
    return copy.deepcopy(checkpoint.kfac) if name == "K-FAC" else _SOLVERS[name]()


def _costs(checkpoint: Checkpoint, n_samples: int) -> dict[str, float]:
    """Process time of each direction, in gradients of the same batch: medians of five."""

    def seconds(function: Callable[[], Any]) -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    batch = checkpoint.batch(0, n_samples)

    def gradient() -> Tensor:
        fisher = fisher_of(checkpoint.model.policy, checkpoint.samples, 0, n_samples)
        return policy_gradient(fisher, batch.advantages)

    damped = Damped(batch.fisher, _JUDGED)
    solvers = {name: _solver(name, checkpoint) for name in _SOLVERS} | {"dense": Dense()}
    taken: dict[str, list[float]] = {name: [] for name in ["gradient", *solvers]}
    for _ in range(5):
        taken["gradient"].append(seconds(gradient))
        for name, solver in solvers.items():
            taken[name].append(seconds(partial(solver.solve, damped, batch.gradient)))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return {name: medians[name] / medians["gradient"] for name in solvers}


def _means(data: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and the Fisher cosine's 95% interval, by task, damping and solver."""
    rows = []
    for keys, group in data.groupby(["env_id", "damping", "solver"], sort=False):
        cosine, low, high = (e.item() for e in mean_interval(group[["fisher cosine"]].to_numpy()))
        rows.append((*keys, cosine, low, high, group["gain"].mean(), group["cost"].median()))
    columns = ["env_id", "damping", "solver", "cosine", "low", "high", "gain", "cost"]
    return pd.DataFrame(rows, columns=columns)


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    means = _means(data)
    means = means[means["damping"] == _JUDGED]
    plain = means[means["solver"] == "plain gradient"]["cosine"]
    good, said = [], []
    for name in _CLAIMED:
        rows = means[means["solver"] == name]
        ends = rows["low"].fillna(rows["cosine"])  # one seed has no interval
        closer = (rows["cosine"].to_numpy() > plain.to_numpy()).all()
        if closer and (ends >= _CLOSE).all() and (rows["cost"] <= _CHEAP).all():
            good.append(name)
        said.append(
            f"{name} {_span(rows['cosine'])} (gain {_span(rows['gain'])}, "
            f"cost {_span(rows['cost'], '.1f')})"
        )
    every = len(good) == len(_CLAIMED)
    return Finding(
        Verdict.HOLDS if every else Verdict.CONDITIONAL if good else Verdict.FAILS,
        f"Cosines to the exact direction by task, with a damping of {_JUDGED:g}, gains on other "
        f"samples as shares of the exact direction's, and costs in gradients: {'; '.join(said)}. "
        f"The plain gradient's cosine is {_span(plain)}.",
        f"{' or '.join(good)} is meant" if good and not every else "",
    )


def _span(values: pd.Series, form: str = ".2f") -> str:
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"


def draw(data: pd.DataFrame) -> Figure:
    """Cosines over the damping on each task, and costs."""
    means = _means(data)
    tasks = list(means["env_id"].unique())
    figure, axes = panels([*tasks, "Cost"])
    marks = ("o-", "s--", "s:", "^-.", "D--", "v:")
    costs = means.groupby("solver")["cost"].median()
    looks = zip(_SOLVERS, COLOURS, marks, strict=True)
    for number, (name, colour, mark) in enumerate(looks):
        for panel, env_id in zip(axes, tasks, strict=False):
            rows = means[(means["env_id"] == env_id) & (means["solver"] == name)]
            errors = np.abs(rows[["low", "high"]].T.to_numpy() - rows["cosine"].to_numpy())
            panel.errorbar(
                rows["damping"] * 1.05 ** (number - 2.5),  # side by side
                rows["cosine"],
                yerr=np.nan_to_num(errors),
                fmt=mark,
                color=colour,
                markersize=4,
                label=name,
            )
        if name != "plain gradient":  # which costs nothing
            axes[-1].plot(costs[name], -number, mark[0], color=colour)
            axes[-1].text(costs[name] * 1.4, -number, name, va="center", fontsize="small")
    for panel in axes[:-1]:
        logarithmic(panel.xaxis)
        panel.invert_xaxis()
        panel.set_ylim(0, 1.05)
        panel.set_xlabel("damping λ")
    logarithmic(axes[-1].xaxis)
    axes[-1].set_xlim(0.1, max(2_000.0, 20 * costs.max()))
    axes[-1].set_ylim(-4.5, 0.5)
    axes[-1].set_yticks([])
    axes[-1].set_xlabel("process time of a direction, in gradients")
    axes[0].set_ylabel("cosine to the exact, in F")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(
        *handles, loc="outside lower center", ncols=6, title="bars: 95% interval over seeds"
    )
    return figure


CLAIM = Claim(
    "approximations",
    "Conjugate gradient, K-FAC, the diagonal and the empirical Fisher approximate the natural "
    "gradient cheaply.",
    "With a damping of 0.1, along trainings on three tasks, the cosine to the exact direction "
    "(where lengths are by F) is at least 0.9 in the mean, with its 95% interval over seeds, on "
    "every task, and larger than the plain gradient's, and the direction costs at most ten "
    "gradients. If for some of the four alone, these are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
