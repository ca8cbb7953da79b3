"""Conservative policy iteration: mixtures with the greedy policy."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, GREEN, ORANGE, logarithmic, panels
from studies.exact.mdp import Mdp
from studies.exact.policies import tabular
from studies.exact.problems import garnet
from studies.exact.steps import conservative_step, natural_step, trust_region_step

__all__ = ["CLAIM"]

_CONSERVATIVE, _NPG, _TRPO = "conservative iteration", "NPG, steps of 0.1", "TRPO, 0.01 nats"
_REACHED = 0.95  # of the way to the optimum


def measure(effort: Effort) -> pd.DataFrame:
    """Trainings by all three on random processes."""
    rows = []
    for problem in range(2 if effort.quick else 20):
        mdp = garnet(np.random.default_rng(problem), n_states=6, n_actions=3, gamma=0.9)
        best = mdp.best().performance
        for method in (_CONSERVATIVE, _NPG, _TRPO):
            training = _training(mdp, method, best, 2_000 if effort.quick else 20_000)
            rows += [(problem, method, *row, best) for row in training]
    names = ["step", "return", "promised", "gained", "kept"]
    return pd.DataFrame(rows, columns=["problem", "method", *names, "best"])


def _training(
    mdp: Mdp, method: str, best: float, n_steps: int
) -> Iterator[tuple[int, float, float, float, bool]]:
    """Some of the steps, evenly by their logarithm: what each was promised to gain, and gained.

    The last column: whether all steps since the one before gained what they were promised.
    """
    policy, theta = tabular(mdp.n_states, mdp.n_actions), np.zeros(mdp.rewards.size)
    now, due, kept = mdp.evaluate(policy.probabilities(theta)), 1.0, True
    for step in range(1, n_steps + 1):
        promised = 0.0
        if method == _CONSERVATIVE:
            pi, promised = conservative_step(now)
        else:
            if method == _NPG:
                theta = natural_step(mdp, policy, theta, 0.1)
            else:
                theta = trust_region_step(mdp, policy, theta, 0.01)
            pi = policy.probabilities(theta)
        new = mdp.evaluate(pi)
        gained = new.performance - now.performance
        kept = kept and gained >= promised - 1e-12 and gained > 0
        is_there = best - new.performance < 1e-6
        if step >= due or is_there:
            yield step, now.performance, promised, gained, kept
            due, kept = max(step + 1, due * 1.1), True
        if is_there:
            return
        now = new


def _needed(data: pd.DataFrame) -> pd.Series:
    """Steps until most of the way is gone, by method and problem; infinite where it was not."""
    first = data.groupby(["method", "problem"])["return"].transform("first")
    there = (data["return"] - first) >= _REACHED * (data["best"] - first)
    steps = data["step"].astype(float).where(there, np.inf)
    return steps.groupby([data["method"], data["problem"]]).min()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    ours = data[data["method"] == _CONSERVATIVE]
    needed = {method: _needed(data)[method] for method in (_CONSERVATIVE, _NPG, _TRPO)}
    slower = (needed[_CONSERVATIVE] / np.maximum(needed[_NPG], needed[_TRPO])).min()
    medians = {method: each.median() for method, each in needed.items()}
    n_steps = ours.groupby("problem")["step"].max().sum()
    return Finding(
        Verdict.HOLDS if ours["kept"].all() and slower > 5 else Verdict.FAILS,
        f"All {n_steps:,} steps gained at least what was promised. 95% of the way to the optimum "
        f"took {medians[_CONSERVATIVE]:,.0f} steps in the median, NPG {medians[_NPG]:,.0f} and "
        f"TRPO {medians[_TRPO]:,.0f}; on no process less than {slower:.0f} times as many.",
    )


def draw(data: pd.DataFrame) -> Figure:
    """What is missing to the optimum over steps; the promise and the gain of each step."""
    figure, (curves, gains) = panels(["Many steps", "What a step gains"])
    for method, colour, dash in (
        (_CONSERVATIVE, ORANGE, "-"),
        (_NPG, BLUE, "-"),
        (_TRPO, GREEN, "--"),
    ):
        of_method = data[data["method"] == method]
        for number, (_, path) in enumerate(of_method.groupby("problem")):
            missing = (path["best"] - path["return"]) / (path["best"] - path["return"].iloc[0])
            label = "_" if number else method
            curves.plot(path["step"], missing, dash, color=colour, linewidth=0.9, label=label)
    ours = data[data["method"] == _CONSERVATIVE]
    gains.plot(ours["promised"], ours["gained"], ".", color=ORANGE, markersize=3)
    ends = np.array([ours["promised"].min(), ours["promised"].max()])
    gains.plot(ends, ends, color="#222222", linewidth=1)
    gains.annotate(
        "as promised", (ends[1], ends[1]), (0, -60), textcoords="offset points", ha="right"
    )
    for axis in (curves.xaxis, gains.xaxis, gains.yaxis):
        logarithmic(axis)
    curves.set_xlabel("steps")
    curves.set_ylabel("missing to the best return, of 1")
    gains.set_xlabel("promised")
    gains.set_ylabel("gained")
    figure.legend(*curves.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


CLAIM = Claim(
    "conservative",
    "Conservative policy iteration improves at every step, and is slow.",
    "Every step gains at least what the theorem promises, and 95% of the way to the optimum takes "
    "at least five times as many steps as NPG and TRPO on every process.",
    measure,
    judge,
    draw,
)
