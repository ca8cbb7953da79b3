"""RL Baselines3 Zoo's folders ``logs/ALGO/ENV_N``, in which ``ENV/*.yml`` say what was run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import SpecError
from benchmarks.names import plain
from benchmarks.safe_yaml import read_mapping

_ARGS, _CONFIG = "args.yml", "config.yml"
_NAME = re.compile(r"(?P<env>.+)_(?P<number>\d{1,9})(_[0-9a-f-]{36})?")  # --uuid adds the last one
_LARGEST_SEED = 2**63


@dataclass(frozen=True)
class Settings:
    """What a run was asked for."""

    algo: str | None
    env_id: str | None
    seed: int | None
    hyperparams: dict[str, Any]


def settings_folder(folder: Path) -> Path | None:
    """Where the Zoo has written what a run was asked for; None if it is no run of the Zoo."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        return None
    inner = folder / match["env"]
    return inner if any((inner / name).is_file() for name in (_ARGS, _CONFIG)) else None


def settings(folder: Path, say: Callable[[str], None]) -> Settings:
    """What the arguments of a run say, else what its place says.

    :param folder: ``ALGO/ENV_N``
    :param say: gets a line on what is not there or cannot be read, with its path
    """
    match = _NAME.fullmatch(folder.name)
    inner = folder / (folder.name if match is None else match["env"])
    args, config = (_read(inner / name, say) for name in (_ARGS, _CONFIG))
    algo, env_id, seed = (args.get(key) for key in ("algo", "env", "seed"))
    if not _is_seed(seed):
        seed = None if match is None else int(match["number"])
        if seed is not None:
            say(f"{folder}: no {_ARGS} says the seed; {seed}, the folder's number, stands for it")
    return Settings(
        algo=plain(algo if isinstance(algo, str) else folder.absolute().parent.name) or None,
        env_id=plain(env_id if isinstance(env_id, str) else inner.name) or None,
        seed=seed,
        hyperparams=config,
    )


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_SEED


def _read(path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_mapping(path, python_tags=True)
    except (SpecError, RecursionError) as error:
        say(str(error))
        return {}
