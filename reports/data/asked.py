"""What a report is asked for: places with runs, and which of the runs, by which metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command_line import split_names
from benchmarks.names import plain
from benchmarks.safe_yaml import read_mapping
from reports.data.runs import ReportError

TABLE = "table"


@dataclass(frozen=True)
class Source:
    """A place with runs.

    ``path``: a folder or a log. ``format``: of its logs; None: found out. ``name``: what the
    report calls its runs; empty: as their algorithms.
    """

    path: Path
    format: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Wanted:
    """What of the runs is reported, and how.

    ``where``: as :func:`reports.data.selection.parse` reads it; empty: all. ``group_by``: a field,
    whose values the labels then are. ``metric``: None: evaluations if all runs have them, else
    training returns. ``cut_to_shortest``: runs of one environment need not be equally long.
    ``pattern``, ``columns``: as for :func:`reports.data.readers.find.read`.
    """

    where: str = ""
    group_by: str | None = None
    metric: str | None = None
    lower_is_better: bool = False
    cut_to_shortest: bool = False
    pattern: str | None = None
    columns: Mapping[str, str] | None = None


EVERYTHING = Wanted()


def sources_of(
    paths: Sequence[Path], formats: Iterable[str] = (), names: Iterable[str] = ()
) -> list[Source]:
    """The places with runs that a command names.

    :param formats: ``PATH=FORMAT``, each of one of the paths
    :param names: ``PATH=LABEL`` likewise
    :raises ReportError: a text of another form, one of another path, or a path that is given twice
    """
    for i, path in enumerate(paths):
        for other in paths[:i]:
            if path == other:
                raise ReportError(f"RUNS: {path} is given twice; its runs would count twice")
            inner, outer = (path, other) if other in path.parents else (other, path)
            if outer in inner.parents:
                raise ReportError(f"RUNS: {inner} is in {outer}; its runs would count twice")
    of_format = _by_path("--format-of", "PATH=FORMAT", formats, paths)
    of_name = _by_path("--name", "PATH=LABEL", names, paths)
    return [Source(path, of_format.get(path), plain(of_name.get(path, ""))) for path in paths]


def _by_path(
    option: str, form: str, texts: Iterable[str], paths: Sequence[Path]
) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for text in texts:
        parts = text.split("=")
        splits = (("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts)))
        path, value = next(
            ((Path(left), right) for left, right in splits if left and Path(left) in paths),
            (None, ""),
        )
        if path is None or not value.strip():
            given = ", ".join(map(str, paths))
            raise ReportError(f"{option}: must be {form} with a path of {given}, got {text!r}")
        if path in found:
            raise ReportError(f"{option}: {path}: is given twice; give one")
        found[path] = value.strip()
    return found


def with_tables(sources: Sequence[Source], wanted: Wanted) -> list[Source]:
    """The sources with those marked that are tables, if it is said what their columns are.

    These are the ones that the user has called tables, or else all whose format is not given.

    :raises ReportError: there is none
    """
    if wanted.columns is None or any(source.format == TABLE for source in sources):
        return list(sources)
    if all(source.format for source in sources):
        raise ReportError("--columns: are for tables; say which with --format-of PATH=table")
    return [source if source.format else replace(source, format=TABLE) for source in sources]


def columns_of(text: str | None) -> Mapping[str, str] | None:
    """What ``--columns`` says: ``algo=exp_name,env_id=env``, or a YAML file with such a mapping.

    :raises ReportError: a text of another form, or a column that is not a string
    :raises SpecError: a file that cannot be read
    """
    if text is None:
        return None
    if Path(text).is_file():
        columns: dict[str, Any] = read_mapping(Path(text))
    else:
        pairs = [part.partition("=") for part in split_names(text)]
        if not pairs or not all(key and equals and column for key, equals, column in pairs):
            raise ReportError(
                "--columns: must be a YAML file, or FIELD=COLUMN separated by commas, such as "
                f"env_id=task,seed=seed,timesteps=step,return=reward; got {text!r}"
            )
        columns = {key.strip(): column.strip() for key, _, column in pairs}
    for key, column in columns.items():
        if not isinstance(column, str):
            raise ReportError(f"--columns: {key}: must be the name of a column, got {column!r}")
    return columns
