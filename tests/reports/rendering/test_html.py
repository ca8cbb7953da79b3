"""The report as one HTML file: what is in it, what is not, and what a browser makes of it."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from reports.rendering import html

VOID = {"meta", "img", "br", "hr", "link", "input"}

MARKDOWN = """\
# Title & <more>

See [the end](#the-end), [the site](https://example.org/a?b=1&c=2), [data](data.csv),
[nothing](gone.txt), [outside](../secret.txt) and <script>alert(1)</script>.

![A "figure"](figure.png)

The caption. As [SVG](figure.svg).

## Runs: `n_steps` (all)

| name | final return | time | note |
| ---- | -----------: | ---: | ---- |
| a    | **1,234** [  900, 1,500] | 2 min 10 s | `x<y` |
| b    |   -30.8   (1 seed)       |      9.1 s | <b>no</b> |
| c \\| d | not within 400,000    |          – | – |

## Runs: `n_steps` (all)

### The end
"""

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt"><path id="p"/></svg>'


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that MARKDOWN names."""
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "figure.png").write_bytes(b"PNG")
    (folder / "figure.svg").write_text(SVG)
    (folder / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a report that the suite made, and its page ``report.html``."""
    folder = tmp_path_factory.mktemp("html") / "report"
    shutil.copytree(Path(__file__).parents[2] / "docs" / "acer" / "classic", folder)
    page = html.page((folder / "report.md").read_text(encoding="utf-8"), folder)
    (folder / "report.html").write_text(page, encoding="utf-8", newline="\n")
    return folder


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition(";base64,")[2], validate=True)


def test_the_report_needs_nothing_beside_it(report: Path) -> None:
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    assert page.mismatched == []
    assert page.open == []
    sources = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "poster", "action")
    ]
    assert len(sources) >= 3
    assert [source for source in sources if not (source or "").startswith("data:")] == []
    assert not page.all("link")
    assert [style["text"] for style in page.all("style") if "url(" in style["text"]] == []
    assert [style["text"] for style in page.all("style") if "@import" in style["text"]] == []
    targets = [link["href"] for link in page.all("a")]
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []


def test_every_figure_of_the_report_is_in_the_page(report: Path) -> None:
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    markdown = (report / "report.md").read_text(encoding="utf-8")
    named = re.findall(r"!\[([^\]]*)\]\(([^)]+)\.png\)", markdown)
    assert len(named) >= 3
    images = page.all("img", inside="figure")
    assert [image["alt"] for image in images] == [alt for alt, _ in named]
    for image, (_, name) in zip(images, named, strict=True):
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert decoded(image["src"]) == (report / f"{name}.svg").read_bytes()
    assert len(page.all("figcaption")) == len(named)


def test_every_table_has_a_head_and_as_many_cells_in_each_row(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    markdown = (report / "report.md").read_text(encoding="utf-8")
    tables = re.findall(r"<table>.*?</table>", text, flags=re.DOTALL)
    assert len(tables) == sum(block.startswith("|") for block in markdown.split("\n\n")) >= 5
    assert len(page.all("thead")) == len(tables)
    for position, table in enumerate(tables):
        heads = Page(table).all("th")
        assert all(head["scope"] == "col" for head in heads)
        width = sum(int(head.get("colspan", 1)) for head in heads)
        rows = page.rows(position)
        assert rows
        assert [len(row) for row in rows] == [width] * len(rows)


def test_links_within_the_report_lead_somewhere(report: Path) -> None:
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")}
    assert {"what-is-missing", "scores", "cartpole-v1", "figure:1"} <= targets
    assert targets <= set(ids)
    headings = {heading["id"]: heading["text"] for tag in ("h2", "h3") for heading in page.all(tag)}
    contents = {link["href"][1:]: link["text"] for link in page.all("a", inside="nav")}
    assert contents == headings


def test_the_same_report_gives_the_same_bytes(report: Path) -> None:
    first = html.page((report / "report.md").read_text(encoding="utf-8"), report)
    assert first.encode() == (report / "report.html").read_bytes()


def test_the_page_says_what_it_is(report: Path) -> None:
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    assert page.elements[0] == ("html", {"lang": "en"})
    heading = (report / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert [title["text"] for title in page.all("title")] == [heading.removeprefix("# ")]
    metas = page.all("meta")
    assert metas[0]["charset"] == "utf-8"
    assert "width=device-width" in next(m for m in metas if m.get("name") == "viewport")["content"]
    assert [first["text"] for first in page.all("h1")] == [heading.removeprefix("# ")]


def test_html_in_the_markdown_is_shown_and_not_obeyed(folder: Path) -> None:
    page = Page(html.page(MARKDOWN, folder))
    assert [title["text"] for title in page.all("title")] == ["Title & <more>"]
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert "<script>alert(1)</script>" in page.all("p", inside="main")[0]["text"]
    assert page.rows()[0][-1] == "x<y"
    assert page.rows()[1][-1] == "<b>no</b>"
    assert page.all("img")[0]["alt"] == 'A "figure"'


def test_headings_have_the_anchors_that_code_hosts_give_them(folder: Path) -> None:
    page = Page(html.page(MARKDOWN, folder))
    assert [heading["id"] for heading in page.all("h1")] == ["title--more"]
    assert [heading["id"] for heading in page.all("h2")] == [
        "runs-n_steps-all",
        "runs-n_steps-all-1",
    ]
    assert [heading["id"] for heading in page.all("h3")] == ["the-end"]


def test_links_to_files_become_downloads(folder: Path) -> None:
    text = html.page(MARKDOWN, folder)
    links = {link["text"]: link for link in Page(text).all("a", inside="main")}
    assert set(links) == {"the end", "the site", "data", "SVG"}
    assert links["the site"]["href"] == "https://example.org/a?b=1&c=2"
    assert links["data"]["download"] == "data.csv"
    assert links["data"]["href"].startswith("data:text/csv;base64,")
    assert decoded(links["data"]["href"]) == b"a,b\n1,2\n"
    assert links["SVG"]["href"] == "#figure:1"
    assert links["SVG"]["data-file"] == "figure.svg"
    assert base64.b64encode(b"secret").decode() not in text
    assert "nothing, outside and" in Page(text).all("p", inside="main")[0]["text"]


def test_a_png_is_embedded_where_there_is_no_svg(folder: Path) -> None:
    (folder / "figure.svg").unlink()
    image = Page(html.page("![x](figure.png)", folder)).all("img")[0]
    assert image["src"] == "data:image/png;base64," + base64.b64encode(b"PNG").decode()


@pytest.mark.parametrize("source", ["gone.png", "../secret.txt", "https://example.org/a.png"])
def test_a_figure_that_cannot_be_embedded_is_refused(folder: Path, source: str) -> None:
    with pytest.raises(FileNotFoundError, match=source.rpartition("/")[2]):
        html.page(f"![x]({source})", folder)


def test_estimates_have_a_column_for_values_and_one_for_intervals(folder: Path) -> None:
    page = Page(html.page(MARKDOWN, folder))
    assert [head.get("colspan") for head in page.all("th")] == [None, "2", None, None]
    assert [row[:4] for row in page.rows()] == [
        ["a", "1,234", "\u2007\u2007[900, 1,500]", "2 min 10 s"],
        ["b", "-30.8", "(1 seed)", "9.1 s"],
        ["c | d", "not within 400,000", "", "–"],
    ]
    assert [strong["text"] for strong in page.all("strong", inside="td")] == ["1,234"]


def test_a_page_without_headings_or_tables_is_a_page(folder: Path) -> None:
    page = Page(html.page("Only text.", folder))
    assert [title["text"] for title in page.all("title")] == ["Report"]
    assert not page.all("nav")
    assert "Only text." in page.all("main")[0]["text"]


# What follows needs a browser, which is large: one process at a time.
browser_tests = pytest.mark.xdist_group("chromium")


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's path; installs it where that is possible."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(
                ["apt-get", "-q", *arguments], env=environment, check=False, capture_output=True
            )
        found = shutil.which("chromium")
    if not found:
        pytest.skip("Chromium is not installed and cannot be (apt-get install chromium)")
    return found


def browse(chromium: str, profile: Path, page: Path, *options: str) -> str:
    """What the browser prints."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={profile}", *options, page.as_uri()]
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


