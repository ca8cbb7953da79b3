"""Models made before anything runs: only their classes know what they take."""

import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from traceback import format_exception_only
from typing import Any, TypeVar

from gymnasium import Space
from gymnasium.spaces import flatdim
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from benchmarks.errors import SpecError, clean_up
from benchmarks.records import RunSpec
from benchmarks.run import make_env, make_model
from benchmarks.zoo import ModelArguments, model_arguments

Result = TypeVar("Result")
Spaces = tuple[Space, Space]
"""Of observations and actions."""
_LARGEST_OBSERVATION = 10_000_000  # numbers
Source = Callable[[RunSpec, str | None], object]
"""Where a run's hyperparameters were written, or one of them."""


def try_models(specs: Iterable[RunSpec], source: Source) -> None:
    """Make the model of each run on its environment, and drop it untrained.

    An environment is made once for all its algorithms, in a process of its own, which tells its
    spaces: it may exit, crash or hang. One that cannot be made is left to the run, which says so:
    the others go on then.

    :param specs: one of the seeds that differ in nothing else
    :param source: for the error message
    :raises SpecError: a model that cannot be made, with the hyperparameter that is to blame
    """
    known: dict[str, Spaces | None] = {}
    for spec in specs:
        arguments = model_arguments(spec.algo, spec.hyperparams, str(source(spec, None)))
        around = [spec.env_id, spec.environment, arguments.wrappers, arguments.frame_stack]
        key = json.dumps(around)
        if key not in known:
            known[key] = in_child(partial(_spaces, spec, arguments))
        spaces = known[key]
        if spaces is not None and _refusal(spec, _lean(arguments), _shape(spaces, arguments)):
            _refuse(spec, arguments, source)


def _spaces(spec: RunSpec, arguments: ModelArguments) -> Spaces | None:
    env = make_env(spec, replace(arguments, normalize=None), 1, 0)
    spaces = env.observation_space, env.action_space
    return spaces if flatdim(spaces[0]) < _LARGEST_OBSERVATION else None


def in_child(work: Callable[[], Result], seconds: float = 30.0) -> Result | None:
    """What a function returns in a process of its own; None if it raises, dies or takes too long.

    Without that process where none can be forked.
    """
    if sys.platform != "linux":
        with suppress(Exception, SystemExit):
            return work()
        return None
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which this one does without
        child = context.Process(target=_tell, args=(work, theirs), daemon=True)
        child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(seconds) else None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


def _tell(work: Callable[[], object], to: Connection) -> None:
    with suppress(Exception):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # whatever it says, it will say again in the run
        os.dup2(nowhere, 2)
        warnings.simplefilter("ignore")
        to.send(work())
    os._exit(0)  # whatever is open is the parent's


class _NoOptimizer:
    """In the place of torch's, whose first one takes over a second: it imports the compiler."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def _lean(arguments: ModelArguments) -> ModelArguments:
    """The same without an optimiser, unless something is said of it."""
    constructor = arguments.constructor
    policy_kwargs = constructor.get("policy_kwargs") or {}
    if any(key.startswith("optimizer") for key in policy_kwargs):
        return arguments
    policy_kwargs = {**policy_kwargs, "optimizer_class": _NoOptimizer}
    return replace(arguments, constructor={**constructor, "policy_kwargs": policy_kwargs})


class _Shape(VecEnv):
    """Says that it is so many environments with such spaces; nobody will step it."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs  # asked for render_mode

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def _never(self, *_: object, **__: object) -> Any:
        raise NotImplementedError("this is no environment")

    reset = step_async = step_wait = close = set_attr = env_method = _never


def _shape(spaces: Spaces, arguments: ModelArguments) -> VecEnv:
    env = _Shape(arguments.n_envs, *spaces)
    if arguments.normalize is not None:
        with suppress(Exception):
            return VecNormalize(env, **arguments.normalize)
    return env


def _refusal(spec: RunSpec, arguments: ModelArguments, env: VecEnv) -> Exception | None:
    """Why the model cannot be made."""
    constructor = arguments.constructor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are said when the runs begin
            # Checked, but not used: a process that has used a GPU keeps some of its memory.
            get_device(constructor.get("device", "cpu"))
            unseeded: Any = None  # other than here, random numbers stay what they are
            make_model(
                replace(spec, seed=unseeded),
                replace(arguments, constructor={**constructor, "device": "cpu"}),
                env,
            )
    except Exception as error:  # code of others, which may raise anything
        return error
    return None


def _refuse(spec: RunSpec, arguments: ModelArguments, source: Source) -> None:
    """Make the model as a run does, and name what is to blame if that fails, too.

    :raises SpecError: it fails
    """
    env = make_env(spec, arguments, arguments.n_envs, 0)
    try:
        refusal = _refusal(spec, arguments, env)
        if refusal is None:
            return
        reason = "".join(format_exception_only(refusal)).strip()  # even if it cannot be shown
        said = f"{spec.algo} on {spec.env_id}: {reason}"
        for key, value in spec.hyperparams.items():
            others = {name: each for name, each in spec.hyperparams.items() if name != key}
            where = source(spec, key)
            if _refusal(spec, model_arguments(spec.algo, others, str(where)), env) is None:
                raise SpecError(f"{where}: {key}: {value!r} cannot be used by {said}") from refusal
        raise SpecError(f"{source(spec, None)}: cannot be used by {said}") from refusal
    finally:
        clean_up(env.close)
