"""Environments as a suite describes them: checked, and made."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from benchmarks.yamls import SpecError
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
        import_module(module)
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
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
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
) -> VecEnv:
    """Environments side by side, with monitors inside of the wrappers.

    :param kwargs: arguments of ``gymnasium.make``
    :param wrappers: from the inside to the outside
    :param frame_stack: how many observations an observation consists of
    """
    layers = [_wrapper(wrapper, "wrappers") for wrapper in wrappers]

    def wrap(env: gym.Env) -> gym.Env:
        for layer in layers:
            env = layer(env)
        return env

    # Made here, as SB3 asks for render_mode="rgb_array": then LunarLander adds particles that are
    # taken away when a picture is made, and simulates all of them until the episode ends.
    env = make_vec_env(
        partial(gym.make, env_id, **(kwargs or {})),
        n_envs,
        seed,
        wrapper_class=wrap if layers else None,
    )
    return env if frame_stack is None else VecFrameStack(env, frame_stack)
