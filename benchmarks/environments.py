"""Environments as a suite describes them: looked up, checked and made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from benchmarks.errors import SpecError

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

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


def is_atari(env_id: str) -> bool:
    """Whether an environment is an Atari game of ale-py."""
    try:
        return str(env_spec(env_id).entry_point).startswith("ale_py")
    except (gym.error.Error, ImportError):
        return False


def env_spec(env_id: str) -> Any:
    """Gymnasium's registration of an environment; ``module:Env-v0`` imports the module first."""
    module, _, name = env_id.rpartition(":")
    if module:
        load_module(module)
    return gym.spec(name)


def load_module(path: str) -> Any:
    """The module with a dotted path.

    :raises ImportError: it cannot be imported, for whatever reason
    """
    if path.startswith("."):
        raise ImportError(f"{path!r} is relative to nothing")
    try:
        return import_module(path)
    except ImportError:
        raise
    except Exception as error:  # the module may be anyone's, and raise anything
        raise ImportError(f"importing {path!r} raises {type(error).__name__}: {error}") from error


def check_wrappers(wrappers: Any, where: str) -> None:
    """Check a list of wrappers, each a dotted path or ``{path: arguments}``.

    :raises SpecError: it has another form, or a wrapper cannot be imported
    """
    if not isinstance(wrappers, list):
        raise SpecError(f"{where}: must be a list of dotted paths, got {wrappers!r}")
    for wrapper in wrappers:
        load_wrapper(wrapper, where)


def load_wrapper(wrapper: Any, where: str) -> partial[Any]:
    """A wrapper's class, with its arguments.

    :param where: the wrapper was written, for the error message
    :raises SpecError: it has another form, or cannot be imported
    """
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
        found = getattr(load_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{where}: {path!r} cannot be imported: {error}") from None
    if not isinstance(found, type) or not issubclass(found, gym.Wrapper):
        raise SpecError(f"{where}: {path!r} is not a subclass of gymnasium.Wrapper")
    return partial(found, **arguments)


def make_envs(
    env_id: str,
    n_envs: int,
    seed: int,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    frame_stack: int | None = None,
    max_steps: int | None = None,
) -> VecEnv:
    """Environments side by side, each with a monitor inside its wrappers.

    :param kwargs: arguments of ``gymnasium.make``
    :param wrappers: from the inside to the outside
    :param frame_stack: how many observations are stacked into one
    :param max_steps: steps after which an episode is cut, with a warning
    """
    # Slow to import, and not needed to look environments up.
    from stable_baselines3.common.vec_env import VecFrameStack

    from benchmarks.wrappers import EpisodeMonitor, WarningTimeLimit
    from sb3_natural import make_vec_env

    layers = [load_wrapper(wrapper, "wrappers") for wrapper in wrappers]

    # Made here, since SB3 would ask for render_mode="rgb_array". With it, LunarLander adds
    # particles that only rendering removes, and simulates all of them until the episode ends.
    def make() -> gym.Env:
        env = gym.make(env_id, **(kwargs or {}))
        limit = env.spec.max_episode_steps if env.spec else None
        if max_steps is None or (limit or math.inf) <= max_steps:
            return env
        return WarningTimeLimit(env, max_steps)

    def wrap(env: gym.Env) -> gym.Env:
        env = EpisodeMonitor(env.env)  # type: ignore[attr-defined]  # in the place of SB3's
        for layer in layers:
            env = layer(env)
        return env

    env = make_vec_env(make, n_envs, seed, wrapper_class=wrap if layers else None)
    return env if frame_stack is None else VecFrameStack(env, frame_stack)
