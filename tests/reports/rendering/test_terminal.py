"""Blocks as plain text."""

from __future__ import annotations

from matplotlib.figure import Figure as Drawing

from benchmarks.tables import Code, Link, Number, Strong, Table, Text
from reports.rendering.blocks import Bullets, CodeBlock, Figure, Paragraph, Section
from reports.rendering.terminal import WIDTH, document


def test_the_blocks_stand_in_their_order() -> None:
    blocks = [
        Paragraph((Strong("npg"), " is ", Link("ahead", "#scores"), ".")),
        Section("Empty", []),
        Section(
            "Scores *here*",
            [
                Table([Text("a", ["<x>", "y|z"]), Number("n", [1, 1_000])]),
                Section("Below", [Bullets(["a", ("b ", Code("c"))])]),
                CodeBlock(["python -m reports", "  build"]),
                Figure("curves", "Curves", "The curves.", Drawing),
            ],
        ),
    ]
    assert document(blocks) == (
        "npg is ahead.\n\n"
        "Empty\n\n"
        "Scores *here*\na        n\n<x>      1\ny|z  1,000\n\n"
        "Below\n- a\n- b c\n\n"
        "  python -m reports\n    build\n\n"
        "Curves\n"
    )


def test_text_is_wrapped_and_names_are_not_broken() -> None:
    name = "a-" * 60
    text = document([Bullets([f"{'word ' * 30}{name} end"]), Paragraph("word " * 30)])
    first, second, third, *_ = text.splitlines()
    assert len(first) <= WIDTH
    assert first.startswith("- word")
    assert second.startswith("  word")
    assert third.strip() == name
    assert len(max(text.splitlines()[-2:], key=len)) <= WIDTH


def test_a_terminal_obeys_nothing_in_it() -> None:
    odd = "\x1b[31m\u202e"
    text = document([Paragraph(odd), Section(odd, [Bullets([odd]), CodeBlock([odd])])])
    assert text.count(r"\x1b[31m\u202e") == 4
    assert "\x1b" not in text
