"""A claim: how it is measured, by which rule it is judged, and its picture."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd
from matplotlib.figure import Figure

__all__ = ["Claim", "Finding", "Verdict"]


class Verdict(StrEnum):
    """What the data say of a claim."""

    HOLDS = "holds"
    CONDITIONAL = "holds when"
    FAILS = "does not hold"


@dataclass(frozen=True)
class Finding:
    """A verdict, and the numbers behind it."""

    verdict: Verdict
    measured: str
    """One or two sentences with the numbers that the rule is about"""
    condition: str = ""
    """Of a claim that holds when something is so: what"""

    def __str__(self) -> str:
        """The verdict as a sentence."""
        return " ".join(filter(None, [self.verdict.capitalize(), self.condition])) + "."


@dataclass(frozen=True)
class Claim:
    """One claim.

    :param name: of the command, the data and the figure
    :param text: what is claimed, in a sentence
    :param rule: what the data have to show for the claim to hold
    :param measure: gives the data; whether a quick version, of fewer problems or steps, will do
    :param judge: applies the rule to the data
    :param draw: draws the data
    """

    name: str
    text: str
    rule: str
    measure: Callable[[bool], pd.DataFrame]
    judge: Callable[[pd.DataFrame], Finding]
    draw: Callable[[pd.DataFrame], Figure]
