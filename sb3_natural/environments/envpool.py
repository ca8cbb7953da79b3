"""Parallel simulation: one call for every kind of vectorised environment, and EnvPool's C++ pool.

EnvPool steps all environments in C++ threads. It differs from what SB3 expects of a ``VecEnv`` in
three ways, which are changed here:

- It resets an environment in the step *after* an episode's last one, and ignores the action of that
  step. Here environments are reset within the last step, by a second call for them alone.
- At the time limit it reports a truncation even if the episode also terminated there. Here it gets
  no limit, and Gymnasium's limit is counted outside.
- It takes seeds at construction only. Here ``seed`` makes the next ``reset`` build a new pool.
"""

import inspect
import math
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common import env_util
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from sb3_natural.arguments import at_least, checked, one_of
from sb3_natural.environments.processes import ProcessVecEnv
from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.environments.vec_normalize import VecNormalize

__all__ = ["EnvPoolVecEnv", "make_vec_env"]

# Those that simulate in Python: any environment that Gymnasium can make.
_PYTHON_BACKENDS: dict[str, type[VecEnv]] = {
    "dummy": LeanDummyVecEnv,
    "subproc": SubprocVecEnv,
    "processes": ProcessVecEnv,
}
BACKENDS = (*_PYTHON_BACKENDS, "envpool")
# EnvPool's own "no limit": the largest int32.
_NO_LIMIT = 2**31 - 1
# Arguments of gymnasium.make itself, which are not options of the environment.
_MAKE_ARGUMENTS = {"max_episode_steps", "disable_env_checker", "render_mode"}
# Gymnasium's name of an option -> EnvPool's, where they differ.
_RENAMED = {
    "reward_dist_weight": "dist_cost_weight",
    "reward_control_weight": "ctrl_cost_weight",
    "reward_near_weight": "near_cost_weight",
}


@checked(
    n_envs=at_least(1),
    seed=at_least(0),
    backend=one_of(BACKENDS),
    start_index=at_least(0),
)
def make_vec_env(
    env_id: str | Callable[..., gym.Env],
    n_envs: int = 1,
    seed: int | None = None,
    *,
    backend: str = "dummy",
    start_index: int = 0,
    monitor_dir: str | None = None,
    wrapper_class: Callable[[gym.Env], gym.Env] | None = None,
    env_kwargs: dict[str, Any] | None = None,
    vec_env_kwargs: dict[str, Any] | None = None,
    monitor_kwargs: dict[str, Any] | None = None,
    wrapper_kwargs: dict[str, Any] | None = None,
    normalize: bool | Mapping[str, Any] = False,
) -> VecEnv:
    """SB3's ``make_vec_env``, with a choice of the backend that simulates.

    Example::

        >>> env = make_vec_env("CartPole-v1", n_envs=2, seed=0)  # or backend="envpool"
        >>> env.reset().shape
        (2, 4)
        >>> env.close()

    :param env_id: an id registered in Gymnasium; with all backends but ``"envpool"`` also a class
        or a function that returns an environment
    :param n_envs: number of environments
    :param seed: environment i gets ``seed + i``; None draws one from NumPy's global generator
    :param backend: ``"dummy"`` (one after the other, in this process), ``"processes"`` (a process
        for each core; see :class:`~sb3_natural.environments.processes.ProcessVecEnv`),
        ``"subproc"`` (a process for each environment) or ``"envpool"`` (C++ threads; see
        :class:`~sb3_natural.environments.envpool.EnvPoolVecEnv`)
    :param start_index: added to i in the names of the monitor files and in the action spaces' seeds
    :param monitor_dir: folder for monitor files; None: no files; not with ``"envpool"``
    :param wrapper_class: wrapper of every environment, or a function that wraps one; not with
        ``"envpool"``
    :param env_kwargs: arguments of ``gymnasium.make``
    :param vec_env_kwargs: further arguments of the ``VecEnv``'s constructor: with ``"processes"``
        ``n_processes`` and ``start_method``, with ``"envpool"`` ``num_threads``
    :param monitor_kwargs: arguments of SB3's ``Monitor``; not with ``"envpool"``
    :param wrapper_kwargs: arguments of ``wrapper_class``; not with ``"envpool"``
    :param normalize: whether to normalise observations and rewards with
        :class:`~sb3_natural.environments.vec_normalize.VecNormalize`; or that class's arguments, as
        a mapping
    :return: the environments; their infos report episodes as SB3's ``Monitor`` does
    :raises ValueError: the backend is unknown, or EnvPool does not support an argument
    :raises ImportError: ``backend="envpool"`` without EnvPool installed
    """
    python_only: dict[str, Any] = dict(
        monitor_dir=monitor_dir,
        wrapper_class=wrapper_class,
        monitor_kwargs=monitor_kwargs,
        wrapper_kwargs=wrapper_kwargs,
    )
    if backend == "envpool":
        _check_for_envpool(env_id, python_only)
        env: VecEnv = EnvPoolVecEnv(
            str(env_id), n_envs, seed, env_kwargs=env_kwargs, **(vec_env_kwargs or {})
        )
        if seed is not None:
            env.action_space.seed(seed + start_index)
    else:
        env = env_util.make_vec_env(
            env_id,
            n_envs=n_envs,
            seed=seed,
            start_index=start_index,
            env_kwargs=env_kwargs,
            vec_env_cls=_PYTHON_BACKENDS[backend],  # type: ignore[arg-type]
            vec_env_kwargs=vec_env_kwargs,
            **python_only,
        )
    if normalize is False:
        return env
    return VecNormalize(env, **({} if normalize is True else normalize))


