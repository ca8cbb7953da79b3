"""``python -m benchmarks.speed.pfrl_worker``: measures PFRL's ACER, in the peers' environment.

It imports only those of our modules that need Python alone.
"""

import time
import warnings
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from pfrl.agents.acer import ACER, ACERDiscreteActionHead
from pfrl.initializers import init_chainer_default
from pfrl.optimizers import SharedRMSpropEpsInsideSqrt
from pfrl.policies import SoftmaxCategoricalHead
from pfrl.q_functions import DiscreteActionValueHead
from pfrl.replay_buffers import EpisodicReplayBuffer
from pfrl.utils import set_random_seed
from torch import nn

from benchmarks.speed.protocol import Task, serve

SEED = 0


def train_acer(steps: int, **setting: Any) -> dict[str, Any]:
    """Continue the training, with one environment in one process, no evaluation and no log.

    :param setting: arguments of :func:`_trained`
    :return: ``seconds`` and environment ``steps``
    """
    training = _trained(**setting)
    start = time.perf_counter()
    training.run(steps)
    return {"seconds": time.perf_counter() - start, "steps": steps}


class _Training:
    """PFRL's training loop (``pfrl.experiments.train_agent``), for an environment of Gymnasium.

    PFRL's ``done`` is Gymnasium's ``terminated``, and its ``reset`` is ``truncated``.
    """

    def __init__(self, agent: ACER, env: gym.Env) -> None:
        self.agent = agent
        self.env = env
        self._observation, _ = env.reset(seed=SEED)

    def run(self, steps: int) -> None:
        """Go on for some environment steps."""
        for _ in range(steps):
            action = self.agent.act(self._observation)
            self._observation, reward, done, reset, _ = self.env.step(action)
            self.agent.observe(self._observation, reward, done, reset)
            if done or reset:
                self._observation, _ = self.env.reset()


@cache
def _trained(env_id: str, n_envs: int, n_steps: int, replay_ratio: int, replay_start: int) -> Any:
    """A training that replays.

    :param n_envs: 1: PFRL's ACER has one environment in each process
    :param n_steps: of a segment
    :param replay_ratio: replayed segments for each of the environment's
    :param replay_start: environment steps before anything is replayed
    """
    assert n_envs == 1
    set_random_seed(SEED)
    env = gym.make(env_id)
    agent = _agent(env, n_steps, replay_ratio, replay_start)
    training = _Training(agent, env)
    # Episodes are replayed once they are over.
    while len(agent.replay_buffer) < replay_start:
        training.run(n_steps)
    return training


def _agent(env: gym.Env, n_steps: int, replay_ratio: int, replay_start: int) -> ACER:
    """As in PFRL's own example, with networks and numbers that are our ACER's defaults."""
    assert isinstance(env.observation_space, gym.spaces.Box)
    assert isinstance(env.action_space, gym.spaces.Discrete)
    sizes = (env.observation_space.shape[0], int(env.action_space.n))
    model = ACERDiscreteActionHead(
        pi=_network(*sizes, SoftmaxCategoricalHead()), q=_network(*sizes, DiscreteActionValueHead())
    )
    model.apply(init_chainer_default)
    optimizer = SharedRMSpropEpsInsideSqrt(model.parameters(), lr=7e-4, eps=4e-3, alpha=0.99)
    agent = ACER(
        model,
        optimizer,
        t_max=n_steps,
        gamma=0.99,
        replay_buffer=EpisodicReplayBuffer(50_000),
        beta=0.01,
        phi=_float32,
        use_trust_region=True,
        trust_region_alpha=0.99,
        trust_region_delta=1,
        truncation_threshold=10,
        n_times_replay=replay_ratio,
        replay_start_size=replay_start,
        max_grad_norm=10,
    )
    _share_memory(agent)
    return agent


def _network(n_observations: int, n_actions: int, head: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n_observations, 64),
        nn.Tanh(),
        nn.Linear(64, 64),
        nn.Tanh(),
        nn.Linear(64, n_actions),
        head,
    )


def _float32(observation: np.ndarray) -> np.ndarray:
    return np.asarray(observation, dtype=np.float32)


def _share_memory(agent: ACER) -> None:
    """What ``pfrl.experiments.train_agent_async`` does first; the agent insists on it."""
    for model in (agent.shared_model, agent.shared_average_model):
        model.share_memory()
    for state in agent.optimizer.state.values():
        state["square_avg"].share_memory_()


TASKS: dict[str, Task] = {"train_acer": train_acer}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    serve(TASKS)
