"""From a rollout to the arrays that the linear systems are made of."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sb3_natural.curvature.operators import FisherOperator
from sb3_natural.nac.policies import value_features
from sb3_natural.nac.recording import Transitions
from sb3_natural.observations import at, mapped

__all__ = ["Batch", "batch_of", "check_memory", "score_blocks", "state_features"]

# Elements of the scores that are in memory at a time.
_BLOCK_ELEMENTS = 2**23


class Batch(NamedTuple):
    """A rollout of T steps of E environments, step by step, on the model's device; N = T E."""

    observations: PyTorchObs
    """(N, ...)"""
    actions: Tensor
    """As the distribution's ``log_prob`` takes them: (N,) for Discrete, otherwise (N, n_dims)"""
    old_log_prob: Tensor
    """(N,)"""
    starts: np.ndarray
    """Whether a step is the first of its episode, (T, E)"""


def batch_of(buffer: RolloutBuffer, device: torch.device) -> Batch:
    """The rollout in a full buffer; unlike ``buffer.get``, it keeps the order of the steps."""

    def rows(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *array.shape[2:])

    observations = obs_as_tensor(mapped(rows, buffer.observations), device)
    actions = torch.as_tensor(rows(buffer.actions), device=device)
    if isinstance(buffer.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    else:
        actions = actions.float()
    log_prob = torch.as_tensor(rows(buffer.log_probs), device=device)
    return Batch(observations, actions, log_prob, buffer.episode_starts.astype(bool))


def state_features(
    policy: ActorCriticPolicy, batch: Batch, transitions: Transitions
) -> tuple[Tensor, Tensor]:
    """psi of each state, and of the state that came after it, both (T, E, K).

    After the last step of an episode that terminated there is no state: zero. Where a time limit
    ended it, it is the episode's last state.
    """
    n_steps, n_envs = transitions.rewards.shape
    psi = value_features(policy, batch.observations).view(n_steps, n_envs, -1)
    last, _ = policy.obs_to_tensor(transitions.last_observations)
    following = torch.cat([psi[1:], value_features(policy, last)[None]])
    following[torch.from_numpy(transitions.dones).to(psi.device)] = 0
    if transitions.cut_off is not None:
        cut_off, _ = policy.obs_to_tensor(transitions.cut_off)
        following[transitions.cut_off_at] = value_features(policy, cut_off)
    return psi, following


def score_blocks(
    policy: ActorCriticPolicy, batch: Batch, n_params: int
) -> Iterator[tuple[slice, Tensor]]:
    """The scores grad_theta log pi(a|s), for as many steps at a time as should be in memory.

    :param n_params: P, the number of the policy's parameters
    :return: which of the T steps, and their scores, (n, E, P)
    """
    n_steps, n_envs = batch.starts.shape
    length = max(1, _BLOCK_ELEMENTS // (n_envs * n_params))
    for start in range(0, n_steps, length):
        stop = min(start + length, n_steps)
        rows = slice(start * n_envs, stop * n_envs)
        fisher = FisherOperator(policy, at(batch.observations, rows), batch.actions[rows])
        yield slice(start, stop), fisher.scores().view(stop - start, n_envs, n_params)


def check_memory(n_params: int, n_features: int, n_rows: int, device: torch.device) -> None:
    """Check that the linear system of an update fits in the device's memory.

    :param n_params: of the policy
    :param n_features: in a row of the system, beside the parameters
    :param n_rows: of the system; it is held three times: the sums, a copy, and its factors
    :raises ValueError: it does not fit; says how many parameters and bytes there are
    """
    needed = 3 * 8 * n_rows * (n_params + n_features)
    available = _memory(device)
    if available is not None and needed > available:
        raise ValueError(
            f"the policy's {n_params:,} parameters make a linear system of {needed:,} bytes, and "
            f"{device} has {available:,}: use a smaller network (policy_kwargs=dict(net_arch=[]) "
            "is the smallest), or the episodic variant, whose memory grows with the number of "
            "parameters, not with its square"
        )


def _memory(device: torch.device) -> int | None:
    """All of a device's memory in bytes; None where it cannot be found out."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, for example
        return None
