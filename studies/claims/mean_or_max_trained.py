"""The mean KL divergence over states in place of the largest, in trainings from samples."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.claims.claim import Claim, Effort, Finding
from studies.claims.contrasts import difference
from studies.claims.drawing import BLUE, COLOURS, ORANGE, logarithmic, panels, steps_axis, with_band
from studies.claims.npg_variants import SpreadNPG
from studies.claims.summaries import as_return, by_task, mean
from studies.claims.trainings import Variant, evaluations, logged, mean_curves

__all__ = ["CLAIM"]

_TASKS = {"CartPole-v1": 40_000, "Hopper-v5": 100_000}
_DELTAS = (0.01, 0.03)
_SHOWN = 0.01
_BOUNDED = {"mean": "mean", "largest": "max"}
_POINTS = 10
_RATIOS = {f"train/kl_ratio_{each:g}": f"quantile {each:g}" for each in SpreadNPG.QUANTILES}
_LARGEST = f"quantile {max(SpreadNPG.QUANTILES):g}"
_KEYS = ["env_id", "bounded", "delta"]


def measure(effort: Effort) -> pd.DataFrame:
    """Trainings of NPG in which the mean or the largest KL divergence is bounded by delta.

    ``what`` says what ``value`` is: the "return" of an evaluation after ``timesteps``; and medians
    over the updates of a training: "kl", the mean KL divergence over states, in nats, and
    "quantile Q", that of the states' KL divergences divided by their mean.
    """
    asked = [(bounded, delta) for bounded in _BOUNDED for delta in _DELTAS]
    if effort.quick:
        asked = asked[::2]
    named = {f"{bounded} {delta:g}": (bounded, delta) for bounded, delta in asked}
    algo = f"{SpreadNPG.__module__}:{SpreadNPG.__name__}"
    variants = [
        Variant(
            name,
            algo,
            {"policy": "MlpPolicy", "target_kl": delta, "kl_constraint": _BOUNDED[bounded]},
            alone=True,
        )
        for name, (bounded, delta) in named.items()
    ]
    tasks = {"CartPole-v1": 4_096} if effort.quick else _TASKS
    trained = effort, variants, tasks, range(1 if effort.quick else 3)
    returns = evaluations(*trained, _POINTS).rename(columns={"return_mean": "value"})
    spread = logged(*trained, ["train/kl", *_RATIOS], _POINTS)
    medians = spread.groupby(["variant", "env_id", "seed"], sort=False).median()
    medians = medians.drop(columns="timesteps").rename(columns={"train/kl": "kl", **_RATIOS})
    medians = medians.melt(var_name="what", ignore_index=False).reset_index()
    data = pd.concat([returns.assign(what="return"), medians], ignore_index=True)
    data["bounded"], data["delta"] = zip(*data["variant"].map(named), strict=True)
    return data[[*_KEYS, "what", "seed", "timesteps", "value"]]


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    holds, said = {}, []
    for env_id, task in data.groupby("env_id"):
        ends, differences = [], []
        for delta, tested in task.groupby("delta"):
            final = tested[tested["timesteps"] == tested["timesteps"].max()].set_index("bounded")
            of_mean, of_largest = (final.loc[[each], "value"] for each in _BOUNDED)
            differences.append(difference(of_mean, of_largest))
            ends.append(
                f"with δ = {delta:g} at {as_return(mean(of_mean))}, where with the largest bounded "
                f"they end at {as_return(mean(of_largest))} (difference "
                f"{as_return(differences[-1])})"
            )
        shown = task[task["delta"] == _SHOWN]
        of_mean, of_largest = (shown[shown["bounded"] == each] for each in _BOUNDED)
        holds[str(env_id)] = not any(each.is_negative for each in differences)
        said.append(
            f"On {env_id} trainings with the mean bounded end {' and '.join(ends)}. The farthest "
            f"state moves {_median(of_mean, _LARGEST):.1f} times as far as the mean in the median "
            f"update with the mean bounded by {_SHOWN:g}; with the largest bounded by it the mean "
            f"is {_median(of_largest, 'kl'):.2g} nats."
        )
    verdict, condition = by_task(holds)
    return Finding(verdict, " ".join(said), condition)


def _median(data: pd.DataFrame, what: str) -> float:
    return float(data.loc[data["what"] == what, "value"].median())


def draw(data: pd.DataFrame) -> Figure:
    """Returns over steps with either bound, and the spread of the KL divergence over states."""
    env_ids = list(data["env_id"].unique())
    figure, axes = panels([*env_ids, f"KL of states, δ = {_SHOWN:g}"])
    evaluated = data[data["what"] == "return"].rename(columns={"value": "return_mean"})
    curves = mean_curves(evaluated, _KEYS)
    for panel, env_id in zip(axes, env_ids, strict=False):
        _draw_returns(panel, curves[curves["env_id"] == env_id])
    _draw_spread(axes[-1], data[data["delta"] == _SHOWN])
    handles = axes[0].get_legend_handles_labels()
    title = "bounded KL; means and 95% intervals over seeds"
    figure.legend(*handles, loc="outside lower left", ncols=2, title=title)
    handles = axes[-1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower right", ncols=2, title="medians over updates")
    return figure


def _draw_returns(panel: Axes, curves: pd.DataFrame) -> None:
    colours = {"mean": BLUE, "largest": ORANGE}
    for (bounded, delta), curve in curves.groupby(["bounded", "delta"], sort=False):
        colour, dash = colours[str(bounded)], "-" if delta == _SHOWN else "--"
        ends = [curve[end] for end in ("mean", "low", "high")]
        label = f"{bounded}, δ = {delta:g}"
        with_band(panel, curve["timesteps"], ends, dash, colour, label)
    steps_axis(panel)
    panel.set_ylabel("return")


def _draw_spread(panel: Axes, data: pd.DataFrame) -> None:
    quantiles = [f"{each:.0%}" for each in SpreadNPG.QUANTILES[:-1]] + ["largest"]
    looks = zip(COLOURS, ("o-", "s--", "D-.", "^:"), strict=False)
    for (keys, rows), (colour, marker) in zip(
        data.groupby(["env_id", "bounded"], sort=False), looks, strict=False
    ):
        ratios = [_median(rows, what) for what in _RATIOS.values()]
        label = f"{keys[0]}, {keys[1]} bounded"
        panel.plot(quantiles, ratios, marker, color=colour, markersize=4, label=label)
    panel.axhline(1.0, color="#888888", linewidth=1, linestyle=":")
    logarithmic(panel.yaxis)
    panel.set_xlabel("quantile over the states of an update")
    panel.set_ylabel("KL of a state / mean KL")


CLAIM = Claim(
    "mean-or-max-trained",
    "In trainings from samples, too, the mean KL divergence over states may replace the largest.",
    "On a task the claim holds if for neither δ trainings with the mean bounded end at a lower "
    "return than those with the largest bounded, that is if no 95% interval of the difference lies "
    "below 0. If it holds on one of the two tasks, that is the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
