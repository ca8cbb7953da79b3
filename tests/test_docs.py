"""The documentation: what it quotes is in the code, what it links to is there."""

import re
from pathlib import Path

import pytest

from benchmarks.tables import to_markdown
from docs import generate

ROOT = Path(__file__).parent.parent
OLD_ACER = "from-stable-baselines-2.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(
    "page", ["npg.md", "acer.md", "acktr.md", "kfac.md", "nac.md", "natural-dqn.md", "recurrent.md"]
)
def test_code_beside_the_equations_is_the_code_that_runs(page):
    source = {
        line.strip()
        for path in (ROOT / "sb3_natural").rglob("*.py")
        for line in path.read_text().splitlines()
    }
    quoted = [line for block in code_blocks(ROOT / "docs" / page) for line in block.split("\n")]
    assert len(quoted) > 8
    assert [line for line in quoted if line.strip() and line.strip() not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    missing = []
    for target in targets:
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            missing.append(target)
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The anchors that code hosts give a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *(ROOT / "docs" / name for name in ("guide.md", OLD_ACER))],
    ids=lambda page: page.name,
)
def test_examples_run(page):
    for block in code_blocks(page):
        shortened = re.sub(r"[\d_]{5,}(?=[,)])", "64", block).replace("n_steps=256", "n_steps=16")
        assert shortened != block, "an example that trains for long is shortened here"
        shortened = re.sub(r'save\("\w+"\)', "num_timesteps", shortened)
        shortened = re.sub(r'("MlpPolicy", "[A-Za-z]+-v\d")', r"\1, n_steps=64", shortened)
        names: dict = {}
        exec(compile(shortened, str(page), "exec"), names)
        assert names["model"].num_timesteps == 64


def test_tables_are_those_of_the_stored_results():
    pages = {page: page.read_text() for page in generate.PAGES}
    names = {found["name"] for text in pages.values() for found in generate.MARKED.finditer(text)}
    assert len(names) > 10
    tables = {name: to_markdown(generate.TABLES[name]()) for name in names}
    for page, text in pages.items():
        assert generate.with_tables(text, tables) == text, page.name


def test_the_documentation_is_small_and_shows_every_picture_that_it_has():
    files = [path for path in (ROOT / "docs").rglob("*") if path.is_file()]
    made = ("__pycache__", "reference/api")  # not in the repository
    assert sum(path.stat().st_size for path in files if not any(m in str(path) for m in made)) < 7e6
    shown = "".join(page.read_text() for page in generate.PAGES)
    pictures = [path.name for path in (ROOT / "docs" / "images").iterdir()]
    assert [name for name in pictures if f"images/{name})" not in shown] == []
