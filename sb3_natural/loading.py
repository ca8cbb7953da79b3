"""Loading saved models: which algorithm a file is of, and how to load it without executing it.

SB3 saves a model's attributes as JSON where it can and as pickles where it cannot, and loading a
pickle executes whatever code is in it. ``load(..., weights_only=True)`` opens no pickle. Those of
the pickled attributes that it needs, spaces above all, are saved as JSON too.
"""

import base64
import contextlib
import inspect
import io
import json
import math
import pathlib
import pickle
import reprlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.save_util import (
    is_json_serializable,
    load_from_zip_file,
    open_path,
)
from stable_baselines3.common.type_aliases import GymEnv, TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_natural.spaces import integer, space_from_plain, space_to_plain

__all__ = ["Loadable", "opened"]

SelfLoadable = TypeVar("SelfLoadable", bound="Loadable")

_BUFFERS = (RolloutBuffer, DictRolloutBuffer, ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)
_SPACES = ("observation_space", "action_space")
_LINEAR, _LINEAR_KEYS = "linear schedule", ("start", "end", "end_fraction")
# What a file may make us hold before anything in it has been checked.
MAX_SETTINGS = 2**26  # bytes

# Models of version 0.1 hold pickles, of solvers and critics (also of a user's own) and of ACER's
# scale of returns, which name modules that have moved: where these are now, and what the classes
# of sb3_natural.common are called.
_MOVED = {
    "acer.scaling": "rollouts.scaling",
    "common.actors": "rollouts.actors",
    "common.arguments": "arguments",
    "common.backprop": "networks.passes",
    "common.clipped_surrogate": "updates.clipped_surrogate",
    "common.critic": "curvature.value_fit",
    "common.deferred": "rollouts.deferred",
    "common.envpool": "environments.envpool",
    "common.families": "curvature.families",
    "common.finite": "rollouts.finiteness",
    "common.fisher": "curvature.operators",
    "common.flat_adam": "updates.flat_adam",
    "common.jacobian": "curvature.jacobian",
    "common.loading": "loading",
    "common.mlp": "networks.mlp",
    "common.parameters": "networks.parameters",
    "common.rollouts": "rollouts.collection",
    "common.solvers": "curvature.solvers",
    "common.surrogate": "curvature.surrogate",
    "common.threads": "networks.threads",
    "common.trust_region": "curvature.trust_region",
    "common.vec_env": "environments.vec_env",
}
_RENAMED = {
    "AdamCritic": "AdamFit",
    "Critic": "ValueFit",
    "FisherSolver": "Solver",
    "GaussNewtonCritic": "GaussNewtonFit",
}


@contextlib.contextmanager
def opened(
    path: str | pathlib.Path | io.BufferedIOBase, mode: str, suffix: str, verbose: int = 0
) -> Iterator[Any]:
    """A file, opened as by SB3's ``open_path``; a file that was open before stays open."""
    file = open_path(path, mode, verbose=verbose, suffix=suffix)
    try:
        yield file
    finally:
        if file is not path:
            file.close()


