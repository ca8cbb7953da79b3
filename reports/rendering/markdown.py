"""A report in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.names import visible
from benchmarks.tables import Inline, Table, markdown_of, to_markdown
from reports.rendering.blocks import Block, Bullets, CodeBlock, Figure, Paragraph, Section


def document(title: Inline, blocks: Sequence[Block]) -> str:
    """A whole file; the figures it names lie beside it."""
    return "\n\n".join([f"# {markdown_of(title)}", *_parts(blocks, level=2)]) + "\n"


def _parts(blocks: Sequence[Block], level: int) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Section):
            if block.title:
                parts.append(f"{'#' * level} {markdown_of(block.title)}")
            parts += _parts(block.blocks, level + bool(block.title))
        else:
            parts.append(_part(block))
    return parts


def _part(block: Paragraph | Bullets | CodeBlock | Figure | Table) -> str:
    if isinstance(block, Paragraph):
        return markdown_of(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {markdown_of(item)}" for item in block.items)
    if isinstance(block, CodeBlock):
        return code_block(block.lines)
    if isinstance(block, Table):
        return to_markdown(block)
    picture = f"![{markdown_of(block.title)}]({block.name}.png)"
    return f"{picture}\n\n{markdown_of(block.caption)} As [SVG]({block.name}.svg)."


def code_block(lines: Sequence[str], language: str = "") -> str:
    """Lines verbatim, within more backticks than they have in a row.

    :param language: in which they are highlighted, such as ``python``
    """
    shown = [visible(line) for line in lines]
    longest = max([2, *map(len, re.findall("`+", "\n".join(shown)))])
    fence = "`" * (longest + 1)
    return "\n".join([fence + language, *shown, fence])