@browser_tests
@pytest.mark.parametrize("size", ["1280,2400", "390,2400"])
def test_the_page_is_drawn(chromium: str, report: Path, tmp_path: Path, size: str) -> None:
    shot = tmp_path / "page.png"
    options = (f"--screenshot={shot}", f"--window-size={size}")
    browse(chromium, tmp_path / "profile", report / "report.html", *options)
    pixels = imread(shot)[..., :3]
    assert pixels.shape[:2] == tuple(reversed([int(part) for part in size.split(",")]))
    painted = (np.abs(pixels - pixels[0, 0]) > 0.1).any(axis=2)
    for part in np.array_split(painted, 4):
        assert part.mean() > 0.01
    # The figures' colours are there: those that no text or rule has.
    saturation = pixels.max(axis=2) - pixels.min(axis=2)
    assert (saturation > 0.5).mean() > 0.0005


CELLS = {
    "estimate": (
        ["**1,234** [1,000, 1,500]", "99.5 [-3.0, 8.0]", "-30.8 (1 seed)", "99.5 [-4.0, 8.0]"],
        [2, 3, 1, 0],
    ),
    "duration": (["2 min 10 s", "9.1 s", "1 h 07 min", "59 s", "2 min 09 s"], [1, 3, 4, 0, 2]),
    "steps": (
        [
            "not within 1,000,000",
            "not within 200,000",
            "> 50,000 (400, > 50,000)",
            "450,000 (1, 2)",
            "9,000 (1, 2)",
        ],
        [4, 3, 2, 1, 0],
    ),
    "mixed": (["–", "b10", "1e-05", "b9", "0.1", "**2**"], [2, 4, 5, 3, 1, 0]),
    "fraction": (["4 of 5", "10 of 10", "0 of 5", "4 of 10"], [2, 0, 3, 1]),
    "text": (["Walker (-85)", "acer", "Hopper (-9)", "CartPole"], [1, 3, 2, 0]),
}


