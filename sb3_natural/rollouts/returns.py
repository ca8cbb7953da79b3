"""Advantages and returns from rewards and values, and how well values predict returns."""

import math

import numpy as np

from sb3_natural.shapes import check_shape

__all__ = ["advantages_and_returns", "explained_variance"]


def advantages_and_returns(
    rewards: np.ndarray,
    values: np.ndarray,
    episode_starts: np.ndarray,
    last_values: np.ndarray,
    dones: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Generalised advantage estimates, and the TD(lambda) returns that go with them.

    Bit for bit what SB3's ``RolloutBuffer.compute_returns_and_advantage`` computes; everything but
    the recursion itself is done for all steps at once. Source: Schulman et al. 2016, equation 16.

    :param rewards: shape (n_steps, n_envs)
    :param values: V of the states, shape (n_steps, n_envs)
    :param episode_starts: 1 where a step is the first of its episode, shape (n_steps, n_envs)
    :param last_values: V of the states after the last step, shape (n_envs,)
    :param dones: whether the last step ended an episode, shape (n_envs,)
    :return: advantages and returns, shape (n_steps, n_envs)
    :raises ValueError: an array has another shape; names it
    """
    check_shape(rewards.shape, values=values, episode_starts=episode_starts)
    check_shape(rewards.shape[1:], last_values=last_values, dones=dones)
    goes_on = 1.0 - np.concatenate([episode_starts[1:], dones[None].astype(np.float32)])
    next_values = np.concatenate([values[1:], last_values[None]])
    deltas = rewards + gamma * next_values * goes_on - values
    decay = gamma * gae_lambda * goes_on
    advantages = deltas.copy()
    for now, later, factor in zip(
        advantages[-2::-1], advantages[:0:-1], decay[-2::-1], strict=True
    ):
        now += factor * later
    return advantages, advantages + values


def explained_variance(values: np.ndarray, returns: np.ndarray) -> float:
    """1 - Var[returns - values] / Var[returns]; NaN if the returns are all equal.

    SB3's, up to rounding; its ``numpy.var`` takes five times as long with a few samples.

    :param values: any shape
    :param returns: the same shape
    """
    returns = returns.reshape(-1)
    total = _sum_of_squares(returns)
    return math.nan if total == 0 else 1 - _sum_of_squares(returns - values.reshape(-1)) / total


def _sum_of_squares(x: np.ndarray) -> float:
    """The sum of squared deviations from the mean, of a vector."""
    centred = x - np.add.reduce(x) / len(x)
    return float(centred.dot(centred))
