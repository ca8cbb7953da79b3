"""The library's NPG, which sees samples, laid over exact NPG.

Episodes end with probability 1 - gamma after each step, and the learner's discount factor is 1. So
the states that it samples have the distribution d of the exact gradient; a discount factor of the
learner would leave states undiscounted, and its gradient would be another one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.statistics import interval, mean_interval
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.drawing import COLOURS, logarithmic, panels, with_band
from studies.claims.trainings import in_parallel
from studies.exact.environments import MdpEnv
from studies.exact.gradients import fisher, natural_gradient
from studies.exact.mdp import Mdp
from studies.exact.policies import tabular
from studies.exact.problems import garnet, two_states
from studies.exact.steps import evaluated, trust_region_step

__all__ = ["CLAIM"]

_DELTA = 0.003
_UPDATES = 36
_EARLY = 10  # updates whose directions are compared: the exact path has half its way to go then
_SAMPLES = (512, 2_048, 8_192)  # an update
_EXACT = 0
_MOST_STEPS = 1_000  # of an episode: none of ten steps on average comes to that
_NEAR = 0.1  # of the way to the best return
_PROCESSES = ("two states", "random process")


class _Training(NamedTuple):
    process: str
    samples: int
    seed: int
    updates: int


def measure(effort: Effort) -> pd.DataFrame:
    """Returns after each update, and how far the sampled directions are from the exact ones."""
    n_seeds, updates = (2, 2) if effort.quick else (6, _UPDATES)
    asked = [
        _Training(process, samples, seed, updates)
        for samples in sorted(_SAMPLES[:2] if effort.quick else _SAMPLES, reverse=True)
        for process in _PROCESSES
        for seed in range(n_seeds)
    ]
    frames = in_parallel(effort, _sampled, asked)
    frames += [_exact(process, updates) for process in _PROCESSES]
    return pd.concat(frames, ignore_index=True)


def _process(name: str) -> Mdp:
    if name == "two states":
        return two_states(gamma=0.9)
    return garnet(np.random.default_rng(0), n_states=10, n_actions=3, gamma=0.9)


def _exact(process: str, updates: int) -> pd.DataFrame:
    mdp = _process(process)
    policy, theta = tabular(mdp.n_states, mdp.n_actions), np.zeros(mdp.rewards.size)
    returns = [evaluated(mdp, policy, theta).performance]
    for _ in range(updates):
        theta = trust_region_step(mdp, policy, theta, _DELTA, search=False)
        returns.append(evaluated(mdp, policy, theta).performance)
    training = _Training(process, _EXACT, 0, updates)
    return _table(training, mdp, returns, np.full((updates + 1, 2), np.nan))


def _sampled(training: _Training) -> pd.DataFrame:
    """A training of the library's NPG: a linear policy of one-hot states is a tabular softmax."""
    mdp = _process(training.process)
    thetas, lengths = _trained(mdp, training)
    policy = tabular(mdp.n_states, mdp.n_actions)
    returns = [evaluated(mdp, policy, theta).performance for theta in thetas]
    apart = [
        apart_from_exact(mdp, theta, (following - theta) / length)
        for theta, following, length in zip(thetas, thetas[1:], lengths, strict=False)
    ]
    return _table(training, mdp, returns, np.array([(np.nan, np.nan), *apart]))


