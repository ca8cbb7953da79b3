"""A report as one HTML file that needs nothing beside it: figures, style and script are inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from reports.exports import ESTIMATE
from reports.templates import template

# Not mimetypes, which asks the system: the same input gives the same bytes everywhere.
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".csv": "text/csv"}

# As wide as a digit: what takes the place of the spaces that align numbers in the source.
FIGURE_SPACE = "\u2007"


@dataclass(frozen=True)
class Heading:
    """A line of the table of contents."""

    level: int
    text: str
    anchor: str


def page(markdown: str, folder: Path) -> str:
    """The report as one HTML file, which loads nothing from anywhere.

    Figures are embedded, as SVG where one lies beside the PNG; the paragraph after a figure is its
    caption. Files that the text links to are embedded as downloads; a link to what is neither in
    ``folder`` nor on the web loses its target. HTML in the Markdown is shown, not obeyed.

    :param markdown: as :func:`reports.document.build` writes it
    :param folder: where the figures and files are that the Markdown names
    :raises FileNotFoundError: a figure that is not a file in ``folder``
    """
    parser = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False}).enable("table")
    tokens = parser.parse(markdown)
    headings = _name_headings(tokens)
    figures = _embed_figures(tokens, folder)
    _embed_links(tokens, folder, figures)
    tokens = _with_captions(_with_tables(tokens, parser))
    # The first heading stands apart, so that on a narrow screen the contents come after it.
    own_title = len(tokens) > 2 and tokens[0].type == "heading_open" and tokens[0].tag == "h1"
    split = 3 if own_title else 0
    return template("page.html.j2", autoescape=True).render(
        title=headings[0].text if own_title else "Report",
        heading=Markup(parser.renderer.render(tokens[:split], parser.options, {})),
        body=Markup(parser.renderer.render(tokens[split:], parser.options, {})),
        contents=[heading for heading in headings if heading.level in (2, 3)],
    )


def _name_headings(tokens: Sequence[Token]) -> list[Heading]:
    """Give every heading the anchor that code hosts give it."""
    headings: list[Heading] = []
    anchors: set[str] = set()
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or [])
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        anchor, repeated = slug, 0
        while anchor in anchors:
            repeated += 1
            anchor = f"{slug}-{repeated}"
        anchors.add(anchor)
        opening.attrSet("id", anchor)
        headings.append(Heading(int(opening.tag[1:]), text, anchor))
    return headings


def _embed_figures(tokens: Sequence[Token], folder: Path) -> dict[Path, str]:
    """Put the figures into the page; which file has which id there.

    :raises FileNotFoundError: a figure that is not a file in ``folder``
    """
    ids: dict[Path, str] = {}
    for image in (child for child in _inline(tokens) if child.type == "image"):
        name = str(image.attrs["src"])
        path = _inside(folder, name)
        if path is None:
            raise FileNotFoundError(f"{folder / unquote(name)}: the report shows it, but no file")
        vector = path.with_suffix(".svg")
        path = vector if vector.is_file() else path
        image.attrSet("src", _data_uri(path))
        if path not in ids:
            # No heading's anchor has a colon.
            ids[path] = f"figure:{len(ids) + 1}"
            image.attrSet("id", ids[path])
    return ids


def _embed_links(tokens: Sequence[Token], folder: Path, figures: dict[Path, str]) -> None:
    """Turn links to files into downloads; those to nowhere become text."""
    dead = False
    for child in _inline(tokens):
        if child.type == "link_close" and dead:
            child.type, child.tag, child.content, dead = "text", "", "", False
        elif child.type == "link_open":
            target = str(child.attrs["href"])
            if target.startswith("#") or re.match(r"https?://|mailto:", target):
                continue
            path = _inside(folder, target)
            if path is None:
                child.type, child.tag, child.content, dead = "text", "", "", True
            elif path in figures:
                # The script makes it a download of the figure, which need not be here twice.
                child.attrs = {"href": f"#{figures[path]}", "data-file": path.name}
            else:
                child.attrs = {"href": _data_uri(path), "download": path.name}


def _with_tables(tokens: Sequence[Token], parser: MarkdownIt) -> list[Token]:
    """Every table replaced by its HTML."""
    out: list[Token] = []
    table: list[Token] = []
    for token in tokens:
        if token.type == "table_open" or table:
            table.append(token)
        else:
            out.append(token)
        if token.type == "table_close":
            out.append(_html(_table(table, parser)))
            table = []
    return out


def _table(tokens: Sequence[Token], parser: MarkdownIt) -> str:
    """A table in a box that scrolls sideways.

    A column of estimates has two cells in each row, under one heading: values end and brackets
    begin one below the other, whatever is bold.
    """
    rows: list[list[tuple[Token, Token]]] = []
    for opening, inline in pairwise(tokens):
        if opening.type == "tr_open":
            rows.append([])
        elif opening.type in ("th_open", "td_open"):
            rows[-1].append((opening, inline))
    head, *body = rows
    right = [opening.attrGet("style") == "text-align:right" for opening, _ in head]
    estimates = [
        right[i] and any(ESTIMATE.fullmatch(row[i][1].content) for row in body)
        for i in range(len(head))
    ]
    classes = [' class="number"' if is_right else "" for is_right in right]
    lines = ['<div class="scroll">', "<table>", "<thead>", "<tr>"]
    for (_, inline), css, is_estimate in zip(head, classes, estimates, strict=True):
        span = ' colspan="2"' if is_estimate else ""
        lines.append(f'<th scope="col"{css}{span}><span>{_cell(inline, parser)}</span></th>')
    lines += ["</tr>", "</thead>", "<tbody>"]
    for row in body:
        lines.append("<tr>")
        for (_, inline), css, is_estimate in zip(row, classes, estimates, strict=True):
            match = ESTIMATE.fullmatch(inline.content) if is_estimate else None
            if is_estimate:
                value = parser.renderInline(match["value"]) if match else _cell(inline, parser)
                spread = _spread(match["spread"]) if match else ""
                lines.append(f'<td class="number value">{value}</td>')
                lines.append(f'<td class="spread">{spread}</td>')
            else:
                lines.append(f"<td{css}>{_cell(inline, parser)}</td>")
        lines.append("</tr>")
    lines += ["</tbody>", "</table>", "</div>"]
    return "\n".join(lines) + "\n"


def _cell(inline: Token, parser: MarkdownIt) -> str:
    return str(parser.renderer.render([inline], parser.options, {}))


def _spread(text: str) -> str:
    """``[ 58.1, 152.3]``: padding goes before the bracket and is as wide as digits."""
    low = re.sub(r"^([\[(])( +)", lambda match: FIGURE_SPACE * len(match[2]) + match[1], text)
    return escape(re.sub(r"(?<=, ) +", lambda match: FIGURE_SPACE * len(match[0]), low))


def _with_captions(tokens: Sequence[Token]) -> list[Token]:
    """A paragraph that is an image becomes a figure, and the paragraph after it the caption."""
    out: list[Token] = []
    position = 0
    while position < len(tokens):
        paragraph = tokens[position : position + 3]
        if not _is_image(paragraph):
            out.append(tokens[position])
            position += 1
            continue
        position += 3
        out += [_html('<figure>\n<div class="card">'), paragraph[1], _html("</div>\n")]
        caption = tokens[position : position + 3]
        if caption and caption[0].type == "paragraph_open" and not _is_image(caption):
            out += [_html("<figcaption>"), caption[1], _html("</figcaption>\n")]
            position += 3
        out.append(_html("</figure>\n"))
    return out


def _is_image(tokens: Sequence[Token]) -> bool:
    """Whether these three are a paragraph of nothing but an image."""
    return (
        len(tokens) == 3
        and tokens[0].type == "paragraph_open"
        and [child.type for child in tokens[1].children or []] == ["image"]
    )


def _inline(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from token.children or []


def _inside(folder: Path, target: str) -> Path | None:
    """The file in ``folder`` that is meant; ``None`` where there is none."""
    path = (folder / unquote(target)).resolve()
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None


def _data_uri(path: Path) -> str:
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _html(content: str) -> Token:
    """HTML as it is."""
    return Token("html_block", "", 0, content=content)
