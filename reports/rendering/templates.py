"""The Jinja templates that stand beside this module."""

from pathlib import Path

import jinja2

from reports.rendering.tables import code_block


def template(name: str, autoescape: bool = False) -> jinja2.Template:
    """One of them; a name that it is not given is an error.

    :param autoescape: whether what is put in is text, to be escaped for HTML
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code_block"] = code_block
    return environment.get_template(name)
