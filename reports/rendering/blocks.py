"""What a report consists of, whatever the format: sections of paragraphs, lists, tables, figures.

Renderers (:mod:`reports.rendering.markdown`, :mod:`reports.rendering.html`) walk this tree. Text in
it is plain unless it is marked (see :mod:`benchmarks.tables`), so that nothing in a name is ever
taken for a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure as Drawing

from benchmarks.tables import Inline, Table
from reports.rendering.curves import Curves


@dataclass(frozen=True)
class Paragraph:
    """Sentences.

    :param text: the text, plain or marked (:class:`benchmarks.tables.Strong`, ``Code``, ``Link``,
        or a tuple of these)
    """

    text: Inline


@dataclass(frozen=True)
class Bullets:
    """A list with bullets.

    :param items: the items, each as the text of a :class:`Paragraph`
    """

    items: Sequence[Inline]


@dataclass(frozen=True)
class CodeBlock:
    """Lines shown verbatim.

    :param lines: the lines, without their ends
    """

    lines: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    :param name: name of its files, without an ending
    :param title: what it shows, for those who cannot see it
    :param caption: the text below it, as that of a :class:`Paragraph`
    :param draw: draws it when the report is written, so that not all figures are in memory at once
    :param colours: number of colours of its PNG, fewer for a smaller file; None: any number
    :param data: what a page draws instead, which answers to the mouse; None: it shows the picture
    """

    name: str
    title: str
    caption: Inline
    draw: Callable[[], Drawing]
    colours: int | None = None
    data: Curves | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what belongs below it, subsections among that.

    :param title: the heading; empty: the blocks stand below the heading before
    :param blocks: paragraphs, lists, tables, figures and sections
    :param files: by its name, the content of each file that lies beside the report because of this
        section, such as a CSV file that the text links to
    """

    title: str
    blocks: Sequence[Block]
    files: Mapping[str, str] = field(default_factory=dict)


Block = Paragraph | Bullets | CodeBlock | Figure | Table | Section


def walk(blocks: Sequence[Block]) -> Iterator[Block]:
    """All blocks, those inside sections too, in their order."""
    for block in blocks:
        yield block
        if isinstance(block, Section):
            yield from walk(block.blocks)


def tables_of(blocks: Sequence[Block]) -> dict[str, Table]:
    """The tables that have a name, by it."""
    return {b.name: b for b in walk(blocks) if isinstance(b, Table) and b.name}


def figures_of(blocks: Sequence[Block]) -> list[Figure]:
    """The figures, in their order."""
    return [block for block in walk(blocks) if isinstance(block, Figure)]
