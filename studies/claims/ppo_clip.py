"""How far PPO's updates go, with and without its clip."""

import math
from dataclasses import dataclass
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.statistics import Estimate, mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.contrasts import difference, written
from studies.claims.drawing import BLUE, COLOURS, GREEN, ORANGE, logarithmic, panels
from studies.claims.trainings import Variant, logged
from studies.claims.watched import USUAL_CLIP

__all__ = ["CLAIM", "most_kl"]

_TASKS = {"CartPole-v1": 40_000, "Hopper-v5": 50_000}
_NO_CLIP = 1e6
_TRPO, _USUAL, _NONE, _LONGER = "TRPO", "PPO 0.2", "PPO none", "PPO 0.2, 30 epochs"
_DELTA = 0.01
_INSIDE = 0.99  # of the samples, where ratios are bounded
_WATCHED = ["watched/kl", "watched/outside"]


@dataclass(frozen=True)
class _Method:
    """PPO with a width and a number of epochs; or TRPO, which has neither."""

    label: str
    clip: float = math.nan
    epochs: int = 10

    @property
    def variant(self) -> Variant:
        """SB3's defaults, with observations and rewards normalised."""
        settings = {"policy": "MlpPolicy", "normalize": True}
        if math.isnan(self.clip):
            return Variant(
                self.label, "studies.claims.watched:TRPO", settings | {"target_kl": _DELTA}, True
            )
        settings |= {"clip_range": self.clip, "n_epochs": self.epochs}
        return Variant(self.label, "studies.claims.watched:PPO", settings, True)


_METHODS = {
    method.label: method
    for method in (
        *(_Method(f"PPO {clip:g}", clip) for clip in (0.05, 0.1, USUAL_CLIP, 0.4)),
        _Method(_NONE, _NO_CLIP),
        _Method(_LONGER, USUAL_CLIP, 30),
        _Method(_TRPO),
    )
}


def measure(effort: Effort) -> pd.DataFrame:
    """Of each run, quantiles of the updates' KL divergence, and the share of ratios outside."""
    methods = [_METHODS[_USUAL], _METHODS[_TRPO]] if effort.quick else list(_METHODS.values())
    tasks = {"CartPole-v1": 6_200} if effort.quick else _TASKS
    variants = [method.variant for method in methods]
    seeds = range(1 if effort.quick else 3)
    updates = logged(effort, variants, tasks, seeds, _WATCHED, points=1).dropna(subset=_WATCHED)
    runs = updates.groupby(["env_id", "variant", "seed"], sort=False)
    kl, outside = runs["watched/kl"], runs["watched/outside"]
    summary = pd.DataFrame(
        {
            "updates": kl.size(),
            "kl 5%": kl.quantile(0.05),
            "kl 50%": kl.median(),
            "kl 95%": kl.quantile(0.95),
            "kl most": kl.max(),
            "outside": outside.mean(),
        }
    )
    return summary.reset_index().rename(columns={"variant": "method"})


def most_kl(clip: float) -> float:
    """The largest KL divergence of a policy all of whose ratios are within ``clip`` of 1, in nats.

    It is the old policy's mean of -log(ratio), a convex function, and the mean of ratios is 1. So
    it is largest where half of them are at either end.
    """
    return -0.5 * math.log1p(-(clip**2))


def _column(data: pd.DataFrame, env_id: str, method: str, column: str) -> pd.Series:
    return data.loc[(data["env_id"] == env_id) & (data["method"] == method), column]


def _estimate(values: pd.Series) -> Estimate:
    return Estimate(*(each.item() for each in mean_interval(values.to_numpy()[:, None])))


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    clipped = data[data["method"].isin(label for label, each in _METHODS.items() if each.clip < 1)]
    widths = clipped["method"].map(lambda label: _METHODS[label].clip)
    within = clipped["kl 95%"] <= widths.map(most_kl)
    bounded = bool((clipped["outside"] <= 1 - _INSIDE).all() and within.all())
    env_ids = [str(env_id) for env_id in data["env_id"].unique()]
    nearer = all(_lead(data, env_id).is_positive for env_id in env_ids)
    near = Verdict.CONDITIONAL if nearer else Verdict.FAILS
    return Finding(
        Verdict.HOLDS if bounded else near,
        " ".join(_told(data, env_id) for env_id in env_ids),
        "near means nearer than without a clip" if nearer and not bounded else "",
    )


