"""A bound on the KL divergence and a penalty on it, over three decades of each."""

from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding
from studies.claims.contrasts import difference
from studies.claims.drawing import BLUE, ORANGE, logarithmic, panels, steps_axis, with_band
from studies.claims.summaries import as_return, by_task, mean
from studies.claims.trainings import Variant, final_returns, logged

__all__ = ["CLAIM"]

_TASKS = {"CartPole-v1": 40_000, "Hopper-v5": 100_000}
_SEEDS = 3
_DELTAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_PRICES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# Steps are as long as 1 / C and their KL divergence goes by 1 / C^2, so that these span more of it.
_FEWER = {("bound", each) for each in _DELTAS[::2]} | {("price", each) for each in _PRICES[1:-1]}
_POINTS = 10
_GOOD = 0.8  # of the return with the best number
_KEYS = ["env_id", "kind", "number"]


def measure(effort: Effort) -> pd.DataFrame:
    """NPG's final returns with ``target_kl`` = delta and with ``kl_penalty`` = C, and what it did.

    ``what`` says what ``value`` is: the "return" at the end with a seed, or the "kl", which is the
    median of the measured mean KL divergence of an update, over the updates of all seeds in the
    tenth of the training that ends at ``timesteps``.
    """
    asked = [("target_kl", "bound", each) for each in _DELTAS]
    asked += [("kl_penalty", "price", each) for each in _PRICES]
    kinds = {f"{setting} {number:g}": (kind, number) for setting, kind, number in asked}
    variants = [Variant(f"{name} {each:g}", "npg", {name: each}) for name, _, each in asked]
    frames = []
    for env_id, steps in ({"CartPole-v1": 4_096} if effort.quick else _TASKS).items():
        chosen = [
            each for each in variants if env_id == "CartPole-v1" or kinds[each.name] in _FEWER
        ]
        chosen = variants[2:10:7] if effort.quick else chosen
        seeds = range(1 if effort.quick else _SEEDS)
        returns = final_returns(effort, chosen, {env_id: steps}, seeds, _POINTS)
        returns = returns.rename(columns={"return": "value"}).assign(what="return", timesteps=steps)
        kl = logged(effort, chosen, {env_id: steps}, seeds, ["train/kl"], _POINTS).dropna()
        tenth = np.ceil(kl["timesteps"] / steps * _POINTS).clip(upper=_POINTS)
        kl["timesteps"] = (tenth * steps / _POINTS).astype(int)
        medians = kl.groupby(["variant", "env_id", "timesteps"], sort=False)["train/kl"].median()
        frames += [returns, medians.rename("value").reset_index().assign(what="kl")]
    data = pd.concat(frames, ignore_index=True)
    data["kind"], data["number"] = zip(*data["variant"].map(kinds), strict=True)
    return data[[*_KEYS, "what", "seed", "timesteps", "value"]]


def _curves(data: pd.DataFrame) -> pd.DataFrame:
    """Mean returns over seeds with 95% intervals, by task, kind and number."""
    rows = []
    for keys, group in data[data["what"] == "return"].groupby(_KEYS):
        rows.append((*keys, *mean(group["value"]).numbers))
    return pd.DataFrame(rows, columns=[*_KEYS, "mean", "low", "high"])


class _Tested(NamedTuple):
    """What the numbers of one kind led to on a task."""

    best: float
    """The number with the highest mean return"""
    returns: pd.Series
    """With the best number, by seed"""
    kls: pd.Series
    """With the best number, over the training"""
    span: float
    """The ratio of the largest to the smallest number that may keep a good part of that return"""
    is_sensitive: bool


