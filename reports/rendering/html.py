"""A report as one self-contained HTML file: figures, style and script are inside."""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from benchmarks.names import visible
from benchmarks.tables import Code, Column, Inline, Link, Shown, Strong, Table, text_of
from reports.rendering.blocks import Block, Bullets, CodeBlock, Figure, Paragraph, Section
from reports.rendering.curves import Drawings

# Not from mimetypes, which asks the system: the same input gives the same bytes everywhere.
_MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".csv": "text/csv"}

# A space as wide as a digit, which aligns the numbers in brackets.
FIGURE_SPACE = "\u2007"

# In a URL with data, which stands between quotation marks; "#" would end it.
_AS_IT_IS = " !$'()*+,-./:;=?@[]^_`{|}~"
_OTHER_QUOTES = bytes.maketrans(b"\"'", b"'\"")

_TEMPLATE = "page.html.j2"
_SCRIPT = "curves.js"

POLICY = escape(
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""What the page may load, as it says: nothing from anywhere."""


@dataclass(frozen=True)
class Heading:
    """An entry of the table of contents."""

    level: int
    text: str
    anchor: str


def page(title: Inline, blocks: Sequence[Block], folder: Path) -> str:
    """The report as one HTML file, which loads nothing from anywhere.

    Figures are embedded as SVG; those that have ``data`` answer to the mouse. Files that the text
    links to are embedded as downloads.

    :param folder: holds the figures, as ``NAME.svg``, and the files that the text links to
    :raises FileNotFoundError: a figure or a file that is not in ``folder``
    """
    body = _Body(folder)
    heading = body.heading(1, title)
    main = body.all(blocks, level=2)
    templates = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(_TEMPLATE).render(
        policy=POLICY,
        title=text_of(title),
        heading=heading,
        body=main,
        contents=[each for each in body.headings if each.level in (2, 3)],
        curves=body.drawings.json() if body.drawings else None,
        curves_script=Markup((templates / _SCRIPT).read_text(encoding="utf-8")),
    )


class _Body:
    """Writes blocks as HTML and remembers the headings and figures it has written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n_figures = 0
        self.headings: list[Heading] = []
        self.drawings = Drawings()

    def all(self, blocks: Sequence[Block], level: int) -> Markup:
        """The blocks one below the other; sections among them get headings of this level."""
        return Markup("").join(self._block(block, level) for block in blocks)

    def heading(self, level: int, title: Inline) -> Markup:
        """A heading with the anchor that GitHub and GitLab give it."""
        text = text_of(title)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        anchor, repeated = slug, 0
        taken = {each.anchor for each in self.headings}
        while anchor in taken:
            repeated += 1
            anchor = f"{slug}-{repeated}"
        self.headings.append(Heading(level, text, anchor))
        opening = Markup('<h{} id="{}">').format(level, anchor)
        return opening + self._inline(title) + Markup("</h{}>\n").format(level)

    def _block(self, block: Block, level: int) -> Markup:
        if isinstance(block, Section):
            if not block.title:
                return self.all(block.blocks, level)
            return self.heading(level, block.title) + self.all(block.blocks, level + 1)
        if isinstance(block, Paragraph):
            return Markup("<p>{}</p>\n").format(self._inline(block.text))
        if isinstance(block, Bullets):
            items = (Markup("<li>{}</li>\n").format(self._inline(item)) for item in block.items)
            return Markup("<ul>\n{}</ul>\n").format(Markup("").join(items))
        if isinstance(block, CodeBlock):
            lines = "\n".join(visible(line) for line in block.lines)
            return Markup("<pre><code>{}\n</code></pre>\n").format(lines)
        return self._table(block) if isinstance(block, Table) else self._figure(block)

    def _inline(self, text: Inline) -> Markup:
        if isinstance(text, str):
            return escape(visible(text))
        if isinstance(text, Strong):
            return Markup("<strong>{}</strong>").format(self._inline(text.text))
        if isinstance(text, Code):
            return Markup("<code>{}</code>").format(visible(text.text))
        if isinstance(text, Link):
            return self._link(text)
        return Markup("").join(map(self._inline, text))

    def _link(self, link: Link) -> Markup:
        text = self._inline(link.text)
        if re.match(r"#|https?://|mailto:", link.target):
            return Markup('<a href="{}">{}</a>').format(link.target, text)
        uri = self._embedded(link.target)
        return Markup('<a href="{}" download="{}">{}</a>').format(uri, link.target, text)

    def _figure(self, figure: Figure) -> Markup:
        if figure.data is not None:
            return Markup("<figure>\n{}\n<figcaption>{}</figcaption>\n</figure>\n").format(
                self.drawings.figure(figure.title, figure.data), self._inline(figure.caption)
            )
        self._n_figures += 1
        # No heading's anchor has a colon.
        anchor = f"figure:{self._n_figures}"
        file = f"{figure.name}.svg"
        image = Markup('<img src="{}" alt="{}" id="{}">').format(
            self._embedded(file), visible(figure.title), anchor
        )
        # The page's script makes this a download, so that the figure is embedded only once.
        link = Markup('<a href="#{}" data-file="{}">SVG</a>').format(anchor, file)
        return Markup(
            '<figure>\n<div class="card">{}</div>\n<figcaption>{} As {}.</figcaption>\n</figure>\n'
        ).format(image, self._inline(figure.caption), link)

    def _embedded(self, name: str) -> Markup:
        """A file of the folder as a data URI, to stand in an attribute."""
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise FileNotFoundError(f"{path}: is not in the folder of the report")
        media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        content = path.read_bytes()
        if not media_type.startswith(("text/", "image/svg")):
            return Markup(f"data:{media_type};base64,{base64.b64encode(content).decode()}")
        safe = _AS_IT_IS
        if path.suffix == ".svg":
            # Quotation marks, brackets and the ends of lines would take three characters each.
            content = b" ".join(content.split()).replace(b"> <", b"><").translate(_OTHER_QUOTES)
            safe += "<>"
        # Shorter than in base 64.
        return Markup(f"data:{media_type},{urllib.parse.quote(content, safe=safe)}")

    def _table(self, table: Table) -> Markup:
        """A table in a box that scrolls sideways.

        A column of intervals has two cells in each row below one heading, so that values and
        brackets align, whatever is bold.
        """
        heads = Markup("").join(map(self._head, table.columns))
        cells = [self._cells(column) for column in table.columns]
        rows = (
            Markup("<tr>\n{}</tr>\n").format(Markup("").join(row))
            for row in zip(*cells, strict=True)
        )
        return Markup(
            '<div class="scroll">\n<table>\n<thead>\n<tr>\n{}</tr>\n</thead>\n'
            "<tbody>\n{}</tbody>\n</table>\n</div>\n"
        ).format(heads, Markup("").join(rows))

    def _head(self, column: Column) -> Markup:
        css = Markup(' class="number"') if column.align == "r" else ""
        span = Markup(' colspan="2"') if _has_intervals(column.shown()) else ""
        return Markup('<th scope="col"{}{}><span>{}</span></th>\n').format(
            css, span, visible(column.header)
        )

    def _cells(self, column: Column) -> list[Markup]:
        """What a column has in each row: one cell, or two where it has intervals."""
        shown = column.shown()
        spreads = _spreads(shown, column.brackets)
        in_two = _has_intervals(shown)
        cells = []
        for cell, key, spread in zip(shown, column.sort_keys(), spreads, strict=True):
            sort = Markup(" data-sort='{}'").format(_json(key)) if key else ""
            value = self._inline(Strong(cell.value) if cell.bold else cell.value)
            css = "number value" if in_two else "number" if column.align == "r" else ""
            attributes = (Markup(' class="{}"').format(css) if css else "") + sort
            text = Markup("<td{}>{}</td>\n").format(attributes, value)
            if in_two:
                text += Markup('<td class="spread">{}</td>\n').format(spread)
            cells.append(text)
        return cells


def _has_intervals(cells: Sequence[Shown]) -> bool:
    return any(cell.low or cell.note for cell in cells)


def _spreads(cells: Sequence[Shown], brackets: tuple[str, str]) -> list[str]:
    """The intervals, padded so that their numbers align; a note where a cell has none."""
    opening, closing = brackets
    low = max(len(cell.low) for cell in cells)
    high = max(len(cell.high) for cell in cells)
    return [
        FIGURE_SPACE * (low - len(cell.low))
        + f"{opening}{cell.low}, {cell.high.rjust(high, FIGURE_SPACE)}{closing}"
        if cell.low
        else cell.note
        for cell in cells
    ]


def _json(numbers: Sequence[float]) -> str:
    """With nine digits. JSON has no infinity, but numbers beyond the largest are read as one."""
    short = ",".join(f"{number:.9g}" for number in numbers)
    return f"[{short}]".replace("inf", "1e999")
