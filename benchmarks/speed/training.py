"""The speed of whole training, of its phases, and of the bare simulators.

Models are kept: the first measurement of one builds it and trains for one update, uncounted.
"""

import time
from functools import cache
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env as make_sb3_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from benchmarks.speed.memory import peak_resident_mib, resident_mib
from benchmarks.speed.protocol import UnavailableError
from benchmarks.speed.stopwatch import Stopwatch, phases
from sb3_natural import NPG, make_vec_env
from sb3_natural.rollouts.collection import FastRollouts

SEED = 0


def train(updates: int = 1, **setting: Any) -> dict[str, Any]:
    """Continue the training, and measure it.

    :param updates: how many rollouts with their updates
    :param setting: arguments of :func:`_model`
    :return: ``seconds`` and environment ``steps``
    """
    model = _model(**setting)
    steps = updates * setting["steps_per_update"]
    return {"seconds": _learn(model, steps), "steps": steps}


def train_by_phase(updates: int = 1, **setting: Any) -> dict[str, Any]:
    """Continue the training of a model whose parts are timed, which itself takes some time.

    :return: ``seconds``, ``steps`` and the seconds of every phase, under ``phases``
    """
    model, stopwatch = _watched_model(**setting)
    steps = updates * setting["steps_per_update"]
    stopwatch.reset()
    seconds = _learn(model, steps)
    return {
        "seconds": seconds,
        "steps": steps,
        "phases": phases(_seconds_by_phase(stopwatch), seconds),
    }


def train_for_memory(**setting: Any) -> dict[str, Any]:
    """Train for two updates in a process that has done nothing else.

    :return: MiB: ``before`` (libraries imported, nothing made) and ``peak``, both of the process
    """
    before = resident_mib()
    _model(**setting).learn(setting["steps_per_update"], reset_num_timesteps=False)
    return {"before": before, "peak": peak_resident_mib()}


def simulate(env_id: str, steps: int) -> dict[str, Any]:
    """Step one environment of Gymnasium in a bare loop, with random actions drawn beforehand."""
    env, actions = _single_env(env_id)
    start = time.perf_counter()
    for step in range(steps):
        _, _, terminated, truncated, _ = env.step(actions[step % len(actions)])
        if terminated or truncated:
            env.reset()
    return {"seconds": time.perf_counter() - start, "steps": steps}


