"""What a run is, where it stands, and what the records of runs hold.

A record may come from anywhere, so it is checked when it is read. What decides a run is exact or
refused; what only describes it, such as an exception's message, is cut and made encodable.
"""

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from benchmarks.errors import SpecError, sanitize
from benchmarks.folder_names import as_file_name, is_level
from benchmarks.names import message
from benchmarks.safe_yaml import check_values
from benchmarks.storage import FAILED, Folder

FORMAT = 1
MAX_SEED = 2**32 - 1  # NumPy's
MAX_EVALUATIONS = 1_000_000  # of a run; and episodes of each
_LARGEST = 2**26  # bytes of a file; those of usual runs are far smaller
_LONGEST_TEXT = 2_000  # characters
_LONGEST_TRACEBACK = 20_000
_LARGEST_VALUE = 1e100  # its square is finite, too
_SEED = "seed-"  # how the name of every run's folder begins
_FOLDER_NAME = re.compile(rf"{_SEED}(\d+)-([0-9a-f]{{8}})")
_NOTHING_ELSE = ConfigDict(extra="forbid")


def _as_name(name: str) -> str:
    if not is_level(as_file_name(name)):
        raise ValueError("must be a name that a file can have")
    return name


def _as_level(name: str) -> str:
    if not is_level(name):
        raise ValueError("must be a name that a file can have, without '/' and ':'")
    return name


def _whole(given: Any) -> Any:
    """Refuse a protocol without one of its parts; the last one alone may be absent in a record."""
    if isinstance(given, Mapping):
        absent = [each.name for each in fields(Evaluation)[:-1] if each.name not in given]
        if absent:
            raise ValueError(f"has no {', '.join(absent)}")
    return given


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    check_values(values, "")
    return values