class Loadable(BaseAlgorithm):
    """Mixin for SB3's algorithms: refuses other algorithms' files, and can load without pickles."""

    _plain_settings: dict[str, Any]
    _solver_states: ClassVar[tuple[str, ...]] = ()
    """Attributes that are None, or a solver with a state to be saved beside the parameters."""

    @classmethod
    def _arguments_of_earlier_version(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What an earlier version did, as arguments that it did not have yet.

        :param settings: the attributes in a file, by name
        :return: nothing if the file is of this version
        """
        return {}

    def _own_solver_states(self) -> list[str]:
        return [name for name in self._solver_states if vars(self).get(name) is not None]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return [*state_dicts, *self._own_solver_states()], variables

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *self._solver_states]

    def set_parameters(
        self,
        load_path_or_dict: str | dict[str, Any],
        exact_match: bool = True,
        device: torch.device | str = "auto",
    ) -> None:
        """Set parameters, as SB3 does.

        A solver's state is taken over where both the file (or dict) and the model have one. In a
        model without such a solver it is ignored; where it is missing, the model keeps its own.

        :param load_path_or_dict: a saved model's file, or what ``get_parameters`` gave
        """
        given = load_path_or_dict
        if not isinstance(given, dict):
            _, given, _ = load_from_zip_file(given, device=device, load_data=False)
        own = self._own_solver_states()
        kept = {name: getattr(self, name).state_dict() for name in own}
        unused = set(self._solver_states) - set(own)
        taken = {name: value for name, value in given.items() if name not in unused}
        super().set_parameters(kept | taken, exact_match, device)

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save the model, as SB3 does, for :meth:`load` with or without ``weights_only``.

        :param path: the file to write, in SB3's zip format
        """
        self._plain_settings = _plain_settings(self)
        super().save(path, exclude, include)

    @classmethod
    def load(
        cls: type[SelfLoadable],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        weights_only: bool = False,
        **kwargs: Any,
    ) -> SelfLoadable:
        """Load a model that :meth:`save` has written.

        Without ``weights_only`` this executes any code that the file contains: load only files from
        people whom you trust.

        :param weights_only: take nothing from the file but parameters and plain settings (numbers,
            strings, lists, spaces) that a new model has, and execute nothing. Settings that need
            code (your own policy class, classes in ``policy_kwargs``, a schedule) have to be given
            as keywords, the policy as ``policy``. Neither ``env`` nor ``tensorboard_log`` is taken
            from the file, and the logged averages over the latest episodes start afresh
        :param kwargs: arguments of the constructor to change
        :raises ValueError: the file is of another algorithm, which the message names, or not a
            saved model. With ``weights_only`` also: settings that need code are missing, which the
            message lists; or settings, spaces or parameters are not valid
        """
        with _opened_zip(path) as archive:
            settings = _saved_settings(archive, path, MAX_SETTINGS if weights_only else None)
            _refuse_other_algorithms(cls, settings, path)
            kwargs = cls._arguments_of_earlier_version(settings) | kwargs
            if not weights_only:
                given = custom_objects or {}
                others = {name: settings[name] for name in settings if name not in given}
                objects = _of_version_0_1(others) | given
                return super().load(
                    path, env, device, objects, print_system_info, force_reset, **kwargs
                )
            if env is not None:
                env = cls._wrap_env(env, 0)
            try:
                given = custom_objects or {}
                values = _without_code(cls, settings, env, kwargs | given) | {
                    name: value for name, value in given.items() if name in settings
                }
                kwargs.pop("policy", None)
                copy = _copy_of_parameters(cls, archive, values)
                return super().load(
                    copy, env, device, values, print_system_info, force_reset, **kwargs
                )
            except pickle.UnpicklingError:
                raise  # torch's message says what was refused
            except Exception as error:  # a file may be wrong in any way
                raise ValueError(f"{path} cannot be loaded: {error}") from error


@contextlib.contextmanager
def _opened_zip(path: str | pathlib.Path | io.BufferedIOBase) -> Iterator[zipfile.ZipFile]:
    with opened(path, "r", "zip") as file:
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile:
            raise ValueError(f"{path} is not a zip file, as saved models are") from None
        with archive:
            yield archive


def _saved_settings(archive: zipfile.ZipFile, path: Any, limit: int | None) -> dict[str, Any]:
    """The attributes in the file; pickled ones as SB3 wraps them."""
    try:
        size = archive.getinfo("data").file_size
        if limit is not None and size > limit:
            raise ValueError(f"its data have {size} bytes, more than {limit}")
        settings = json.loads(archive.read("data"))
        if not isinstance(settings, dict) or not settings:
            raise ValueError("its data are not attributes by name")
        if not isinstance(settings.get("_plain_settings", {}), dict):
            raise ValueError("its _plain_settings are not settings by name")
    except Exception as error:  # a file may be wrong in any way
        raise ValueError(f"{path} is not a saved model: {error}") from error
    return settings


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


def _of_version_0_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The pickled attributes that name a module which has moved since version 0.1."""
    pickles = {
        name: base64.b64decode(value[":serialized:"])
        for name, value in settings.items()
        if _is_pickled(value)
    }
    return {
        name: _Unpickler(io.BytesIO(content)).load()
        for name, content in pickles.items()
        if any(f"sb3_natural.{module}".encode() in content for module in _MOVED)
    }


class _Unpickler(pickle.Unpickler):
    """Finds what has moved since version 0.1."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function where it is now."""
        if module.startswith("sb3_natural.common."):
            name = _RENAMED.get(name, name)
        found = super().find_class(_address(module), name)
        if (module, name) == ("cloudpickle.cloudpickle", "subimport"):
            return lambda imported: found(_address(imported))
        return found


def _address(module: str) -> str:
    """Where a module is now."""
    package, _, rest = module.partition(".")
    moved = _MOVED.get(rest) if package == "sb3_natural" else None
    return module if moved is None else f"sb3_natural.{moved}"


# Which algorithm is the file of?


def _refuse_other_algorithms(
    cls: type[BaseAlgorithm], settings: Mapping[str, Any], path: Any
) -> None:
    saved = settings.get("_plain_settings", {}).get("algorithms")
    if saved is None:  # SB3's files, and those of earlier versions
        found = _algorithms_with(settings.keys())
        names = sorted({algorithm.__name__ for algorithm in found})
        # One that ours is derived from, as NaturalDQN is from DQN, is another algorithm.
        fits = any(issubclass(cls, own) for own in found if issubclass(own, Loadable))
    else:
        names = [str(name) for name in saved[:1]] if isinstance(saved, list) else []
        fits = bool(names) and any(name in saved for name in _algorithm_names(cls))
    if not fits:
        whose = " or ".join(name if name.isidentifier() else repr(name) for name in names)
        raise ValueError(
            f"{path} is a model of {whose or 'no algorithm'}, which {cls.__name__} cannot load"
        )


def _algorithm_names(cls: type) -> list[str]:
    """The class's name, and those of the algorithms whose files it takes as its own."""
    names = []
    for base in cls.__mro__:
        if issubclass(base, Loadable) and base is not Loadable:
            names.append(base.__name__)
            if "_files_of_its_own" in vars(base):
                break
    return names


def _algorithms_with(names: Iterable[str]) -> list[type[BaseAlgorithm]]:
    """The algorithms whose constructors' arguments match the names of saved attributes best."""
    import sb3_natural  # here, since its algorithms use this module

    known = [
        member
        for package in (sb3_natural, stable_baselines3, sb3_contrib)
        for member in vars(package).values()
        if isinstance(member, type) and issubclass(member, BaseAlgorithm)
    ]
    saved = set(names)
    likeness = [len(own & saved) - len(own - saved) for own in map(_own_arguments, known)]
    return [
        algorithm for algorithm, like in zip(known, likeness, strict=True) if like == max(likeness)
    ]


def _own_arguments(algorithm: type[BaseAlgorithm]) -> set[str]:
    """The arguments of the constructors, except those that all algorithms have."""
    inherited = inspect.signature(BaseAlgorithm).parameters.keys()
    return {
        name
        for cls in algorithm.__mro__
        if issubclass(cls, BaseAlgorithm) and "__init__" in vars(cls)
        for name in inspect.signature(cls).parameters
        if name not in inherited
    }


# Loading without executing code


def _plain_settings(model: Any) -> dict[str, Any]:
    """As JSON: the attributes that SB3 would pickle, where possible, and the algorithm's name."""
    plain: dict[str, Any] = {}
    for alias, policy_class in model.policy_aliases.items():
        if policy_class is model.policy_class:
            plain.setdefault("policy", alias)
    for name, value in vars(model).items():
        schedule = value.value_schedule if isinstance(value, FloatSchedule) else value
        if name in _SPACES:
            with contextlib.suppress(ValueError):  # then the environment has to be given
                plain[name] = space_to_plain(value)
        elif type(schedule) is ConstantSchedule:
            plain[name] = schedule.val
        elif type(schedule) is LinearSchedule:
            plain[name] = {_LINEAR: [getattr(schedule, key) for key in _LINEAR_KEYS]}
        elif isinstance(value, type) and value in _BUFFERS:
            plain[name] = None  # chosen by the observation space
        elif isinstance(value, TrainFreq):
            plain[name] = [value.frequency, value.unit.value]
        elif hasattr(value, "to_plain"):
            plain[name] = value.to_plain()
    plain["algorithms"] = _algorithm_names(type(model))
    return {name: value for name, value in plain.items() if is_json_serializable(value)}


def _without_code(
    cls: type[Loadable], settings: Mapping[str, Any], env: Any, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The attributes to load: those that a new model has, with the file's values.

    :param given: what ``load`` was given, by name; ``policy`` is not an attribute
    :raises ValueError: some are missing everywhere, or not valid; names them
    """
    plain = settings.get("_plain_settings", {})
    alias = plain.get("policy")
    theirs = cls.policy_aliases.get(alias) if isinstance(alias, str) else None
    policy = given.get("policy", given.get("policy_class", theirs))
    fresh: Any = cls(policy or "MlpPolicy", None, _init_setup_model=False)  # type: ignore[call-arg]
    never = {*fresh._excluded_save_params(), "policy_class", *_SPACES}
    own = {n: v for n, v in vars(fresh).items() if n not in never and not hasattr(cls, n)}
    arguments = _arguments(cls)
    # Nor does the file choose where to write.
    values = own | {"tensorboard_log": given.get("tensorboard_log")}
    values["policy_class"] = fresh.policy_class
    missing = ["policy"] if policy is None else []
    for name in own.keys() & settings.keys() - {"tensorboard_log"}:
        value = settings[name]
        if hasattr(own[name], "from_plain"):
            values[name] = own[name].from_plain(plain[name]) if name in plain else own[name]
        elif name not in arguments:  # of the run so far
            if type(own[name]) in (int, float) and not _is_pickled(value):
                values[name] = _number(name, value)
        elif not _is_pickled(value):
            values[name] = value  # which the class checks before it is used
        elif name in given or name in plain:
            values[name] = given[name] if name in given else _argument(name, plain[name])
        else:
            missing.append(name)
    for name in _SPACES:
        space = plain.get(name)
        values[name] = getattr(env, name, None) if space is None else space_from_plain(space)
        missing += ["env"] if values[name] is None and name not in given else []
    values["n_envs"] = integer(settings.get("n_envs", 1), "n_envs", 1)
    if missing:
        raise ValueError(
            f"weights_only=True executes no code in the file, and without it these are missing: "
            f"{', '.join(dict.fromkeys(missing))}. Give them to load() as keywords"
        )
    return values


def _argument(name: str, plain: Any) -> Any:
    """What :func:`_plain_settings` wrote: a linear schedule, a pair, or any other value as it is.

    :raises ValueError: it is not made of numbers
    """
    if name == "train_freq" and isinstance(plain, list):
        return tuple(plain)  # as constructors take it
    if not isinstance(plain, dict) or set(plain) != {_LINEAR}:
        return plain
    numbers = plain[_LINEAR]
    if not isinstance(numbers, list) or len(numbers) != len(_LINEAR_KEYS):
        raise ValueError(f"{name}: {plain!r} is not a linear schedule")
    start, end, end_fraction = (float(_number(name, number)) for number in numbers)
    return LinearSchedule(start, end, end_fraction)


def _arguments(cls: type) -> set[str]:
    """What the constructor takes, or passes on to the constructor of a base class."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters.values()
            names |= {parameter.name for parameter in parameters}
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                break
    return names


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {reprlib.repr(value)}")
    return value


def _copy_of_parameters(
    cls: type[Loadable], archive: zipfile.ZipFile, values: Iterable[str]
) -> io.BytesIO:
    """A copy of the file with the names of these values and its parameters: nothing executable."""
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as new:
        new.writestr("data", json.dumps(dict.fromkeys(values)))
        for name in dict.fromkeys(archive.namelist()):
            content = archive.read(name) if name.endswith(".pth") else b""
            # SB3 sets these variables, whatever their names.
            if name in ("pytorch_variables.pth", "tensors.pth"):
                variables = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                _, known = cls._get_torch_save_params(cls.__new__(cls))
                if not isinstance(variables, dict) or not variables.keys() <= set(known):
                    raise ValueError(f"{name} holds variables other than {known}")
            if content:
                new.writestr(name, content)
        if "system_info.txt" in archive.namelist():  # which SB3 prints
            lines = archive.read("system_info.txt").splitlines()
            new.writestr("system_info.txt", "\n".join(ascii(line.decode())[1:-1] for line in lines))
    copy.seek(0)
    return copy
