"""Models made before anything runs: only their classes know what they take."""

import json
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from traceback import format_exception_only
from typing import Any

from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from benchmarks.cleanup import clean_up
from benchmarks.records import RunSpec
from benchmarks.run import make_env, make_model
from benchmarks.yamls import SpecError
from benchmarks.zoo import ModelArguments, model_arguments

Source = Callable[[RunSpec, str | None], object]
"""Where a run's hyperparameters were written, or one of them."""


def try_models(specs: Iterable[RunSpec], source: Source) -> None:
    """Make the model of each run on its environment, and drop it untrained.

    An environment is made once for all its algorithms. One that cannot be made is left to the
    run, which says so: the others go on then.

    :param specs: one of the seeds that differ in nothing else
    :param source: for the error message
    :raises SpecError: a model that cannot be made, with the hyperparameter that is to blame
    """
    envs: dict[str, VecEnv | None] = {}
    for spec in specs:
        arguments = model_arguments(spec.algo, spec.hyperparams, str(source(spec, None)))
        around = [spec.env_id, spec.environment, arguments.wrappers, arguments.frame_stack]
        key = json.dumps(around)
        if key not in envs:
            envs[key] = None
            with suppress(Exception):
                envs[key] = make_env(spec, replace(arguments, normalize=None), 1, 0)
        env = envs[key]
        if env is not None and _refusal(spec, _lean(arguments), _many(env, arguments)) is not None:
            _refuse(spec, arguments, source)
    for env in envs.values():
        if env is not None:
            clean_up(env.close)


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


def _many(env: VecEnv, arguments: ModelArguments) -> VecEnv:
    """An environment that says that it is several, which nobody will step."""
    layer: VecEnv | None = env
    while layer is not None:
        layer.num_envs = arguments.n_envs
        layer = layer.venv if isinstance(layer, VecEnvWrapper) else None
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
