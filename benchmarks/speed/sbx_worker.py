"""``python -m benchmarks.speed.sbx_worker``: measures SBX's PPO, in the peers' environment.

It imports only those of our modules that need Python alone.
"""

import os
import time
import warnings
from functools import cache
from typing import Any

import jax
from sbx import PPO
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.speed.protocol import Task, serve

SEED = 0


def train(updates: int = 1, **setting: Any) -> dict[str, Any]:
    """Continue the training, whose functions are compiled, and measure it.

    :param updates: how many rollouts with their updates
    :param setting: arguments of :func:`_trained`
    :return: ``seconds`` and environment ``steps``
    """
    model = _trained(**setting)
    steps = updates * setting["steps_per_update"]
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return {"seconds": time.perf_counter() - start, "steps": steps}


@cache
def _trained(env_id: str, n_envs: int, steps_per_update: int) -> PPO:
    """A model in SB3's own ``VecEnv``, with SBX's defaults, that has compiled what it needs.

    :param steps_per_update: of all environments together
    """
    env = make_vec_env(env_id, n_envs, SEED)
    model = PPO("MlpPolicy", env, n_steps=steps_per_update // n_envs, seed=SEED)
    # The second update's arguments are outputs of the first, whose types may differ from these.
    model.learn(2 * steps_per_update)
    # The value of an observation at which an episode is cut off is compiled when it is first asked.
    while not model.ep_info_buffer:
        model.learn(steps_per_update, reset_num_timesteps=False)
    return model


def _use_one_core() -> None:
    """Keep JAX's threads, which no setting limits to one, on one core of the CPU."""
    jax.config.update("jax_platforms", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


TASKS: dict[str, Task] = {"train": train}

if __name__ == "__main__":
    _use_one_core()
    warnings.simplefilter("ignore")
    serve(TASKS)
