"""TRPO, NPG and PPO with convolutions, with a memory, and with shared layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import Estimate, area_under_curve
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.contrasts import difference, written
from studies.claims.drawing import COLOURS, panels, steps_axis, with_band
from studies.claims.trainings import Variant, evaluations, mean_curves

__all__ = ["CLAIM"]

_CATCH, _CARTPOLE = "studies.claims.catch:Catch-v0", "CartPole-v1"
_STEPS = {_CATCH: 40_000, _CARTPOLE: 30_000}
_TUNING, _FRESH = (100,), (0, 1, 2)  # seeds
_DELTAS = (0.01, 0.05)
_RATES = (0.0005, 0.002)
_SEPARATE, _SHARED, _MEMORY = "convolutions", "shared convolutions", "memory"
_CONVOLUTIONAL = "layers are convolutional"
_RECURRENT = "layers are recurrent"
_SHARING = "actor and critic share layers"
_WHAT = {
    _CONVOLUTIONAL: "PPO less TRPO with convolutions",
    _RECURRENT: "PPO less TRPO with a memory",
    _SHARING: "TRPO with separate convolutions less shared ones",
}
_SAME = {"n_envs": 8, "n_steps": 128, "gamma": 0.99, "gae_lambda": 0.95}


@dataclass(frozen=True)
class _Method:
    """A method with one kind of network, and the number that is tuned."""

    network: str
    name: str
    algo: str
    settings: Mapping[str, Any]
    tuned: str = "target_kl"
    numbers: Sequence[float] = _DELTAS
    environment: Mapping[str, Any] = field(default_factory=dict)

    def variant(self, number: float) -> Variant:
        """The method with one number."""
        name = f"{self.network}|{self.name}|{number:g}"
        settings = {**_SAME, **self.settings, self.tuned: number}
        return Variant(name, self.algo, settings, True, self.environment)


def _convolutional() -> Iterator[_Method]:
    for network, shared in ((_SEPARATE, False), (_SHARED, True)):
        policy = {
            "policy": "SmallCnnPolicy",
            "policy_kwargs": f"dict(share_features_extractor={shared})",
        }
        path = "studies.claims.small_cnn"
        # Images are scaled to 0 to 1 by every policy.
        npg = {**policy, "normalize_observations": False}
        yield _Method(network, "TRPO", f"{path}:TRPO", policy)
        yield _Method(network, "PPO", f"{path}:PPO", policy, "learning_rate", _RATES)
        yield _Method(network, "NPG", f"{path}:NPG", npg)


def _recurrent() -> Iterator[_Method]:
    policy = {"policy": "MlpLstmPolicy", "policy_kwargs": "dict(lstm_hidden_size=32)"}
    trpo = {**policy, "line_search": True, "plateau_threshold": 0.0}
    ppo = {**policy, "normalize": True}  # as NPG does by itself
    hidden = {"wrappers": ["studies.claims.positions.Positions"]}
    yield _Method(_MEMORY, "TRPO", "recurrent_npg", trpo, environment=hidden)
    yield _Method(_MEMORY, "PPO", "sb3_contrib:RecurrentPPO", ppo, "learning_rate", _RATES, hidden)
    yield _Method(_MEMORY, "NPG", "recurrent_npg", policy, environment=hidden)


def measure(effort: Effort) -> pd.DataFrame:
    """Evaluations with the number that was best on other seeds."""
    if effort.quick:
        two = [each.variant(each.numbers[1]) for each in _convolutional() if each.name != "NPG"]
        return _tidy(evaluations(effort, two[2:], {_CATCH: 2_000}, _FRESH[:1], points=10))
    frames = []
    for methods, env_id in ((_convolutional(), _CATCH), (_recurrent(), _CARTPOLE)):
        variants = {
            variant.name: variant
            for method in methods
            for variant in map(method.variant, method.numbers)
        }
        tasks = {env_id: _STEPS[env_id]}
        tuning = _tidy(evaluations(effort, list(variants.values()), tasks, _TUNING, points=10))
        areas = _areas(tuning, ["network", "method", "number"])
        best = areas.groupby(level=["network", "method", "number"], sort=False).mean()
        chosen = best.groupby(level=["network", "method"], sort=False).idxmax()
        named = [variants[f"{network}|{name}|{number:g}"] for network, name, number in chosen]
        frames.append(_tidy(evaluations(effort, named, tasks, _FRESH, points=10)))
    return pd.concat(frames, ignore_index=True)


def _tidy(measured: pd.DataFrame) -> pd.DataFrame:
    """With the network, the method and its number in columns of their own."""
    names = measured["variant"].str.split("|", expand=True)
    columns = {"network": names[0], "method": names[1], "number": names[2].astype(float)}
    return measured.assign(**columns)[[*columns, "seed", "timesteps", "return_mean"]]


def _areas(data: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Each run's mean return over the training."""
    runs = data.groupby([*by, "seed"], sort=False)
    return runs[["timesteps", "return_mean"]].apply(
        lambda run: area_under_curve(run["timesteps"].to_numpy(), run["return_mean"].to_numpy())
    )


