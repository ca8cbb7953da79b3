"""What docs/claims.md says of each claim: verdict, numbers, figure and command."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from studies.claims.registry import CLAIMS
from studies.claims.store import figure_file

FOLDER = Path(__file__).parent / "claims"
MARKED = re.compile(
    r"(?P<start><!-- claim: (?P<name>.+?) -->\n).*?(?P<end><!-- end of the claim -->)", re.DOTALL
)


def verdicts() -> dict[str, str]:
    """In Markdown, by the names of the claims that have been measured."""
    found = {}
    for name, claim in CLAIMS.items():
        if not (file := FOLDER / f"{name}.json").exists():
            continue
        stored = json.loads(file.read_text(encoding="utf-8"))
        found[name] = (
            f"> {claim.text}\n>\n"
            f"> **{stored['verdict'].capitalize()}** {stored['measured']}\n\n"
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