def _trained(mdp: Mdp, training: _Training) -> tuple[np.ndarray, np.ndarray]:
    """Logits before and after each update, (updates + 1, S * A), and the updates' step lengths."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from sb3_natural import NPG

    states = np.eye(mdp.n_states, dtype=np.float32)
    thetas: list[np.ndarray] = []
    lengths: list[float] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            with torch.no_grad():
                logits = model.policy.action_net(torch.as_tensor(states))
            thetas.append(logits.double().numpy().reshape(-1))
            length = self.logger.name_to_value.get("train/step_length", 0.0)
            lengths.append(length or np.nan)  # 0 where an update was skipped

        _on_training_end = _on_rollout_start

    model = NPG(
        "MlpPolicy",
        MdpEnv(mdp, _MOST_STEPS, ends=True),
        n_steps=training.samples,
        gamma=1.0,
        gae_lambda=1.0,  # so that the advantages owe nothing to the critic's errors
        critic_gae_lambda=None,
        target_kl=_DELTA,
        fisher_solver="dense",
        cg_damping=1e-4,  # with less, F of single precision is not always positive definite
        plateau_threshold=0.0,
        normalize_advantage=False,  # a step's length gives the natural gradient's then
        normalize_observations=False,
        normalize_returns=False,
        policy_kwargs={"net_arch": []},
        seed=training.seed,
        device="cpu",
    )
    with torch.no_grad():
        for parameter in model.policy.action_net.parameters():
            parameter.zero_()
    model.learn(training.updates * training.samples, Watch())
    return np.array(thetas), np.array(lengths[1:])


def apart_from_exact(mdp: Mdp, theta: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """How far a natural gradient is from the exact one, in the norm of the exact F.

    With episodes that end, a mean over samples has the exact gradient times 1 - gamma.

    :param theta: logits of the policy, (S * A,)
    :param found: (S * A,)
    :return: the distance as a share of the exact one's length, and the angle in degrees
    """
    policy = tabular(mdp.n_states, mdp.n_actions)
    now, scores = evaluated(mdp, policy, theta), policy.scores(theta)
    exact, metric = (1 - mdp.gamma) * natural_gradient(now, scores), fisher(now, scores)
    square = exact @ metric @ exact
    difference = found - exact
    cosine = found @ metric @ exact / np.sqrt(square * (found @ metric @ found))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return float(np.sqrt(difference @ metric @ difference / square)), float(angle)


def _table(training: _Training, mdp: Mdp, returns: list[float], apart: np.ndarray) -> pd.DataFrame:
    """A row for each number of updates; ``way`` is 0 at the start and 1 at the best return."""
    best = mdp.best().performance
    return pd.DataFrame(
        {
            **training._asdict(),
            "update": range(len(returns)),
            "way": ((np.array(returns) - returns[0]) / (best - returns[0])).round(4),
            "distance": apart[:, 0].round(3),
            "angle": apart[:, 1].round(1),
        }
    ).drop(columns="updates")


def _curves(data: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """The way that was gone, mean and 95% interval over seeds, by process and samples."""
    keys = data[["process", "samples"]].drop_duplicates()
    for process, samples in keys.itertuples(index=False):
        group = data[(data["process"] == process) & (data["samples"] == samples)]
        ways = group.pivot(index="seed", columns="update", values="way")
        mean, low, high = mean_interval(ways.to_numpy())
        curve = pd.DataFrame({"way": mean, "low": low, "high": high}, ways.columns)
        yield process, samples, curve


def _errors(data: pd.DataFrame, column: str, process: str) -> pd.DataFrame:
    """Root mean squares of early updates: a row for each seed, a column for each n."""
    early = data["update"].between(1, _EARLY)
    sampled = data[early & (data["samples"] != _EXACT) & (data["process"] == process)]
    squares = sampled.assign(square=sampled[column] ** 2).groupby(["seed", "samples"])["square"]
    return np.sqrt(squares.mean()).unstack("samples")


def _power(errors: pd.DataFrame) -> tuple[float, float, float]:
    """The power of the number of samples with which they fall, with its 95% interval over seeds."""
    logs = np.log(errors.to_numpy())
    x = np.log(errors.columns.to_numpy(dtype=float))
    slopes = np.polyfit(x, logs.T, 1)[0]
    low, high = interval(slopes[:, None], lambda resampled: resampled.mean(axis=0))
    return float(slopes.mean()), float(low[0]), float(high[0])


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    off = _off(data)
    follow = [samples for samples in off.index if (off.loc[samples:] <= _NEAR).all()]
    said, falls = [], True
    for process in _PROCESSES:
        power, low, high = _power(_errors(data, "distance", process))
        falls &= low <= -0.45 and high >= -0.55
        angles = _errors(data, "angle", process).mean()
        said.append(
            f"On the {process} the error of the direction falls like n^{power:.2f} "
            f"[{low:.2f}, {high:.2f}], the angle from {angles.iloc[0]:.0f}° with "
            f"{angles.index[0]:,} samples to {angles.iloc[-1]:.0f}° with {angles.index[-1]:,}."
        )
    follows, everywhere = bool(follow) and falls, len(follow) == len(off)
    shares = ", ".join(f"{share:.1%} with {samples:,}" for samples, share in off.items())
    return Finding(
        Verdict.FAILS if not follows else Verdict.HOLDS if everywhere else Verdict.CONDITIONAL,
        "By samples an update, the mean return is off the exact path by at most "
        f"{shares} (of the way to the best return). " + " ".join(said),
        f"an update sees {follow[0]:,} samples" if follows and not everywhere else "",
    )


def _off(data: pd.DataFrame) -> pd.Series:
    """How far the mean return ever is from that of the exact path, by samples."""
    ways = data.groupby(["process", "update", "samples"])["way"].mean().unstack("samples")
    return abs(ways.drop(columns=_EXACT).sub(ways[_EXACT], axis=0)).max()


def draw(data: pd.DataFrame) -> Figure:
    """The ways of both processes, and the directions' errors over samples."""
    figure, axes = panels([each.capitalize() for each in _PROCESSES] + ["Error of the direction"])
    looks = dict(zip((*_SAMPLES, _EXACT), ("--", "-.", ":", "-"), strict=True))
    colours = dict(zip((*_SAMPLES, _EXACT), (*COLOURS[1:4], COLOURS[0]), strict=True))
    for process, samples, curve in _curves(data):
        panel = axes[_PROCESSES.index(process)]
        label = f"{samples:,} samples an update" if samples else "exact"
        ends = [curve[end] for end in ("way", "low", "high")]
        with_band(panel, curve.index, ends, looks[samples], colours[samples], label)
    for process, colour, marker in zip(_PROCESSES, COLOURS, "os", strict=False):
        errors = _errors(data, "distance", process)
        mean, low, high = mean_interval(errors.to_numpy())
        spread = np.array([mean - low, high - mean])
        axes[2].errorbar(
            errors.columns, mean, spread, color=colour, marker=marker, label=process, capsize=3
        )
    guide = errors.columns.to_numpy(dtype=float)
    axes[2].plot(guide, 0.5 * mean[0] * (guide / guide[0]) ** -0.5, ":", color="#666666")
    axes[2].annotate("1/√n", (guide[0], 0.5 * mean[0]), xytext=(0, -12), textcoords="offset points")
    logarithmic(axes[2].xaxis, ticks=list(guide))
    logarithmic(axes[2].yaxis, ticks=(0.05, 0.1, 0.2, 0.5, 1, 2))
    axes[2].set_xlabel("samples an update, n")
    axes[2].set_ylabel("error, as a share of its length")
    axes[2].legend()
    for panel in axes[:2]:
        panel.set_xlabel("updates (bands: 95% intervals over seeds)")
    axes[0].set_ylabel("way to the best return")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


CLAIM = Claim(
    "sampled",
    "Sampled NPG follows the exact one.",
    "On both processes the mean return over seeds is within a tenth of the exact path's at every "
    "update, as a share of the way to the best return; and the error of the direction, in the "
    "first ten updates, falls like n^-0.5 with n samples: the interval of the power reaches into "
    "-0.55 to -0.45. If the first is so from some number of samples on, that is the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
