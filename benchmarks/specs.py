"""What a run and a suite are, checked before anything is run."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym

from benchmarks.yamls import SpecError, parse, read_mapping
from benchmarks.zoo import ALGORITHMS, hyperparams_file, hyperparams_for, model_arguments

__all__ = [
    "ALGORITHMS",
    "Evaluation",
    "RunSpec",
    "SpecError",
    "Suite",
    "SuiteEnv",
    "check_choice",
    "check_environment",
    "hyperparams_for",
    "load_suite",
    "parse_overrides",
    "plan",
    "suite_names",
]

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Evaluation:
    """The evaluation protocol.

    ``points``: evaluations of a run, evenly spread up to its last step; one more is made before
    the first. ``episodes``: episodes of each. ``seed``: episode i always starts from seed + i.
    """

    points: int = 20
    episodes: int = 10
    seed: int = 1_000_000


@dataclass(frozen=True)
class RunSpec:
    """All that decides the result of one run.

    ``hyperparams`` are as written in the YAML file, without ``n_timesteps``.
    """

    suite: str
    algo: str
    env_id: str
    seed: int
    n_timesteps: int
    hyperparams: dict[str, Any]
    evaluation: Evaluation

    @property
    def config(self) -> str:
        """8 hex digits: a hash of everything but the seed and the suite's name."""
        spec = self.to_dict()
        del spec["seed"], spec["suite"]
        canonical = json.dumps(spec, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def folder(self, out: Path) -> Path:
        """Where the finished run stands below ``out``."""
        # Neither character may stand in a file name everywhere.
        env = self.env_id.replace("/", "__").replace(":", "__")
        return out / self.suite / self.algo / env / f"seed-{self.seed}-{self.config}"

    def failure_file(self, out: Path) -> Path:
        """Where the record of a failure stands, in the place of the folder."""
        folder = self.folder(out)
        return folder.with_name(f"{folder.name}.failed.json")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunSpec":
        return cls(**{**fields, "evaluation": Evaluation(**fields["evaluation"])})

    def __str__(self) -> str:
        return f"{self.algo} {self.env_id} seed {self.seed}"


@dataclass(frozen=True)
class SuiteEnv:
    """An environment of a suite; ``n_timesteps=None`` leaves the number to the hyperparameters."""

    env_id: str
    n_timesteps: int | None


@dataclass(frozen=True)
class Suite:
    """Environments and how they are evaluated."""

    name: str
    envs: list[SuiteEnv]
    evaluation: Evaluation


def suite_names() -> list[str]:
    """The suites that come with this package."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(name_or_path: str) -> Suite:
    """Read a suite: one of this package by its name, or a YAML file by its path.

    :raises SpecError: no such suite, or a key or a value in it that is not allowed
    """
    given = Path(name_or_path)
    if given.suffix in (".yaml", ".yml"):
        path = given
    elif name_or_path in suite_names():
        path = SUITES / f"{name_or_path}.yaml"
    else:
        raise SpecError(
            f"suite {name_or_path!r} is not one of {', '.join(suite_names())}, "
            "nor the path of a .yaml file"
        )
    if not re.fullmatch(r"\w[\w.-]*", path.stem):
        raise SpecError(
            f"{path}: the file's name is the suite's: it must consist of letters, digits, '.', "
            "'_' and '-'"
        )
    content = read_mapping(path)
    _refuse_unknown(content, ("environments", "evaluation", "n_timesteps"), str(path))
    common = _optional_count(content, "n_timesteps", str(path))
    environments = content.get("environments")
    if not isinstance(environments, dict) or not environments:
        raise SpecError(
            f"{path}: environments: must be a mapping of environments, got {environments!r}"
        )
    envs = []
    for env_id, options in environments.items():
        where = f"{path}: environments: {env_id}"
        options = {} if options is None else options
        if not isinstance(options, dict):
            raise SpecError(
                f"{where}: must be a mapping such as {{n_timesteps: 1000}}, got {options!r}"
            )
        _refuse_unknown(options, ("n_timesteps",), where)
        check_environment(str(env_id), where)
        envs.append(SuiteEnv(str(env_id), _optional_count(options, "n_timesteps", where) or common))
    return Suite(path.stem, envs, _evaluation(content.get("evaluation", {}), str(path)))


def _evaluation(fields: Any, source: str) -> Evaluation:
    where = f"{source}: evaluation"
    if not isinstance(fields, dict):
        raise SpecError(f"{where}: must be a mapping, got {fields!r}")
    _refuse_unknown(fields, ("points", "episodes", "seed"), where)
    for key in ("points", "episodes"):
        _optional_count(fields, key, where)
    seed = fields.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise SpecError(f"{where}: seed: must be an integer of at least 0, got {seed!r}")
    return Evaluation(**fields)


def _refuse_unknown(fields: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    for key, value in fields.items():
        if key not in allowed:
            raise SpecError(
                f"{where}: {key}: {value!r} is for an unknown key; allowed are {', '.join(allowed)}"
            )


def _optional_count(fields: Mapping[str, Any], key: str, where: str) -> int | None:
    if key not in fields:
        return None
    return _count(fields[key], f"{where}: {key}")


def _count(value: Any, where: str) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or value < 1:
        raise SpecError(f"{where}: must be a positive integer, got {value!r}")
    return int(value)


def check_environment(env_id: str, where: str) -> None:
    """Check that Gymnasium knows an environment; ``module:Env-v0`` imports the module first.

    :raises SpecError: it does not
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            import_module(module)
        gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise SpecError(
            f"{where}: {env_id!r} is not an environment of Gymnasium: {error}"
        ) from None


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts as hyperparameters; the values are YAML.

    :raises SpecError: not of that form, or a key given twice
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise SpecError(f"--set: must be key=value, got {setting!r}")
        if key in overrides:
            raise SpecError(f"--set: {key}: is given twice")
        if key == "n_timesteps":
            raise SpecError(f"--set: {key}: use --steps")
        overrides[key] = parse(value, f"--set: {key}")
    return overrides


def plan(
    suite: Suite,
    algos: Sequence[str],
    env_ids: Sequence[str],
    seeds: Sequence[int],
    n_timesteps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[RunSpec]:
    """The runs of a sweep, checked: all algorithms and environments of one seed, then the next.

    :param n_timesteps: instead of the suite's and the hyperparameters' numbers
    :param overrides: hyperparameters that take precedence over the files' for every algorithm
    :raises SpecError: an unknown or repeated algorithm or environment, or hyperparameters that an
        algorithm cannot use
    """
    known = {env.env_id: env for env in suite.envs}
    check_choice("--algos", algos, list(ALGORITHMS))
    check_choice("--envs", env_ids, list(known))
    configurations = [
        _configuration(suite, algo, known[env_id], n_timesteps, overrides or {})
        for env_id in env_ids
        for algo in algos
    ]
    return [
        RunSpec(suite.name, algo, env_id, seed, steps, hyperparams, suite.evaluation)
        for seed in seeds
        for algo, env_id, steps, hyperparams in configurations
    ]


def _configuration(
    suite: Suite,
    algo: str,
    env: SuiteEnv,
    n_timesteps: int | None,
    overrides: Mapping[str, Any],
) -> tuple[str, str, int, dict[str, Any]]:
    hyperparams = hyperparams_for(algo, env.env_id)
    if overrides:
        model_arguments(algo, overrides, "--set")
        hyperparams = {**hyperparams, **overrides}
    written = hyperparams.pop("n_timesteps", None)
    steps = n_timesteps or env.n_timesteps or written
    if steps is None:
        raise SpecError(
            f"{hyperparams_file(algo)}: {env.env_id}: n_timesteps: is given neither here, nor by "
            f"the suite {suite.name}, nor with --steps"
        )
    if suite.evaluation.points > steps:
        raise SpecError(
            f"suite {suite.name}: evaluation: points: must be at most the {steps} steps of "
            f"{algo} on {env.env_id}, got {suite.evaluation.points}"
        )
    return algo, env.env_id, int(steps), hyperparams


def check_choice(option: str, chosen: Sequence[str], allowed: Sequence[str]) -> None:
    """Check names against those that are allowed.

    :raises SpecError: one that is not, one given twice, or none
    """
    for name in chosen:
        if name not in allowed:
            raise SpecError(f"{option}: {name!r} is not one of {', '.join(allowed)}")
        if chosen.count(name) > 1:
            raise SpecError(f"{option}: {name!r} is given {chosen.count(name)} times")
    if not chosen:
        raise SpecError(f"{option}: must name at least one of {', '.join(allowed)}")
