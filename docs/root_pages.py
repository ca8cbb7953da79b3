"""A Sphinx extension: pages of the repository's root as pages of the site.

``<!-- file: README.md -->`` on a page is replaced by the file, with links as they are from docs/.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"<!-- file: ([\w.]+) -->")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}


def from_docs(target: str) -> str:
    """A link of the root's pages, as it is from docs/."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return PAGES.get(target, f"../{target}")


def page(name: str) -> str:
    """A page of the root, with its links changed.

    :param name: of the file
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    return LINK.sub(lambda match: from_docs(match[1]), text)


def filled_in(app: Sphinx, docname: str, source: list[str]) -> None:
    for name in MARK.findall(source[0]):
        app.env.note_dependency(ROOT / name)
    source[0] = MARK.sub(lambda match: page(match[1]), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", filled_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
