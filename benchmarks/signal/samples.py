"""Samples of a frozen policy, and advantages of blocks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from sb3_natural.curvature.operators import (
    Damped,
    FisherOperator,
    GaussNewtonOperator,
    value_jacobian,
)
from sb3_natural.curvature.solvers import ConjugateGradient
from sb3_natural.curvature.value_fit import descend, split_parameters
from sb3_natural.networks.parameters import assign_flat, flatten
from sb3_natural.npg import NPG
from sb3_natural.observations import at, mapped, stacked
from sb3_natural.rollouts.returns import advantages_and_returns
from sb3_natural.signal import as_log_prob_takes

_CHUNK = 8_192  # observations whose values are computed at once
# How the critic is refitted: TD(lambda) returns, a few Gauss-Newton steps to them, and again.
_ROUNDS = 5
_STEPS_PER_ROUND = 4
_CURVATURE_SAMPLES = 2_048
_CRITIC_DAMPING = 0.01


class CutOff(NamedTuple):
    """An episode that a time limit has ended."""

    step: int
    env_index: int
    observation: Any
    """The last one, which no action followed."""


@dataclass(frozen=True)
class Samples:
    """Steps of a vectorised environment, T of each of its E environments.

    ``observations`` and ``starts`` have T + 1 rows: the last is where step T led to. ``rewards``
    have no bootstrapped values in them.
    """

    observations: Any
    """(T + 1, E, ...)"""
    actions: np.ndarray
    """(T, E, ...)"""
    rewards: np.ndarray
    """(T, E)"""
    starts: np.ndarray
    """Whether an observation is the first of its episode, (T + 1, E)."""
    cut_off: list[CutOff]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, E)."""
        n_steps, n_envs = self.rewards.shape
        return n_steps, n_envs


@dataclass(frozen=True)
class Values:
    """V of all observations; rewards with V added where a time limit ended an episode."""

    values: np.ndarray
    """(T + 1, E)"""
    rewards: np.ndarray
    """(T, E)"""


def collect(
    model: OnPolicyAlgorithm, n_steps: int, advance: Callable[[int], None] = lambda _: None
) -> Samples:
    """Collect at least so many steps of each environment, in rollouts of the model's length.

    The policy stays as it is.

    :param advance: called after each rollout with the number of its steps
    """
    recording = _Recording()
    # NPG's critic values rewards in units of their return's deviation: one unit for all samples.
    scale = 1.0
    if isinstance(model, NPG) and model.normalize_returns:
        scale = model._return_scale.std
    _, callback = model._setup_learn(1, recording)
    env = model.get_env()
    assert env is not None
    rollouts: list[tuple[Any, np.ndarray, np.ndarray]] = []
    while len(recording.rewards) < n_steps:
        buffer = model.rollout_buffer
        model.collect_rollouts(env, callback, buffer, model.n_steps)
        parts = buffer.observations, buffer.actions, buffer.episode_starts
        rollouts.append(tuple(mapped(np.copy, part) for part in parts))
        advance(model.n_steps)
    observations, actions, starts = zip(*rollouts, strict=True)

    def joined(*rows: np.ndarray) -> np.ndarray:
        """Of the rollouts, and last the row that follows them."""
        return np.concatenate([*rows[:-1], rows[-1].reshape(1, *rows[0].shape[1:])])

    return Samples(
        mapped(joined, *observations, model._last_obs),
        np.concatenate(actions),
        np.array(recording.rewards, dtype=np.float32) / scale,
        joined(*starts, np.asarray(model._last_episode_starts, dtype=np.float32)),
        recording.cut_off,
    )


