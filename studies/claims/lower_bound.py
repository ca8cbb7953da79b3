"""The surrogate with the proof's penalty: a lower bound of the return, and how far it gets."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, GREEN, ORANGE, logarithmic, panels
from studies.exact.mdp import Evaluation, Mdp
from studies.exact.problems import garnet
from studies.exact.surrogate import kl, lower_bound, surrogate

__all__ = ["CLAIM"]

_DELTA = 0.01  # nats: a trust region of the usual size
_BOUND, _REGION = "steps to the highest bound", "steps of 0.01 nats"
_ALONG = "along one direction"


def measure(effort: Effort) -> pd.DataFrame:
    """Trainings on random processes by steps of both kinds, and the bound along one direction."""
    rows = []
    for problem in range(2 if effort.quick else 20):
        mdp = garnet(np.random.default_rng(problem), n_states=6, n_actions=3, gamma=0.9)
        start = log_softmax(np.zeros(mdp.rewards.shape), axis=1)
        if problem == 0:
            rows += _along(mdp.evaluate(np.exp(start)), start, mdp.best().performance)
        for method in (_BOUND, _REGION):
            training = _training(mdp, start, method, 100 if effort.quick else 1_000)
            rows += [(problem, method, *row) for row in training]
    names = ["kl", "return", "surrogate", "bound"]
    return pd.DataFrame(rows, columns=["problem", "method", "step", *names, "best", "sound"])


def _training(
    mdp: Mdp, log_pi: np.ndarray, method: str, n_steps: int
) -> Iterator[tuple[object, ...]]:
    """Some of the steps, evenly by their logarithm.

    The last column: whether the bound held at all steps since the one before, and each raised the
    return.
    """
    best, due, sound = mdp.best().performance, 1.0, True
    now = mdp.evaluate(np.exp(log_pi))
    yield 0, 0.0, now.performance, now.performance, now.performance, best, True
    for step in range(1, n_steps + 1):
        log_pi = _moved(now, log_pi, _length(now, log_pi, method))
        new = mdp.evaluate(np.exp(log_pi))
        compared = _compared(now, new)
        is_bounded = new.performance >= compared[-1] - 1e-12
        sound = sound and is_bounded and new.performance > now.performance
        now = new
        is_there = best - now.performance < 1e-9
        if step >= due or is_there or step == n_steps:
            yield step, *compared, best, sound
            due, sound = max(step + 1, due * 1.1), True
        if is_there:
            return


def _along(now: Evaluation, log_pi: np.ndarray, best: float) -> list[tuple[object, ...]]:
    """Return, surrogate and bound along the natural gradient."""
    highest = _length(now, log_pi, _BOUND)
    lengths = np.concatenate([highest * np.linspace(0, 4, 60), np.geomspace(4 * highest, 20, 60)])
    rows = []
    for length in lengths:
        new = now.mdp.evaluate(np.exp(_moved(now, log_pi, length)))
        compared = _compared(now, new)
        rows.append((0, _ALONG, length, *compared, best, new.performance >= compared[-1] - 1e-12))
    return rows


def _compared(now: Evaluation, new: Evaluation) -> tuple[float, ...]:
    largest = float(kl(now.pi, new.pi).max())
    bound = lower_bound(now, new.pi)
    return largest, new.performance, surrogate(now, new.pi), bound


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
    to_bound, region = (data[data["method"] == each] for each in (_BOUND, _REGION))
    is_sound = bool(data.loc[data["method"] != _REGION, "sound"].all())
    n_steps = int(to_bound["step"].max())
    moved = to_bound.loc[to_bound["step"] > 0, "kl"].median()
    return Finding(
        Verdict.HOLDS if is_sound else Verdict.FAILS,
        f"The return was never below the bound, and rose in each of the {n_steps:,} steps to where "
        f"the bound is highest, on {to_bound['problem'].nunique()} processes. They are small: "
        f"{moved:.1e} nats in the median. They went {_progress(to_bound).mean():.0%} of the way to "
        f"the optimum, steps of {_DELTA:g} nats {_progress(region).mean():.0%} in "
        f"{region.groupby('problem')['step'].max().median():.0f} steps.",
    )


def _progress(steps: pd.DataFrame) -> pd.Series:
    """The share of the way to the optimum that each problem's training has gone."""
    of_problem = steps.groupby("problem")["return"]
    first, last = of_problem.first(), of_problem.last()
    return (last - first) / (steps.groupby("problem")["best"].first() - first)


def draw(data: pd.DataFrame) -> Figure:
    """The bound along a direction, near and far, and both trainings."""
    figure, (near, far, training) = panels(["One step, near", "The same, far", "Many steps"])
    along = data[data["method"] == _ALONG]
    for panel in (near, far):
        panel.plot(along["step"], along["return"], color=BLUE, label="return")
        panel.plot(along["step"], along["surrogate"], "--", color=GREEN, label="surrogate")
        panel.plot(along["step"], along["bound"], color=ORANGE, label="lower bound")
        panel.set_xlabel("step along the natural gradient")
    start, highest = along["return"].iloc[0], along.iloc[int(np.argmax(along["bound"]))]
    gain = highest["bound"] - start
    near.set_xlim(0, 2.5 * highest["step"])
    near.set_ylim(start - 2 * gain, start + 8 * gain)
    near.plot(highest["step"], highest["bound"], "o", color=ORANGE)
    near.ticklabel_format(useOffset=False)
    far.set_xlim(0, 4)
    far.set_ylim(start - 3, along["best"].iloc[0] + 3)
    far.axhline(along["best"].iloc[0], color="#888888", linewidth=1, linestyle=":")
    near.locator_params(axis="x", nbins=4)
    near.set_ylabel("return")
    for method, colour in ((_REGION, BLUE), (_BOUND, ORANGE)):
        for number, (_, path) in enumerate(data[data["method"] == method].groupby("problem")):
            missing = (path["best"] - path["return"]) / (path["best"] - path["return"].iloc[0])
            label = "_" if number else method
            training.plot(path["step"] + 1, missing, color=colour, linewidth=0.9, label=label)
    logarithmic(training.xaxis)
    training.set_xlabel("steps (the first is 1)")
    training.set_ylabel("missing to the best return, of 1")
    labelled = zip(
        near.get_legend_handles_labels(), training.get_legend_handles_labels(), strict=True
    )
    figure.legend(*(one + other for one, other in labelled), loc="outside lower center", ncols=5)
    return figure


CLAIM = Claim(
    "lower-bound",
    "The surrogate less C times the largest KL divergence, with the proof's C, is a lower bound of "
    "the return, so a step that raises it never lowers the return.",
    "On random processes no policy's return lies below the bound, and every step to where the "
    "bound is highest along the natural gradient raises the return.",
    measure,
    judge,
    draw,
)
