"""How many updates from samples raise the true return of CartPole."""

import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.distributions import kl_divergence

from benchmarks.statistics import interval, mean_interval
from sb3_natural import NPG
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import BLUE, GREEN, ORANGE, logarithmic, panels, with_band
from studies.claims.trainings import in_parallel

__all__ = ["CLAIM"]

_METHODS = ("TRPO", "NPG", "PPO")
_DELTAS = (0.001, 0.003, 0.01, 0.03, 0.1)
_CLIP_RANGES = (0.03, 0.1, 0.2, 0.4, 0.8)
_SHOWN = 0.01
_SOLVED = 475.0  # CartPole-v1's reward threshold: there is little left to raise
_MISTAKES = 0.05  # of the decided updates; about what a test at two standard errors gets wrong
# As in SB3's TRPO. Nothing but the update changes the policy: statistics of observations would.
_TRPO: dict[str, Any] = {
    "cg_damping": 0.1,
    "normalize_observations": False,
    "plateau_threshold": 0.0,
}


class _Training(NamedTuple):
    method: str
    setting: float
    """delta, or PPO's ``clip_range``"""
    seed: int
    updates: int
    episodes: int
    """of each evaluation"""


class _Counts(NamedTuple):
    kl: float
    """Measured, in nats: the median over updates"""
    raised: int
    lowered: int
    undecided: int
    left_out: int
    worst: float
    """The largest clear loss of return; 0 if there is none"""
    last: float
    """The return in the end"""


def measure(effort: Effort) -> pd.DataFrame:
    """Updates that raise or lower the return by more than two standard errors."""
    trainings = [
        _Training(method, setting, seed, *((2, 100) if effort.quick else (16, 1_000)))
        for seed in range(1 if effort.quick else 3)
        for method in _METHODS
        for setting in (_CLIP_RANGES if method == "PPO" else _DELTAS)
        if not effort.quick or setting in (0.01, 0.2)
    ]
    counts = in_parallel(effort, _counted, trainings)
    keys = pd.DataFrame(trainings)[["method", "setting", "seed"]]
    return pd.concat([keys, pd.DataFrame(counts)], axis=1)


def _counted(training: _Training) -> _Counts:
    common: dict[str, Any] = {"seed": training.seed, "device": "cpu", "n_steps": 2_048}
    model: OnPolicyAlgorithm
    if training.method == "PPO":
        common |= {"learning_rate": 1e-3, "clip_range": training.setting}
        model = PPO("MlpPolicy", "CartPole-v1", **common)
    else:
        common |= {"target_kl": training.setting, "line_search": training.method == "TRPO"}
        model = NPG("MlpPolicy", "CartPole-v1", **common, **_TRPO)
    witness = _Witness(training)
    model.learn(training.updates * 2_048, callback=witness)
    return counted(np.array(witness.returns), np.array(witness.errors), np.array(witness.kls))


def counted(returns: np.ndarray, errors: np.ndarray, kls: np.ndarray) -> _Counts:
    """The updates of a training by what they did to the return.

    :param returns: before each update and after the last, shape ``(n_updates + 1,)``
    :param errors: their standard errors, of the same shape
    :param kls: of each update, shape ``(n_updates,)``; 0 where no step was taken
    """
    counts = (returns[:-1] < _SOLVED) & (kls > 0)
    gained, error = np.diff(returns)[counts], np.hypot(errors[:-1], errors[1:])[counts]
    raised, lowered = gained > 2 * error, gained < -2 * error
    return _Counts(
        float(np.median(kls)),
        int(raised.sum()),
        int(lowered.sum()),
        int((~raised & ~lowered).sum()),
        int((~counts).sum()),
        float(np.abs(gained[lowered]).max(initial=0.0)),
        float(returns[-1]),
    )


class _Witness(BaseCallback):
    """The return before and after each update, and the KL divergence of the update."""

    def __init__(self, training: _Training) -> None:
        super().__init__()
        self.returns: list[float] = []
        self.errors: list[float] = []
        self.kls: list[float] = []
        self._training = training
        self._env = gym.make_vec(
            "CartPole-v1", training.episodes, vectorization_mode="vector_entry_point"
        )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        number = 1_000 * self._training.seed + len(self.returns)
        lengths = episode_lengths(self._env, self.model.policy, number)
        self.returns.append(float(lengths.mean()))
        self.errors.append(float(lengths.std(ddof=1)) / math.sqrt(len(lengths)))
        if len(self.returns) > 1:
            old, new = self._distribution, _distribution(self.model.policy, self._observations)
            self.kls.append(float(kl_divergence(old, new).mean()))

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        buffer = self.model.rollout_buffer
        self._observations = buffer.observations.reshape(-1, *buffer.obs_shape)
        self._distribution = _distribution(self.model.policy, self._observations)

    def _on_training_end(self) -> None:
        self._on_rollout_start()
        self._env.close()


@torch.no_grad()
def _distribution(policy: Any, observations: np.ndarray) -> torch.distributions.Categorical:
    distribution = policy.get_distribution(torch.as_tensor(observations)).distribution
    assert isinstance(distribution, torch.distributions.Categorical)
    return distribution