class _Recording(BaseCallback):
    """Keeps what a rollout buffer does not: rewards as they are, and where time limits cut."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[np.ndarray] = []
        self.cut_off: list[CutOff] = []

    def _on_step(self) -> bool:
        for index in np.flatnonzero(self.locals["dones"]).tolist():
            info = self.locals["infos"][index]
            if info.get("TimeLimit.truncated", False) and "terminal_observation" in info:
                last = mapped(np.copy, info["terminal_observation"])
                self.cut_off.append(CutOff(len(self.rewards), index, last))
        self.rewards.append(np.array(self.locals["rewards"]))
        return True


def fisher_of(policy: ActorCriticPolicy, samples: Samples, start: int, stop: int) -> FisherOperator:
    """The Fisher information of the steps from ``start`` to before ``stop``, with their actions."""
    actions = as_log_prob_takes(policy, torch.as_tensor(_rows(samples.actions[start:stop])))
    return FisherOperator(policy, _observations(samples, start, stop), actions)


@torch.no_grad()
def values_of(policy: ActorCriticPolicy, samples: Samples, gamma: float) -> Values:
    """What the policy's critic says of the samples."""
    n_rows, n_envs = samples.starts.shape
    rows = max(1, _CHUNK // n_envs)
    parts = [
        policy.predict_values(_observations(samples, start, min(start + rows, n_rows)))
        for start in range(0, n_rows, rows)
    ]
    values = torch.cat(parts).view(n_rows, n_envs).cpu().numpy()
    rewards = samples.rewards.copy()
    for start in range(0, len(samples.cut_off), _CHUNK):
        ended = samples.cut_off[start : start + _CHUNK]
        last, _ = policy.obs_to_tensor(stacked([each.observation for each in ended]))
        for each, value in zip(ended, policy.predict_values(last).flatten().tolist(), strict=True):
            rewards[each.step, each.env_index] += gamma * value
    return Values(values, rewards)


def estimates(
    samples: Samples, values: Values, start: int, stop: int, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of a block of steps as if it were a rollout, each of shape (N,)."""
    found = advantages_and_returns(
        values.rewards[start:stop],
        values.values[start:stop],
        samples.starts[start:stop],
        values.values[stop],
        samples.starts[stop],
        gamma,
        gae_lambda,
    )
    advantages, returns = (torch.as_tensor(_rows(each)) for each in found)
    return advantages, returns


def refitted(
    policy: ActorCriticPolicy,
    samples: Samples,
    start: int,
    stop: int,
    gamma: float,
    gae_lambda: float,
) -> Values:
    """What a critic says of all samples that is fitted to a block of them; the policy's is kept.

    :raises ValueError: the policy has no parameters that move its values alone
    """
    observations = _observations(samples, start, stop)
    _, params = split_parameters(policy, observations)
    if not params:
        raise ValueError("every parameter behind the policy's values also moves its actions")
    before = flatten(param.detach() for param in params)
    try:
        for _ in range(_ROUNDS):
            values = values_of(policy, samples, gamma)
            _, returns = estimates(samples, values, start, stop, gamma, gae_lambda)
            _fit(policy, params, observations, returns[:, None])
        return values_of(policy, samples, gamma)
    finally:
        assign_flat(params, before)


def _fit(policy: ActorCriticPolicy, params: list[Any], observations: Any, returns: Tensor) -> None:
    for _ in range(_STEPS_PER_ROUND):
        curvature = GaussNewtonOperator(policy, params, observations, _CURVATURE_SAMPLES)
        jacobian = value_jacobian(policy, params, observations)
        gradient = jacobian.vjp((returns - jacobian.outputs) / len(returns))
        damped = Damped(curvature, _CRITIC_DAMPING)
        direction = ConjugateGradient().solve(damped, gradient).direction
        descend(jacobian, direction, gradient, returns)


def _observations(samples: Samples, start: int, stop: int) -> Any:
    rows = at(samples.observations, slice(start, stop))
    return mapped(lambda part: torch.as_tensor(_rows(part)), rows)


def _rows(array: np.ndarray) -> np.ndarray:
    """(T, E, ...) -> (T E, ...)."""
    return array.reshape(-1, *array.shape[2:])
