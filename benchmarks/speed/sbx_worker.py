"""``python -m benchmarks.speed.sbx_worker``: measures SBX's PPO, in the peers' environment.

It imports only those of our modules that need Python alone.
"""

import time
import warnings
from functools import cache
from typing import Any

from sbx import PPO
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.speed.protocol import Task, serve

SEED = 0
# Two, in case the first has functions compiled that only the second needs in their final form.
_UPDATES_BEFORE = 2


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
    """A model that has been updated, in SB3's own ``VecEnv``, with SBX's defaults.

    :param steps_per_update: of all environments together
    """
    env = make_vec_env(env_id, n_envs, SEED)
    model = PPO("MlpPolicy", env, n_steps=steps_per_update // n_envs, seed=SEED)
    return model.learn(_UPDATES_BEFORE * steps_per_update)


TASKS: dict[str, Task] = {"train": train}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(TASKS)
