"""``python -m benchmarks.speed.single_file_worker``: measures PPO as a plain loop in PyTorch.

It has the structure of CleanRL's single-file PPO for continuous actions, whose package needs an
older Python than the peers: tensors for the rollout, a policy step in torch for each step of
Gymnasium's vectorised environments, advantages in a loop over the steps, autograd for each
minibatch. It imports only those of our modules that need Python alone.
"""

import time
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipAction, RecordEpisodeStatistics
from torch import nn
from torch.distributions import Normal

from benchmarks.speed.protocol import Task, serve

SEED = 0
# SB3's defaults.
LEARNING_RATE, ADAM_EPS = 3e-4, 1e-5
GAMMA, GAE_LAMBDA = 0.99, 0.95
EPOCHS, MINIBATCH = 10, 64
CLIP_RANGE, VALUE_WEIGHT, MAX_GRAD_NORM = 0.2, 0.5, 0.5


def train(updates: int = 1, **setting: Any) -> dict[str, Any]:
    """Continue the training, and measure it.

    :param updates: how many rollouts with their updates
    :param setting: arguments of :func:`_trained`
    :return: ``seconds`` and environment ``steps``
    """
    training = _trained(**setting)
    start = time.perf_counter()
    for _ in range(updates):
        training.iterate()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "steps": updates * setting["steps_per_update"]}


