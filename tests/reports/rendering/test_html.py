"""The report as one HTML file: what is in it, what is not, and what a browser makes of it."""

from __future__ import annotations

import math
import re
import urllib.parse
from pathlib import Path
from xml.etree.ElementTree import canonicalize

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing
from matplotlib.image import imread

from benchmarks.statistics import Estimate
from benchmarks.tables import (
    Code,
    Column,
    Estimates,
    Fraction,
    Inline,
    Link,
    Number,
    Seconds,
    Steps,
    StepsTaken,
    Strong,
    Table,
    Text,
)
from reports.rendering import figures, html
from reports.rendering.blocks import (
    Block,
    Bullets,
    CodeBlock,
    Figure,
    Paragraph,
    Section,
    figures_of,
    walk,
)
from tests.browser import Page, after, browse, browser_tests

TITLE = "Title & <more>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt"><path id="p"/></svg>'


def nothing() -> Drawing:
    """A drawing that no test looks at."""
    return Drawing()


OPENING: Inline = (
    "See ",
    Link("the end", "#the-end"),
    ", ",
    Link("the site", "https://example.org/a?b=1&c=2"),
    ", ",
    Link("data", "data.csv"),
    ", <script>alert(1)</script> and ",
    Strong("<b>"),
)
NEVER = StepsTaken(math.inf, math.inf, math.inf, 400_000, 3)
SMALL = Table(
    [
        Text("name", ["a", "b", "c | d", "e"]),
        Estimates(
            "final <return>",
            [Estimate(1234, 900, 1500), Estimate(-31), "not run", Estimate(9, -1090, 12)],
            bold=[True, False, False, False],
        ),
        Seconds("time", [130, 9.1, None, 3]),
        Text("note", [Code("x<y"), "<b>no</b>", None, "–"]),
    ]
)
BLOCKS: list[Block] = [
    Paragraph(OPENING),
    Figure("figure", 'A "figure"', "The caption.", nothing),
    Section(
        "Runs: `n_steps` (all)",
        [SMALL, CodeBlock(["<i>", "--option  'x'"]), Bullets(["<u>", Code("a `b`")])],
    ),
    Section("Runs: `n_steps` (all)", [Section("The end", [])]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that BLOCKS name."""
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "figure.svg").write_text(SVG)
    (folder / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def learning_curves(env_id: str) -> Drawing:
    """Three algorithms that learn."""
    steps = np.linspace(0, 50_000, 21)
    frames = [
        pd.DataFrame(
            {
                "env_id": env_id,
                "label": label,
                "timesteps": steps,
                "mean": top * (1 - np.exp(-steps / 10_000)),
                "low": 0.8 * top * (1 - np.exp(-steps / 10_000)),
                "high": 1.2 * top * (1 - np.exp(-steps / 10_000)),
                "seeds": 3,
            }
        )
        for label, top in (("npg", 500.0), ("ppo", 350.0), ("trpo", 450.0))
    ]
    return figures.learning_curves(pd.concat(frames), figures.looks(["npg", "ppo", "trpo"]))


def scores(*estimates: Estimate | str | None) -> Table:
    """A table as wide as those of real reports."""
    names = ["acer", "npg (critic=adam, n_steps=2048)", "ppo", "trpo"][: len(estimates)]
    columns: list[Column] = [
        Text("algorithm", names),
        Fraction("seeds finished", [(3, 3), (2, 3), (3, 3), (1, 3)][: len(estimates)]),
    ]
    columns += [
        Estimates(title, estimates, bold=[i == 1 for i in range(len(estimates))])
        for title in ("final return", "best evaluation", "area under curve")
    ]
    return Table([*columns, Seconds("wall time", [61.0, 7_620.0, None, 4.2][: len(estimates)])])


ESTIMATES = (Estimate(1234, 900, 1500), Estimate(-30.8, -90, 12), "not run", Estimate(9))
STEPS = [
    StepsTaken(12_000, 9_000, 21_000, 50_000, 3),
    StepsTaken(math.inf, 400, math.inf, 50_000, 3),
    NEVER,
    StepsTaken(500, 500, 500, 50_000, 1),
]


def example() -> list[Block]:
    """What a report has: tables of every kind, figures, lists, commands and links."""
    environments = ["CartPole-v1", "HalfCheetah-v5", "phys2d/Pendulum-v0"]
    return [
        Paragraph(("Scores are ", Link("below", "#scores"), ", as data in ", data_link(), ".")),
        Section("Summary", [Bullets([Strong("npg"), ("npg is ", Strong("ahead"), " of ppo.")])]),
        Section(
            "Scores",
            [
                Paragraph(("See ", Link("what is missing", "#what-is-missing"), ".")),
                *(Section(env_id, environment(env_id)) for env_id in environments),
            ],
        ),
        Section(
            "Steps to threshold",
            [Table([Text("algorithm", ["a", "b", "c", "d"]), Steps("475 in CartPole-v1", STEPS)])],
        ),
        Section("Alone", [Table([Number("n", [1]), Text("note", ["one row"])])]),
        Section("How it was made", [CodeBlock(["python -m benchmarks run " + "x" * 300])]),
        Section("What is missing", [Paragraph("Nothing.")]),
    ]


def environment(env_id: str) -> list[Block]:
    name = f"curves_{env_id.replace('/', '__')}"
    caption = "Mean over seeds with its 95% interval."
    drawing = Figure(name, f"Curves on {env_id}", caption, lambda: learning_curves(env_id))
    return [scores(*ESTIMATES), drawing]


def data_link() -> Link:
    return Link(Code("scores.csv"), "scores.csv")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report's folder, with its page ``report.html``."""
    folder = tmp_path_factory.mktemp("html") / "report"
    folder.mkdir()
    (folder / "scores.csv").write_text("a,b\n1,2\n")
    for figure in figures_of(example()):
        figures.save(figure.draw(), folder / figure.name)
    page = html.page("Benchmark report", example(), folder)
    (folder / "report.html").write_text(page, encoding="utf-8", newline="\n")
    return folder


def decoded(uri: str) -> str:
    return urllib.parse.unquote(uri.partition(",")[2])


def as_drawn(svg: str) -> str:
    """An SVG file's content, however it is written."""
    return " ".join(canonicalize(svg, strip_text=True).split())


def read(report: Path) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


def test_the_report_needs_nothing_beside_it(report: Path) -> None:
    page = Page(read(report))
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
    page = Page(read(report))
    drawn = figures_of(example())
    assert len(drawn) >= 3
    images = page.all("img", inside="figure")
    assert [image["alt"] for image in images] == [figure.title for figure in drawn]
    for image, figure in zip(images, drawn, strict=True):
        assert image["src"].startswith("data:image/svg+xml,")
        assert as_drawn(decoded(image["src"])) == as_drawn(
            (report / f"{figure.name}.svg").read_text()
        )
    captions = [caption["text"] for caption in page.all("figcaption")]
    assert captions == [f"{figure.caption} As SVG." for figure in drawn]


def test_every_table_has_a_head_and_as_many_cells_in_each_row(report: Path) -> None:
    page = Page(read(report))
    tables = re.findall(r"<table>.*?</table>", read(report), flags=re.DOTALL)
    assert len(tables) == sum(isinstance(block, Table) for block in walk(example())) >= 5
    assert len(page.all("thead")) == len(tables)
    for position, table in enumerate(tables):
        heads = Page(table).all("th")
        assert all(head["scope"] == "col" for head in heads)
        width = sum(int(head.get("colspan", 1)) for head in heads)
        rows = page.rows(position)
        assert rows
        assert [len(row) for row in rows] == [width] * len(rows)


def test_links_within_the_report_lead_somewhere(report: Path) -> None:
    page = Page(read(report))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")}
    assert {"what-is-missing", "scores", "cartpole-v1", "figure:1"} <= targets
    assert targets <= set(ids)
    headings = {heading["id"]: heading["text"] for tag in ("h2", "h3") for heading in page.all(tag)}
    contents = {link["href"][1:]: link["text"] for link in page.all("a", inside="nav")}
    assert contents == headings


def test_the_same_report_gives_the_same_bytes(report: Path) -> None:
    assert html.page("Benchmark report", example(), report) == read(report)


def test_the_page_says_what_it_is(report: Path) -> None:
    page = Page(read(report))
    assert page.elements[0] == ("html", {"lang": "en"})
    assert [title["text"] for title in page.all("title")] == ["Benchmark report"]
    metas = page.all("meta")
    assert metas[0]["charset"] == "utf-8"
    assert "width=device-width" in next(m for m in metas if m.get("name") == "viewport")["content"]
    assert [first["text"] for first in page.all("h1")] == ["Benchmark report"]


def test_text_is_shown_as_it_is(folder: Path) -> None:
    page = Page(html.page(TITLE, BLOCKS, folder))
    assert [title["text"] for title in page.all("title")] == [TITLE]
    assert [heading["text"] for heading in page.all("h1")] == [TITLE]
    assert len(page.all("script")) == 1
    assert not any(page.all(tag) for tag in ("b", "i", "u"))
    assert page.all("p", inside="main")[0]["text"] == (
        "See the end, the site, data, <script>alert(1)</script> and <b>"
    )
    assert [strong["text"] for strong in page.all("strong", inside="p")] == ["<b>"]
    assert page.rows()[0][-1] == "x<y"
    assert page.rows()[1][-1] == "<b>no</b>"
    assert page.all("th")[1]["text"] == "final <return>"
    assert page.all("img")[0]["alt"] == 'A "figure"'
    assert [item["text"] for item in page.all("li", inside="main")] == ["<u>", "a `b`"]
    assert [block["text"] for block in page.all("pre")] == ["<i>\n--option  'x'\n"]


def test_headings_have_the_anchors_that_code_hosts_give_them(folder: Path) -> None:
    page = Page(html.page(TITLE, BLOCKS, folder))
    assert [heading["id"] for heading in page.all("h1")] == ["title--more"]
    assert [heading["id"] for heading in page.all("h2")] == [
        "runs-n_steps-all",
        "runs-n_steps-all-1",
    ]
    assert [heading["id"] for heading in page.all("h3")] == ["the-end"]


def test_links_to_files_become_downloads(folder: Path) -> None:
    text = html.page(TITLE, BLOCKS, folder)
    links = {link["text"]: link for link in Page(text).all("a", inside="main")}
    assert set(links) == {"the end", "the site", "data", "SVG"}
    assert links["the end"]["href"] == "#the-end"
    assert links["the site"]["href"] == "https://example.org/a?b=1&c=2"
    assert links["data"]["download"] == "data.csv"
    assert links["data"]["href"].startswith("data:text/csv,")
    assert decoded(links["data"]["href"]) == "a,b\n1,2\n"
    assert links["SVG"]["href"] == "#figure:1"
    assert links["SVG"]["data-file"] == "figure.svg"


@pytest.mark.parametrize(
    "target", ["gone.txt", "../secret.txt", "/etc/passwd", "javascript:alert(1)"]
)
def test_a_file_that_cannot_be_embedded_is_refused(folder: Path, target: str) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(target.rpartition("/")[2])):
        html.page("T", [Paragraph(Link("x", target))], folder)


def test_a_figure_that_was_not_drawn_is_refused(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.svg"):
        html.page("T", [Figure("gone", "x", "y", nothing)], folder)


def test_estimates_have_a_column_for_values_and_one_for_intervals(folder: Path) -> None:
    page = Page(html.page(TITLE, BLOCKS, folder))
    assert [head.get("colspan") for head in page.all("th")] == [None, "2", None, None]
    assert [row[:4] for row in page.rows()] == [
        ["a", "1,234", "\u2007\u2007\u2007[900, 1,500]", "2 min 10 s"],
        ["b", "-31", "(1 seed)", "9.1 s"],
        ["c | d", "not run", "", "–"],
        ["e", "9", "[-1,090, \u2007\u2007\u200712]", "3.0 s"],
    ]
    assert [strong["text"] for strong in page.all("strong", inside="td")] == ["1,234"]


def test_cells_say_by_what_they_are_sorted(folder: Path) -> None:
    page = Page(html.page(TITLE, BLOCKS, folder))
    assert [cell.get("data-sort") for cell in page.all("td")] == [
        *(None, "[0,1234,900,1500]", None, "[0,130]", None),
        *(None, "[0,-31]", None, "[0,9.1]", None),
        *(None, None, None, None, None),
        *(None, "[0,9,-1090,12]", None, "[0,3]", None),
    ]


def test_a_page_without_headings_or_tables_is_a_page(folder: Path) -> None:
    page = Page(html.page("Report", [Paragraph("Only text.")], folder))
    assert [title["text"] for title in page.all("title")] == ["Report"]
    assert not page.all("nav")
    assert "Only text." in page.all("main")[0]["text"]


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


COLUMNS: dict[str, tuple[Column, list[int]]] = {
    "estimates": (
        Estimates(
            "value",
            [
                Estimate(1234, 1000, 1500),
                Estimate(99.5, -3, 8),
                Estimate(-30.8),
                Estimate(99.5, -4, 8),
                "not run",
                None,
            ],
            bold=[True, *[False] * 5],
        ),
        [2, 3, 1, 0, 4, 5],
    ),
    "seconds": (Seconds("value", [130.0, 9.1, 4020.0, 59.0, 129.0, math.nan]), [1, 3, 4, 0, 2, 5]),
    "steps": (
        Steps(
            "value",
            [
                StepsTaken(math.inf, math.inf, math.inf, 1_000_000, 3),
                StepsTaken(math.inf, math.inf, math.inf, 200_000, 3),
                StepsTaken(math.inf, 400, math.inf, 50_000, 3),
                StepsTaken(450_000, 1, 2, 10**6, 3),
                StepsTaken(9_000, 1, 2, 10**6, 3),
            ],
        ),
        [4, 3, 2, 1, 0],
    ),
    "numbers": (
        Number("value", [None, "b10", 1e-05, "b9", 0.1, 2, math.inf, 10], bold=[True] * 8),
        [2, 4, 5, 7, 6, 3, 1, 0],
    ),
    "fractions": (
        Fraction("value", [(4, 5), (10, 10), (0, 5), (4, 10), None]),
        [2, 0, 3, 1, 4],
    ),
    "text": (
        Text("value", ["Walker (-85)", "acer", "Hopper (-9)", "CartPole", None, "Hopper (-10)"]),
        [1, 3, 2, 5, 0, 4],
    ),
}
"""A column of each kind, and its rows from the lowest to the highest."""


def table_of(column: Column) -> Table:
    """A table of two columns; the second says which row it was."""
    return Table([column, Text("row", [f"row {i}" for i in range(len(column.values))])])


def is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


@browser_tests
def test_columns_are_sorted_by_their_values(chromium: str, tmp_path: Path) -> None:
    """Upwards with one click, downwards with two, and with three as they were."""
    tables = [table_of(column) for column, _ in COLUMNS.values()]
    script = "document.querySelectorAll('table').forEach((table, position) => {"
    script += f"  for (let i = 0; i <= Math.floor(position / {len(COLUMNS)}); i++)"
    script += "    table.querySelector('th button').click();"
    script += "});"
    page = after(chromium, tmp_path, html.page("T", tables * 3, tmp_path), script)
    orders = [
        [int(row[-1].removeprefix("row ")) for row in page.rows(position)]
        for position in range(3 * len(COLUMNS))
    ]
    expected = []
    for clicks in (1, 2, 3):
        for column, upwards in COLUMNS.values():
            missing = [i for i in upwards if is_missing(column.values[i])]
            downwards = [i for i in reversed(upwards) if i not in missing] + missing
            as_it_was = list(range(len(column.values)))
            expected.append([upwards, downwards, as_it_was][clicks - 1])
    assert orders == expected
    shown = [head.get("aria-sort") for head in page.all("th")]
    assert shown[::2] == [
        state for state in ("ascending", "descending", None) for _ in range(len(COLUMNS))
    ]
    assert shown[1::2] == [None] * 3 * len(COLUMNS)


@browser_tests
def test_sorting_by_another_column_starts_anew_and_equal_cells_keep_their_order(
    chromium: str, tmp_path: Path
) -> None:
    values = [Estimate(5, 4, 6), Estimate(7, 6, 8), Estimate(1, 0, 2)]
    table = Table([Number("a", [1, 2, 3]), Estimates("b", values), Text("c", ["z", "y", "z"])])
    one_row = Table([Number("d", [1]), Number("e", [2])])
    script = "const button = document.querySelectorAll('th button');"
    script += "for (const i of [1, 1, 4, 4, 5]) button[i].click();"
    text = html.page("T", [table, table, one_row], tmp_path)
    page = after(chromium, tmp_path, text, script)
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
    return after(
        chromium, tmp_path_factory.mktemp("opened"), read(report), script, "--window-size=500,800"
    )


@browser_tests
def test_only_boxes_scroll_sideways_on_a_narrow_screen(opened: Page) -> None:
    assert [title["text"] for title in opened.all("title")] == ["390"]


@browser_tests
def test_headings_are_buttons_where_there_is_something_to_sort(opened: Page, report: Path) -> None:
    text = read(report)
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
        assert as_drawn(decoded(link["href"])) == as_drawn((report / link["download"]).read_text())
