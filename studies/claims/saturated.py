"""On a plateau of CartPole, from samples, natural gradients escape sooner."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.statistics import improvement_interval, mean_interval
from sb3_natural import NPG
from studies.claims.claim import Claim, Effort, Finding, Verdict
from studies.claims.directions import prefer_one
from studies.claims.drawing import BLUE, ORANGE, panels, with_band
from studies.claims.trainings import in_parallel

__all__ = ["CLAIM"]

_STARTS = (0.5, 0.9, 0.99, 0.999)  # the probability of pushing the cart to the left
_SEEDS = dict.fromkeys(_STARTS, 3) | {_STARTS[-1]: 10}  # the last decides
_SHOWN = 0.99
_STEPS = {
    "usual": "the fixed length that suits the usual start",
    "own": "the fixed length that suits this start",
    "equal KL": "equal KL divergence",
}
_DELTA = 0.01  # nats
_REACHED = 195.0  # CartPole's first mark of success, over a hundred episodes
_ROLLOUT = 2_048
# F's eigenvalues shrink with p (1 - p), to a thousandth here; more damping would make the natural
# gradient the plain one. Advantages of any size count, so that steps of equal KL are just that.
_SETTINGS: dict[str, Any] = {"cg_damping": 1e-5, "plateau_threshold": 0.0}


class _Training(NamedTuple):
    start: float
    steps: str
    gradient: str
    seed: int
    most: int
    """Updates after which it is stopped"""


def measure(effort: Effort) -> pd.DataFrame:
    """The return over a training: of the one that is drawn at times, of all others at the end."""
    trainings = [
        _Training(start, steps, gradient, seed, 3 if effort.quick else 50)
        for start in (_STARTS[2:3] if effort.quick else _STARTS)
        for seed in range(1 if effort.quick else _SEEDS[start])
        for steps in _STEPS
        for gradient in ("plain", "natural")
    ]
    rows = [
        (*training[:4], *row)
        for training, curve in zip(trainings, in_parallel(effort, _returns, trainings), strict=True)
        for row in (curve if training.start == _SHOWN else curve[-1:])
    ]
    return pd.DataFrame(rows, columns=[*_Training._fields[:4], "step", "return", "reached"])


def _returns(training: _Training) -> list[tuple[int, float, bool]]:
    """Steps, the mean return of the last hundred episodes, and whether it is enough."""
    if training.steps == "equal KL":
        length = {"target_kl": _DELTA}
    else:
        length = {"step_size": _first_length(training)}
    model, witness = _model(training, training.start, length), _Witness()
    model.learn(training.most * _ROLLOUT, witness)
    last = len(witness.curve) - 1
    return [each for i, each in enumerate(witness.curve) if i % 3 == 0 or i == last]


def _first_length(training: _Training) -> float:
    """The multiple of the gradient that a first step of delta nats takes."""
    start = _STARTS[0] if training.steps == "usual" else training.start
    model = _model(training, start, {"target_kl": _DELTA}).learn(_ROLLOUT)
    return float(model.logger.name_to_value["train/step_length"])


def _model(training: _Training, start: float, length: dict[str, float]) -> NPG:
    solver = "identity" if training.gradient == "plain" else "cg"
    settings = _SETTINGS | length | {"n_steps": _ROLLOUT, "seed": training.seed, "device": "cpu"}
    model = NPG("MlpPolicy", "CartPole-v1", fisher_solver=solver, **settings)
    prefer_one(model.policy, start)
    return model


class _Witness(BaseCallback):
    """The mean return after each rollout, until it is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[tuple[int, float, bool]] = []

    def _on_step(self) -> bool:
        return not (self.curve and self.curve[-1][2])

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer
        mean = float(np.mean([each["r"] for each in episodes or []])) if episodes else math.nan
        self.curve.append((self.num_timesteps, mean, mean >= _REACHED))


def _needed(data: pd.DataFrame) -> pd.DataFrame:
    """The steps of each training, and whether they were enough."""
    keys = ["start", "steps", "gradient", "seed"]
    found = data.groupby(keys, sort=False).agg(step=("step", "max"), reached=("reached", "any"))
    return found.reset_index()


