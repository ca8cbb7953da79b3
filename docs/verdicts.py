"""What docs/claims.md says of each claim: verdict, numbers, figure and command."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.tables import Inline, Link, Table, Text
from studies.claims.registry import CLAIMS
from studies.claims.store import figure_file

FOLDER = Path(__file__).parent / "claims"
PAGE = FOLDER.with_suffix(".md")
MARKED = re.compile(
    r"(?P<start><!-- claim: (?P<name>.+?) -->\n).*?(?P<end><!-- end of the claim -->)", re.DOTALL
)


def capitalised(text: str) -> str:
    """With a capital at the start, and names as they are."""
    return text[:1].upper() + text[1:]


def verdicts() -> dict[str, str]:
    """In Markdown, by the names of the claims."""
    found = {}
    for name, claim in CLAIMS.items():
        stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        found[name] = (
            f"> {claim.text}\n>\n"
            f"> **{capitalised(stored['verdict'])}** {stored['measured']}\n\n"
            f"![{claim.text}](claims/{figure_file(FOLDER, claim).name})\n\n"
            f"*Rule:* {claim.rule} (`python -m studies claims run {name}`)\n"
        )
    return found


def with_verdicts(text: str, found: Mapping[str, str]) -> str:
    """A page with its marked verdicts replaced.

    :param found: in Markdown, by name
    :raises KeyError: a name that is not among them
    """
    return MARKED.sub(lambda m: f"{m['start']}\n{found[m['name']]}\n{m['end']}", text)


def at_a_glance() -> Table:
    """Every claim on the page with its verdict, in their order there, and where it stands."""
    claims: list[Inline] = []
    said = []
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            heading = line.removeprefix("### ")
        elif match := re.fullmatch(r"<!-- claim: (.+) -->", line):
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            stored = json.loads((FOLDER / f"{match[1]}.json").read_text(encoding="utf-8"))
            claims.append(Link(CLAIMS[match[1]].text, f"#{anchor}"))
            said.append(stored["verdict"])
    return Table([Text("claim", claims), Text("verdict", said)])


TABLES = {"claims at a glance": at_a_glance}
