"""Blocks as plain text, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchmarks.names import visible
from benchmarks.tables import Inline, Table, text_of, to_text
from reports.rendering.blocks import Block, Bullets, CodeBlock, Figure, Paragraph, Section

WIDTH = 100
"""Characters of a line of text; tables and code may be wider."""


def document(blocks: Sequence[Block]) -> str:
    """The blocks one below the other, with an empty line between them, each figure as its title.

    A section's title stands on a line above its first block.
    """
    return "\n\n".join(_parts(blocks)) + "\n"


def _parts(blocks: Sequence[Block]) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Section):
            first, *others = _parts(block.blocks) or [""]
            parts += ["\n".join(filter(None, [visible(block.title), first])), *others]
        else:
            parts.append(_part(block))
    return parts


def _part(block: Paragraph | Bullets | CodeBlock | Figure | Table) -> str:
    if isinstance(block, Table):
        return to_text(block)
    if isinstance(block, Bullets):
        return "\n".join(_wrapped(item, "- ") for item in block.items)
    if isinstance(block, CodeBlock):
        return "\n".join(f"  {visible(line)}" for line in block.lines)
    return _wrapped(block.title if isinstance(block, Figure) else block.text)


def _wrapped(text: Inline, mark: str = "") -> str:
    return textwrap.fill(
        text_of(text),
        WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )
