"""The site as a reader sees it, in headless Chromium."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Page, browse

PHONE, DESKTOP = 390, 1280
# A page of the site's own, so that its frames may be looked into.
HARNESS = """<!DOCTYPE html><meta charset="utf-8"><body><pre id="found"></pre><script>
const pause = ms => new Promise(done => setTimeout(done, ms));
async function until(holds) {
  for (let tries = 0; tries < 200 && !holds(); tries++) await pause(25);
}
async function open(page, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 800px; border: 0`;
  frame.src = page;
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  return [frame, frame.contentDocument, frame.contentWindow];
}
async function look(page) {
  const [frame, inside, view] = await open(page, PHONE);
  if (inside.querySelector("script[src*=mathjax]")) {
    await until(() => view.MathJax?.startup?.promise);
    await view.MathJax?.startup?.promise;
  }
  const phone = inside.documentElement.scrollWidth;
  frame.style.width = "DESKTOPpx";
  const found = {
    phone,
    desktop: inside.documentElement.scrollWidth,
    formulas: inside.querySelectorAll(".math").length,
    drawn: inside.querySelectorAll(".math mjx-container").length,
    wrong: inside.querySelectorAll('mjx-merror, mjx-mtext[style*="red"]').length,
    missing: [...inside.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  };
  frame.remove();
  return found;
}
async function use() {
  const [, search] = await open("search.html?q=target_kl", DESKTOP);
  const titles = () => [...search.querySelectorAll("#search-results li a")].map(a => a.textContent);
  await until(() => titles().some(title => title.includes("NPG")));
  const [, page] = await open("results.html", DESKTOP);
  await until(() => page.querySelector("#lightbox"));
  page.querySelector("article a[data-lightbox]").click();
  const enlarged = page.querySelector(".lb-image");
  await until(() => enlarged.src.includes("_images") && enlarged.naturalWidth);
  const before = page.body.dataset.theme, themes = [before];
  for (let click = 0; click < 3; click++) {
    page.querySelector(".theme-toggle").click();
    themes.push(page.body.dataset.theme);
  }
  return {results: titles(), enlarged: enlarged.src, themes};
}
(async () => {
  const pages = {};
  for (const page of PAGES) pages[page] = await look(page);
  return {pages, used: await use()};
})().catch(error => ({error: String(error.stack)})).then(
  result => document.getElementById("found").textContent = JSON.stringify(result));
</script></body>"""


@pytest.fixture(scope="module")
def seen(
    site: Path, address: str, chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What is found on each page, and what using the site does."""
    pages = sorted(
        str(path.relative_to(site))
        for path in site.rglob("*.html")
        if "_static" not in path.parts and path.name != "harness.html"
    )
    values = {"PAGES": json.dumps(pages), "PHONE": str(PHONE), "DESKTOP": str(DESKTOP)}
    text = HARNESS
    for name, value in values.items():
        text = text.replace(name, value)
    path = site / "harness.html"
    path.write_text(text)
    try:
        options = ("--virtual-time-budget=600000", "--dump-dom", "--window-size=1400,900")
        profile = tmp_path_factory.mktemp("profile")
        shown = Page(browse(chromium, profile, f"{address}/harness.html", *options))
    finally:
        path.unlink()
    found = json.loads(shown.all("pre")[0]["text"])
    assert "error" not in found, found["error"]
    return found


def test_no_page_is_wider_than_the_screen(seen):
    assert len(seen["pages"]) > 50
    for name, width in (("phone", PHONE), ("desktop", DESKTOP)):
        assert {page: one[name] for page, one in seen["pages"].items() if one[name] > width} == {}


def test_every_formula_is_drawn_without_a_network(seen):
    pages = seen["pages"]
    assert sum(one["formulas"] for one in pages.values()) > 20
    wrong = {page for page, one in pages.items() if one["wrong"] or one["drawn"] < one["formulas"]}
    assert wrong == set()


def test_every_figure_is_there(seen):
    assert {page: one["missing"] for page, one in seen["pages"].items() if one["missing"]} == {}


def test_the_search_finds_the_pages_that_explain_an_argument(seen):
    assert any("NPG" in title for title in seen["used"]["results"])


def test_a_click_enlarges_a_figure(seen):
    assert seen["used"]["enlarged"].endswith(".svg")


def test_there_is_a_dark_mode(seen):
    assert {"dark", "light"} <= set(seen["used"]["themes"])
