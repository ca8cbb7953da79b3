"""Loading saved models: whose file it is, and how to load it without executing anything in it.

SB3 saves a model's attributes as JSON where it can and as pickles where it cannot, and loading a
pickle executes whatever code is in it. ``load(..., weights_only=True)`` looks at no pickle. What it
needs of the pickled attributes, spaces above all, is saved once more as JSON.
"""

import contextlib
import inspect
import io
import json
import pathlib
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.save_util import is_json_serializable, open_path
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule

__all__ = ["Loadable", "space_from_plain", "space_to_plain"]

SelfLoadable = TypeVar("SelfLoadable", bound="Loadable")

_SPACES = ("observation_space", "action_space")


class Loadable(BaseAlgorithm):
    """Mixin for SB3's algorithms: refuses files of others by name, and loads without pickles."""

    _plain_settings: dict[str, Any]

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save the model, as SB3 does, for :meth:`load` with or without ``weights_only``."""
        self._plain_settings = _plain_settings(self)
        super().save(path, exclude, include)

    @classmethod
    def load(  # type: ignore[override]
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
        """Load a model; arguments as for every SB3 algorithm.

        Without ``weights_only`` this executes code that the file may contain: load only files from
        people whom you trust.

        :param weights_only: take nothing from the file but parameters and plain settings (numbers,
            strings, lists, spaces), and execute nothing. Settings that need code (a policy class of
            one's own, classes in ``policy_kwargs``, a schedule) have to be given as keywords, the
            policy as ``policy``. ``tensorboard_log`` is not taken from the file either, and the
            log's averages of the latest episodes start anew.
        :param kwargs: arguments of the constructor to change
        :raises ValueError: the file is of another algorithm, whose name the message says; or
            settings are missing without its code, which the message lists
        """
        settings = _saved_settings(path)
        _refuse_other_algorithms(cls, settings, path)
        if weights_only:
            if env is not None:
                env = cls._wrap_env(env, 0)
            custom_objects = _without_code(cls, settings, env, kwargs) | (custom_objects or {})
        return super().load(
            path, env, device, custom_objects, print_system_info, force_reset, **kwargs
        )


def _saved_settings(path: str | pathlib.Path | io.BufferedIOBase) -> dict[str, Any]:
    """The attributes in the file; those that are pickled, as SB3 wraps them up."""
    file = open_path(path, "r", suffix="zip")
    keep_open = contextlib.nullcontext(file)
    with keep_open if file is path else file, _opened_zip(file, path) as archive:
        return json.loads(archive.read("data")) if "data" in archive.namelist() else {}


def _opened_zip(file: Any, path: Any) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is no zip file, as saved models are") from None


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


# Whose file?


def _refuse_other_algorithms(
    cls: type[BaseAlgorithm], settings: Mapping[str, Any], path: Any
) -> None:
    found = _algorithms_with(settings.keys())
    if settings and not any(issubclass(cls, algorithm) for algorithm in found):
        names = sorted({algorithm.__name__ for algorithm in found})
        raise ValueError(
            f"{path} is a model of {' or '.join(names)}, which {cls.__name__} cannot load"
        )


def _algorithms_with(names: Iterable[str]) -> list[type[BaseAlgorithm]]:
    """The algorithms whose constructors' arguments are most like the saved attributes' names."""
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
    """The arguments of the constructors, but for those that all algorithms have."""
    inherited = inspect.signature(BaseAlgorithm).parameters.keys()
    return {
        name
        for cls in algorithm.__mro__
        if issubclass(cls, BaseAlgorithm) and "__init__" in vars(cls)
        for name in inspect.signature(cls).parameters
        if name not in inherited
    }


# Without its code.


def _plain_settings(model: Any) -> dict[str, Any]:
    """What JSON can say of the attributes that SB3 would pickle."""
    plain: dict[str, Any] = {}
    for alias, policy_class in model.policy_aliases.items():
        if policy_class is model.policy_class:
            plain.setdefault("policy", alias)
    for name, value in vars(model).items():
        if name in _SPACES:
            plain[name] = space_to_plain(value)
        elif isinstance(value, FloatSchedule) and type(value.value_schedule) is ConstantSchedule:
            plain[name] = value.value_schedule.val
        elif value is RolloutBuffer or value is DictRolloutBuffer:
            plain[name] = None  # chosen by the observation space
        elif hasattr(value, "to_plain"):
            plain[name] = value.to_plain()
    return {name: value for name, value in plain.items() if is_json_serializable(value)}


def _without_code(
    cls: type[Loadable], settings: Mapping[str, Any], env: Any, given: dict[str, Any]
) -> dict[str, Any]:
    """Values for all attributes that are pickled in a file.

    :param given: keywords of ``load``; ``policy``, which is no attribute, is taken out
    :raises ValueError: some are nowhere else; names them
    """
    plain = settings.get("_plain_settings", {})
    policy: Any = given.pop("policy", plain.get("policy"))
    policy_class = cls.policy_aliases.get(policy) if isinstance(policy, str) else policy
    fresh: Any = cls(policy_class or "MlpPolicy", None, _init_setup_model=False)  # type: ignore[call-arg, arg-type]
    arguments = _own_arguments(cls) | {"learning_rate", "policy_kwargs"}
    # Nor does the file choose where to write.
    found: dict[str, Any] = {"tensorboard_log": given.get("tensorboard_log")}
    missing = []
    for name in (name for name, value in settings.items() if _is_pickled(value)):
        if name == "policy_class":
            found[name] = policy_class
            missing += ["policy"] if policy_class is None else []
        elif name in given:
            found[name] = given[name]
        elif name in _SPACES:
            space = plain.get(name)
            found[name] = getattr(env, name, None) if space is None else space_from_plain(space)
            missing += ["env"] if found[name] is None else []
        elif hasattr(vars(fresh).get(name), "from_plain") and name in plain:
            found[name] = vars(fresh)[name].from_plain(plain[name])
        elif name in arguments:
            found[name] = plain.get(name)
            missing += [] if name in plain else [name]
        else:  # of the run so far
            found[name] = vars(fresh).get(name)
    if missing:
        raise ValueError(
            f"weights_only=True executes no code of the file, and without it the file does not say "
            f"{', '.join(dict.fromkeys(missing))}: give "
            f"{'it as a keyword' if len(set(missing)) == 1 else 'them as keywords'} of load"
        )
    return found


def space_to_plain(space: spaces.Space) -> dict[str, Any] | None:
    """A space as JSON; None if it is of another kind than what algorithms of SB3's take."""
    plain: dict[str, Any] = {"space": type(space).__name__}
    if isinstance(space, spaces.Dict):
        parts = {key: space_to_plain(part) for key, part in space.spaces.items()}
        return None if None in parts.values() else plain | {"spaces": parts}
    if isinstance(space, spaces.Box):
        plain |= {"low": _shortened(space.low), "high": _shortened(space.high)}
        return plain | {"shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return plain | {"n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        plain |= {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return plain | {"dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return plain | {"n": np.asarray(space.n).tolist()}
    return None


def _shortened(bounds: np.ndarray) -> Any:
    """One number, where all are the same."""
    same = bounds.size > 0 and (bounds == bounds.flat[0]).all()
    return bounds.flat[0].item() if same else bounds.tolist()


def space_from_plain(plain: Mapping[str, Any]) -> spaces.Space:
    """The inverse of :func:`space_to_plain`.

    :raises ValueError: it is none of its results
    """
    kind = plain.get("space")
    if kind == "Dict":
        return spaces.Dict({key: space_from_plain(part) for key, part in plain["spaces"].items()})
    if kind == "Box":
        dtype, shape = np.dtype(plain["dtype"]), tuple(plain["shape"])
        low, high = (
            np.broadcast_to(np.asarray(plain[end], dtype), shape) for end in ("low", "high")
        )
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(plain["n"], start=plain["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(
            np.asarray(plain["nvec"]), np.dtype(plain["dtype"]).type, start=plain["start"]
        )
    if kind == "MultiBinary":
        return spaces.MultiBinary(plain["n"])
    raise ValueError(f"{kind!r} is none of the spaces that are saved")