def _check_for_envpool(env_id: Any, python_only: Mapping[str, Any]) -> None:
    for name, value in python_only.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r}: EnvPool simulates in C++, out of reach of Python wrappers; "
                f"leave {name} at None, or use backend='dummy' or 'processes'"
            )
    if not isinstance(env_id, str):
        raise ValueError(
            f"env_id={env_id!r}: EnvPool takes the id of a task, such as 'HalfCheetah-v5'; for a "
            "class or a function use backend='dummy' or 'processes'"
        )


class EnvPoolVecEnv(VecEnv):
    """EnvPool's environments as an SB3 ``VecEnv``.

    The task is Gymnasium's: its time limit, its spaces (an error if EnvPool's differ) and, if
    EnvPool has them, its options. ``infos`` hold what SB3's ``Monitor`` adds to them. Differences
    from ``DummyVecEnv`` with the same id:

    - The random streams are EnvPool's: the same seed gives other initial states.
    - EnvPool's rewards are float32, so an episode's return is a sum of rounded rewards.
    - ``infos[i]`` is empty unless episode i ended in this step: it holds neither the parts of the
      reward nor ``"TimeLimit.truncated": False`` in every step. ``reset_infos`` are empty.
    - The environments are not Python objects: there is no rendering, and there are no reset
      options, no ``set_attr`` and no ``env_method``; ``get_attr`` knows ``render_mode``, ``spec``
      and the two spaces.
    - EnvPool 1.2.5 brings MuJoCo 3.6.0. With the same version under Gymnasium, the -v5 tasks give
      equal observations, and rewards equal in float32 (this was checked for all nine, but for
      Walker2d over five steps only). MuJoCo 4.0.0 rounds differently, and steps Ant and Humanoid
      differently: there, one step from the same state differs by 1e-5 in the median, and by more
      where contacts change.
    - At its speed limit, EnvPool 1.2.5's Pendulum-v1 turns the angle by the speed before it is
      limited, Gymnasium's by the limited speed.

    :param env_id: an id that both Gymnasium and EnvPool know
    :param n_envs: number of environments
    :param seed: environment i gets ``seed + i``; None draws one from NumPy's global generator.
        Seeds that differ by a multiple of 2^32 are the same to EnvPool
    :param num_threads: number of C++ threads; None: one per core, at most ``n_envs``
    :param env_kwargs: arguments of ``gymnasium.make``, by Gymnasium's names
    :raises ImportError: EnvPool is not installed; names the extra that installs it
    :raises ValueError: EnvPool does not have the task or an option, or its spaces differ
    """

    @checked(n_envs=at_least(1), num_threads=at_least(1))
    def __init__(
        self,
        env_id: str,
        n_envs: int = 1,
        seed: int | None = None,
        num_threads: int | None = None,
        env_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._envpool = _import_envpool()
        task = _task(self._envpool, env_id, env_kwargs or {})
        self._attributes: dict[str, Any] = {
            "render_mode": None,
            "spec": task.spec,
            "observation_space": task.observation_space,
            "action_space": task.action_space,
        }
        super().__init__(n_envs, task.observation_space, task.action_space)
        self._id = task.spec.id
        self._options_of_pool = {**task.options, "num_threads": num_threads or 0}
        self._time_limit = task.spec.max_episode_steps or _NO_LIMIT
        self._observation_dtype = task.observation_space.dtype
        self._observation_shape = task.observation_space.shape or ()
        self._action_shape = (n_envs, *(task.action_space.shape or ()))
        self._pool: Any = None
        self._is_stepping = False
        self._is_closed = False
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, dtype=np.int64)
        self._start = time.time()
        self.seed(seed)

    def reset(self) -> np.ndarray:
        """Start new episodes in all environments, with new seeds if :meth:`seed` was called.

        :return: the first observations, (n_envs, \\*shape)
        """
        if self._is_closed:
            raise RuntimeError("reset() after close(): make a new EnvPoolVecEnv")
        if self._is_stepping:
            self._pool.recv()
            self._is_stepping = False
        if self._pool is None or self._seeds[0] is not None:
            self._build_pool()
        observations, _ = self._pool.reset()
        self._returns[:] = 0
        self._lengths[:] = 0
        self._reset_seeds()
        return self._as_in_space(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Start a step; the C++ threads work until :meth:`step_wait`.

        :param actions: (n_envs, \\*shape of an action)
        """
        actions = np.asarray(actions)
        if actions.shape != self._action_shape:
            raise ValueError(
                f"actions must have shape {self._action_shape}, got shape {actions.shape}"
            )
        if self._pool is None or self._is_stepping:
            raise RuntimeError(
                "step_async() needs a reset() before the first step and a step_wait() after each "
                "step_async(), and cannot be called after close()"
            )
        self._pool.send(actions)
        self._is_stepping = True

    def step_wait(self) -> VecEnvStepReturn:
        """Finish the step; finished environments start their next episode within it.

        :return: observations (n_envs, \\*shape), where an episode ended the next one's first;
            rewards (n_envs,), float32; dones (n_envs,); infos, which hold ``terminal_observation``,
            ``TimeLimit.truncated`` and ``episode`` where an episode ended and are empty elsewhere
        """
        if not self._is_stepping:
            raise RuntimeError("step_wait() without step_async()")
        received, rewards, terminated, truncated_by_pool, _ = self._pool.recv()
        self._is_stepping = False
        observations = self._as_in_space(received)
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated_by_pool | (self._lengths >= self._time_limit)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            self._next_episodes(np.flatnonzero(dones), observations, terminated, infos)
        return observations, rewards, dones, infos

    def _next_episodes(
        self,
        ended: np.ndarray,
        observations: np.ndarray,
        terminated: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Fill in the ended episodes' infos, and the next episodes' first observations.

        This reset draws the same random numbers as EnvPool's own, which would come one step later.
        """
        seconds = round(time.time() - self._start, 6)
        for index in ended:
            infos[index] = {
                "TimeLimit.truncated": not terminated[index],
                "terminal_observation": observations[index].copy(),
                "episode": {
                    "r": round(float(self._returns[index]), 6),
                    "l": int(self._lengths[index]),
                    "t": seconds,
                },
            }
        received, info = self._pool.reset(ended.astype(np.int32))
        observations[info["env_id"]] = self._as_in_space(received)
        self._returns[ended] = 0
        self._lengths[ended] = 0

    def _as_in_space(self, received: np.ndarray) -> np.ndarray:
        # Pools return new arrays, which nobody else holds: only another dtype needs a copy.
        shape = (len(received), *self._observation_shape)
        return received.reshape(shape).astype(self._observation_dtype, copy=False)

    def _build_pool(self) -> None:
        self._close_pool()
        self._pool = self._envpool.make_gymnasium(
            self._id,
            num_envs=self.num_envs,
            # EnvPool takes int32, SB3 seeds up to 2^32 and beyond.
            seed=[(seed + 2**31) % 2**32 - 2**31 for seed in self._seeds if seed is not None],
            **self._options_of_pool,
        )

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def close(self) -> None:
        """Stop the C++ threads. A second call does nothing."""
        self._is_closed = True
        self._is_stepping = False
        self._close_pool()

    def set_options(self, options: list[dict] | dict | None = None) -> None:
        """Refuse all options: EnvPool's resets take none.

        :param options: None or empty
        :raises ValueError: an option is given
        """
        if any(options if isinstance(options, list) else [options]):
            raise ValueError(
                f"options must be empty, since EnvPool's resets take none; got {options!r}"
            )

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of each environment.

        :param attr_name: name of the attribute
        :param indices: which environments: an index or several; None: all
        :return: one value for each of them
        :raises AttributeError: it is not ``render_mode`` (None), ``spec`` (Gymnasium's),
            ``observation_space`` or ``action_space``
        """
        if attr_name not in self._attributes:
            raise AttributeError(
                f"{attr_name!r}: environments simulated by EnvPool have only the attributes "
                f"{', '.join(self._attributes)}; use backend='dummy' or 'processes' for others"
            )
        return [self._attributes[attr_name] for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible, since the environments are not Python objects.

        :raises NotImplementedError: always
        """
        raise NotImplementedError(
            f"set_attr({attr_name!r}, ...): environments simulated by EnvPool cannot be changed; "
            "give options as env_kwargs, or use backend='dummy' or 'processes'"
        )

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Not possible, since the environments are not Python objects.

        :raises NotImplementedError: always
        """
        raise NotImplementedError(
            f"env_method({method_name!r}): environments simulated by EnvPool have no methods; "
            "use backend='dummy' or 'processes'"
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """True for ``Monitor``, whose reports ``infos`` hold, and False for all other wrappers.

        :param wrapper_class: the class of wrappers
        :param indices: as for :meth:`get_attr`
        """
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


class _Task(NamedTuple):
    """A task that is the same in Gymnasium and EnvPool."""

    spec: EnvSpec
    observation_space: spaces.Space
    action_space: spaces.Space
    options: dict[str, Any]  # EnvPool's


def _import_envpool() -> ModuleType:
    try:
        import envpool
    except ImportError as error:
        raise ImportError(
            "backend='envpool' needs EnvPool: pip install \"sb3-natural[envpool]\""
        ) from error
    return envpool


def _task(envpool: ModuleType, env_id: str, env_kwargs: dict[str, Any]) -> _Task:
    """EnvPool's options for Gymnasium's task; checks that the spaces are the same."""
    if env_kwargs.get("render_mode") is not None:
        raise ValueError(
            f"env_kwargs has render_mode={env_kwargs['render_mode']!r}: EnvPoolVecEnv does not "
            "render; leave it out, or use backend='dummy'"
        )
    env = gym.make(env_id, **env_kwargs)
    try:
        spec = env.spec
        assert spec is not None, "gymnasium.make sets it"
        if spec.id not in envpool.list_all_envs():
            raise ValueError(
                f"env_id={env_id!r}: EnvPool {envpool.__version__} does not have this task; "
                "use backend='dummy' or 'processes'"
            )
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(type(env.unwrapped)).parameters.items()
            if parameter.default is not parameter.empty
        }
        known = envpool.make_spec(spec.id).config._asdict()
        options = _pool_options(env_id, {**defaults, **spec.kwargs}, env_kwargs, known)
        pool_spec = envpool.make_spec(spec.id, **options)
        _check_space(env_id, "observation", env.observation_space, pool_spec.observation_space)
        _check_space(env_id, "action", env.action_space, pool_spec.action_space)
        return _Task(spec, env.observation_space, env.action_space, options)
    finally:
        env.close()


def _pool_options(
    env_id: str, values: dict[str, Any], env_kwargs: dict[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    """EnvPool's options that correspond to Gymnasium's, defaults included.

    :param values: all of Gymnasium's options
    :param env_kwargs: those that the caller gave, which EnvPool must support
    :param known: EnvPool's options with their defaults
    """
    translated = {name: _translate(name, value, known) for name, value in values.items()}
    for name in env_kwargs:
        if name not in _MAKE_ARGUMENTS and not translated.get(name):
            valid = sorted(name for name, options in translated.items() if options)
            raise ValueError(
                f"env_kwargs has {name}={env_kwargs[name]!r}, which EnvPool does not support for "
                f"{env_id}: it supports {', '.join([*valid, 'max_episode_steps'])}; for anything "
                "else use backend='dummy' or 'processes'"
            )
    options = {"max_episode_steps": _NO_LIMIT}
    for pool_options in translated.values():
        options.update(pool_options)
    return options


def _translate(name: str, value: Any, known: dict[str, Any]) -> dict[str, Any]:
    """EnvPool's options for one of Gymnasium's; empty if there are none."""
    name = _RENAMED.get(name, name)
    # EnvPool looks an XML file up among its own, so the same name could mean another model.
    if name in known and name != "xml_file":
        return {name: value}
    stem = name.removesuffix("_range")
    if stem == name:
        return {}
    lower, upper = value
    bounds = {f"{stem}_min": (lower, -math.inf), f"{stem}_max": (upper, math.inf)}
    if any(option not in known and bound != free for option, (bound, free) in bounds.items()):
        return {}
    return {option: bound for option, (bound, _) in bounds.items() if option in known}


def _check_space(
    env_id: str, kind: str, expected: spaces.Space, found: spaces.Space | dict[str, Any]
) -> None:
    """Refuse spaces that differ; EnvPool's action space may have a wider type."""
    if isinstance(expected, spaces.Box) and isinstance(found, spaces.Box):
        wider = kind == "action" and np.can_cast(expected.dtype, found.dtype, "safe")
        same = (
            expected.shape == found.shape
            and (expected.dtype == found.dtype or wider)
            and np.array_equal(expected.low, found.low.astype(expected.dtype))
            and np.array_equal(expected.high, found.high.astype(expected.dtype))
        )
    else:
        same = isinstance(expected, spaces.Discrete) and expected == found
    if not same:
        raise ValueError(
            f"env_id={env_id!r}: the {kind} space is {expected!r} in Gymnasium and {found!r} in "
            "EnvPool. EnvPoolVecEnv needs Box or Discrete spaces that are the same in both; "
            "use backend='dummy' or 'processes'"
        )
