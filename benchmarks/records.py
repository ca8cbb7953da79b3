"""What a run is, and what its files may say of it: checked where they are read.

A file may come from anywhere. What decides a run is exact or refused; what is only told of it,
such as an exception's message, is cut and made encodable.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar

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
from benchmarks.storage import FAILED, Folder
from benchmarks.yamls import check_values

FORMAT = 1
MAX_SEED = 2**32 - 1  # NumPy's
MAX_EVALUATIONS = 1_000_000  # of a run; and episodes of each
_LONGEST_TEXT = 2_000  # characters
_LONGEST_TRACEBACK = 20_000
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
    """A protocol with all its parts; all but the last have defaults only where it is made."""
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
# Strict numbers: pydantic would take "3" and true for some.
Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)]
Count = Annotated[int, Field(strict=True, ge=1, lt=2**53)]
Few = Annotated[int, Field(strict=True, ge=1, le=MAX_EVALUATIONS)]
Amount = Annotated[float, Field(strict=True, ge=0, lt=1e15, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation protocol.

    ``points``: evaluations of a run, evenly spread up to its last step; one more is made before
    the first. ``episodes``: episodes of each. ``seed``: episode i always starts from seed + i.
    ``max_steps``: steps after which an episode is cut, since it may never end.
    """

    __pydantic_config__: ClassVar = _NOTHING_ELSE

    points: Few = 20
    episodes: Few = 10
    seed: Seed = 1_000_000
    max_steps: Count = 100_000


@dataclass(frozen=True)
class RunSpec:
    """All that decides the result of one run.

    ``hyperparams`` are as written in the YAML file, without ``n_timesteps``; ``environment`` holds
    what the suite says of it: ``kwargs``, ``wrappers`` and ``frame_stack``, those that are given.
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
        """8 hex digits: a hash of everything but the seed and the suite's name."""
        spec = self.to_dict()
        del spec["seed"], spec["suite"]
        canonical = json.dumps(spec, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def folder(self, out: Folder) -> Folder:
        """Where the finished run stands below ``out``."""
        return out.joinpath(*self.levels(self.config))

    def levels(self, config: str) -> tuple[str, str, str, str]:
        """The names of the folders from the suite's to the run's.

        :param config: that of the record, which an older version may have made
        """
        name = f"seed-{self.seed}-{config}"
        return self.suite, as_file_name(self.algo), as_file_name(self.env_id), name

    def failure_file(self, out: Folder) -> Folder:
        """Where the record of a failure stands, in the place of the folder."""
        folder = self.folder(out)
        return folder.with_name(f"{folder.name}{FAILED}")

    def to_dict(self) -> dict[str, Any]:
        spec = asdict(self)
        # So that a plain run has one name, whatever else there is.
        if not self.environment:
            del spec["environment"]
        if self.evaluation.max_steps == Evaluation.max_steps:
            del spec["evaluation"]["max_steps"]
        return spec

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "RunSpec":
        return cls(**{**spec, "evaluation": Evaluation(**spec["evaluation"])})

    def __str__(self) -> str:
        return f"{self.algo} {self.env_id} seed {self.seed}"


def check_spec(spec: RunSpec) -> None:
    """Check that a run can be written so that it can be read.

    :raises SpecError: it cannot
    """
    try:
        _SPEC.validate_python(spec.to_dict())
    except ValidationError as error:
        raise SpecError(f"{spec}: {described(error)}") from None


_SPEC = TypeAdapter(RunSpec)


class Record(BaseModel):
    """What a JSON file of this version holds; what else is in it is left to others."""

    command: LongText


class OneRunRecord(Record):
    """A record of one run, finished or failed."""

    spec: RunSpec
    config: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    started: Text


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
    # Runs made before these were recorded do not have them.
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


class AskedRuns(BaseModel):
    """Runs of a sweep that differ in their seeds alone."""

    model_config = _NOTHING_ELSE

    suite: Level
    algo: Name
    env_id: Name
    config: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    seeds: list[Seed]


class AskedRecord(Record):
    """What a sweep was asked for."""

    runs: list[AskedRuns]


# pydantic's own words are for programmers, and do not show the value.
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
    """What is wrong with a record, on one line: where, what it must be and what it is."""
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