def _differences(data: pd.DataFrame) -> dict[str, Estimate]:
    """How much better each alternative to TRPO, or to TRPO's sharing, is."""
    areas = _areas(data, ["network", "method"]).unstack("seed").T
    pairs = {
        _CONVOLUTIONAL: ((_SEPARATE, "PPO"), (_SEPARATE, "TRPO")),
        _RECURRENT: ((_MEMORY, "PPO"), (_MEMORY, "TRPO")),
        _SHARING: ((_SEPARATE, "TRPO"), (_SHARED, "TRPO")),
    }
    return {
        where: difference(areas[better].to_numpy(), areas[worse].to_numpy())
        for where, (better, worse) in pairs.items()
        if better in areas and worse in areas
    }


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    differences = _differences(data)
    poor = [where for where, each in differences.items() if each.is_positive]
    means = _areas(data, ["network", "method"]).unstack("seed").mean(axis=1)
    told = [
        f"{network} {', '.join(f'{name} {mean:.3g}' for name, mean in each.droplevel(0).items())}"
        for network, each in means.groupby(level="network", sort=False)
    ]
    leads = [f"{_WHAT[where]} {written(each)}" for where, each in differences.items()]
    verdict = Verdict.CONDITIONAL if poor else Verdict.FAILS
    return Finding(
        Verdict.HOLDS if len(poor) == len(_WHAT) else verdict,
        f"Mean return over the training: {'; '.join(told)}. Differences: "
        f"{'; '.join(leads) or 'none were measured'}.",
        " or ".join(poor) if 0 < len(poor) < len(_WHAT) else "",
    )


def draw(data: pd.DataFrame) -> Figure:
    """Learning curves for each kind of network."""
    titles = {
        _SEPARATE: "Catch, convolutions",
        _SHARED: "Catch, shared convolutions",
        _MEMORY: "CartPole, a memory",
    }
    curves = mean_curves(data, ["network", "method"])
    networks = list(curves["network"].unique())
    figure, axes = panels([titles[network] for network in networks])
    looks = dict(
        zip(("TRPO", "PPO", "NPG"), zip(COLOURS, ("-", "--", "-."), strict=False), strict=True)
    )
    for panel, network in zip(axes, networks, strict=True):
        for method, (colour, dash) in looks.items():
            curve = curves[(curves["network"] == network) & (curves["method"] == method)]
            if curve.empty:
                continue
            ends = [curve[end] for end in ("mean", "low", "high")]
            with_band(panel, curve["timesteps"], ends, dash, colour, method)
        steps_axis(panel)
        panel.set_ylabel("return")
    handles, labels = axes[0].get_legend_handles_labels()
    seeds = data["seed"].nunique()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=3,
        title=f"means and 95% intervals over {seeds} seeds",
    )
    return figure


CLAIM = Claim(
    "layers",
    "TRPO is poor with convolutional or recurrent layers, and with networks whose actor and critic "
    "share layers.",
    "Each method has the better of two numbers (δ, or PPO's learning rate) by one seed, and is "
    "compared on three others by its mean return over the training. TRPO is poor with convolutions "
    "and with a memory if PPO is better by a 95% interval, and with shared layers if TRPO itself "
    "is better with separate ones. If only some of the three are so, they are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
