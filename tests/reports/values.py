"""Reads the values of tables and the text of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tables import Table, text_of
from reports.rendering.blocks import Block, Bullets, Paragraph, walk


def column(table: Table, header: str) -> list[Any]:
    """The values of a column."""
    return list(next(each.values for each in table.columns if each.header == header))


def headers(table: Table) -> list[str]:
    return [each.header for each in table.columns]


def rows(table: Table) -> list[list[Any]]:
    """The values of each row."""
    return [list(row) for row in zip(*(each.values for each in table.columns), strict=True)]


def cells(table: Table, header: str) -> list[str]:
    """The cells of a column as they are shown: bold between asterisks, intervals in brackets."""
    return [row[0] for row in shown(Table([next(c for c in table.columns if c.header == header)]))]


def shown(table: Table) -> list[list[str]]:
    """The cells of each row as they are shown: bold between asterisks, intervals in brackets."""
    columns = [
        [
            (f"**{text_of(cell.value)}**" if cell.bold else text_of(cell.value))
            + (f" [{cell.low}, {cell.high}]" if cell.low else f" {cell.note}" if cell.note else "")
            for cell in each.shown()
        ]
        for each in table.columns
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def texts(blocks: Sequence[Block]) -> list[str]:
    """What paragraphs and lists say."""
    found: list[str] = []
    for block in walk(blocks):
        if isinstance(block, Paragraph):
            found.append(text_of(block.text))
        elif isinstance(block, Bullets):
            found += map(text_of, block.items)
    return found


def tables(blocks: Sequence[Block]) -> list[Table]:
    """The tables, in their order."""
    return [block for block in walk(blocks) if isinstance(block, Table)]
