"""Every page: its links and figures are there, and it needs no network."""

from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import BeautifulSoup

CAPTIONS = [
    "Start",
    "Tutorials",
    "Algorithms",
    "Guide",
    "Results",
    "Claims",
    "Reference",
    "Contributing",
]
# What a page loads, rather than links to.
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src"}


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, BeautifulSoup]:
    found = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in found}


def loaded(page: BeautifulSoup) -> list[str]:
    tags = [
        (tag, attribute)
        for name, attribute in LOADED.items()
        for tag in page(name)
        for attribute in [attribute]
    ]
    sheets = [tag["href"] for tag in page("link") if {"stylesheet", "icon"} & set(tag["rel"])]
    return sheets + [tag[attribute] for tag, attribute in tags if tag.has_attr(attribute)]


def test_the_navigation_has_the_rooms_in_their_order(pages, site):
    captions = pages[site / "index.html"].select(".sidebar-tree .caption-text")
    assert [caption.text for caption in captions] == CAPTIONS


def test_pages_load_nothing_from_the_network(pages):
    away = {
        (path.name, each)
        for path, page in pages.items()
        for each in loaded(page)
        if "//" in each and not each.startswith("data:")
    }
    assert away == set()


def test_links_lead_to_pages_and_to_places_on_them(pages, site):
    ids = {path: {tag["id"] for tag in page(id=True)} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        links = [tag["href"] for tag in page("a", href=True)]
        for link in links + loaded(page):
            if "://" in link or link.startswith(("data:", "mailto:")):
                continue
            name, anchor = urldefrag(unquote(link.partition("?")[0]))
            target = (path.parent / name).resolve() if name else path
            there = target.exists() and (not anchor or anchor in ids.get(target, {anchor}))
            if not there:
                broken.append((str(path.relative_to(site)), link))
    assert broken == []


def test_figures_say_what_they_show(pages):
    silent = [
        (path.name, image["src"])
        for path, page in pages.items()
        for image in page.select("article img")
        if not image.get("alt")
    ]
    assert silent == []
