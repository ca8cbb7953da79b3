"""Text that others have written, such as the message of an exception: fit to be kept and shown."""

import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from benchmarks.secrets import mask

_LONGEST_WARNING = 2_000
_MOST_WARNINGS = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# What no file of UTF-8 text can hold, and what a terminal would obey.
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def tamed(text: str, longest: int) -> str:
    """A text without passwords, control characters and half characters, and not longer.

    Of one that is too long, the beginning and the end are kept.

    :param longest: how many characters are kept
    """
    # Long enough for the secrets that this cuts through to be cut away below.
    text = mask(_cut(text, 10 * longest))
    text = _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return _cut(text, longest)


def said(caught: Iterable[warnings.WarningMessage]) -> tuple[str, ...]:
    """Each warning once, on a line, without colours, and not too many of them."""
    texts = dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in caught)
    first = [
        " ".join(tamed(_COLOUR.sub("", text), _LONGEST_WARNING).split())
        for text in list(texts)[:_MOST_WARNINGS]
    ]
    if len(texts) > len(first):
        first.append(f"and {len(texts) - len(first):,} other warnings")
    return tuple(first)


@contextmanager
def warning_lines() -> Iterator[None]:
    """Say on stderr what the block warned of, a line each, if it ends without an error."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for line in said(caught):
        print(f"warning: {line}", file=sys.stderr)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"
