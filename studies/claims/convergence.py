"""How many runs come to a good policy, and whether they keep it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import final_return, improvement_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import COLOURS, panels, steps_axis
from studies.claims.trainings import Variant, evaluations

__all__ = ["CLAIM", "STEPS", "THRESHOLDS", "first_at_least"]

STEPS = {"CartPole-v1": 50_000}
THRESHOLDS = {"CartPole-v1": 475.0}
_VARIANTS = [Variant("NPG", "npg"), Variant("PPO", "ppo"), Variant("TRPO", "trpo")]
_OTHERS = ("NPG", "PPO")


def measure(effort: Effort) -> pd.DataFrame:
    """When each run first reached the threshold, since when it kept it, and its return then."""
    tasks = {"CartPole-v1": 2_000} if effort.quick else STEPS
    variants = _VARIANTS[::2] if effort.quick else _VARIANTS
    measured = evaluations(effort, variants, tasks, range(1 if effort.quick else 20))
    rows = []
    for keys, run in measured.groupby(["env_id", "variant", "seed"], sort=False):
        steps, returns = run["timesteps"].to_numpy(), run["return_mean"].to_numpy()
        first = first_at_least(steps, returns, THRESHOLDS[str(keys[0])])
        kept = first_at_least(
            steps, np.minimum.accumulate(returns[::-1])[::-1], THRESHOLDS[str(keys[0])]
        )
        lowest = returns[steps >= first].min() if np.isfinite(first) else np.nan
        rows.append((*keys, steps[-1], first, kept, lowest, final_return(returns[1:])))
    columns = ["env_id", "method", "seed", "steps", "first", "kept", "lowest after", "final"]
    return pd.DataFrame(rows, columns=columns)


def first_at_least(steps: np.ndarray, returns: np.ndarray, threshold: float) -> float:
    """The first of the steps at which a return is no lower than the threshold; NaN if none is."""
    reached = returns >= threshold
    return float(steps[reached.argmax()]) if reached.any() else np.nan


def _ends_well(data: pd.DataFrame) -> pd.Series:
    """Whether each run ends at or above the threshold, by task, method and seed."""
    good = data["final"] >= data["env_id"].map(THRESHOLDS)
    return good.set_axis(pd.MultiIndex.from_frame(data[["env_id", "method", "seed"]]))


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    good, env_ids = _ends_well(data).astype(float).sort_index(), data["env_id"].unique()
    more_often = []
    for method in _OTHERS:
        if method not in set(data["method"]):
            continue
        pairs = [
            [good[env_id, each].to_numpy()[:, None] for each in (method, "TRPO")]
            for env_id in env_ids
        ]
        # One half where the shares are equal.
        ends = [improvement_interval(ours, trpo)[1:] for ours, trpo in pairs]
        if any(low[0] > 0.5 for low, _ in ends) and not any(high[0] < 0.5 for _, high in ends):
            more_often.append(method)
    verdicts = [Verdict.FAILS, Verdict.CONDITIONAL, Verdict.HOLDS]
    return Finding(
        verdicts[len(more_often)],
        " ".join(_told(str(env_id), task) for env_id, task in data.groupby("env_id", sort=False)),
        f"{more_often[0]} alone is meant" if len(more_often) == 1 else "",
    )


def _told(env_id: str, task: pd.DataFrame) -> str:
    """How many runs of a task ended well, and how many had been there and fell below."""
    shares = [
        f"{good} of {runs} runs with {method} [{low:.0%}, {high:.0%}]"
        for method, good, runs, low, high in _shares(task)
    ]
    reached = task[task["first"].notna()]
    lost = (reached["lowest after"] < THRESHOLDS[env_id]).groupby(reached["method"], sort=False)
    again = [f"{each.sum()} of {len(each)} ({method})" for method, each in lost]
    ended = f"On {env_id} {', '.join(shares)} ended at {THRESHOLDS[env_id]:g} or above"
    if not again:
        return f"{ended}."
    return f"{ended}; of those that got there, later evaluations fell below in {', '.join(again)}."


def _shares(task: pd.DataFrame) -> list[tuple[str, int, int, float, float]]:
    """Of each method how many runs end well, of how many, and Wilson's 95% interval."""
    from scipy.stats import binomtest

    shares = []
    for method, ends_well in _ends_well(task).groupby("method", sort=False):
        good, runs = int(ends_well.sum()), len(ends_well)
        share = binomtest(good, runs).proportion_ci(method="wilson")
        shares.append((str(method), good, runs, float(share.low), float(share.high)))
    return shares


def draw(data: pd.DataFrame) -> Figure:
    """The shares of runs that have reached the threshold, and that kept it from there on."""
    tasks = list(data.groupby("env_id", sort=False))
    titles = [f"{env_id}, at least {THRESHOLDS[str(env_id)]:g}" for env_id, _ in tasks]
    figure, (*curves, ends) = panels([*titles, "At the end"])
    methods = list(data["method"].unique())
    for panel, (_, task) in zip(curves, tasks, strict=True):
        for method, colour in zip(methods, COLOURS, strict=False):
            own = task[task["method"] == method]
            for column, dash, what in (("first", "-", "reached"), ("kept", "--", "and kept")):
                steps = np.sort(own[column].dropna())
                shares = np.arange(len(steps) + 1) / len(own)
                panel.step(
                    [0, *steps, own["steps"].max()],
                    [*shares, shares[-1]],
                    dash,
                    where="post",
                    color=colour,
                    label=f"{method}, {what}",
                )
        steps_axis(panel)
        panel.set_ylim(-0.03, 1.03)
    curves[0].set_ylabel("share of runs")
    ticks: dict[int, str] = {}
    for place, (name, task) in enumerate(tasks):
        for i, (method, good, runs, low, high) in enumerate(_shares(task)):
            at, share = place * (len(methods) + 1) + i, good / runs
            below_above = [[max(share - low, 0.0)], [max(high - share, 0.0)]]
            ends.errorbar(at, share, below_above, color=COLOURS[i], fmt="o")
            ticks[at] = f"{method}\n{str(name) if i == len(methods) // 2 else ' '}"
    ends.set_xticks(list(ticks), list(ticks.values()))
    ends.set_xlim(-0.7, max(ticks) + 0.7)
    ends.set_ylim(-0.03, 1.03)
    ends.set_xlabel("bars: 95% intervals (Wilson)")
    figure.legend(*curves[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


CLAIM = Claim(
    "convergence",
    "NPG and PPO have no guarantee, but come to a good policy more often than TRPO.",
    "Of 20 runs each, more of NPG's and of PPO's than of TRPO's end at 475 or above on "
    "CartPole-v1, by a 95% interval. If that is so of NPG or of PPO alone, the claim is about that "
    "one.",
    measure,
    judge,
    draw,
    trained=True,
)
