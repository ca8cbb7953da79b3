"""How to read a report: what its words and numbers mean. It is the same in every report."""

from __future__ import annotations

from reports.data.context import Context
from reports.rendering.blocks import Section


def build(context: Context) -> Section | None:
    """TODO"""
    return None
