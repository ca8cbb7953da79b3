"""Pages as a parser and as Chromium see them."""

from __future__ import annotations

import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

# A browser is large: one process at a time.
browser_tests = pytest.mark.xdist_group("chromium")

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Elements with their attributes, and the text inside each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[list[str]] = []
        self.parents: list[int | None] = []
        self.open: list[int] = []
        self.mismatched: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parents.append(self.open[-1] if self.open else None)
        self.elements.append((tag, dict(attrs)))
        self.texts.append([])
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        position = self.open.pop()
        if self.elements[position][0] != tag:
            self.mismatched.append(tag)

    def handle_data(self, data: str) -> None:
        for position in self.open:
            self.texts[position].append(data)

    def all(self, tag: str, inside: str | None = None) -> list[dict[str, Any]]:
        """Attributes of every ``tag``, and its text as ``text``."""
        return [
            {**attributes, "text": "".join(self.texts[i])}
            for i, (name, attributes) in enumerate(self.elements)
            if name == tag and (inside is None or inside in self._ancestors(i))
        ]

    def rows(self, table: int = 0) -> list[list[str]]:
        """The cells of a table's body."""
        tables = [i for i, (name, _) in enumerate(self.elements) if name == "table"]
        rows: dict[int, list[str]] = {}
        for i, (name, _) in enumerate(self.elements):
            if name == "td" and tables[table] in self._above(i):
                rows.setdefault(self.parents[i] or 0, []).append("".join(self.texts[i]))
        return list(rows.values())

    def _above(self, position: int) -> list[int]:
        above = []
        parent = self.parents[position]
        while parent is not None:
            above.append(parent)
            parent = self.parents[parent]
        return above

    def _ancestors(self, position: int) -> set[str]:
        return {self.elements[i][0] for i in self._above(position)}


def browse(chromium: str, profile: Path, page: Path | str, *options: str) -> str:
    """What the browser prints of a file or a URL."""
    url = page if isinstance(page, str) else page.as_uri()
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={profile}", *options, url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def with_script(text: str, script: str) -> str:
    """The page with a script that runs after its own."""
    start, end = text.rsplit("</body>", 1)
    return f"{start}<script>{script}</script>\n</body>{end}"


def after(chromium: str, folder: Path, text: str, script: str, *options: str) -> Page:
    """The page as it is after ``script``."""
    path = folder / "scripted.html"
    path.write_text(with_script(text, script), encoding="utf-8")
    options += ("--virtual-time-budget=2000", "--dump-dom")
    return Page(browse(chromium, folder / "profile", path, *options))
