"""Up to which delta TRPO and NPG learn."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import Estimate, interval, mean_interval
from studies.claims.claim import Claim, Effort, Finding
from studies.claims.drawing import COLOURS, logarithmic, panels, with_band
from studies.claims.npg_variants import UnshortenedNPG
from studies.claims.summaries import by_task
from studies.claims.trainings import Variant, evaluations, logged

__all__ = ["CLAIM", "largest"]

_TASKS = {"CartPole-v1": 40_000, "Hopper-v5": 100_000}
_SEEDS = 3
_DELTAS = {
    "CartPole-v1": (0.1, 1.0, 3.0, 10.0, 30.0, 100.0),
    "Hopper-v5": (0.1, 1.0, 10.0),
}
_TRPO, _NPG, _SHORTENED = "TRPO", "NPG with full steps", "NPG with shortened steps"
_METHODS = (_TRPO, _NPG, _SHORTENED)
_POINTS, _LAST = 10, 3
_LEARNS = 0.5  # of the best mean return on the task
_KEYS = ["env_id", "method", "delta"]


def _variant(method: str, delta: float) -> Variant:
    name = f"{method} {delta:g}"
    if method == _NPG:
        algo = f"{UnshortenedNPG.__module__}:{UnshortenedNPG.__name__}"
        return Variant(name, algo, {"policy": "MlpPolicy", "target_kl": delta}, alone=True)
    search = {"line_search": True} if method == _TRPO else {}
    return Variant(name, "npg", {"target_kl": delta, **search})


def measure(effort: Effort) -> pd.DataFrame:
    """Trainings with each delta: the mean return of the last three of ten evaluations.

    ``kl`` is the median, ``kl_max`` the largest measured KL divergence of an update, in nats.
    """
    frames = []
    for env_id, steps in ({"CartPole-v1": 4_096} if effort.quick else _TASKS).items():
        methods = _METHODS[:2] if effort.quick else _METHODS
        deltas = (1.0,) if effort.quick else _DELTAS[env_id]
        asked = [(method, delta) for method in methods for delta in deltas]
        variants = [_variant(*each) for each in asked]
        seeds = range(1 if effort.quick else _SEEDS)
        trained = effort, variants, {env_id: steps}, seeds
        runs = ["variant", "env_id", "seed"]
        last = evaluations(*trained, _POINTS).groupby(runs, sort=False).tail(_LAST)
        returns = last.groupby(runs, sort=False)["return_mean"].mean()
        kls = logged(*trained, ["train/kl"], _POINTS).groupby(runs, sort=False)["train/kl"]
        table = pd.DataFrame({"return": returns, "kl": kls.median(), "kl_max": kls.max()})
        named = {variant.name: keys for variant, keys in zip(variants, asked, strict=True)}
        table = table.reset_index()
        table["method"], table["delta"] = zip(*table["variant"].map(named), strict=True)
        frames.append(table[[*_KEYS, "seed", "return", "kl", "kl_max"]])
    return pd.concat(frames, ignore_index=True)


def largest(returns: np.ndarray, deltas: Sequence[float]) -> np.ndarray:
    """log10 of the largest delta with which each method learns.

    It learns where its mean return is at least half of the highest mean return of any method and
    delta. A method that learns with none has half a decade less than the smallest.

    :param returns: shape ``(n_seeds, n_methods, n_deltas)``
    :param deltas: ascending
    :return: shape ``(n_methods,)``
    """
    means, logs = returns.mean(axis=0), np.log10(deltas)
    found: np.ndarray = np.where(means >= _LEARNS * means.max(), logs, logs[0] - 0.5).max(axis=1)
    return found


def _bounds(task: pd.DataFrame) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """log10 of each method's largest delta, and by how much TRPO's is larger than that of each."""
    table = task.pivot(index="seed", columns=["method", "delta"], values="return")
    methods, deltas = list(task["method"].unique()), sorted(task["delta"].unique())
    ordered = table[[(method, delta) for method in methods for delta in deltas]]
    returns = ordered.to_numpy().reshape(len(table), len(methods), len(deltas))

    def statistic(seeds: np.ndarray) -> np.ndarray:
        logs = largest(returns[seeds[:, 0]], deltas)
        return np.concatenate([logs, logs[methods.index(_TRPO)] - logs])

    seeds = np.arange(len(returns))[:, None]
    values = statistic(seeds)
    low, high = interval(seeds, statistic) if len(seeds) > 1 else [np.full_like(values, np.nan)] * 2
    ends = np.stack([values, low, high]).T.tolist()
    found = [Estimate(value, low, high, len(seeds)) for value, low, high in ends]
    n_methods = len(methods)
    return (
        dict(zip(methods, found[:n_methods], strict=True)),
        dict(zip(methods, found[n_methods:], strict=True)),
    )


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    holds, said = {}, []
    for env_id, task in data.groupby("env_id", sort=False):
        bounds, ratios = _bounds(task)
        holds[str(env_id)] = ratios[_NPG].is_positive
        most = np.log10(task["delta"].max())
        ends = ", ".join(
            f"{method} up to {_power(bound)}" + " (the largest tested)" * int(bound.value >= most)
            for method, bound in bounds.items()
        )
        times = " and ".join(
            f"{_power(ratio)} times that of {method}"
            for method, ratio in ratios.items()
            if method != _TRPO
        )
        said.append(f"On {env_id} the largest δ that still learns: {ends}. TRPO's is {times}.")
    verdict, condition = by_task(holds)
    return Finding(verdict, " ".join(said), condition)


def _power(logs: Estimate) -> str:
    """Ten to the power of an estimate, with its interval if there is one."""
    value, low, high = (10**end for end in logs.numbers)
    return f"{value:.2g} [{low:.2g}, {high:.2g}]" if logs.has_interval else f"{value:.2g}"


def draw(data: pd.DataFrame) -> Figure:
    """Returns over delta, and how far the updates went."""
    env_ids = list(data["env_id"].unique())
    figure, axes = panels([*env_ids, *(f"{env_id}, largest update" for env_id in env_ids)])
    for env_id, returns, moves in zip(
        env_ids, axes[: len(env_ids)], axes[len(env_ids) :], strict=True
    ):
        task = data[data["env_id"] == env_id]
        best = task.groupby(["method", "delta"])["return"].mean().max()
        for method, colour, look in zip(_METHODS, COLOURS, ("o-", "s--", "D:"), strict=False):
            own = task[task["method"] == method]
            if own.empty:
                continue
            by_seed = own.pivot(index="seed", columns="delta", values="return")
            ends = mean_interval(by_seed.to_numpy())
            with_band(returns, by_seed.columns, ends, look, colour, method)
            ratio = (own["kl_max"] / own["delta"]).groupby(own["delta"]).median()
            moves.plot(ratio.index, ratio, look, color=colour, markersize=4)
        returns.axhline(_LEARNS * best, color="#888888", linewidth=1, linestyle=":")
        moves.axhline(1.0, color="#888888", linewidth=1, linestyle=":")
        logarithmic(moves.yaxis, ticks=(0.05, 0.1, 0.2, 0.5, 1, 2))
        moves.set_ylim(0.05, 3)
        for panel, label in ((returns, "return at the end"), (moves, "largest KL / δ")):
            logarithmic(panel.xaxis)
            panel.set_xlabel("δ in nats")
            panel.set_ylabel(label)
    title = "means and 95% intervals of returns, medians of largest KL, over seeds"
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, title=title)
    return figure


CLAIM = Claim(
    "stable-steps",
    "TRPO takes larger stable steps than NPG.",
    "A method learns with δ if the mean of its last three evaluations of ten is, over seeds, at "
    "least half of the best of any method and δ on the task. On a task the claim holds if the "
    "largest δ with which TRPO learns is larger than that of NPG with full steps, which are never "
    "shortened: if the 95% interval of their ratio lies above 1. If it does on one of the two "
    "tasks, that is the condition. TRPO is NPG with a line search, all else equal.",
    measure,
    judge,
    draw,
    trained=True,
)
