"""The surrogate with the proof's penalty: a lower bound of the return, and how far it gets."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from studies.claims.claim import Claim, Finding, Verdict
from studies.claims.drawing import BLUE, GREEN, ORANGE, logarithmic, panels
from studies.exact.mdp import Evaluation
from studies.exact.problems import garnet
from studies.exact.surrogate import kl, lower_bound, surrogate

__all__ = ["CLAIM"]

_DELTA = 0.01  # nats: a trust region of the usual size
_BOUND, _REGION = "steps to the highest bound", "steps of 0.01 nats"


def measure(quick: bool) -> pd.DataFrame:
    """Trainings on random processes by steps of both kinds, and the bound along one direction."""
    rows = []
    for problem in range(2 if quick else 20):
        mdp = garnet(np.random.default_rng(problem), n_states=6, n_actions=3, gamma=0.9)
        best = mdp.best().performance
        for method in (_BOUND, _REGION):
            log_pi = log_softmax(np.zeros(mdp.rewards.shape), axis=1)
            now = mdp.evaluate(np.exp(log_pi))
            if problem == 0 and method == _BOUND:
                rows += _along(now, log_pi, best)
            for step in range(100 if quick else 1_000):
                if best - now.performance < 1e-9:
                    break
                log_pi = _moved(now, log_pi, _length(now, log_pi, method))
                new = mdp.evaluate(np.exp(log_pi))
                rows.append((problem, method, step + 1, *_compared(now, new), best))
                now = new
    names = ["kl", "return before", "return", "surrogate", "bound"]
    return pd.DataFrame(rows, columns=["problem", "method", "step", *names, "best"])


def _along(now: Evaluation, log_pi: np.ndarray, best: float) -> list[tuple[object, ...]]:
    """Return, surrogate and bound along the natural gradient."""
    highest = _length(now, log_pi, _BOUND)
    lengths = np.concatenate([highest * np.linspace(0, 4, 60), np.geomspace(4 * highest, 20, 60)])
    moved = (now.mdp.evaluate(np.exp(_moved(now, log_pi, length))) for length in lengths)
    return [
        (0, "along", length, *_compared(now, new), best)
        for length, new in zip(lengths, moved, strict=True)
    ]


def _compared(now: Evaluation, new: Evaluation) -> tuple[float, ...]:
    largest = float(kl(now.pi, new.pi).max())
    bound = lower_bound(now, new.pi)
    return largest, now.performance, new.performance, surrogate(now, new.pi), bound


def _moved(now: Evaluation, log_pi: np.ndarray, length: float) -> np.ndarray:
    """log pi' after a step of this length along the natural gradient, scaled to advantages."""
    return log_softmax(log_pi + length * now.advantages, axis=1)


def _length(now: Evaluation, log_pi: np.ndarray, method: str) -> float:
    """Where the bound is highest along the natural gradient, or the largest KL is delta."""

    def missed(log_length: float) -> float:
        pi = np.exp(_moved(now, log_pi, np.exp(log_length)))
        if method == _BOUND:
            return -lower_bound(now, pi)
        return abs(float(kl(now.pi, pi).max()) - _DELTA)

    options = {"xatol": 1e-9}
    return float(
        np.exp(minimize_scalar(missed, bounds=(-25, 6), method="bounded", options=options).x)
    )


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    steps = data[data["method"] != "along"]
    to_bound, region = (steps[steps["method"] == each] for each in (_BOUND, _REGION))
    is_below = bool((data["return"] >= data["bound"] - 1e-12).all())
    rises = bool((to_bound["return"] > to_bound["return before"]).all())
    gains = {name: _progress(each).mean() for name, each in ((_BOUND, to_bound), (_REGION, region))}
    n_steps = int(steps["step"].max())
    return Finding(
        Verdict.HOLDS if is_below and rises else Verdict.FAILS,
        f"The return was never below the bound, and rose in each of {len(to_bound):,} steps to where "
        f"the bound is highest. They are small: {to_bound['kl'].median():.1e} nats in the median. "
        f"After {n_steps:,} of them {gains[_BOUND]:.1%} of the way to the optimum was gone, after as "
        f"many steps of {_DELTA:g} nats {gains[_REGION]:.0%}.",
    )


def _progress(steps: pd.DataFrame) -> pd.Series:
    """The share of the way to the optimum that each problem's training has gone."""
    of_problem = steps.groupby("problem")
    first, last = of_problem["return before"].first(), of_problem["return"].last()
    return (last - first) / (of_problem["best"].first() - first)


def draw(data: pd.DataFrame) -> Figure:
    """The bound along a direction, near and far, and both trainings."""
    figure, (near, far, training) = panels(["One step, near", "The same, far", "Many steps"])
    along = data[data["method"] == "along"]
    for panel in (near, far):
        panel.plot(along["step"], along["return"], color=BLUE, label="return")
        panel.plot(along["step"], along["surrogate"], "--", color=GREEN, label="surrogate")
        panel.plot(along["step"], along["bound"], color=ORANGE, label="lower bound")
        panel.set_xlabel("step along the natural gradient")
    start, highest = along["return before"].iloc[0], along["bound"].idxmax()
    gain = along.loc[highest, "bound"] - start
    near.set_xlim(0, 2.5 * along.loc[highest, "step"])
    near.set_ylim(start - 2 * gain, start + 8 * gain)
    near.plot(along.loc[highest, "step"], along.loc[highest, "bound"], "o", color=ORANGE)
    near.ticklabel_format(useOffset=False)
    far.set_xlim(0, 4)
    far.set_ylim(start - 3, along["best"].iloc[0] + 3)
    far.axhline(along["best"].iloc[0], color="#888888", linewidth=1, linestyle=":")
    near.locator_params(axis="x", nbins=4)
    near.set_ylabel("return")
    near.legend()
    steps = data[(data["method"] != "along")]
    for method, colour in ((_REGION, BLUE), (_BOUND, ORANGE)):
        for number, (_, path) in enumerate(steps[steps["method"] == method].groupby("problem")):
            missing = (path["best"] - path["return"]) / (
                path["best"] - path["return before"].iloc[0]
            )
            label = "_" if number else method
            training.plot(path["step"], missing, color=colour, linewidth=0.9, label=label)
    logarithmic(training.xaxis)
    training.set_xlabel("steps")
    training.set_ylabel("missing to the best return, of 1")
    training.legend(loc="lower left")
    return figure


CLAIM = Claim(
    "lower-bound",
    "The surrogate less C times the largest KL divergence, with the proof's C, is a lower bound of "
    "the return, so a step that raises it never lowers the return.",
    "On random processes no policy's return lies below the bound, and every step to where the bound "
    "is highest along the natural gradient raises the return.",
    measure,
    judge,
    draw,
)