def episode_lengths(env: gym.vector.VectorEnv[Any, Any, Any], policy: Any, seed: int) -> np.ndarray:
    """The first episode's length in each of CartPole's environments, which is its return.

    :param policy: draws its actions, which leaves torch's own generator as it is
    :return: shape ``(env.num_envs,)``
    """
    observations, _ = env.reset(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    lengths, running = np.zeros(env.num_envs), np.ones(env.num_envs, dtype=bool)
    while running.any():
        probabilities = _distribution(policy, observations).probs
        actions = torch.multinomial(probabilities, 1, generator=generator).flatten().numpy()
        observations, _, ended, cut_off, _ = env.step(actions)
        lengths += running
        running &= ~(ended | cut_off)
    return lengths


def _shares(data: pd.DataFrame) -> pd.DataFrame:
    """By method and setting, with 95% intervals over seeds: clear losses of the decided updates.

    The other columns are the mean KL divergence, and the mean return in the end with its interval.
    """
    found = []
    for (method, setting), rows in data.groupby(["method", "setting"]):
        counts = np.array([rows["lowered"], rows["raised"] + rows["lowered"]]).T
        last = [each.item() for each in mean_interval(rows[["last"]].to_numpy())]
        found.append((method, setting, rows["kl"].mean(), *_ratio(counts), *last))
    columns = ["method", "setting", "kl", "share", "low", "high", "last", "last_low", "last_high"]
    return pd.DataFrame(found, columns=columns)


def _ratio(counts: np.ndarray) -> tuple[float, float, float]:
    """The ratio of two sums over seeds, with its 95% interval.

    :param counts: shape ``(n_seeds, 2)``
    """

    def of(seeds: np.ndarray) -> np.ndarray:
        part, whole = counts[seeds[:, 0]].sum(axis=0)
        return np.array([part / max(whole, 1)])

    seeds = np.arange(len(counts))[:, None]
    if not counts[:, 1].any():
        return math.nan, math.nan, math.nan
    ends = interval(seeds, of) if len(counts) > 1 else (np.array(math.nan), np.array(math.nan))
    return of(seeds).item(), ends[0].item(), ends[1].item()


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    shares = _shares(data)
    trpo = shares[(shares["method"] == "TRPO") & shares["share"].notna()]
    kept = [f"{delta:g}" for delta in trpo.loc[trpo["share"] <= _MISTAKES, "setting"]]
    all_kept = len(kept) == len(trpo) > 0
    rows = data[data["method"] == "TRPO"][["raised", "lowered", "undecided"]].sum()
    usual = {method: _nearest(shares, method) for method in _METHODS}
    return Finding(
        Verdict.HOLDS if all_kept else Verdict.CONDITIONAL if kept else Verdict.FAILS,
        f"Of the updates of TRPO that change the return by more than two standard errors, "
        f"{trpo['share'].min():.0%} to {trpo['share'].max():.0%} lower it, by δ "
        f"({rows['undecided']:,} of all {rows.sum():,} change it by less). With δ = {_SHOWN:g} it "
        f"is {_percent(usual['TRPO'])}, for NPG {_percent(usual['NPG'])}, and for PPO with "
        f"clip_range {usual['PPO']['setting']:g}, whose updates measure "
        f"{usual['PPO']['kl']:.2g} nats, {_percent(usual['PPO'])}.",
        "" if all_kept or not kept else f"δ is {' or '.join(kept)}",
    )


def _nearest(shares: pd.DataFrame, method: str) -> pd.Series:
    """The setting whose updates measure about the delta that is told of."""
    rows = shares[shares["method"] == method]
    column = "kl" if method == "PPO" else "setting"
    return rows.loc[(np.log(rows[column]) - math.log(_SHOWN)).abs().idxmin()]


def _percent(row: pd.Series) -> str:
    return f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"


def draw(data: pd.DataFrame) -> Figure:
    """Clear losses, and the return in the end, over the measured KL divergence."""
    figure, (losses, returns) = panels(["Updates that lower the return", "After 16 updates"])
    shares = _shares(data)
    looks = {"TRPO": (BLUE, "o-"), "NPG": (ORANGE, "s--"), "PPO": (GREEN, "^:")}
    for method, (colour, dash) in looks.items():
        curve = shares[(shares["method"] == method) & (shares["kl"] > 0)].sort_values("kl")
        for panel, ends in (
            (losses, ("share", "low", "high")),
            (returns, ("last", "last_low", "last_high")),
        ):
            with_band(panel, curve["kl"], [curve[each] for each in ends], dash, colour, method)
    for panel in (losses, returns):
        logarithmic(panel.xaxis)
        panel.set_xlabel("measured KL of an update, nats")
    losses.set_ylabel("share of the clear changes")
    losses.set_ylim(bottom=-0.02)
    returns.set_ylabel("mean return")
    handles = losses.get_legend_handles_labels()
    title = "bands: 95% intervals over seeds"
    figure.legend(*handles, loc="outside lower center", ncols=3, title=title)
    return figure


CLAIM = Claim(
    "monotone-cartpole",
    "TRPO, from samples, improves the policy at every update.",
    "On CartPole-v1, with updates from 2,048 steps, the true return is measured by 1,000 episodes "
    "before and after each update. Of the updates of TRPO that change it by more than two standard "
    "errors at most 5% lower it, for every δ from 0.001 to 0.1; if for some δ alone, these are the "
    "condition. Policies that return 475 or more have nothing left to gain, and are left out.",
    measure,
    judge,
    draw,
    trained=True,
)