def _lead(data: pd.DataFrame, env_id: str) -> Estimate:
    """By how much the logarithm of an update's median KL divergence is larger without a clip."""
    usual, none = (
        _column(data, env_id, label, "kl 50%").map(math.log) for label in (_USUAL, _NONE)
    )
    return difference(none, usual) if len(none) and len(usual) else Estimate(math.nan)


def _told(data: pd.DataFrame, env_id: str) -> str:
    """What a task says."""
    outside = written(_estimate(_column(data, env_id, _USUAL, "outside")), ".0%")
    value, low, high = map(math.exp, _lead(data, env_id).numbers)
    times = written(Estimate(value, low, high), ".1f")
    text = (
        f"On {env_id} with clip_range {USUAL_CLIP:g}, {outside} of the ratios end outside, and "
        f"the median update goes {_nats(data, env_id, _USUAL, ' nats, 95% of them at most ')}"
    )
    others = [
        f"{what} {_nats(data, env_id, label, ' and ')}"
        for label, what in (
            (_NONE, f"without a clip {times} times as far,"),
            (_LONGER, "with 30 epochs"),
            (_TRPO, f"with TRPO (δ = {_DELTA:g})"),
        )
        if len(_column(data, env_id, label, "kl 50%"))
    ]
    return f"{text}; {'; '.join(others)}."


def _nats(data: pd.DataFrame, env_id: str, label: str, between: str) -> str:
    """The median and the 95% quantile, means over seeds."""
    median, high = (_column(data, env_id, label, f"kl {each}").mean() for each in ("50%", "95%"))
    return f"{median:.2g}{between}{high:.2g}"


def draw(data: pd.DataFrame) -> Figure:
    """KL divergences of updates, and the shares of ratios outside."""
    env_ids = list(data["env_id"].unique())
    figure, (*moved, outside) = panels(
        [*(f"{each}, updates" for each in env_ids), "Ratios outside"]
    )
    labels = [label for label in _METHODS if label in set(data["method"])]
    for panel, env_id in zip(moved, env_ids, strict=True):
        for at, label in enumerate(labels):
            low, mid, high = (
                _column(data, env_id, label, f"kl {each}").mean() for each in ("5%", "50%", "95%")
            )
            bar = "5% to 95% of updates, and the median" if at == 0 else "_"
            panel.errorbar(at, mid, [[mid - low], [high - mid]], fmt="o", color=BLUE, label=bar)
            if _METHODS[label].clip < 1:
                most = most_kl(_METHODS[label].clip)
                line = "most with all ratios inside" if at == 0 else "_"
                panel.plot([at - 0.3, at + 0.3], [most, most], color=ORANGE, label=line)
        logarithmic(panel.yaxis)
        _name(panel, labels)
    moved[0].set_ylabel("KL divergence in nats")
    widths = [label for label in labels if label != _NONE]
    for env_id, colour, marker, shift in zip(
        env_ids, (GREEN, COLOURS[4]), "s^", (-0.12, 0.12), strict=False
    ):
        shares = [_estimate(_column(data, env_id, label, "outside")) for label in widths]
        outside.errorbar(
            [at + shift for at in range(len(widths))],
            [each.value for each in shares],
            [
                [each.value - each.low for each in shares],
                [each.high - each.value for each in shares],
            ],
            fmt=marker,
            color=colour,
            label=f"{env_id}, 95% interval over {data['seed'].nunique()} seeds",
        )
    outside.set_ylim(bottom=0)
    outside.set_ylabel("share of ratios")
    _name(outside, widths)
    shown = [panel.get_legend_handles_labels() for panel in (moved[0], outside)]
    handles, named = (list(chain.from_iterable(each)) for each in zip(*shown, strict=True))
    figure.legend(handles, named, loc="outside lower center", ncols=2)
    return figure


def _name(panel: Axes, labels: list[str]) -> None:
    short = [label.removeprefix("PPO ").replace(", ", "\n") for label in labels]
    short = [label if "\n" in label else f"{label}\n " for label in short]
    panel.set_xticks(range(len(labels)), short)
    panel.set_xlim(-0.6, len(labels) - 0.4)
    panel.set_xlabel("clip_range of PPO, and TRPO")


CLAIM = Claim(
    "ppo-clip",
    "PPO's clip keeps the policy near the old one.",
    "On both tasks, with every clip_range, at most a hundredth of the ratios are outside the clip "
    "when an update is over, and 95% of the updates go no farther than ratios inside it allow. If "
    f"not, but with clip_range {USUAL_CLIP:g} the median update of both tasks goes less far than "
    "without a clip, by a 95% interval, near means nearer.",
    measure,
    judge,
    draw,
    trained=True,
)
