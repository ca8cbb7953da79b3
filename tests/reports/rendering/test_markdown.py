"""A report in Markdown, read again by a parser of Markdown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib.figure import Figure as Drawing

from benchmarks.tables import Code, Link, Number, Strong, Table, Text
from reports.rendering.blocks import Bullets, CodeBlock, Figure, Paragraph, Section
from reports.rendering.markdown import code_block, document

ODD = ["<script>", "a|b_$c$", "=cmd()", "[x](https:y) *z*", "# T", "- li", "1. li", "`", "&lt;"]


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)


def headings(text: str) -> list[tuple[str, str]]:
    """The tag of each heading and its text."""
    tokens = parsed(text)
    return [
        (opening.tag, "".join(child.content for child in inline.children or []))
        for opening, inline in pairwise(tokens)
        if opening.type == "heading_open"
    ]


def test_the_blocks_stand_in_their_order() -> None:
    blocks = [
        Paragraph(("npg is ", Strong("ahead"), ", see ", Link("below", "#scores"), ".")),
        Section("", [Bullets(["a", ("b ", Code("c"))])]),
        Section(
            "Scores",
            [
                Table([Text("a", ["x"]), Number("n", [1])]),
                Section("CartPole-v1", [Figure("curves", "Curves", "The curves.", Drawing)]),
                CodeBlock(["python -m reports", "  build"]),
            ],
        ),
    ]
    assert document("A *title*", blocks) == (
        "# A \\*title\\*\n\n"
        "npg is **ahead**, see [below](#scores).\n\n"
        "- a\n- b `c`\n\n"
        "## Scores\n\n"
        "| a   |   n |\n| --- | --: |\n| x   |   1 |\n\n"
        "### CartPole-v1\n\n"
        "![Curves](curves.png)\n\n"
        "The curves. As [SVG](curves.svg).\n\n"
        "```\npython -m reports\n  build\n```\n"
    )


@pytest.mark.parametrize("name", ODD)
def test_text_is_shown_as_it_is(name: str) -> None:
    section = Section(name, [Bullets([name]), Figure("x", name, name, Drawing)])
    text = document(name, [Paragraph(name), Table([Text(name, [name])]), section])
    assert headings(text) == [("h1", name), ("h2", name)]
    inlines = [token.children or [] for token in parsed(text) if token.type == "inline"]
    title, paragraph, head, cell, heading, item, picture, caption = inlines
    for inline in (title, paragraph, head, cell, heading, item):
        assert [child.type for child in inline] == ["text"]
        assert inline[0].content == name
    assert [child.content for child in picture[0].children or []] == [name]
    assert caption[0].content == f"{name} As "
    assert not [token for token in parsed(text) if token.type.startswith("html")]


def test_nothing_ends_a_block_of_code() -> None:
    lines = ["x", "```", "````", "<img src=x>", "a\nb"]
    (token,) = parsed(code_block(lines))
    assert token.type == "fence"
    assert token.content == "x\n```\n````\n<img src=x>\na b\n"
