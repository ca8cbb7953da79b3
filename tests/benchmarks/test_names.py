"""Names of others: shown as they are in every format, and obeyed in none."""

import csv
import io

import pytest
from markdown_it import MarkdownIt

from benchmarks.names import csv_text, escaped_markdown, file_name, plain, verbatim

ODD = [
    "<script>alert(1)</script>",
    "a|b_$c$",
    "=cmd()",
    "*x* **y** `z` ``",
    "[x](https://example.org)",
    "![x](y.png)",
    "# h #",
    "- li",
    "+ li",
    "1. li",
    "2048) li",
    "123456789. li",
    "0.",
    "> quote",
    "~~x~~ &lt; \\",
    "9 [8, 10]",
    "_x_ and __y__",
]


@pytest.mark.parametrize(
    "name",
    [
        "npg",
        "trpo (critic=adam, n_steps=2048)",
        "phys2d/CartPole-v1",
        "my.module:Env_A-v0",
        "0.2",
        "10.25 to 20",
        "1234567890. is no item",
    ],
)
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert escaped_markdown(name) == name
    assert csv_text(name) == name


@pytest.mark.parametrize("name", ODD)
def test_markdown_shows_the_name(name: str) -> None:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    text = escaped_markdown(name)
    for source in (text, f"- {text}", f"### {text}", f"a {text}, b"):
        tokens = parser.parse(source)
        (inline,) = (token for token in tokens if token.type == "inline")
        assert {child.type for child in inline.children or []} == {"text"}
        assert name in inline.children[0].content


@pytest.mark.parametrize("name", ODD)
def test_markdown_shows_code_verbatim(name: str) -> None:
    for source in (verbatim(name), f"- {verbatim(name)}", f"a {verbatim(name)}, b"):
        tokens = MarkdownIt("commonmark").parse(source)
        (inline,) = (token for token in tokens if token.type == "inline")
        assert name in [child.content for child in inline.children or []]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd()", "'=cmd()"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("+0.5 [0, 1]", "'+0.5 [0, 1]"),
        ("-1.5e-05", "-1.5e-05"),
        ("+3", "+3"),
        ("npg", "npg"),
    ],
)
def test_a_spreadsheet_takes_no_name_for_a_formula(text: str, cell: str) -> None:
    assert csv_text(text) == cell
    file = io.StringIO()
    csv.writer(file).writerow([cell, 1])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == [cell, "1"]


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert plain("a\x1b[31m\nb\tc\u202e\ud800\x00") == r"a\x1b[31m b c\u202e\ud800\x00"
    plain("\ud800").encode()
    assert plain("\ue000") == r"\ue000"


def test_long_texts_are_cut_whatever_is_in_them() -> None:
    assert len(plain("x" * 50_000_000)) == 500
    assert len(plain("\x1b" * 50_000_000)) == 500
    assert plain(" " * 10_000 + "x").endswith("…")


@pytest.mark.parametrize("name", [*ODD, "a b", "é", "x" * 300, "..", "a\nb", "%2e"])
def test_a_file_s_name_is_a_link_as_it_is(name: str) -> None:
    parsed = MarkdownIt().render(f"[x](figure_{file_name(name)}.png)")
    assert parsed == f'<p><a href="figure_{file_name(name)}.png">x</a></p>\n'
    assert len(file_name(name)) < 120


def test_files_of_different_names_are_different() -> None:
    names = [*ODD, "a b", "a  b", "a_b"]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("phys2d/CartPole-v1") == "phys2d__CartPole-v1"
