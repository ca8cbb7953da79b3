"""The seconds and samples that each method needs to reach a return."""

from itertools import product, starmap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from benchmarks.statistics import improvement_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.convergence import STEPS, THRESHOLDS, first_at_least
from studies.claims.drawing import COLOURS, logarithmic, panels
from studies.claims.trainings import Variant, evaluations

__all__ = ["CLAIM"]

_HOPPER = "Hopper-v5"
_THRESHOLDS = THRESHOLDS | {_HOPPER: 500.0}
_METHODS = {"NPG": "npg", "TRPO": "trpo", "ACKTR": "acktr", "PPO": "ppo", "A2C": "a2c"}
_EXACT, _CHEAP = ("NPG", "TRPO"), ("ACKTR", "PPO")
_NEVER = 1e9  # seconds; runs that do not get there are equal, and behind all that do


def measure(effort: Effort) -> pd.DataFrame:
    """Of each run the first evaluation at or above the threshold, and the last."""
    variants = [Variant(name, algo) for name, algo in _METHODS.items()]
    if effort.quick:
        measured = evaluations(effort, variants[::2][:2], {"CartPole-v1": 2_000}, [0])
    else:
        classic = evaluations(effort, variants, STEPS, range(5))
        hopper = evaluations(effort, variants, {_HOPPER: 100_000}, range(3))
        measured = pd.concat([classic, hopper], ignore_index=True)
    rows = []
    for keys, run in measured.groupby(["env_id", "variant", "seed"], sort=False):
        steps, seconds = run["timesteps"].to_numpy(), run["wall_seconds"].to_numpy()
        first = first_at_least(steps, run["return_mean"].to_numpy(), _THRESHOLDS[str(keys[0])])
        needed = seconds[steps == first].item() if np.isfinite(first) else np.nan
        rows.append((*keys, first, needed, steps[-1], seconds[-1]))
    columns = ["env_id", "method", "seed", "steps", "seconds", "all steps", "all seconds"]
    return pd.DataFrame(rows, columns=columns)


def _sooner(task: pd.DataFrame) -> dict[tuple[str, str], int]:
    """1 where a cheap method needs fewer seconds than an exact one beyond chance, -1 where more."""
    needed = task["seconds"].fillna(_NEVER)
    seconds = {
        str(method): own.to_numpy()[:, None] for method, own in needed.groupby(task["method"])
    }
    signs = {}
    for cheap, exact in product(_CHEAP, _EXACT):
        if {cheap, exact} <= set(seconds):
            _, low, high = improvement_interval(seconds[exact], seconds[cheap])
            signs[cheap, exact] = int(low[0] > 0.5) - int(high[0] < 0.5)
    return signs


def _medians(task: pd.DataFrame) -> pd.DataFrame:
    """Of each method the median seconds and steps, infinite if most runs never got there."""
    by_method = task.fillna({"seconds": np.inf, "steps": np.inf}).groupby("method", sort=False)
    reached = task["steps"].notna().groupby(task["method"]).sum()
    return by_method[["seconds", "steps"]].median().assign(runs=by_method.size(), reached=reached)


def _per_sample(data: pd.DataFrame) -> pd.DataFrame:
    """The median seconds per sample, as multiples of the cheapest method's: methods by tasks."""
    seconds = (data["all seconds"] / data["all steps"]).groupby([data["method"], data["env_id"]])
    costs = seconds.median().unstack()
    return costs / costs.min()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    tasks = {str(env_id): task for env_id, task in data.groupby("env_id", sort=False)}
    sooner = {env_id: _sooner(task) for env_id, task in tasks.items()}
    so_on = [env_id for env_id, pairs in sooner.items() if pairs and min(pairs.values()) > 0]
    verdict = Verdict.CONDITIONAL if so_on else Verdict.FAILS
    everywhere = len(so_on) == len(tasks)
    needed = "; ".join(starmap(_told, tasks.items()))
    return Finding(
        Verdict.HOLDS if everywhere else verdict,
        f"Median seconds (samples) until the threshold: {needed}. {_compared(sooner)} "
        f"{_costs(data)}",
        f"the task is {' or '.join(so_on)}" if so_on and not everywhere else "",
    )


def _told(env_id: str, task: pd.DataFrame) -> str:
    """A task's medians."""
    needed = []
    for method, row in _medians(task).iterrows():
        runs = f"{row['reached']:.0f} of {row['runs']:.0f} runs"
        if np.isinf(row["seconds"]):
            needed.append(f"{method} in {runs} only")
            continue
        some = "" if row["reached"] == row["runs"] else f" in {runs}"
        needed.append(f"{method} {row['seconds']:.1f} ({row['steps']:,.0f}){some}")
    return f"on {env_id} {', '.join(needed)}"


def _compared(sooner: dict[str, dict[tuple[str, str], int]]) -> str:
    """Which pairs differ in seconds beyond chance."""
    found = []
    for sign, word in ((1, "fewer"), (-1, "more")):
        pairs = [
            f"{cheap} than {exact} on {env_id}"
            for env_id, signs in sooner.items()
            for (cheap, exact), other in signs.items()
            if sign == other
        ]
        found.append(f"{word} seconds are needed by {', '.join(pairs) or 'none'}")
    return f"By a 95% interval {'; '.join(found)}."


def _costs(data: pd.DataFrame) -> str:
    multiples = _per_sample(data).reindex(data["method"].unique())
    ranges = [
        f"{method} {low:.1f} to {high:.1f}"
        for method, low, high in zip(
            multiples.index, multiples.min(axis=1), multiples.max(axis=1), strict=True
        )
    ]
    return f"A sample's seconds, as multiples of the cheapest method's: {', '.join(ranges)}."


def draw(data: pd.DataFrame) -> Figure:
    """Seconds over samples until the threshold, of each run."""
    tasks = list(data.groupby("env_id", sort=False))
    figure, axes = panels([f"{name}, until {_THRESHOLDS[str(name)]:,.0f}" for name, _ in tasks])
    markers = dict(zip(_METHODS, "os^Dv", strict=True))
    for panel, (_, task) in zip(axes, tasks, strict=True):
        for method, colour in zip(_METHODS, COLOURS, strict=False):
            own = task[task["method"] == method]
            never = own["steps"].isna()
            panel.plot(own["steps"], own["seconds"], markers[method], color=colour, label=method)
            panel.plot(
                own.loc[never, "all steps"],
                own.loc[never, "all seconds"],
                markers[method],
                color=colour,
                fillstyle="none",
                label="_",
            )
        panel.set_xlim(0, 1.05 * task["all steps"].max())
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        logarithmic(panel.yaxis, ticks=[0.5, 1, 2, 5, 10, 20, 50, 100, 200])
        panel.set_xlabel("samples (hollow: not reached)")
    axes[0].set_ylabel("seconds of training")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2 * len(tasks)
    )
    return figure


CLAIM = Claim(
    "costs",
    "Natural gradients are expensive; ACKTR and PPO approximate them cheaply.",
    "On both tasks ACKTR and PPO both need fewer seconds of training than NPG and TRPO "
    "until an evaluation is at or above a threshold, by a 95% interval; runs that never get there "
    "come last. If that is so on some of the tasks, they are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
