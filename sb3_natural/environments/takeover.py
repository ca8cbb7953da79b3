"""SB3's own environments, stepped by the lean code.

Environments that SB3's ``make_vec_env`` has made are the user's: they have to stay what they are.
So an object of SB3's class is one of the lean class while it takes a step, and only then. Nothing
is wrapped, copied or replaced, and callbacks, files and comparisons see what the user has made.
"""

import inspect
from collections.abc import Callable, Iterator

import stable_baselines3.common.vec_env as sb3
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from sb3_natural.environments.vec_env import LeanDummyVecEnv
from sb3_natural.environments.vec_normalize import VecNormalize

__all__ = ["LeanSteps"]

_LEAN: dict[type[VecEnv], type[VecEnv]] = {
    DummyVecEnv: LeanDummyVecEnv,
    sb3.VecNormalize: VecNormalize,
}


def _in_place_of(lean: type[VecEnv], theirs: type[VecEnv]) -> dict[str, Callable | None]:
    """By the names of a lean class's methods: SB3's own, None where its class has none."""
    names = [name for name, value in vars(lean).items() if inspect.isfunction(value)]
    return {name: _own_method(theirs, name) for name in names}


def _own_method(theirs: type[VecEnv], name: str) -> Callable | None:
    """A class's own method; None if it has none, or if somebody has replaced it already."""
    method = vars(theirs).get(name)
    own = (theirs.__module__, f"{theirs.__qualname__}.{name}")
    is_own = method is not None and (method.__module__, method.__qualname__) == own
    return method if is_own else None


# As SB3 has them. Who replaces one of them wants it to be called.
_REPLACED = {theirs: _in_place_of(lean, theirs) for theirs, lean in _LEAN.items()}


class LeanSteps:
    """A context in which SB3's own environments step like the lean ones, with the same results.

    It is for a single step, and can be entered again for the next one. Taken over are
    ``DummyVecEnv`` and ``VecNormalize``, however many wrappers there are around them. Left alone
    are classes derived from them, and objects or classes one of whose methods has been replaced.

    :param env: the environments, whose wrappers stay the same
    """

    def __init__(self, env: VecEnv) -> None:
        self._taken_over = [
            (each, type(each), _LEAN[type(each)]) for each in _chain(env) if _is_sb3s_own(each)
        ]

    def __enter__(self) -> None:
        for env, _, lean in self._taken_over:
            env.__class__ = lean

    def __exit__(self, *error: object) -> None:
        for env, theirs, _ in self._taken_over:
            env.__class__ = theirs


def _chain(env: VecEnv) -> Iterator[VecEnv]:
    """The environments and what they are wrapped around, from outside to inside."""
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv
    yield env


def _is_sb3s_own(env: VecEnv) -> bool:
    theirs = type(env)
    replaced = _REPLACED.get(theirs)
    if replaced is None or not replaced.keys().isdisjoint(vars(env)):
        return False
    return all(vars(theirs).get(name) is method for name, method in replaced.items())
