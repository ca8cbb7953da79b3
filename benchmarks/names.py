"""Names and texts of others: of algorithms, environments, studies, hyperparameters, and in errors.

They may hold anything: a bar, backticks, HTML, a formula of LaTeX or of a spreadsheet, what a
terminal obeys. Where they are read they are put on one line and cut (:func:`plain`); whatever shows
them escapes them for its format, here for Markdown and CSV.
"""

import hashlib
import math
import re
from collections.abc import Iterable

_LONGEST = 500  # characters of a text that is shown
_LONGEST_MESSAGE = 1_000
_DIGITS = [r"\d" * length for length in range(1, 10)]  # of the number of an item in a list
# Everywhere in a text, or at its beginning, where Markdown would begin a list, a quotation, ...
_SPECIAL = re.compile(
    r"[\\`*\[\]<>&|$~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    r"|^=|^[-+](?=\s|$)|^-(?=-)"
    rf"|(?:{'|'.join(rf'(?<=^{digits})' for digits in _DIGITS)})[.)](?=\s|$)"
)
_NUMBER_WITHIN = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def plain(text: str, longest: int = _LONGEST) -> str:
    """A text on one line, cut if it is long; what cannot be seen, as an escape."""
    shown = visible(" ".join(text[: 2 * longest].split()))
    is_whole = len(text) <= 2 * longest and len(shown) <= longest
    return shown if is_whole else f"{shown[: longest - 2]} …"


def first_line(text: str) -> str:
    """The first line of an error's text, :func:`plain`."""
    return plain(text.lstrip().partition("\n")[0])


def message(said: object) -> str:
    """An error's message, :func:`plain`: it may quote what a file holds."""
    return plain(str(said), _LONGEST_MESSAGE)


def visible(text: str) -> str:
    """The text on one line; what cannot be seen, as an escape."""
    return "".join(
        " " if c.isspace() else c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text
    )


def escaped_markdown(text: str) -> str:
    """The text, :func:`visible`, in Markdown that shows it as it is."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], visible(text))


def verbatim(text: str) -> str:
    """The text as code in Markdown, within more backticks than it has in a row."""
    shown = visible(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    edge = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{edge}{shown}{edge}{ticks}"


def file_name(name: str) -> str:
    """A name for a file, which a link in Markdown can have as it is."""
    usual = name.replace("/", "__").replace(":", "__")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", usual)[:100]
    return usual if safe == usual else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def csv_text(text: str) -> str:
    """The text of a CSV cell: a spreadsheet takes what begins like a formula for one."""
    is_formula = text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def in_natural_order(names: Iterable[str]) -> list[str]:
    """The names without repetitions, sorted, the numbers in them by their value.

    >>> in_natural_order(["n=16", "n=2", "n=1e-3"])
    ['n=1e-3', 'n=2', 'n=16']
    """
    return sorted(set(names), key=lambda name: (_natural(name), name))


def _natural(name: str) -> list[tuple[float, str]]:
    """The numbers and what is between them, as what they are sorted by."""
    return [
        (float(part), "") if i % 2 else (math.inf, part)
        for i, part in enumerate(_NUMBER_WITHIN.split(name))
    ]
