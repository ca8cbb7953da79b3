"""Writes the tables and figures of README.md and docs/*.md from the results in docs/results.

``make docs-figures``, or ``python -m docs.generate``. A table stands between two comments,
``<!-- table: NAME -->`` and ``<!-- end of the table -->``, and is replaced; NAME is that of a table
in :mod:`docs.tables` or :mod:`docs.one_set`. Verdicts on claims likewise (:mod:`docs.verdicts`).
Figures go to docs/images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.tables import to_markdown
from docs.figures import FIGURES, save
from docs.one_set import TABLES as OF_ONE_SET
from docs.tables import TABLES as OTHERS
from docs.verdicts import TABLES as OF_CLAIMS
from docs.verdicts import verdicts, with_verdicts

ROOT = Path(__file__).parent.parent
TABLES = OTHERS | OF_ONE_SET | OF_CLAIMS
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(
    r"(?P<start><!-- table: (?P<name>.+?) -->\n).*?(?P<end>\n<!-- end of the table -->)", re.DOTALL
)


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """A page with its marked tables replaced.

    :param tables: in Markdown, by name
    :raises KeyError: a name that is not among them
    """
    return MARKED.sub(lambda m: f"{m['start']}\n{tables[m['name']]}\n{m['end']}", text)


def main() -> None:
    """Write every table and figure."""
    names = {match["name"] for page in PAGES for match in MARKED.finditer(page.read_text())}
    found = verdicts()
    written = {name: to_markdown(TABLES[name]()) for name in sorted(names)}
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = with_verdicts(with_tables(before, written), found)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: tables or verdicts changed")
    for name, draw in FIGURES.items():
        path = ROOT / "docs" / "images" / name
        save(draw(), path)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