def _of(needed: pd.DataFrame, start: float, steps: str, gradient: str) -> pd.DataFrame:
    """Those of one kind: a row for each seed."""
    rows = (needed["start"] == start) & (needed["steps"] == steps)
    return needed[rows & (needed["gradient"] == gradient)]


def _values(trainings: pd.DataFrame) -> np.ndarray:
    """Steps of each seed, shape ``(n_seeds, 1)``."""
    return trainings[["step"]].to_numpy(dtype=float)


def judge(data: pd.DataFrame) -> Finding:
    """See the claim's rule."""
    needed, farthest = _needed(data), data["start"].max()
    sooner, said = [], []
    for steps, name in _STEPS.items():
        plain, natural = (_of(needed, farthest, steps, each) for each in ("plain", "natural"))
        _, low, _ = improvement_interval(_values(plain), _values(natural))
        if low.item() > 0.5:
            sooner.append(name)
        said.append(f"with steps of {name} plain {_text(plain)}, natural {_text(natural)}")
    every = len(sooner) == len(_STEPS)
    return Finding(
        Verdict.HOLDS if every else Verdict.CONDITIONAL if sooner else Verdict.FAILS,
        f"From a policy that pushes to one side with probability {farthest:g}, until the mean "
        f"return is {_REACHED:g}, the gradients need, in thousand steps: {'; '.join(said)}.",
        "" if every or not sooner else f"steps have {' or '.join(sooner)}",
    )


def _text(trainings: pd.DataFrame) -> str:
    """Thousand steps with their interval, and how many trainings did not get there, if any."""
    mean, low, high = (each.item() / 1_000 for each in mean_interval(_values(trainings)))
    missing = int((~trainings["reached"]).sum())
    if missing == len(trainings):
        return f"more than {mean:,.0f} (none gets there)"
    late = f", counting {missing} that do not get there" if missing else ""
    return f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]{late}"


def draw(data: pd.DataFrame) -> Figure:
    """Steps needed from each start, by the length of steps; returns over one training."""
    titles = ["Fixed, as on the usual start", "Fixed, as on this start", "Equal KL divergence"]
    figure, axes = panels([*titles, f"Equal KL, from {_SHOWN:g}"])
    needed = _needed(data)
    starts = sorted(data["start"].unique())
    looks = {"plain": (ORANGE, "s--"), "natural": (BLUE, "o-")}
    for gradient, (colour, dash) in looks.items():
        for panel, steps in zip(axes, _STEPS, strict=False):
            ends = np.array(
                [
                    [each.item() / 1_000 for each in mean_interval(values)]
                    for values in (_values(_of(needed, start, steps, gradient)) for start in starts)
                ]
            )
            where = range(len(starts))
            with_band(panel, where, list(ends.T), dash, colour, gradient)
            panel.set_xticks(list(where), [f"{start:g}" for start in starts])
            panel.set_xlabel("probability of one action, at the start")
        rows = (data["start"] == _SHOWN) & (data["steps"] == "equal KL")
        for number, (_, curve) in enumerate(
            data[rows & (data["gradient"] == gradient)].groupby("seed")
        ):
            label = "_" if number else f"{gradient}, a line for each seed"
            axes[3].plot(
                curve["step"] / 1_000, curve["return"], dash[1:], color=colour, label=label
            )
    for panel in axes[:3]:
        panel.set_ylim(0, 1.1 * data["step"].max() / 1_000)
    axes[0].set_ylabel(f"thousand steps until {_REACHED:g}")
    axes[0].legend(loc="lower right", title="bands: 95% over seeds")
    axes[3].set_xlabel("thousand steps")
    axes[3].set_ylabel("return of the last 100 episodes")
    axes[3].set_ylim(0, 1.4 * _REACHED)  # room for the legend
    axes[3].legend(loc="upper left")
    return figure


CLAIM = Claim(
    "saturated",
    "From a nearly certain policy, too, natural gradients escape sooner than plain ones.",
    "From the policy that is most certain of one action on CartPole-v1, the natural gradient needs "
    "fewer steps than the plain one until the mean return is 195: the 95% interval, over seeds, of "
    "the probability that it does lies above 0.5. So with steps of fixed length, multiples of the "
    "gradient of which the first, from the usual start or from this one, has 0.01 nats, and with "
    "steps of 0.01 nats; if with some of the three alone, these are the condition.",
    measure,
    judge,
    draw,
    trained=True,
)
