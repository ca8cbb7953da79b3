"""A Sphinx extension: the help of a command line in place of ``<!-- command line: PACKAGE -->``.

The text is what typer itself writes of the application, so it cannot go stale.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import typer
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click

MARK = re.compile(r"<!-- command line: (\w+) -->")


def reference(package: str) -> str:
    """The commands of ``python -m PACKAGE``, in Markdown."""
    app = importlib.import_module(f"{package}.__main__").app
    app._add_completion = False  # which is the same for every command line
    command = typer.main.get_command(app)
    with_whole_summaries(command)
    name = f"python -m {package}"
    context = typer.Context(command, info_name=name)
    text = get_docs_for_click(obj=command, ctx=context, name=name)
    # A level below the page's own title.
    return re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE)


def with_whole_summaries(command: Any) -> None:
    """Give lists of commands the whole first paragraph of each, which is cut otherwise."""
    for each in getattr(command, "commands", {}).values():
        each.short_help = " ".join((each.help or "").split("\n\n")[0].split())
        with_whole_summaries(each)


def filled_in(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda match: reference(match[1]), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", filled_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
