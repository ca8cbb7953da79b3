"""Parquet tables with checked columns: safe to read from anywhere, and small."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.records import BrokenRunError, content
from benchmarks.storage import Folder

# pandas and pyarrow take most of a second to import, and most commands need no table.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Kinds of columns. In each, cells may be empty.
TEXT, JSON, INTEGER, NUMBER, FLAG = "string", "JSON", "int64", "double", "bool"
Columns = Mapping[str, str]
"""Names and kinds of columns."""
Row = dict[str, Any]
"""The cells of a row by their columns; of the kind ``JSON``, the texts."""

_SINGLE = "float"  # how an array may be stored, see encoded
_LARGEST_FILE = 2**30  # bytes
_LARGEST_TABLE = 2**32  # bytes in memory


def read(path: Folder, columns: Columns, has_others: bool = False) -> "pa.Table":
    """A table that has these columns and no others, or others of texts and numbers too.

    :raises BrokenRunError: it cannot be read, is too large, or has other columns
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    data = content(path, _LARGEST_FILE)
    batches, size = [], 0
    try:
        with ParquetFile(pa.BufferReader(data)) as file:
            schema = file.schema_arrow
            _check(path, schema, columns, has_others)
            for batch in file.iter_batches():
                batches.append(batch)
                size += batch.nbytes
                if size > _LARGEST_TABLE:  # a small file can become one
                    raise BrokenRunError(f"{path}: must have at most {_LARGEST_TABLE:,} bytes")
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BrokenRunError(f"{path}: {error}") from error
    return table


def _check(path: Folder, schema: "pa.Schema", columns: Columns, has_others: bool) -> None:
    found = {field.name: str(field.type) for field in schema}
    expected = {name: _stored(kind) for name, kind in columns.items()}
    others = {TEXT, INTEGER, NUMBER, _SINGLE} if has_others else set()
    problems = [f"no {name}" for name in expected if name not in found]
    for name, kind in found.items():
        if kind != expected[name] if name in expected else kind not in others:
            problems.append(f"{name} ({kind})")
    if len(found) < len(schema.names):
        problems.append("one of them twice")
    if problems:
        wanted = ", ".join(f"{name} ({kind})" for name, kind in expected.items())
        raise BrokenRunError(f"{path}: must have the columns {wanted}; got {', '.join(problems)}")


def _stored(kind: str) -> str:
    return TEXT if kind == JSON else kind


def read_rows(path: Folder, columns: Columns, key: str) -> list[tuple[int, Row]]:
    """The rows of a table, numbered from 1 on.

    :param key: a column in which no cell may be empty
    :raises BrokenRunError: the table cannot be read
    """
    rows = list(enumerate(read(path, columns).to_pylist(), start=1))
    for number, row in rows:
        if row[key] is None:
            raise BrokenRunError(f"{path}: row {number}: has no {key}")
    return rows


def rows_by(column: "pa.ChunkedArray", path: Folder) -> dict[str, np.ndarray]:
    """The indices of the rows in which each text stands, in their order.

    :raises BrokenRunError: a cell is empty
    """
    if column.null_count:
        raise BrokenRunError(f"{path}: has a row whose first cell is empty")
    encoded = column.combine_chunks().dictionary_encode()
    texts, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    ends = np.cumsum(np.bincount(codes, minlength=len(texts)))
    return dict(zip(texts, np.split(np.argsort(codes, kind="stable"), ends[:-1]), strict=True))


def row_of(fields: Mapping[str, Any], columns: Columns) -> Row:
    """A row of what has columns among some fields; absent ones leave their cells empty."""
    return {
        name: json.dumps(fields[name]) if kind == JSON and name in fields else fields.get(name)
        for name, kind in columns.items()
    }


def fields_of(row: Row, columns: Columns, where: str) -> dict[str, Any]:
    """The fields of which :func:`row_of` made a row; of the kind ``JSON``, without empty cells.

    :param where: the row, for error messages
    :raises BrokenRunError: a text is not JSON
    """
    fields = {}
    for name, kind in columns.items():
        if kind != JSON:
            fields[name] = row[name]
        elif row[name] is not None:
            try:
                fields[name] = json.loads(row[name])
            except (ValueError, RecursionError) as error:
                raise BrokenRunError(f"{where}: {name}: {error}") from error
    return fields


def from_rows(rows: Iterable[Row], columns: Columns) -> "pa.Table":
    """A table of these columns."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), _schema(columns))


def from_arrays(arrays: Mapping[str, np.ndarray], columns: Columns) -> "pa.Table":
    """A table of these columns; integers may be given as floating-point numbers."""
    import pyarrow as pa

    schema = _schema(columns)
    return pa.table({name: pa.array(arrays[name]).cast(schema.field(name).type) for name in arrays})


def _schema(columns: Columns) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(name, pa.type_for_alias(_stored(kind))) for name, kind in columns.items()])


def encoded(column: "pd.Series") -> "pa.Array":
    """A column as integers, in single precision or in double, whichever is the first to be exact.

    In single precision it is exact if each number has at most six significant digits.
    """
    import pyarrow as pa
    from pandas.api.types import is_numeric_dtype

    missing = column.isna().to_numpy()
    if not is_numeric_dtype(column):
        return pa.array([None if gone else str(x) for x, gone in zip(column, missing, strict=True)])
    values = column.to_numpy(np.float64)
    known = values[~missing]
    if (np.abs(known) < 2**53).all() and (known == np.floor(known)).all():
        return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    is_exact = np.array_equal(_shortest(single[~missing]), known)
    return pa.array(single if is_exact else values, mask=missing)


def decoded(column: "pa.ChunkedArray") -> np.ndarray:
    """The values that :func:`encoded` was given."""
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return _shortest(values) if values.dtype == np.float32 else values


def _shortest(values: np.ndarray) -> np.ndarray:
    """The numbers of fewest digits that single precision rounds to these."""
    return values.astype(str).astype(np.float64)


def write(table: "pa.Table", path: Path) -> None:
    """Write a table, as small as Parquet makes it."""
    from pyarrow import parquet, types

    numbers = [field.name for field in table.schema if types.is_floating(field.type)]
    parquet.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
    )
