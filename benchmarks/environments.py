"""Environments as a suite describes them: checked, and made."""

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from benchmarks.errors import SpecError, clean_up
from sb3_natural import make_vec_env

Wrapper = str | dict[str, dict[str, Any]]
"""A wrapper's dotted path, or ``{path: arguments}``."""


def check_environment(env_id: str, where: str) -> None:
    """Check that Gymnasium knows an environment; ``module:Env-v0`` imports the module first.

    :raises SpecError: it does not
    """
    try:
        env_spec(env_id)
    except (gym.error.Error, ImportError) as error:
        raise SpecError(
            f"{where}: {env_id!r} is not an environment of Gymnasium: {error}"
        ) from None


def imported(path: str) -> Any:
    """A module by its dotted path.

    :raises ImportError: it cannot be imported, for whatever reason
    """
    if path.startswith("."):
        raise ImportError(f"{path!r} is relative to nothing")
    try:
        return import_module(path)
    except ImportError:
        raise
    except Exception as error:  # what runs there is somebody else's
        raise ImportError(f"importing {path!r} raises {_named(error)}") from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def is_atari(env_id: str) -> bool:
    """Whether an environment is an Atari game of ale-py."""
    try:
        return str(env_spec(env_id).entry_point).startswith("ale_py")
    except (gym.error.Error, ImportError):
        return False


def env_spec(env_id: str) -> Any:
    """What Gymnasium has registered; ``module:Env-v0`` imports the module first."""
    module, _, name = env_id.rpartition(":")
    if module:
        imported(module)
    return gym.spec(name)


def check_wrappers(wrappers: Any, where: str) -> None:
    """Check a list of wrappers, each a dotted path or ``{path: arguments}``.

    :raises SpecError: not of that form, or one that cannot be imported
    """
    if not isinstance(wrappers, list):
        raise SpecError(f"{where}: must be a list of dotted paths, got {wrappers!r}")
    for wrapper in wrappers:
        _wrapper(wrapper, where)


def _wrapper(wrapper: Any, where: str) -> partial[Any]:
    """A wrapper's class, with its arguments."""
    path: Any = wrapper
    arguments: Any = {}
    if isinstance(wrapper, dict) and len(wrapper) == 1:
        ((path, arguments),) = wrapper.items()
    if not isinstance(path, str) or not isinstance(arguments, dict):
        raise SpecError(
            f"{where}: must be a dotted path such as gymnasium.wrappers.TimeAwareObservation, or "
            f"{{path: {{argument: value}}}}, got {wrapper!r}"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(imported(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{where}: {path!r} cannot be imported: {error}") from None
    if not isinstance(found, type) or not issubclass(found, gym.Wrapper):
        raise SpecError(f"{where}: {path!r} is not a subclass of gymnasium.Wrapper")
    return partial(found, **arguments)


def try_environment(
    env_id: str,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[tuple[Wrapper, str]],
    where: str,
) -> None:
    """Make an environment and take a step, then again with each wrapper more.

    :param kwargs: arguments of ``gymnasium.make``
    :param wrappers: from the inside to the outside, each with where it was written
    :param where: where ``kwargs`` were written, for the error message
    :raises SpecError: something of it cannot be used; names where it was written, and its value
    """
    env = _tried(partial(gym.make, env_id, **kwargs), env_id, f"{where}: {dict(kwargs)!r}")
    for wrapper, place in wrappers:
        layer = _wrapper(wrapper, place)
        env = _tried(partial(layer, env), env_id, f"{place}: {wrapper!r}")
    clean_up(env.close)


def _tried(make: Callable[[], gym.Env], env_id: str, described: str) -> gym.Env:
    """An environment that has taken a step."""
    try:
        # Its warnings are said when the runs begin.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = make()
            env.reset(seed=0)
            env.action_space.seed(0)
            env.step(env.action_space.sample())
    except Exception as error:
        raise SpecError(f"{described}: {env_id} cannot be made so: {_named(error)}") from error
    return env


def make_envs(
    env_id: str,
    n_envs: int,
    seed: int,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    frame_stack: int | None = None,
    max_steps: int | None = None,
) -> VecEnv:
    """Environments side by side, with monitors inside of the wrappers.

    :param kwargs: arguments of ``gymnasium.make``
    :param wrappers: from the inside to the outside
    :param frame_stack: how many observations an observation consists of
    :param max_steps: steps after which an episode is cut, with a warning
    """
    layers = [_wrapper(wrapper, "wrappers") for wrapper in wrappers]

    # Made here, as SB3 asks for render_mode="rgb_array": then LunarLander adds particles that are
    # taken away when a picture is made, and simulates all of them until the episode ends.
    def make() -> gym.Env:
        env = gym.make(env_id, **(kwargs or {}))
        limit = env.spec.max_episode_steps if env.spec else None
        return env if max_steps is None or (limit or math.inf) <= max_steps else Cut(env, max_steps)

    def wrap(env: gym.Env) -> gym.Env:
        env = EpisodeMonitor(env.env)  # type: ignore[attr-defined]  # SB3's Monitor
        for layer in layers:
            env = layer(env)
        return env

    env = make_vec_env(make, n_envs, seed, wrapper_class=wrap if layers else None)
    return env if frame_stack is None else VecFrameStack(env, frame_stack)


class Cut(gym.wrappers.TimeLimit):
    """Ends episodes that would go on for ever, and warns."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As in TimeLimit."""
        obs, reward, terminated, truncated, info = super().step(action)
        if self._elapsed_steps == self._max_episode_steps and not terminated:
            warnings.warn(
                f"evaluation: max_steps: an episode was cut after {self._max_episode_steps:,} "
                "steps, and counts with its return so far; kwargs: {max_episode_steps: N} gives "
                "the environment a time limit of its own",
                stacklevel=2,
            )
        return obs, reward, terminated, truncated, info


class EpisodeMonitor(Monitor):
    """SB3's Monitor, which also counts the episodes that a wrapper around it ends.

    A wrapper may end an episode before the environment does. Some reset the environment then (a
    time limit), and the episode has ended; others let it go on (the loss of a life in a game).
    Which it is shows when the environment is reset: Monitor forgets such an episode, and the
    statistics would have those alone that ended by themselves. This one reports it, with its own
    return and length: in the ``info`` of the next step, or before that by :meth:`take_ended`.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._ended: deque[dict[str, float]] = deque(maxlen=100)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As in Monitor."""
        if kwargs.get("seed") is not None:  # a new beginning, whatever was there
            self._ended.clear()
        elif self.rewards and not self.needs_reset:
            seconds = round(time.time() - self.t_start, 6)
            episode = {"r": round(sum(self.rewards), 6), "l": len(self.rewards), "t": seconds}
            self._ended.append(episode)
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As in Monitor."""
        obs, reward, terminated, truncated, info = super().step(action)
        if self._ended and "episode" not in info:
            info["episode"] = self._ended.popleft()
        return obs, reward, terminated, truncated, info

    def take_ended(self) -> dict[str, float] | None:
        """The episode that a wrapper has ended, where it has not been reported yet."""
        return self._ended.popleft() if self._ended else None
