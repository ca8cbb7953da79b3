"""The empirical Fisher: scores of the actions that were taken in place of all actions."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.statistics import improvement_interval, mean_interval
from sb3_natural.curvature.operators import Damped
from sb3_natural.curvature.solvers import ConjugateGradient
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.directions import Batch, Checkpoint, fisher_cosine, prefer_one, small_npg
from studies.claims.drawing import BLUE, COLOURS, ORANGE, logarithmic, panels, steps_axis, with_band
from studies.claims.trainings import Variant, evaluations, in_parallel, mean_curves

__all__ = ["CLAIM"]

_TASKS = {"CartPole-v1": 40_000, "Pendulum-v1": 100_000}
_VARIANTS = (
    Variant("cg", "npg", {"target_kl": 0.01}),
    Variant("empirical", "npg", {"target_kl": 0.01, "fisher_solver": "empirical"}),
)
_CERTAIN = (0.5, 0.9, 0.99, 0.999)  # how probable one of CartPole's two actions is
_POLICIES = tuple(f"CartPole-v1, {each:g}" for each in _CERTAIN)
_SAMPLES = (64, 256, 1_024, 4_096)
_BLOCKS = 2  # of the most samples
_DAMPING = 1e-3
_CLOSE = 0.9
_WEIGHTS = ("scores", "scores times advantages")


def measure(effort: Effort) -> pd.DataFrame:
    """Evaluations of trainings, and cosines and gains of directions."""
    tasks, seeds = ({"CartPole-v1": 4_096}, range(1)) if effort.quick else (_TASKS, range(3))
    curves = evaluations(effort, _VARIANTS, tasks, seeds, points=10)
    curves = curves.rename(columns={"variant": "weights"}).drop(columns="wall_seconds")
    policies = _POLICIES[2:3] if effort.quick else (*_POLICIES, *_TASKS, "Hopper-v5")
    samples = _SAMPLES[:2] if effort.quick else _SAMPLES
    runs = [(policy, seed, samples) for policy in policies for seed in seeds]
    directions = pd.concat(in_parallel(effort, _directions, runs), ignore_index=True)
    return pd.concat([curves.assign(kind="curve"), directions.assign(kind="direction")])


def _directions(run: tuple[str, int, tuple[int, ...]]) -> pd.DataFrame:
    """Cosines to the Fisher information's direction, and gains: means over batches."""
    policy, seed, sizes = run
    env_id, _, certain = policy.partition(", ")
    model = small_npg(env_id, seed)
    if certain:
        prefer_one(model.policy, float(certain))
    else:
        model.learn(10 * model.n_steps)
    most = max(sizes) * _BLOCKS
    checkpoint = Checkpoint.of(model, 2 * most)
    unseen = checkpoint.batch(most, 2 * most)
    rows = [
        (size, *row)
        for size in sizes
        for start in range(0, most, max(sizes) // 2)  # as many batches of each size
        for row in _compared(checkpoint.batch(start, start + size), unseen)
    ]
    columns = ["samples", "weights", "cosine", "gain"]
    means = pd.DataFrame(rows, columns=columns).groupby(["samples", "weights"]).mean()
    return means.reset_index().assign(env_id=policy, seed=seed)


def _compared(batch: Batch, unseen: Batch) -> Iterator[tuple[str, float, float]]:
    """Of F and of both empirical ones: the cosine to F's direction, and the gain elsewhere."""
    damped = Damped(batch.fisher, _DAMPING)
    exact = ConjugateGradient(max_steps=100).solve(damped, batch.gradient).direction
    scores = batch.fisher.scores()
    found = {
        "exact": exact,
        _WEIGHTS[0]: empirical_direction(scores, batch.gradient, _DAMPING),
        _WEIGHTS[1]: empirical_direction(
            scores * batch.advantages[:, None], batch.gradient, _DAMPING
        ),
    }
    for name, x in found.items():
        yield name, fisher_cosine(unseen.fisher, exact, x), unseen.gain(x)


def empirical_direction(rows: Tensor, gradient: Tensor, damping: float) -> Tensor:
    """(R^T R / N + damping I)^-1 g, with whichever system is smaller.

    :param rows: R, shape (N, P)
    :param gradient: g, shape (P,)
    """
    scaled = rows.double() / len(rows) ** 0.5
    target = gradient.double()
    few = len(rows) < rows.shape[1]
    matrix = scaled @ scaled.T if few else scaled.T @ scaled
    matrix.diagonal().add_(damping)
    factor = torch.linalg.cholesky(matrix)
    wanted = scaled @ target if few else target
    solved = torch.cholesky_solve(wanted[:, None], factor).flatten()
    direction = (target - scaled.T @ solved) / damping if few else solved
    return direction.to(gradient.dtype)


def _curves(data: pd.DataFrame) -> pd.DataFrame:
    return data[data["kind"] == "curve"]


def _cosines(data: pd.DataFrame) -> pd.DataFrame:
    """By policy, weights and samples: cosines with 95% intervals, and gains by the exact one's."""
    directions = data[data["kind"] == "direction"].astype({"samples": int})
    rows: list[tuple[Any, ...]] = []
    for (policy, samples), group in directions.groupby(["env_id", "samples"], sort=False):
        exact = group.loc[group["weights"] == "exact", "gain"].mean()
        for weights in _WEIGHTS:
            own = group[group["weights"] == weights]
            cosine = [each.item() for each in mean_interval(own[["cosine"]].to_numpy())]
            rows.append((policy, weights, samples, *cosine, own["gain"].mean() / exact))
    columns = ["policy", "weights", "samples", "cosine", "low", "high", "gain"]
    return pd.DataFrame(rows, columns=columns)


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    as_good, said = True, []
    for env_id, task in _curves(data).groupby("env_id", sort=False):
        last = task[task["timesteps"] == task["timesteps"].max()]
        empirical, cg = (
            last.loc[last["weights"] == name, ["return_mean"]].to_numpy()
            for name in ("empirical", "cg")
        )
        chance, low, high = (each.item() for each in improvement_interval(empirical, cg))
        as_good &= not high < 0.5
        said.append(
            f"{empirical.mean():,.0f} on {env_id} (with F {cg.mean():,.0f}; higher with "
            f"probability {chance:.2f} [{low:.2f}, {high:.2f}])"
        )
    cosines = _cosines(data)
    few, many = cosines["samples"].min(), cosines["samples"].max()
    alone = cosines["weights"] == _WEIGHTS[0]
    usual = cosines[alone & (cosines["samples"] == many) & ~cosines["policy"].isin(_POLICIES[2:])]
    everywhere = as_good and bool((cosines["cosine"] >= _CLOSE).all())
    usually = as_good and bool((usual["cosine"] >= _CLOSE).all())
    said = [f"Trainings with it end at {', '.join(said)}"]
    for rows, what in ((alone, "of scores"), (~alone, "of scores times advantages")):
        of_few, of_many = (cosines[rows & (cosines["samples"] == n)] for n in (few, many))
        said.append(
            f"{what.capitalize()}, by policy, its direction has a cosine of "
            f"{_span(of_many['cosine'])} to that of F from {many:,} samples, and of "
            f"{_span(of_few['cosine'])} from {few:,}; on other samples it gains "
            f"{_span(of_many['gain'])} and {_span(of_few['gain'])} of what that of F does"
        )
    return Finding(
        Verdict.HOLDS if everywhere else Verdict.CONDITIONAL if usually else Verdict.FAILS,
        ". ".join(said) + ".",
        "it is made of scores alone, of many samples, and the policy is not nearly certain"
        if usually and not everywhere
        else "",
    )


def _span(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


def draw(data: pd.DataFrame) -> Figure:
    """Learning curves, and cosines over the number of samples."""
    curves = mean_curves(_curves(data), ["env_id", "weights"])
    tasks = list(curves["env_id"].unique())
    figure, axes = panels([*tasks, "Direction"])
    looks: dict[str, Any] = {"cg": (BLUE, "-"), "empirical": (ORANGE, "--")}
    for panel, env_id in zip(axes, tasks, strict=False):
        for name, (colour, dash) in looks.items():
            curve = curves[(curves["env_id"] == env_id) & (curves["weights"] == name)]
            label = {"cg": "Fisher information", "empirical": "empirical Fisher"}[name]
            ends = [curve[end] for end in ("mean", "low", "high")]
            with_band(panel, curve["timesteps"], ends, dash, colour, label)
        steps_axis(panel)
    axes[0].set_ylabel("return")
    axes[0].legend(loc="best", title="bands: 95% over seeds")
    cosines = _cosines(data)
    lines = [
        (policy, weights, dash)
        for policy in (_POLICIES[0], _POLICIES[2], "Hopper-v5")
        for weights, dash in zip(_WEIGHTS, ("-", "--"), strict=True)
    ]
    for number, (policy, weights, dash) in enumerate(lines):
        rows = cosines[(cosines["policy"] == policy) & (cosines["weights"] == weights)]
        if len(rows):
            errors = np.abs(rows[["low", "high"]].T.to_numpy() - rows["cosine"].to_numpy())
            axes[-1].errorbar(
                rows["samples"] * 1.03 ** (number - 2.5),  # side by side
                rows["cosine"],
                yerr=np.nan_to_num(errors),
                fmt="os^"[number // 2] + dash,
                color=COLOURS[number // 2],
                markersize=4,
                label=f"{policy}{', × A' if number % 2 else ''}",
            )
    logarithmic(axes[-1].xaxis, ticks=_SAMPLES)
    axes[-1].set_ylim(0, 1.05)
    axes[-1].set_xlabel("samples")
    axes[-1].set_ylabel("cosine to the exact, in F")
    handles = axes[-1].get_legend_handles_labels()
    figure.legend(
        *handles,
        loc="outside lower right",
        ncols=6,
        title="Direction: × A: scores times advantages; bars: 95% over seeds",
    )
    return figure


CLAIM = Claim(
    "empirical",
    "The empirical Fisher will do in place of the Fisher information.",
    "NPG with it ends no lower than with the Fisher information, by the 95% interval of the "
    "probability of improvement, on two tasks; and the cosine of the two directions (where "
    "lengths are by F) is at least 0.9 in the mean, for every policy, from 64 samples to 4,096, "
    "with scores as they are and multiplied by advantages. If it is so for scores as they are, "
    "4,096 samples and policies that are not nearly certain, these are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
