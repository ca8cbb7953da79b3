"""The mean KL divergence over states in place of the largest."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, logarithmic, panels
from studies.exact.gradients import fisher, natural_gradient
from studies.exact.mdp import Mdp
from studies.exact.policies import Softmax
from studies.exact.problems import garnet
from studies.exact.steps import evaluated
from studies.exact.surrogate import kl, mean_kl, surrogate

__all__ = ["CLAIM"]

_DELTAS = (0.001, 0.003, 0.01, 0.03, 0.1)
_SHOWN = 0.01
_N_PARAMS = 8
_STEPS = 200


class _Update(NamedTuple):
    """An update, or several in a row."""

    step: int
    updates: int
    mean: float
    largest: float
    before: float
    after: float
    lowered: int
    """how many of the updates lowered the return"""


def measure(effort: Effort) -> pd.DataFrame:
    """Trainings in which the mean or the largest KL divergence of an update is delta."""
    rows = []
    for problem in range(3 if effort.quick else 20):
        rng = np.random.default_rng(problem)
        mdp = garnet(rng, n_states=20, n_actions=3, gamma=0.9)
        policy = Softmax(rng.normal(size=(20, 3, _N_PARAMS)))
        for bounded in ("mean", "largest"):
            for delta in _DELTAS:
                updates = list(_training(mdp, policy, delta, bounded))
                if delta != _SHOWN:  # what is not drawn is kept as a whole
                    updates = [_together(updates)]
                rows += [(problem, bounded, delta, *update) for update in updates]
    return pd.DataFrame(rows, columns=["problem", "bounded", "delta", *_Update._fields])


def _together(updates: Sequence[_Update]) -> _Update:
    mean, largest = (
        float(np.mean(each)) for each in zip(*((u.mean, u.largest) for u in updates), strict=True)
    )
    lowered = sum(each.lowered for each in updates)
    return _Update(0, len(updates), mean, largest, updates[0].before, updates[-1].after, lowered)


def _training(mdp: Mdp, policy: Softmax, delta: float, bounded: str) -> Iterator[_Update]:
    theta = np.zeros(_N_PARAMS)
    now = evaluated(mdp, policy, theta)
    for step in range(_STEPS):
        scores = policy.scores(theta)
        direction = natural_gradient(now, scores)
        form = float(direction @ fisher(now, scores) @ direction)
        if form <= 0:
            return
        length = 3 * math.sqrt(2 * delta / form)
        for _ in range(100):  # the longest step by factors of 0.95 that is inside and promising
            pi = policy.probabilities(theta + length * direction)
            mean, largest = mean_kl(now, pi), float(kl(now.pi, pi).max())
            moved = mean if bounded == "mean" else largest
            if moved <= delta and surrogate(now, pi) > now.performance:
                break
            length *= 0.95
        else:
            return
        theta = theta + length * direction
        new = evaluated(mdp, policy, theta)
        lowered = int(new.performance < now.performance - 1e-10)
        yield _Update(step, 1, mean, largest, now.performance, new.performance, lowered)
        now = new


def _lowered(data: pd.DataFrame) -> pd.Series:
    """The share of updates that lowered the return, by bound and delta."""
    counts = data.groupby(["bounded", "delta"])[["lowered", "updates"]].sum()
    return counts["lowered"] / counts["updates"]


def _gained(data: pd.DataFrame) -> pd.Series:
    """What the trainings gained, of the most that any of the process did: means over processes."""
    ends = data.groupby(["bounded", "delta", "problem"]).agg(
        first=("before", "first"), last=("after", "last")
    )
    gains = ends["last"] - ends["first"]
    shares = gains / gains.groupby("problem").transform("max")
    return shares.groupby(["bounded", "delta"]).mean()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    lowered, gained = _lowered(data), _gained(data)
    of_mean = data[(data["bounded"] == "mean") & (data["delta"] == _SHOWN)]
    ratio = of_mean["largest"] / of_mean["mean"]
    as_good = (gained["mean"] >= gained["largest"] - 0.02).all()
    as_safe = (lowered["mean"] <= lowered["largest"] + 0.02).all()
    return Finding(
        Verdict.HOLDS if as_good and as_safe else Verdict.FAILS,
        f"Where the mean is bounded by {_SHOWN:g}, the state that moves farthest moves "
        f"{ratio.median():.1f} times as far as the mean (up to {ratio.max():.0f} times). "
        f"{lowered['mean'].max():.1%} of the updates lower the return at most (with the largest KL "
        f"bounded {lowered['largest'].max():.1%}), and trainings end at {gained['mean'].min():.3f} "
        f"to {gained['mean'].max():.3f} of the most that was reached "
        f"({gained['largest'].min():.3f} to {gained['largest'].max():.3f}).",
    )


def draw(data: pd.DataFrame) -> Figure:
    """The spread of KL over states, and returns under both bounds."""
    figure, (ratios, curves) = panels(["The farthest state", f"δ = {_SHOWN:g}"])
    of_mean = data[(data["bounded"] == "mean") & (data["delta"] == _SHOWN)]
    bins = np.geomspace(1, of_mean["largest"].max() / _SHOWN * 2, 30).tolist()
    ratios.hist(of_mean["largest"] / of_mean["mean"], bins=bins, color=BLUE)
    logarithmic(ratios.xaxis, ticks=(1, 2, 5, 10, 20, 50))
    ratios.set_xlabel("largest KL of a state / mean KL")
    ratios.set_ylabel("updates")
    best = data.groupby("problem")["after"].max()
    for bounded, colour, dash in (("mean", BLUE, "-"), ("largest", ORANGE, "--")):
        shown = data[(data["bounded"] == bounded) & (data["delta"] == _SHOWN)]
        for number, (problem, path) in enumerate(shown.groupby("problem")):
            first = path["before"].iloc[0]
            share = (path["after"] - first) / (best[problem] - first)
            label = "_" if number else f"{bounded} KL is bounded"
            curves.plot(path["step"] + 1, share, dash, color=colour, linewidth=0.9, label=label)
    logarithmic(curves.xaxis)
    curves.set_xlabel("updates")
    curves.set_ylabel("gained of the most, 0 to 1")
    curves.legend(loc="lower right")
    return figure


CLAIM = Claim(
    "mean-or-max",
    "The mean KL divergence over states may replace the largest, which the theory asks for.",
    "For every δ the share of updates that lower the return is no larger with the mean bounded, "
    "and the return at the end no smaller, within two hundredths each.",
    measure,
    judge,
    draw,
)