ONE_ROW = "| d | e |\n| - | - |\n| 1 | 2 |\n"


def table_of(cells: list[str]) -> str:
    """A table of two columns; the second says which row it was."""
    rows = "".join(f"| {cell} | row {i} |\n" for i, cell in enumerate(cells))
    return f"| value | row |\n| ----: | --- |\n{rows}\n"


@browser_tests
def test_columns_are_sorted_by_what_their_cells_say(chromium: str, tmp_path: Path) -> None:
    """Upwards with one click, downwards with two, and with three as they were."""
    tables = "".join(table_of(cells) for cells, _ in CELLS.values())
    script = "document.querySelectorAll('table').forEach((table, position) => {"
    script += f"  for (let i = 0; i <= Math.floor(position / {len(CELLS)}); i++)"
    script += "    table.querySelector('th button').click();"
    script += "});"
    page = after(chromium, tmp_path, html.page(tables * 3, tmp_path), script)
    orders = [
        [int(row[-1].removeprefix("row ")) for row in page.rows(position)]
        for position in range(3 * len(CELLS))
    ]
    expected = []
    for clicks in (1, 2, 3):
        for cells, upwards in CELLS.values():
            missing = [i for i in upwards if cells[i] == "–"]
            downwards = [i for i in reversed(upwards) if i not in missing] + missing
            expected.append([upwards, downwards, list(range(len(cells)))][clicks - 1])
    assert orders == expected
    shown = [head.get("aria-sort") for head in page.all("th")]
    assert shown[::2] == [
        state for state in ("ascending", "descending", None) for _ in range(len(CELLS))
    ]
    assert shown[1::2] == [None] * 3 * len(CELLS)


@browser_tests
def test_sorting_by_another_column_starts_anew_and_equal_cells_keep_their_order(
    chromium: str, tmp_path: Path
) -> None:
    table = "| a | b [x] | c |\n| - | ----: | - |\n"
    table += "| 1 | 5 [4, 6] | z |\n| 2 | 7 [6, 8] | y |\n| 3 | 1 [0, 2] | z |\n\n"
    script = "const button = document.querySelectorAll('th button');"
    script += "for (const i of [1, 1, 4, 4, 5]) button[i].click();"
    page = after(chromium, tmp_path, html.page(table * 2 + ONE_ROW, tmp_path), script)
    assert [row[0] for row in page.rows(0)] == ["2", "1", "3"]
    assert [row[0] for row in page.rows(1)] == ["2", "1", "3"]
    assert [head.get("aria-sort") for head in page.all("th")] == [
        *(None, "descending", None),
        *(None, None, "ascending"),
        *(None, None),
    ]
    assert len(page.all("button")) == 6


@pytest.fixture(scope="module")
def opened(chromium: str, report: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report in the browser; its title says how wide it is on a screen of 390 pixels."""
    script = "document.body.style.width = '390px'; document.title = document.body.scrollWidth;"
    text = (report / "report.html").read_text(encoding="utf-8")
    return after(chromium, tmp_path_factory.mktemp("opened"), text, script, "--window-size=500,800")


@browser_tests
def test_only_boxes_scroll_sideways_on_a_narrow_screen(opened: Page) -> None:
    assert [title["text"] for title in opened.all("title")] == ["390"]


@browser_tests
def test_headings_are_buttons_where_there_is_something_to_sort(opened: Page, report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    assert not Page(text).all("button")
    tables = re.findall(r"<table>.*?</table>", text, flags=re.DOTALL)
    heads = [len(Page(table).all("th")) for table in tables if len(Page(table).rows()) > 1]
    assert len(heads) >= 4
    buttons = opened.all("button", inside="th")
    assert len(buttons) == sum(heads)
    assert all(button["text"] and button["type"] == "button" for button in buttons)


@browser_tests
def test_a_link_to_a_figure_downloads_it(opened: Page, report: Path) -> None:
    links = [link for link in opened.all("a") if "data-file" in link]
    assert len(links) >= 3
    for link in links:
        assert link["download"] == link["data-file"]
        assert decoded(link["href"]) == (report / link["download"]).read_bytes()
