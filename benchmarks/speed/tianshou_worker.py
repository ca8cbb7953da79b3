"""``python -m benchmarks.speed.tianshou_worker``: measures Tianshou's NPG and PPO.

It runs in the peers' environment, and imports only those of our modules that need Python alone.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import gymnasium as gym
import torch
from tianshou.algorithm import NPG, PPO
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


def train(updates: int = 1, watched: bool = False, **setting: Any) -> dict[str, Any]:
    """Continue the training with Tianshou's on-policy trainer: no test episodes, no logger.

    :param updates: how many rollouts with their updates
    :param watched: whether to time the parts
    :param setting: arguments of :func:`_trained`
    :return: ``seconds``, ``steps``, and where watched ``phases``
    """
    training, stopwatch = _trained(watched=watched, **setting)
    steps = updates * setting["steps_per_update"]
    stopwatch.reset()
    start = time.perf_counter()
    training.run(steps)
    seconds = time.perf_counter() - start
    measured = {"seconds": seconds, "steps": steps}
    return {**measured, "phases": phases(stopwatch.seconds, seconds)} if watched else measured


def train_by_phase(**setting: Any) -> dict[str, Any]:
    """See :func:`train`."""
    return train(**setting, watched=True)


class _Training:
    """An algorithm that is trained with the samples of a collector.

    :param updates: the trainer's arguments that say how a rollout is used
    """

    def __init__(
        self,
        algorithm: NPG | PPO,
        collector: Collector,
        steps_per_update: int,
        updates: Mapping[str, Any],
    ) -> None:
        self.algorithm = algorithm
        self.collector = collector
        self._steps_per_update = steps_per_update
        self._updates = updates

    def run(self, steps: int, reset: bool = False) -> None:
        """Go on for some environment steps.

        :param reset: whether to begin new episodes
        """
        params = OnPolicyTrainerParams(
            training_collector=self.collector,
            max_epochs=1,
            epoch_num_steps=steps,
            collection_step_num_env_steps=self._steps_per_update,
            **self._updates,
        )
        self.algorithm.create_trainer(params).run(reset_collectors=reset)


@cache
def _trained(
    algorithm: str, env_id: str, n_envs: int, steps_per_update: int, watched: bool
) -> tuple[_Training, Stopwatch]:
    """A training after one update.

    :param algorithm: ``"NPG"`` or ``"PPO"``
    """
    torch.manual_seed(SEED)
    envs = DummyVectorEnv([lambda: gym.make(env_id) for _ in range(n_envs)])
    envs.seed(SEED)
    make, updates = _ALGORITHMS[algorithm]
    made = make(envs.observation_space[0], envs.action_space[0])
    buffer = VectorReplayBuffer(2 * steps_per_update, n_envs)
    collector = Collector[CollectStats](made, envs, buffer)
    training = _Training(made, collector, steps_per_update, updates)
    training.run(steps_per_update, reset=True)
    stopwatch = Stopwatch()
    if watched:
        for worker in envs.workers:
            stopwatch.watch(worker.env.unwrapped, "step", "simulator")
            stopwatch.watch(worker.env.unwrapped, "reset", "simulator")
        stopwatch.watch(collector, "collect", "collecting")
        stopwatch.watch(made.policy, "forward", "acting", only_during="collecting")
        stopwatch.watch(made, "update", "joint update")
    return training, stopwatch


def _npg(observation_space: gym.spaces.Box, action_space: gym.spaces.Box) -> NPG:
    """NPG as in Tianshou's MuJoCo example, with its constructor's number of critic updates.

    Ten conjugate gradient steps are built in.
    """
    policy, critic = _policy_and_critic(observation_space, action_space, log_std=-0.5)
    optimizer = AdamOptimizerFactory(lr=1e-3)
    return NPG(policy=policy, critic=critic, optim=optimizer, trust_region_size=0.1)


def _ppo(observation_space: gym.spaces.Box, action_space: gym.spaces.Box) -> PPO:
    """PPO with the numbers of SB3's."""
    policy, critic = _policy_and_critic(observation_space, action_space, log_std=0.0)
    return PPO(
        policy=policy,
        critic=critic,
        optim=AdamOptimizerFactory(lr=3e-4, eps=1e-5),
        eps_clip=0.2,
        advantage_normalization=True,
        vf_coef=0.5,
        ent_coef=0.0,
        max_grad_norm=0.5,
        gae_lambda=0.95,
        gamma=0.99,
    )


def _policy_and_critic(
    observation_space: gym.spaces.Box, action_space: gym.spaces.Box, log_std: float
) -> tuple[ProbabilisticActorPolicy, ContinuousCritic]:
    shape = observation_space.shape
    actor = ContinuousActorProbabilistic(
        preprocess_net=_network(shape), action_shape=action_space.shape, unbounded=True
    )
    nn.init.constant_(actor.sigma_param, log_std)
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda loc_scale: Independent(Normal(*loc_scale), 1),
        action_space=action_space,
    )
    return policy, ContinuousCritic(preprocess_net=_network(shape))


def _network(observation_shape: tuple[int, ...]) -> Net:
    return Net(state_shape=observation_shape, hidden_sizes=[64, 64], activation=nn.Tanh)


_ALGORITHMS: dict[str, tuple[Callable[..., Any], Mapping[str, Any]]] = {
    # The whole rollout at once, as in Tianshou's own example.
    "NPG": (_npg, {"batch_size": None}),
    "PPO": (_ppo, {"batch_size": 64, "update_step_num_repetitions": 10}),
}
TASKS: dict[str, Task] = {"train": train, "train_by_phase": train_by_phase}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    serve(TASKS)
