"""A bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from reports.rendering.progress import progress


def shown(is_terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=80)
    with progress(console) as bars:
        assert list(bars.going_through(["a", "b", "c"], "Reading")) == ["a", "b", "c"]
    return output.getvalue()


def test_a_terminal_has_a_bar_that_says_how_far_it_is() -> None:
    text = shown(is_terminal=True)
    assert "Reading" in text
    assert "3/3" in text


def test_elsewhere_nothing_is_written() -> None:
    assert shown(is_terminal=False) == ""
