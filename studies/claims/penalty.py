"""A bound on the KL divergence and a price for it, over three decades of each."""

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, ORANGE, logarithmic, panels
from studies.claims.trainings import Variant, final_returns

__all__ = ["CLAIM"]

_TASKS = {"CartPole-v1": 40_000, "Hopper-v5": 100_000}
_DELTAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_PRICES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_GOOD = 0.8  # of the best setting's return
_NEAR = 0.15  # of the best return


def measure(effort: Effort) -> pd.DataFrame:
    """NPG's final returns with ``target_kl`` = delta and with ``kl_penalty`` = C."""
    bounds = {f"target_kl {each:g}": ("bound", each) for each in _DELTAS}
    prices = {f"kl_penalty {each:g}": ("price", each) for each in _PRICES}
    asked = bounds | prices
    variants = [
        Variant(name, "npg", {"target_kl" if kind == "bound" else "kl_penalty": number})
        for name, (kind, number) in asked.items()
    ]
    tasks = {"CartPole-v1": 6_000} if effort.quick else _TASKS
    chosen = variants[::3] if effort.quick else variants
    data = final_returns(effort, chosen, tasks, range(1 if effort.quick else 5), points=10)
    data["kind"] = data["variant"].map({name: kind for name, (kind, _) in asked.items()})
    data["number"] = data["variant"].map({name: number for name, (_, number) in asked.items()})
    return data[["env_id", "kind", "number", "seed", "return"]]


def _curves(data: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with 95% intervals, by task, kind and number."""
    rows = []
    for keys, group in data.groupby(["env_id", "kind", "number"], sort=True):
        rows.append((*keys, *(e.item() for e in mean_interval(group[["return"]].to_numpy()))))
    return pd.DataFrame(rows, columns=["env_id", "kind", "number", "mean", "low", "high"])


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    curves = _curves(data)
    equivalent, sensitive, said = True, True, []
    for env_id, task in curves.groupby("env_id", sort=False):
        best = task.loc[task.groupby("kind")["mean"].idxmax()].set_index("kind")
        top = best["mean"].max()
        equivalent &= bool((best["mean"] > (1 - _NEAR) * top).all())
        good = task[task["mean"] > _GOOD * top].groupby("kind")["number"]
        spans = (good.max() / good.min()).reindex(["bound", "price"]).fillna(1.0)
        whole = task.groupby("kind")["number"].max() / task.groupby("kind")["number"].min()
        sensitive &= bool((spans < whole).all())
        said.append(
            f"On {env_id} the best δ is {best.loc['bound', 'number']:g} ({_ret(best, 'bound')}), "
            f"the best C {best.loc['price', 'number']:g} ({_ret(best, 'price')}); within 80% of "
            f"the best are δ over a factor of {spans['bound']:.0f}, C over {spans['price']:.0f}."
        )
    holds = equivalent and sensitive
    return Finding(
        Verdict.HOLDS if holds else Verdict.CONDITIONAL if equivalent else Verdict.FAILS,
        " ".join(said),
        "" if holds or not equivalent else "only their equality is meant",
    )


def _ret(best: pd.DataFrame, kind: str) -> str:
    return f"{best.loc[kind, 'mean']:,.0f}"


def draw(data: pd.DataFrame) -> Figure:
    """The final return over delta, and over C."""
    curves = _curves(data)
    env_ids = list(curves["env_id"].unique())
    figure, axes = panels([f"{env_id}, {what}" for env_id in env_ids for what in ("bound", "price")])
    for panel, (env_id, kind) in zip(
        axes, [(env_id, kind) for env_id in env_ids for kind in ("bound", "price")], strict=True
    ):
        curve = curves[(curves["env_id"] == env_id) & (curves["kind"] == kind)]
        colour = BLUE if kind == "bound" else ORANGE
        panel.fill_between(
            curve["number"], curve["low"], curve["high"], color=colour, alpha=0.25, linewidth=0
        )
        panel.plot(curve["number"], curve["mean"], "o-", color=colour, markersize=4)
        logarithmic(panel.xaxis)
        panel.set_xlabel("δ in nats" if kind == "bound" else "C, return per nat")
    axes[0].set_ylabel("final return")
    return figure


CLAIM = Claim(
    "penalty",
    "A bound on the KL divergence and a price for it are equivalent, and both are sensitive to "
    "their number.",
    "x",
    measure,
    judge,
    draw,
    trained=True,
)
