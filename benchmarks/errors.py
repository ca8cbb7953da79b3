"""Errors and warnings, of this suite and of the code that it runs: made fit to keep and show."""

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.names import message
from benchmarks.secrets import mask

_LONGEST_WARNING = 2_000  # characters
_MOST_WARNINGS = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What UTF-8 cannot encode, and control characters, which a terminal would obey.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class SpecError(ValueError):
    """A request that cannot be run; the message names the place, the value and what is valid."""

    def __init__(self, text: object) -> None:
        super().__init__(message(text))


def check_choice(option: str, chosen: Sequence[str], allowed: Sequence[str]) -> None:
    """Check the names that an option was given against those that are valid.

    :raises SpecError: a name that is not valid, one given twice, or none
    """
    check_distinct(option, chosen, allowed)
    for name in chosen:
        if name not in allowed:
            raise SpecError(f"{option}: {name!r} is not one of {', '.join(allowed)}")


def check_distinct(option: str, chosen: Sequence[str], examples: Sequence[str]) -> None:
    """Check that an option was given at least one name, and none of them twice.

    :param examples: names to choose from, for the error message
    :raises SpecError: it was not
    """
    if not chosen:
        raise SpecError(f"{option}: must name at least one of {', '.join(examples)}")
    for name in chosen:
        if chosen.count(name) > 1:
            raise SpecError(f"{option}: {name!r} is given {chosen.count(name)} times")


def sanitize(text: str, longest: int) -> str:
    """Mask the passwords in a text, escape its control characters and lone surrogates, and cut it.

    A text that is too long keeps its beginning and its end.

    :param longest: how many characters are kept
    """
    # Cut generously first: no part of a password that this splits survives the second cut.
    text = mask(_cut(text, 10 * longest))
    text = _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return _cut(text, longest)


def warning_texts(caught: Iterable[warnings.WarningMessage]) -> tuple[str, ...]:
    """The different warnings, each on one line and without colours; the first twenty of them."""
    texts = dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in caught)
    first = [
        " ".join(sanitize(_COLOUR.sub("", text), _LONGEST_WARNING).split())
        for text in list(texts)[:_MOST_WARNINGS]
    ]
    if len(texts) > len(first):
        first.append(f"and {len(texts) - len(first):,} other warnings")
    return tuple(first)


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Print the warnings of the block to stderr, one a line, if the block raises nothing."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for line in warning_texts(caught):
        print(f"warning: {line}", file=sys.stderr)


def clean_up(*steps: Callable[[], object]) -> None:
    """Call functions that tidy up when the work is done: their exceptions become warnings."""
    for step in steps:
        try:
            step()
        except Exception as error:
            name = getattr(getattr(step, "func", step), "__qualname__", repr(step))
            warnings.warn(
                f"{name} raised {type(error).__name__}: {error}; what was done before it is kept",
                stacklevel=2,
            )


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"
