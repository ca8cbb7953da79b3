"""Environments and models made once before any run: only their classes know what they accept."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from traceback import format_exception_only
from typing import Any

import gymnasium as gym
from gymnasium import Space
from gymnasium.spaces import flatdim
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.environments import Wrapper, load_wrapper
from benchmarks.errors import SpecError, clean_up
from benchmarks.processes import call_in_fork
from benchmarks.records import RunSpec
from benchmarks.run import make_env, make_model
from benchmarks.zoo import ModelArguments, model_arguments
from sb3_natural.environments.vec_normalize import VecNormalize

Spaces = tuple[Space, Space]
"""Of observations and actions."""
Source = Callable[[RunSpec, str | None], object]
"""Where a run's hyperparameters were written or, given its name, one of them."""
_LARGEST_OBSERVATION = 10_000_000  # numbers


def check_environment_arguments(
    env_id: str,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[tuple[Wrapper, str]],
    where: str,
) -> None:
    """Check that an environment accepts its arguments and wrappers: :func:`try_environment`.

    It is tried in a process of its own, since it may exit, crash or hang. If it does, the run will
    report that.
    """
    if refusal := call_in_fork(partial(_environment_refusal, env_id, kwargs, wrappers, where)):
        raise SpecError(refusal)


def _environment_refusal(*arguments: Any) -> str | None:
    try:
        try_environment(*arguments)
    except SpecError as error:
        return str(error)
    return None


def try_environment(
    env_id: str,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[tuple[Wrapper, str]],
    where: str,
) -> None:
    """Make an environment and take a step; again with each further wrapper.

    :param kwargs: arguments of ``gymnasium.make``
    :param wrappers: from the inside to the outside, each with where it was written
    :param where: ``kwargs`` were written, for the error message
    :raises SpecError: an argument or a wrapper that cannot be used, where it was written, and why
    """
    env = _stepped(partial(gym.make, env_id, **kwargs), env_id, f"{where}: {dict(kwargs)!r}")
    for wrapper, place in wrappers:
        layer = load_wrapper(wrapper, place)
        env = _stepped(partial(layer, env), env_id, f"{place}: {wrapper!r}")
    clean_up(env.close)


def _stepped(make: Callable[[], gym.Env], env_id: str, described: str) -> gym.Env:
    """An environment that has taken a step."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the runs will show them
            env = make()
            env.reset(seed=0)
            env.action_space.seed(0)
            env.step(env.action_space.sample())
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SpecError(f"{described}: {env_id} cannot be made so: {reason}") from error
    return env


def check_models(specs: Iterable[RunSpec], source: Source) -> None:
    """Make the model of each run on its environment, and drop it untrained.

    Each environment is made once for all its algorithms, in a process of its own that sends back
    its spaces, since it may exit, crash or hang. If it does, its runs will report that, and the
    other runs go on.

    :param specs: one of each group that differs in the seed alone
    :param source: for the error message
    :raises SpecError: a model cannot be made; it names the hyperparameter that is to blame
    """
    known: dict[str, Spaces | None] = {}
    for spec in specs:
        arguments = model_arguments(spec.algo, spec.hyperparams, str(source(spec, None)))
        around = [spec.env_id, spec.environment, arguments.wrappers, arguments.frame_stack]
        key = json.dumps(around)
        if key not in known:
            known[key] = call_in_fork(partial(_spaces, spec, arguments))
        spaces = known[key]
        if spaces is None:
            continue
        if _model_refusal(spec, _without_optimizer(arguments), _dummy_env(spaces, arguments)):
            _refuse(spec, arguments, source)


def _spaces(spec: RunSpec, arguments: ModelArguments) -> Spaces | None:
    env = make_env(spec, replace(arguments, normalize=None), 1, 0)
    spaces = env.observation_space, env.action_space
    return spaces if flatdim(spaces[0]) < _LARGEST_OBSERVATION else None


class _NoOptimizer:
    """Replaces torch's optimisers: making the first takes a second, as it imports the compiler."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def _without_optimizer(arguments: ModelArguments) -> ModelArguments:
    """The same arguments, without an optimiser unless they say something about it."""
    constructor = arguments.constructor
    policy_kwargs = constructor.get("policy_kwargs") or {}
    if any(key.startswith("optimizer") for key in policy_kwargs):
        return arguments
    policy_kwargs = {**policy_kwargs, "optimizer_class": _NoOptimizer}
    return replace(arguments, constructor={**constructor, "policy_kwargs": policy_kwargs})


class _DummyEnv(VecEnv):
    """Environments that have nothing but their number and their spaces."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """None for each environment: SB3 looks up ``render_mode``."""
        return [None] * self.num_envs  # render_mode is looked up

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """False for each environment."""
        return [False] * self.num_envs

    def _unsupported(self, *_: object, **__: object) -> Any:
        raise NotImplementedError("this environment has spaces alone")

    reset = step_async = step_wait = close = set_attr = env_method = _unsupported


def _dummy_env(spaces: Spaces, arguments: ModelArguments) -> VecEnv:
    env = _DummyEnv(arguments.n_envs, *spaces)
    if arguments.normalize is not None:
        with suppress(Exception):
            return VecNormalize(env, **arguments.normalize)
    return env


def _model_refusal(spec: RunSpec, arguments: ModelArguments, env: VecEnv) -> Exception | None:
    """Why the model cannot be made; None if it can."""
    constructor = arguments.constructor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the runs will show them
            # Checked but not used: a process that has used a GPU keeps some of its memory.
            get_device(constructor.get("device", "cpu"))
            unseeded: Any = None  # leaves the random generators of this process as they are
            make_model(
                replace(spec, seed=unseeded),
                replace(arguments, constructor={**constructor, "device": "cpu"}),
                env,
            )
    except Exception as error:  # the class may be anyone's, and raise anything
        return error
    return None


def _refuse(spec: RunSpec, arguments: ModelArguments, source: Source) -> None:
    """Make the model as a run does; if that fails as well, find the hyperparameter to blame.

    :raises SpecError: it fails
    """
    env = make_env(spec, arguments, arguments.n_envs, 0)
    try:
        refusal = _model_refusal(spec, arguments, env)
        if refusal is None:
            return
        # Not str(refusal), which may raise an exception itself.
        reason = "".join(format_exception_only(refusal)).strip()
        failed = f"cannot be used by {spec.algo} on {spec.env_id}: {reason}"
        for key, value in spec.hyperparams.items():
            others = {name: each for name, each in spec.hyperparams.items() if name != key}
            where = source(spec, key)
            if _model_refusal(spec, model_arguments(spec.algo, others, str(where)), env) is None:
                raise SpecError(f"{where}: {key}: {value!r} {failed}") from refusal
        raise SpecError(f"{source(spec, None)}: {failed}") from refusal
    finally:
        clean_up(env.close)
