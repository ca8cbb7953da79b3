"""Conservative policy iteration: mixtures with the greedy policy."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Finding, Verdict
from studies.claims.drawing import BLUE, GREEN, ORANGE, logarithmic, panels
from studies.exact.mdp import Evaluation, Mdp
from studies.exact.policies import tabular
from studies.exact.problems import garnet
from studies.exact.steps import conservative_step, natural_step, trust_region_step

__all__ = ["CLAIM"]

_CONSERVATIVE, _NPG, _TRPO = "conservative iteration", "NPG, steps of 0.1", "TRPO, 0.01 nats"
_REACHED = 0.95  # of the way to the optimum


def measure(quick: bool) -> pd.DataFrame:
    """Trainings by all three on random processes."""
    rows = []
    for problem in range(2 if quick else 20):
        mdp = garnet(np.random.default_rng(problem), n_states=6, n_actions=3, gamma=0.9)
        best = mdp.best().performance
        for method in (_CONSERVATIVE, _NPG, _TRPO):
            for step, (now, promised) in enumerate(
                _training(mdp, method, 2_000 if quick else 20_000)
            ):
                rows.append((problem, method, step, now.performance, promised, best))
                if best - now.performance < 1e-6:
                    break
    return pd.DataFrame(rows, columns=["problem", "method", "step", "return", "promised", "best"])


def _training(mdp: Mdp, method: str, n_steps: int) -> Iterator[tuple[Evaluation, float]]:
    """Policies, each with what the next was promised to gain at least (0 where nothing was)."""
    policy = tabular(mdp.n_states, mdp.n_actions)
    theta = np.zeros(mdp.n_states * mdp.n_actions)
    now = mdp.evaluate(policy.probabilities(theta))
    for _ in range(n_steps):
        if method == _CONSERVATIVE:
            pi, promised = conservative_step(now)
            yield now, promised
            now = mdp.evaluate(pi)
            continue
        yield now, 0.0
        if method == _NPG:
            theta = natural_step(mdp, policy, theta, 0.1)
        else:
            theta = trust_region_step(mdp, policy, theta, 0.01)
        now = mdp.evaluate(policy.probabilities(theta))


def _needed(data: pd.DataFrame) -> pd.Series:
    """Steps until most of the way is gone, by method and problem; infinite where it was not."""
    first = data.groupby(["method", "problem"])["return"].transform("first")
    there = (data["return"] - first) >= _REACHED * (data["best"] - first)
    steps = data["step"].astype(float).where(there, np.inf)
    return steps.groupby([data["method"], data["problem"]]).min()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    of_training = data.groupby(["method", "problem"])["return"]
    gained = of_training.shift(-1) - data["return"]
    ours = (data["method"] == _CONSERVATIVE) & gained.notna()
    kept = bool((gained[ours] >= data["promised"][ours] - 1e-12).all())
    rises = bool((gained[ours] > 0).all())
    needed = {method: _needed(data)[method] for method in (_CONSERVATIVE, _NPG, _TRPO)}
    slower = (needed[_CONSERVATIVE] / np.maximum(needed[_NPG], needed[_TRPO])).min()
    medians = {method: each.median() for method, each in needed.items()}
    return Finding(
        Verdict.HOLDS if kept and rises and slower > 5 else Verdict.FAILS,
        f"All {ours.sum():,} steps gained at least what was promised. 95% of the way to the optimum "
        f"took {medians[_CONSERVATIVE]:,.0f} steps in the median, NPG {medians[_NPG]:,.0f} and TRPO "
        f"{medians[_TRPO]:,.0f}; on no process less than {slower:.0f} times as many.",
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
            curves.plot(path["step"] + 1, missing, dash, color=colour, linewidth=0.9, label=label)
    ours = data[data["method"] == _CONSERVATIVE]
    gained = ours.groupby("problem")["return"].shift(-1) - ours["return"]
    shown = ours.assign(gained=gained).iloc[:: max(1, len(ours) // 2_000)]
    gains.plot(shown["promised"], shown["gained"], ".", color=ORANGE, markersize=3)
    ends = np.array([shown["promised"].min(), shown["promised"].max()])
    gains.plot(ends, ends, color="#222222", linewidth=1)
    gains.annotate(
        "as promised", (ends[1], ends[1]), (-10, -28), textcoords="offset points", ha="right"
    )
    for axis in (curves.xaxis, gains.xaxis, gains.yaxis):
        logarithmic(axis)
    curves.set_xlabel("steps (the first is 1)")
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
