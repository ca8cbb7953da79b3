"""The speed of ACER's training, and where the time of its updates goes.

Models are kept: the first measurement of one builds it and trains until it replays, uncounted.
"""

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from benchmarks.speed.stopwatch import Stopwatch, acer_parts
from sb3_natural import make_vec_env
from sb3_natural.acer import ACER
from sb3_natural.acer import acer as algorithm

SEED = 0


def _watched(model: ACER) -> Iterator[tuple[str, Any, str]]:
    """The part, owner and name of every function whose time is counted."""
    policy = model.policy
    yield from (
        ("update", model, "train"),
        ("gathering", model.replay_buffer, "latest"),
        ("gathering", model.replay_buffer, "sample"),
        ("forward", policy, "statistics_and_latent"),
        ("forward", policy.value_net, "forward"),
        ("Retrace", algorithm, "retrace"),
        ("projection", algorithm, "policy_gradient"),
        ("projection", algorithm, "linearised_projection"),
        ("projection", policy, "average_statistics"),
        ("projection", policy.family, "kl_gradient"),
        ("backward", torch.Tensor, "backward"),
        ("optimiser", policy.optimizer, "zero_grad"),
        ("optimiser", torch.nn.utils, "clip_grad_norm_"),
        ("optimiser", policy.optimizer, "step"),
        ("optimiser", policy, "update_average"),
    )


def train_acer(rollouts: int, **setting: Any) -> dict[str, Any]:
    """Continue the training, and measure it.

    :param rollouts: how many, each with its updates
    :param setting: arguments of :func:`_model`
    :return: ``seconds``, environment ``steps``, and the number of ``updates``, fresh and replayed
    """
    return _learn(_model(**setting), rollouts)


def train_acer_by_part(rollouts: int, **setting: Any) -> dict[str, Any]:
    """Continue the training with the parts timed, which itself takes some time.

    This needs a process of its own, since it replaces functions of the library for all models.

    :return: ``seconds``, ``steps``, ``updates``, and the seconds of every part, under ``parts``
    """
    model = _model(**setting)
    stopwatch = Stopwatch()
    for part, owner, name in _watched(model):
        during = None if part == "update" else "update"
        stopwatch.watch(owner, name, part, only_during=during)
    measured = _learn(model, rollouts)
    seconds = measured["seconds"]
    update = stopwatch.seconds.pop("update")
    parts = acer_parts({**stopwatch.seconds, "collecting": seconds - update}, seconds)
    return {**measured, "parts": parts}


@cache
def _model(
    env_id: str, n_envs: int, n_steps: int, replay_ratio: int, replay_start: int, n_segments: int
) -> ACER:
    """A model that replays.

    :param n_steps: of a segment; a rollout is one segment of every environment
    :param replay_ratio: the mean number of replayed batches for each rollout
    :param replay_start: steps of all environments together before anything is replayed
    :param n_segments: of a replayed batch
    """
    model = ACER(
        "MlpPolicy",
        make_vec_env(env_id, n_envs, SEED),
        n_steps=n_steps,
        replay_ratio=replay_ratio,
        replay_start=replay_start,
        replay_batch_size=n_segments,
        seed=SEED,
        device="cpu",
    )
    return model.learn(replay_start + n_steps * n_envs)


def _learn(model: ACER, rollouts: int) -> dict[str, Any]:
    steps, updates = model.num_timesteps, model._n_updates
    start = time.perf_counter()
    model.learn(rollouts * model.n_steps * model.n_envs, reset_num_timesteps=False)
    return {
        "seconds": time.perf_counter() - start,
        "steps": model.num_timesteps - steps,
        "updates": model._n_updates - updates,
    }
