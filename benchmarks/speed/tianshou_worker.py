"""``python -m benchmarks.speed.tianshou_worker``: measures Tianshou's NPG, in its environment.

It imports only those of our modules that need Python alone.
"""

import time
import warnings
from functools import cache
from typing import Any

import gymnasium as gym
import torch
from tianshou.algorithm import NPG
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import nn
from torch.distributions import Independent, Normal

from benchmarks.speed.protocol import Task, serve
from benchmarks.speed.stopwatch import Stopwatch, phases

SEED = 0


def train(
    env_id: str, n_envs: int, steps_per_update: int, updates: int = 1, watched: bool = False
) -> dict[str, Any]:
    """Continue the training with Tianshou's on-policy trainer: no test episodes, no logger.

    :param updates: how many rollouts with their updates
    :param watched: whether to time the parts
    :return: ``seconds``, ``steps``, and where watched ``phases``
    """
    algorithm, collector, stopwatch = _trained(env_id, n_envs, steps_per_update, watched)
    steps = updates * steps_per_update
    stopwatch.reset()
    start = time.perf_counter()
    _run(algorithm, collector, steps, steps_per_update, reset=False)
    seconds = time.perf_counter() - start
    measured = {"seconds": seconds, "steps": steps}
    return {**measured, "phases": phases(stopwatch.seconds, seconds)} if watched else measured


def train_by_phase(**setting: Any) -> dict[str, Any]:
    """See :func:`train`."""
    return train(**setting, watched=True)


@cache
def _trained(
    env_id: str, n_envs: int, steps_per_update: int, watched: bool
) -> tuple[NPG, Collector[CollectStats], Stopwatch]:
    """An algorithm after one update, with its collector."""
    torch.manual_seed(SEED)
    envs = DummyVectorEnv([lambda: gym.make(env_id) for _ in range(n_envs)])
    envs.seed(SEED)
    algorithm = _algorithm(envs.observation_space[0], envs.action_space[0])
    buffer = VectorReplayBuffer(2 * steps_per_update, n_envs)
    collector = Collector[CollectStats](algorithm, envs, buffer)
    _run(algorithm, collector, steps_per_update, steps_per_update, reset=True)
    stopwatch = Stopwatch()
    if watched:
        for worker in envs.workers:
            stopwatch.watch(worker.env.unwrapped, "step", "simulator")
            stopwatch.watch(worker.env.unwrapped, "reset", "simulator")
        stopwatch.watch(collector, "collect", "collecting")
        stopwatch.watch(algorithm.policy, "forward", "acting", only_during="collecting")
        stopwatch.watch(algorithm, "update", "joint update")
    return algorithm, collector, stopwatch


def _run(
    algorithm: NPG, collector: Collector, steps: int, steps_per_update: int, reset: bool
) -> None:
    params = OnPolicyTrainerParams(
        training_collector=collector,
        max_epochs=1,
        epoch_num_steps=steps,
        collection_step_num_env_steps=steps_per_update,
        # The whole rollout at once, as in Tianshou's own example.
        batch_size=None,
    )
    algorithm.create_trainer(params).run(reset_collectors=reset)


def _algorithm(observation_space: gym.spaces.Box, action_space: gym.spaces.Box) -> NPG:
    """NPG as in Tianshou's MuJoCo example, with its constructor's number of critic updates.

    Ten conjugate gradient steps are built in.
    """
    shape = observation_space.shape
    actor = ContinuousActorProbabilistic(
        preprocess_net=_network(shape), action_shape=action_space.shape, unbounded=True
    )
    critic = ContinuousCritic(preprocess_net=_network(shape))
    nn.init.constant_(actor.sigma_param, -0.5)
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda loc_scale: Independent(Normal(*loc_scale), 1),
        action_space=action_space,
    )
    return NPG(
        policy=policy,
        critic=critic,
        optim=AdamOptimizerFactory(lr=1e-3),
        trust_region_size=0.1,
    )


def _network(observation_shape: tuple[int, ...]) -> Net:
    return Net(state_shape=observation_shape, hidden_sizes=[64, 64], activation=nn.Tanh)


TASKS: dict[str, Task] = {"train": train, "train_by_phase": train_by_phase}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    serve(TASKS)
