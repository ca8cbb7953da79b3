"""A Sphinx extension: the help of a command line in place of ``<!-- command line: PACKAGE -->``.

The text is what typer itself writes of the application, so it cannot go stale.
"""

from __future__ import annotations

import importlib
import re

import typer
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click

MARK = re.compile(r"<!-- command line: (\w+) -->")


def reference(package: str) -> str:
    """The commands of ``python -m PACKAGE``, in Markdown."""
    app = importlib.import_module(f"{package}.__main__").app
    command = typer.main.get_command(app)
    name = f"python -m {package}"
    context = typer.Context(command, info_name=name)
    return get_docs_for_click(obj=command, ctx=context, name=name)


def filled_in(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda match: reference(match[1]), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", filled_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