@cache
def _trained(env_id: str, n_envs: int, steps_per_update: int) -> "Training":
    """A training that has had one update.

    :param steps_per_update: of all environments together
    """
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 (the order of the samples, as there)
    training = Training(env_id, n_envs, steps_per_update // n_envs)
    training.iterate()
    return training


class Agent(nn.Module):
    """Two networks with two hidden layers of 64, and a standard deviation for each action."""

    def __init__(self, n_observations: int, n_actions: int) -> None:
        super().__init__()
        self.critic = _network(n_observations, 1, last_gain=1.0)
        self.mean = _network(n_observations, n_actions, last_gain=0.01)
        self.log_std = nn.Parameter(torch.zeros(1, n_actions))

    def act(
        self, observations: torch.Tensor, actions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Actions (drawn unless they are given), log-probabilities, entropies and values."""
        mean = self.mean(observations)
        distribution = Normal(mean, self.log_std.expand_as(mean).exp())
        if actions is None:
            actions = distribution.sample()
        log_probs = distribution.log_prob(actions).sum(1)
        return actions, log_probs, distribution.entropy().sum(1), self.value(observations)

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        """The critic's values."""
        return self.critic(observations).flatten()


@dataclass
class Rollout:
    """What is collected: tensors with a row for each step and a column for each environment."""

    observations: torch.Tensor
    actions: torch.Tensor
    log_probs: torch.Tensor
    rewards: torch.Tensor
    starts: torch.Tensor
    values: torch.Tensor

    @classmethod
    def empty(cls, n_steps: int, envs: SyncVectorEnv) -> "Rollout":
        """Room for a rollout."""
        shape = (n_steps, envs.num_envs)
        observations = torch.zeros(shape + envs.single_observation_space.shape)  # type: ignore[operator]
        actions = torch.zeros(shape + envs.single_action_space.shape)  # type: ignore[operator]
        return cls(observations, actions, *(torch.zeros(shape) for _ in range(4)))


class Training:
    """An agent, its environments and its optimiser."""

    def __init__(self, env_id: str, n_envs: int, n_steps: int) -> None:
        self.envs = _environments(env_id, n_envs)
        n_observations, n_actions = (
            gym.spaces.flatdim(space)
            for space in (self.envs.single_observation_space, self.envs.single_action_space)
        )
        self.agent = Agent(n_observations, n_actions)
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=LEARNING_RATE, eps=ADAM_EPS)
        self.rollout = Rollout.empty(n_steps, self.envs)
        self._observations = torch.Tensor(self.envs.reset(seed=SEED)[0])
        self._starts = torch.zeros(n_envs)
        # What would be logged: returns of episodes, and of the last minibatch the KL divergence
        # and the share of clipped ratios.
        self.returns: list[float] = []

    def iterate(self) -> None:
        """A rollout with its update."""
        self._collect()
        advantages = self._advantages()
        self._update(advantages, advantages + self.rollout.values)

    def _collect(self) -> None:
        rollout = self.rollout
        for step in range(len(rollout.rewards)):
            rollout.observations[step] = self._observations
            rollout.starts[step] = self._starts
            with torch.no_grad():
                actions, log_probs, _, values = self.agent.act(self._observations)
            rollout.actions[step] = actions
            rollout.log_probs[step] = log_probs
            rollout.values[step] = values
            observations, rewards, terminated, truncated, infos = self.envs.step(actions.numpy())
            rollout.rewards[step] = torch.tensor(rewards)
            self._observations = torch.Tensor(observations)
            self._starts = torch.Tensor(np.logical_or(terminated, truncated))
            self._note_episodes(infos)

    def _note_episodes(self, infos: dict[str, Any]) -> None:
        final = infos.get("final_info", {})
        if "episode" in final:
            self.returns += final["episode"]["r"][final["_episode"]].tolist()

    def _advantages(self) -> torch.Tensor:
        """Generalised advantage estimates, from the last step to the first."""
        rollout = self.rollout
        with torch.no_grad():
            next_values = self.agent.value(self._observations)
        next_starts, last = self._starts, torch.zeros(self.envs.num_envs)
        advantages = torch.zeros_like(rollout.rewards)
        for step in reversed(range(len(advantages))):
            going_on = 1.0 - next_starts
            values = rollout.values[step]
            error = rollout.rewards[step] + GAMMA * next_values * going_on - values
            last = error + GAMMA * GAE_LAMBDA * going_on * last
            advantages[step] = last
            next_values, next_starts = values, rollout.starts[step]
        return advantages

    def _update(self, advantages: torch.Tensor, returns: torch.Tensor) -> None:
        rollout = self.rollout
        samples = (
            rollout.observations.flatten(0, 1),
            rollout.actions.flatten(0, 1),
            rollout.log_probs.flatten(),
            advantages.flatten(),
            returns.flatten(),
        )
        order = np.arange(rollout.rewards.numel())
        for _ in range(EPOCHS):
            np.random.shuffle(order)  # noqa: NPY002
            for first in range(0, len(order), MINIBATCH):
                rows = order[first : first + MINIBATCH]
                self._step(*(each[rows] for each in samples))

    def _step(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        old_log_probs: torch.Tensor,
        advantages: torch.Tensor,
        returns: torch.Tensor,
    ) -> None:
        """A minibatch's step, with the statistics that would be logged."""
        _, log_probs, _, values = self.agent.act(observations, actions)
        log_ratio = log_probs - old_log_probs
        ratio = log_ratio.exp()
        with torch.no_grad():
            self.kl = ((ratio - 1) - log_ratio).mean()
            self.clipped = ((ratio - 1).abs() > CLIP_RANGE).float().mean().item()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        bounded = ratio.clamp(1 - CLIP_RANGE, 1 + CLIP_RANGE)
        policy_loss = torch.max(-advantages * ratio, -advantages * bounded).mean()
        value_loss = ((values - returns) ** 2).mean()
        self.optimizer.zero_grad()
        (policy_loss + VALUE_WEIGHT * value_loss).backward()
        nn.utils.clip_grad_norm_(self.agent.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()


def _environments(env_id: str, n_envs: int) -> SyncVectorEnv:
    def make() -> gym.Env:
        return ClipAction(RecordEpisodeStatistics(gym.make(env_id)))

    return SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def _network(n_inputs: int, n_outputs: int, last_gain: float) -> nn.Sequential:
    return nn.Sequential(
        _layer(n_inputs, 64, np.sqrt(2)),
        nn.Tanh(),
        _layer(64, 64, np.sqrt(2)),
        nn.Tanh(),
        _layer(64, n_outputs, last_gain),
    )


def _layer(n_inputs: int, n_outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(n_inputs, n_outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


TASKS: dict[str, Task] = {"train": train}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    serve(TASKS)