def _tested(data: pd.DataFrame, curves: pd.DataFrame, env_id: str, kind: str) -> _Tested:
    data, curve = (
        each[(each["env_id"] == env_id) & (each["kind"] == kind)] for each in (data, curves)
    )
    numbers, means = curve["number"].to_numpy(), curve["mean"].to_numpy()
    ends = curve["high"].fillna(curve["mean"]).to_numpy()  # one seed has no interval
    best, kept = numbers[means.argmax()], numbers[ends >= _GOOD * means.max()]
    of_best = data[data["number"] == best].set_index("what")["value"]
    span, whole = kept.max() / kept.min(), numbers.max() / numbers.min()
    return _Tested(best, of_best.loc[["return"]], of_best.loc[["kl"]], span, bool(span < whole))


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    holds, said = {}, []
    curves = _curves(data)
    for env_id in data["env_id"].unique():
        bound, price = (_tested(data, curves, env_id, kind) for kind in ("bound", "price"))
        apart = difference(price.returns, bound.returns)
        is_equal = not (apart.is_positive or apart.is_negative)
        holds[env_id] = is_equal and bound.is_sensitive and price.is_sensitive
        said.append(
            f"On {env_id} the best δ, {bound.best:g}, ends at a return of "
            f"{as_return(mean(bound.returns))}, the best C, {price.best:g}, at "
            f"{as_return(mean(price.returns))}, with updates of {price.kls.iloc[0]:.2g} nats at "
            f"first and {price.kls.iloc[-1]:.2g} at last; the difference is {as_return(apart)}. "
            f"Four fifths are kept by δ over a factor of {bound.span:.0f}, by C over one of "
            f"{price.span:.0f}."
        )
    verdict, condition = by_task(holds)
    return Finding(verdict, " ".join(said), condition)


def draw(data: pd.DataFrame) -> Figure:
    """The final return over delta and C; the KL divergence that a C led to, over the training."""
    env_ids = list(data["env_id"].unique())
    titles = [*env_ids, *(f"{env_id}, updates at a price" for env_id in env_ids)]
    figure, axes = panels(titles)
    curves = _curves(data)
    for panel, env_id in zip(axes, env_ids, strict=False):
        _draw_returns(panel, curves[curves["env_id"] == env_id])
    for panel, env_id in zip(axes[len(env_ids) :], env_ids, strict=True):
        rows = (data["env_id"] == env_id) & (data["kind"] == "price") & (data["what"] == "kl")
        _draw_divergences(panel, data[rows])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    prices = axes[len(env_ids)].get_legend_handles_labels()
    figure.legend(*prices, loc="outside right center", title="C, advantages\nper nat")
    return figure


def _draw_returns(panel: Axes, curves: pd.DataFrame) -> None:
    looks = {"bound": (BLUE, "o-", "bound δ"), "price": (ORANGE, "s--", "price C")}
    for kind, (colour, marker, label) in looks.items():
        curve = curves[curves["kind"] == kind]
        ends = [curve[end] for end in ("mean", "low", "high")]
        label = f"{label}, mean and 95% interval over seeds"
        with_band(panel, curve["number"], ends, marker, colour, label)
    logarithmic(panel.xaxis)
    panel.set_xlabel("δ in nats, or C in advantages per nat")
    panel.set_ylabel("return at the end")


def _draw_divergences(panel: Axes, kls: pd.DataFrame) -> None:
    colours = mpl.colormaps["cividis"](np.linspace(0, 0.9, len(_PRICES)))
    for colour, number, marker in zip(colours, _PRICES, "osD^vXP", strict=True):
        curve = kls[(kls["number"] == number) & (kls["value"] > 0)]
        label = f"{number:g}"
        panel.plot(
            curve["timesteps"],
            curve["value"],
            marker + "-",
            color=colour,
            markersize=4,
            label=label,
        )
    logarithmic(panel.yaxis)
    steps_axis(panel)
    panel.set_ylabel("median KL of updates, nats")


CLAIM = Claim(
    "penalty",
    "A bound on the KL divergence and a penalty on it are equivalent, and both are sensitive to "
    "their number (δ, C).",
    "On a task the claim holds if the best of the bounds and the best of the prices end at the "
    "same return, which is so if the 95% interval of their difference includes 0, and if both are "
    "sensitive: some of the numbers tested are shown by their intervals to keep less than four "
    "fifths of the return of the best of their kind, and those that are not shown to span less "
    "than all that were tested. If it holds on one of the two tasks, that is the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
