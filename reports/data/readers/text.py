"""CSV files of programs that may have died while they wrote a line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from reports.data.readers.logged import BrokenLogError

_LONGEST_LINE = 2**20  # characters
MOST_COLUMNS = 5_000


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A text file to read; bytes that are not UTF-8 make no number, and are found as such."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        yield file


def whole_lines(file: TextIO, say: Callable[[str], None]) -> Iterator[str]:
    """The lines of a file that have an end.

    :param say: gets a line on what was left out
    :raises BrokenLogError: a line is too long to be one of a log
    """
    while line := file.readline(_LONGEST_LINE):
        if line.endswith("\n"):
            yield line
        elif len(line) == _LONGEST_LINE:
            raise BrokenLogError(
                f"{file.name}: has a line of more than {_LONGEST_LINE:,} characters"
            )
        else:
            say("the last line is cut, and left out")


def rows(lines: Iterable[str], say: Callable[[str], None]) -> Iterator[list[str]]:
    """The cells of the lines of a CSV file, up to one that is none.

    :param say: gets a line on what was left out
    """
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        say(f"{error}; what follows is left out")