def simulate_pool(env_id: str, n_envs: int, pool_threads: int, steps: int) -> dict[str, Any]:
    """Step a bare EnvPool, with random actions drawn beforehand.

    :param steps: of all environments together
    :raises UnavailableError: EnvPool is not installed
    """
    pool, actions = _bare_pool(env_id, n_envs, pool_threads)
    n_calls = -(-steps // n_envs)
    start = time.perf_counter()
    for call in range(n_calls):
        pool.step(actions[call % len(actions)])
    return {"seconds": time.perf_counter() - start, "steps": n_calls * n_envs}


@cache
def _model(
    library: str,
    algorithm: str,
    env_id: str,
    n_envs: int,
    steps_per_update: int,
    backend: str = "dummy",
    pool_threads: int | None = None,
    normalize: bool = False,
) -> OnPolicyAlgorithm:
    """A model that has had one update.

    :param library: the module that has the algorithm: the originals run in SB3's own ``VecEnv``
    :param backend: of ours; "sb3" is SB3's own ``VecEnv``
    :param steps_per_update: of all environments together
    :param normalize: observations and rewards, by VecNormalize: SB3's around its own ``VecEnv``
    """
    env = _vec_env(library, env_id, n_envs, backend, pool_threads, normalize)
    # TRPO's default would be 15.
    arguments = {} if algorithm in ("PPO", "A2C", "ACKTR") else {"cg_max_steps": 10}
    model = getattr(import_module(library), algorithm)(
        "MlpPolicy",
        env,
        n_steps=steps_per_update // n_envs,
        seed=SEED,
        device="cpu",
        **arguments,
    )
    return model.learn(steps_per_update)


def _vec_env(
    library: str,
    env_id: str,
    n_envs: int,
    backend: str,
    pool_threads: int | None,
    normalize: bool,
) -> VecEnv:
    if library != "sb3_natural" or backend == "sb3":
        env = make_sb3_vec_env(env_id, n_envs, SEED)
        return VecNormalize(env) if normalize else env
    options = {"num_threads": pool_threads} if backend == "envpool" else None
    try:
        return make_vec_env(
            env_id, n_envs, SEED, backend=backend, vec_env_kwargs=options, normalize=normalize
        )
    except ImportError as error:
        raise UnavailableError(str(error)) from None


def _learn(model: OnPolicyAlgorithm, steps: int) -> float:
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return time.perf_counter() - start


@cache
def _watched_model(**setting: Any) -> tuple[OnPolicyAlgorithm, Stopwatch]:
    # A model of its own: those that are not watched must stay as they are.
    model = _model.__wrapped__(**setting)
    stopwatch = Stopwatch()
    assert model.env is not None
    _watch_simulator(stopwatch, model.env)
    _watch_acting(stopwatch, model)
    _watch_update(stopwatch, model)
    return model, stopwatch


def _watch_simulator(stopwatch: Stopwatch, env: VecEnv) -> None:
    """Time the environments themselves: the wrappers around them count as bookkeeping."""
    if isinstance(env, DummyVecEnv):
        for single in env.envs:
            stopwatch.watch(single.unwrapped, "step", "simulator")
            stopwatch.watch(single.unwrapped, "reset", "simulator")
    else:
        for method in ("send", "recv", "reset"):
            stopwatch.watch(env._pool, method, "simulator")  # type: ignore[attr-defined]


def _watch_acting(stopwatch: Stopwatch, model: OnPolicyAlgorithm) -> None:
    """Time actions, values and log-probabilities: SB3 has one function for all, ours has two."""
    stopwatch.watch(model, "collect_rollouts", "collecting")
    if not isinstance(model, FastRollouts):
        stopwatch.watch(model.policy, "forward", "acting", only_during="collecting")
        return
    path, make_actor, make_recorder = model.rollout_path, model._make_actor, model._recorder

    def make_watched_actor() -> Any:
        actor = make_actor()
        stopwatch.watch(actor, "sample", "acting")
        return actor

    def make_watched_recorder(buffer: Any, actor: Any) -> Any:
        recorder = make_recorder(buffer, actor)
        stopwatch.watch(recorder, "_values", "acting")
        return recorder

    model._make_actor = make_watched_actor  # type: ignore[method-assign]
    model._recorder = make_watched_recorder  # type: ignore[method-assign]
    model._remembered.forget()  # the actor that is not watched
    assert model.rollout_path == path, "being watched must not change the way actions are computed"


def _watch_update(stopwatch: Stopwatch, model: OnPolicyAlgorithm) -> None:
    stopwatch.watch(model, "train", "update")
    if isinstance(model, NPG):
        model.critic = model._make_critic()  # an object, to be watched
        stopwatch.watch(model.critic, "fit", "critic update")
    elif hasattr(model, "_fit_values"):
        stopwatch.watch(model, "_fit_values", "critic update")
    elif hasattr(model, "n_critic_updates"):
        _watch_trpo_critic(stopwatch, model)


def _watch_trpo_critic(stopwatch: Stopwatch, model: Any) -> None:
    """Time sb3-contrib's critic, which has no method: it begins with the first minibatch.

    The policy takes the whole rollout, ``get(batch_size=None)``.
    """
    get, train = model.rollout_buffer.get, model.train
    began: list[float] = []

    def noted_get(batch_size: int | None = None) -> Any:
        if batch_size is not None and not began:
            began.append(time.perf_counter())
        return get(batch_size)

    def noted_train() -> None:
        began.clear()
        train()
        stopwatch.seconds["critic update"] += time.perf_counter() - began[0]

    model.rollout_buffer.get = noted_get
    model.train = noted_train


def _seconds_by_phase(stopwatch: Stopwatch) -> dict[str, float]:
    seconds = stopwatch.seconds
    measured = {"simulator": seconds["simulator"], "acting": seconds["acting"]}
    if "critic update" not in seconds:
        return {**measured, "joint update": seconds["update"]}
    critic = seconds["critic update"]
    return {**measured, "policy update": seconds["update"] - critic, "critic update": critic}


@cache
def _single_env(env_id: str) -> tuple[gym.Env, list[Any]]:
    env = gym.make(env_id)
    env.reset(seed=SEED)
    env.action_space.seed(SEED)
    return env, [env.action_space.sample() for _ in range(1_000)]


@cache
def _bare_pool(env_id: str, n_envs: int, pool_threads: int) -> tuple[Any, list[np.ndarray]]:
    try:
        import envpool
    except ImportError:
        raise UnavailableError("EnvPool is not installed") from None
    pool = envpool.make_gymnasium(env_id, num_envs=n_envs, num_threads=pool_threads, seed=SEED)
    pool.reset()
    pool.action_space.seed(SEED)
    rows = range(n_envs)
    return pool, [np.stack([pool.action_space.sample() for _ in rows]) for _ in range(100)]
