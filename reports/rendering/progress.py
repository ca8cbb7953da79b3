"""How far a report has come: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.command_line import make_console

T = TypeVar("T")


class Silent:
    """Shows nothing."""

    def going_through(self, items: Sequence[T], what: str) -> Iterable[T]:
        """The items one by one."""
        return items


class Bars(Silent):
    """A bar for what is being gone through."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def going_through(self, items: Sequence[T], what: str) -> Iterable[T]:
        """The items one by one."""
        return self._bars.track(items, description=what)


@contextmanager
def progress(console: Console | None = None) -> Iterator[Silent]:
    """What fits the output: bars on a terminal, which are gone in the end, nothing elsewhere.

    :param console: None: that of the standard error
    """
    console = console or make_console(stderr=True)
    if not console.is_terminal:
        yield Silent()
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(bars)
