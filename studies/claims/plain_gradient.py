"""The natural gradient beside the plain one: how soon it learns, and how noisy it is."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.statistics import area_under_curve
from studies.claims.claim import Claim, Effort, Finding
from studies.claims.contrasts import difference, written
from studies.claims.drawing import BLUE, ORANGE, panels, steps_axis, with_band
from studies.claims.signal_shares import BATCH, DAMPING, NORMS, Measured, signal_shares
from studies.claims.summaries import as_return, by_task, mean
from studies.claims.trainings import Variant, evaluations, in_parallel, mean_curves

__all__ = ["CLAIM"]

_TASKS = {"CartPole-v1": 40_000, "Hopper-v5": 100_000, "Pendulum-v1": 100_000}
_TARGET_KL = 0.01
_POINTS = 10
# NPG's own damping, 1, would bring the natural gradient close to the plain one.
_GRADIENTS: dict[str, dict[str, Any]] = {
    "plain": {"fisher_solver": "identity"},
    "natural": {"cg_damping": DAMPING},
}


def measure(effort: Effort) -> pd.DataFrame:
    """Returns of trainings with steps of one KL divergence, and shares of signal in directions.

    ``what`` says what ``value`` is: the "return" of an evaluation after ``timesteps``, or the share
    of signal in the squared "Euclidean" or "Fisher" norm of a direction, at a policy trained for
    ``timesteps``.
    """
    variants = [
        Variant(name, "npg", {"target_kl": _TARGET_KL, **settings})
        for name, settings in _GRADIENTS.items()
    ]
    seeds = range(1 if effort.quick else 3)
    tasks = {"CartPole-v1": 4_096} if effort.quick else _TASKS
    returns = evaluations(effort, variants, tasks, seeds, _POINTS)
    returns = returns.rename(columns={"variant": "gradient", "return_mean": "value"})
    steps, batches = (BATCH, 3) if effort.quick else (5 * BATCH, 30)
    policies = [
        Measured(env_id, seed, steps, batches, _TARGET_KL) for env_id in tasks for seed in seeds
    ]
    rows = [row for found in in_parallel(effort, signal_shares, policies) for row in found]
    columns = ["env_id", "gradient", "seed", "timesteps", "what", "value"]
    shares = pd.DataFrame(rows, columns=columns)
    return pd.concat([returns.assign(what="return")[columns], shares], ignore_index=True)


def _areas(task: pd.DataFrame, gradient: str) -> np.ndarray:
    """The mean return over the training, of each seed."""
    own = task[(task["gradient"] == gradient) & (task["what"] == "return")]
    runs = [run for _, run in own.groupby("seed")]
    return np.array([area_under_curve(*run[["timesteps", "value"]].to_numpy().T) for run in runs])


def _values(task: pd.DataFrame, gradient: str, what: str) -> np.ndarray:
    rows = (task["gradient"] == gradient) & (task["what"] == what)
    return task.loc[rows, "value"].to_numpy()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    holds, said = {}, []
    for env_id, task in data.groupby("env_id", sort=False):
        plain, natural = (_areas(task, each) for each in _GRADIENTS)
        sooner = difference(natural, plain)
        shares = {(what, each): _values(task, each, what) for what in NORMS for each in _GRADIENTS}
        less_noise = difference(shares["Fisher", "natural"], shares["Fisher", "plain"])
        holds[str(env_id)] = sooner.is_positive and not less_noise.is_positive
        in_percent = {keys: written(mean(100 * each), ".0f") for keys, each in shares.items()}
        said.append(
            f"On {env_id} the mean return over the training is {as_return(mean(natural))} with the "
            f"natural gradient and {as_return(mean(plain))} with the plain one (difference "
            f"{as_return(sooner)}). Signal is {in_percent['Fisher', 'natural']}% of the natural "
            f"gradient and {in_percent['Fisher', 'plain']}% of the plain one in the Fisher norm, "
            f"{in_percent['Euclidean', 'natural']}% and {in_percent['Euclidean', 'plain']}% in the "
            "Euclidean one."
        )
    verdict, condition = by_task(holds)
    return Finding(verdict, " ".join(said), condition)


def draw(data: pd.DataFrame) -> Figure:
    """Returns over steps, and the shares of signal."""
    env_ids = list(data["env_id"].unique())
    titles = [*(f"{env_id}, δ = {_TARGET_KL:g}" for env_id in env_ids), "Share of signal"]
    figure, axes = panels(titles)
    evaluated = data[data["what"] == "return"].rename(columns={"value": "return_mean"})
    curves = mean_curves(evaluated, ["env_id", "gradient"])
    looks = {"plain": (ORANGE, "--"), "natural": (BLUE, "-")}
    for panel, env_id in zip(axes, env_ids, strict=False):
        for gradient, (colour, dash) in looks.items():
            curve = curves[(curves["env_id"] == env_id) & (curves["gradient"] == gradient)]
            ends = [curve[end] for end in ("mean", "low", "high")]
            with_band(panel, curve["timesteps"], ends, dash, colour, f"{gradient} gradient")
        steps_axis(panel)
        panel.set_ylabel("return")
    _draw_shares(axes[-1], data, env_ids)
    handles = axes[0].get_legend_handles_labels()
    title = "means and 95% intervals over seeds"
    figure.legend(*handles, loc="outside lower left", ncols=2, title=title)
    handles = axes[-1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower right", ncols=4, title=title)
    return figure


def _draw_shares(panel: Axes, data: pd.DataFrame, env_ids: list[str]) -> None:
    looks = [
        ("plain", "Fisher", ORANGE, "s"),
        ("natural", "Fisher", BLUE, "o"),
        ("plain", "Euclidean", ORANGE, "D"),
        ("natural", "Euclidean", BLUE, "^"),
    ]
    for i, (gradient, what, colour, marker) in enumerate(looks):
        for place, env_id in enumerate(env_ids):
            share = mean(_values(data[data["env_id"] == env_id], gradient, what))
            reach = [[share.value - share.low], [share.high - share.value]]
            panel.errorbar(
                *(place + 0.15 * (i - 1.5), share.value, reach if share.has_interval else None),
                fmt=marker,
                markersize=5,
                color=colour,
                markerfacecolor=colour if what == "Fisher" else "white",
                label="_" if place else f"{gradient}, {what} norm",
            )
    panel.set_xticks(range(len(env_ids)), env_ids)
    panel.set_xlim(-0.5, len(env_ids) - 0.5)
    panel.set_xlabel(f"after {data.loc[data['what'] == 'Fisher', 'timesteps'].max():,.0f} steps")
    panel.set_ylabel("of the squared norm")
    panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))


CLAIM = Claim(
    "plain-gradient",
    "NPG needs less training than the plain policy gradient, and inherits its variance.",
    "With steps of the same KL divergence, δ = 0.01, and a damping of 0.1, the claim holds on a "
    "task if the mean return over the training is higher with the natural gradient, by a 95% "
    "interval of the difference, and if no more of the natural gradient is signal than of the "
    "plain one: the 95% interval of the difference between their shares of signal, in the Fisher "
    "norm, does not lie above 0. If it holds on some of the tasks, they are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