Name = Annotated[str, AfterValidator(_as_name)]
Level = Annotated[str, AfterValidator(_as_level)]
Text = Annotated[str, AfterValidator(lambda text: sanitize(text, _LONGEST_TEXT))]
LongText = Annotated[str, AfterValidator(lambda text: sanitize(text, _LONGEST_TRACEBACK))]
Settings = Annotated[dict[str, Any], AfterValidator(_settings)]
# Strict, since pydantic would take "3" and true for numbers.
Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]
Count = Annotated[int, Field(strict=True, ge=1, lt=2**53)]
Few = Annotated[int, Field(strict=True, ge=1, le=MAX_EVALUATIONS)]
Amount = Annotated[float, Field(strict=True, ge=0, lt=1e15, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Config = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]


@dataclass(frozen=True)
class Evaluation:
    """How runs are evaluated.

    :param points: number of evaluations of a run, evenly spread up to its last step; one more is
        made before the first step
    :param episodes: number of episodes of each evaluation
    :param seed: episode i always starts from seed + i
    :param max_steps: number of steps after which an episode is cut, since it may never end
    """

    __pydantic_config__: ClassVar = _NOTHING_ELSE

    points: Few = 20
    episodes: Few = 10
    seed: Seed = 1_000_000
    max_steps: Count = 100_000


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation; ``wall_seconds`` is the training time so far, without evaluations."""

    timesteps: int
    wall_seconds: float
    return_mean: float
    return_std: float
    length_mean: float
    episodes: int


MEASURED = [each.name for each in fields(EvaluationRow)]


class RunKey(NamedTuple):
    """What tells one run from all others; ``config`` is that of :class:`RunSpec`."""

    suite: str
    algo: str
    env_id: str
    seed: int
    config: str

    @property
    def levels(self) -> tuple[str, str, str, str]:
        """The names of the folders from the suite's to the run's."""
        name = f"{_SEED}{self.seed}-{self.config}"
        return self.suite, as_file_name(self.algo), as_file_name(self.env_id), name

    def folder(self, out: Folder) -> Folder:
        """The folder of the finished run below ``out``."""
        return out.joinpath(*self.levels)

    def failure_file(self, out: Folder) -> Folder:
        """The record of the failed run, beside where its folder would be."""
        folder = self.folder(out)
        return folder.with_name(f"{folder.name}{FAILED}")

    @classmethod
    def of_folder(cls, folder: Folder) -> "RunKey | None":
        """The run that a folder's path says; None for a path that is not that of a run's folder.

        Algorithm and environment are named as their folders are: see :func:`as_file_name`.
        """
        match, parts = _FOLDER_NAME.fullmatch(folder.name), folder.absolute().parts
        if match is None or len(parts) < 4:
            return None
        *_, suite, algo, env_id, _ = parts
        return cls(suite, algo, env_id, int(match[1]), match[2])


def is_run_name(name: str) -> bool:
    """Whether a folder with this name is taken for a run's."""
    return name.startswith(_SEED)


def failed_run_name(name: str) -> str | None:
    """The name of the folder of the run that failed, if a file's name is that of such a record."""
    run = name.removesuffix(FAILED)
    return run if run != name and is_run_name(run) else None


def root_of(folder: Folder) -> Folder:
    """The folder below which a run's folder, or the record of its failure, stands."""
    above = folder.parents
    return above[min(3, len(above) - 1)]


def below_root(folder: Folder) -> str:
    """The path of a run's folder from the suite on, as messages show it."""
    return "/".join(folder.parts[len(root_of(folder).parts) :])


@dataclass(frozen=True)
class RunSpec:
    """All that decides the result of one run.

    :param suite: the suite's name
    :param algo: name of one of our algorithms, or path of a class
    :param env_id: the environment's id in Gymnasium
    :param seed: seed of the training
    :param n_timesteps: steps of training
    :param hyperparams: the hyperparameters as written in the YAML file, without ``n_timesteps``
    :param evaluation: the evaluation protocol
    :param environment: what the suite gives of ``kwargs``, ``wrappers`` and ``frame_stack``
    """

    __pydantic_config__: ClassVar = _NOTHING_ELSE

    suite: Level
    algo: Name
    env_id: Name
    seed: Seed
    n_timesteps: Count
    hyperparams: Settings
    evaluation: Annotated[Evaluation, BeforeValidator(_whole)]
    environment: Settings = field(default_factory=dict)

    @property
    def config(self) -> str:
        """8 hex digits: a hash of everything except the seed and the name of the suite."""
        spec = self.to_dict()
        del spec["seed"], spec["suite"]
        canonical = json.dumps(spec, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    @property
    def key(self) -> RunKey:
        """What tells the run from all others."""
        return self.key_with(self.config)

    def key_with(self, config: str) -> RunKey:
        """The key with the config of a record, which an older version may have written.

        :param config: 8 hex digits
        """
        return RunKey(self.suite, self.algo, self.env_id, self.seed, config)

    def folder(self, out: Folder) -> Folder:
        """The folder of the finished run.

        :param out: the folder below which runs are written, ``--out`` of the command line
        """
        return self.key.folder(out)

    def failure_file(self, out: Folder) -> Folder:
        """The record of the failed run, beside where its folder would be.

        :param out: as for :meth:`folder`
        """
        return self.key.failure_file(out)

    def to_dict(self) -> dict[str, Any]:
        """The specification as ``run.json`` has it."""
        spec = asdict(self)
        # Left out where they are the default, so that the config of older runs stays the same.
        if not self.environment:
            del spec["environment"]
        if self.evaluation.max_steps == Evaluation.max_steps:
            del spec["evaluation"]["max_steps"]
        return spec

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "RunSpec":
        """The inverse of :meth:`to_dict`.

        :param spec: what that gives
        """
        return cls(**{**spec, "evaluation": Evaluation(**spec["evaluation"])})

    def __str__(self) -> str:
        return f"{self.algo} {self.env_id} seed {self.seed}"


def check_spec(spec: RunSpec) -> None:
    """Check that the record of a run could be read again.

    :raises SpecError: it could not
    """
    try:
        _SPEC.validate_python(spec.to_dict())
    except ValidationError as error:
        raise SpecError(f"{spec}: {described(error)}") from None


_SPEC = TypeAdapter(RunSpec)


class Record(BaseModel):
    """What every record holds; other keys in it are ignored."""

    command: LongText


AnyRecord = TypeVar("AnyRecord", bound=Record)


class OneRunRecord(Record):
    """A record of one run, finished or failed."""

    spec: RunSpec
    config: Config
    started: Text

    @property
    def key(self) -> RunKey:
        """What tells the run from all others."""
        return self.spec.key_with(self.config)


class Machine(BaseModel):
    """What decides how fast a run is."""

    system: Text | None = None
    processor: Text | None = None
    cores: Count | None = None
    memory_gib: Amount | None = None


class RunRecord(OneRunRecord):
    """A finished run's ``run.json``."""

    timesteps: Count
    wall_seconds: Amount
    evaluation_seconds: Amount
    # Older runs do not have these.
    peak_memory_mib: Amount | None = None
    packages: dict[Text, Text | None] = {}
    sources: dict[Text, dict[Text, Text | None]] = {}
    uncommitted: Text | None = None
    commit: Text | None
    dirty: Flag | None
    versions: dict[Text, Text | None]
    machine: Machine


class FailureRecord(OneRunRecord):
    """A failed run's record."""

    error: Text
    traceback: LongText


class RunGroup(BaseModel):
    """Runs that differ in their seeds alone."""

    model_config = _NOTHING_ELSE

    suite: Level
    algo: Name
    env_id: Name
    config: Config
    seeds: list[Seed]


class ManifestRecord(Record):
    """The runs that a sweep was asked for, and when it came to its end."""

    runs: list[RunGroup]
    started: Text | None = None
    finished: Text | None = None


class BrokenRunError(Exception):
    """A run cannot be read; the message, of one line, names the file and what is wrong."""

    def __init__(self, text: object) -> None:
        super().__init__(message(text))


class OtherVersionError(BrokenRunError):
    """A run is of a version that this one cannot read."""


def content(path: Folder, most: int = _LARGEST) -> bytes:
    """What a file of a run holds; the file may be anything, and of any size.

    :param most: the bytes that it may have
    :raises BrokenRunError: it cannot be read
    """
    try:
        # A pipe would never be read to its end.
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise BrokenRunError(f"{path}: is not a file")
        with path.open("rb") as file:
            found: bytes = file.read(most + 1)
    except OSError as error:
        raise BrokenRunError(f"{path}: {error.strerror or error}") from error
    if len(found) > most:
        raise BrokenRunError(f"{path}: must have at most {most:,} bytes")
    return found


def validated(fields: Any, kind: type[AnyRecord], where: object) -> AnyRecord:
    """A record from what a file holds.

    :param where: the file, or the row of a table, for error messages
    :raises BrokenRunError: it is not such a record of this version
    """
    if not isinstance(fields, dict):
        raise BrokenRunError(f"{where}: must hold an object")
    found = fields.get("format")
    if found != FORMAT or isinstance(found, bool):
        raise OtherVersionError(f"{where}: has the format {found!r}; this version reads {FORMAT}")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise BrokenRunError(f"{where}: {described(error)}") from error


def check_measured(values: np.ndarray, where: object) -> None:
    """Check the evaluations of a run.

    :param values: shape ``(n_evaluations, n_columns)``, the columns being ``MEASURED``
    :param where: the file, for error messages
    :raises BrokenRunError: no run could have given them
    """
    if not len(values):
        raise BrokenRunError(f"{where}: has no evaluation")
    timesteps, seconds, returns, spreads, lengths, episodes = values.T
    for counts, least in ((timesteps, 0), (episodes, 1)):
        if not ((counts >= least) & (counts < 2**53) & (counts == np.floor(counts))).all():
            raise BrokenRunError(f"{where}: timesteps and episodes must be integers, none negative")
    if (np.diff(timesteps) <= 0).any():
        raise BrokenRunError(f"{where}: timesteps must increase from one evaluation to the next")
    # A policy may have no finite return (see results.without_return), and then no finite spread.
    has_return = np.isfinite(returns)
    amounts = {"wall_seconds": seconds, "return_std": spreads[has_return], "length_mean": lengths}
    for column, amount in amounts.items():
        if not ((amount >= 0) & np.isfinite(amount)).all():
            raise BrokenRunError(f"{where}: {column} must be at least 0 and finite")
    measured = np.concatenate([returns[has_return], spreads[has_return], lengths])
    if (np.abs(measured) > _LARGEST_VALUE).any():
        raise BrokenRunError(f"{where}: has a value beyond {_LARGEST_VALUE:g}")


# pydantic's own words are meant for programmers, and do not show the value.
_WORDS = {
    "model_type": "must be an object",
    "dataclass_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be an integer",
    "float_type": "must be a finite number",
    "finite_number": "must be a finite number",
    "unexpected_keyword_argument": "is not known",
    "extra_forbidden": "is not known",
}


def described(error: ValidationError) -> str:
    """What is wrong with a record, on one line: the place, what is valid and what it holds."""
    problems: list[str] = []
    absent: dict[str, list[str]] = {}
    for each in error.errors(include_url=False, include_context=False):
        *parents, key = each["loc"]
        if each["type"] == "missing":
            absent.setdefault(_place(parents), []).append(str(key))
            continue
        words = _WORDS.get(each["type"]) or each["msg"].removeprefix("Value error, ")
        words = words.replace("Input should be", "must be").replace("String should", "must")
        got = "" if words.startswith("has no") else f", got {each['input']!r}"
        problems.append(f"{_place(each['loc'])}{words}{got}")
    problems = [f"{place}has no {', '.join(keys)}" for place, keys in absent.items()] + problems
    return message("; ".join(problems[:3]))


def _place(location: Iterable[object]) -> str:
    return "".join(f"{each}: " for each in location)
