"""A claim: how it is measured, by which rule it is judged, and its picture."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

__all__ = ["Claim", "Effort", "Finding", "Verdict"]


@dataclass(frozen=True)
class Effort:
    """How much to measure, and with what.

    :param quick: fewer problems, steps and seeds, to see that all works
    :param runs: the folder where trainings are kept; those that are there are not made again
    :param jobs: the number of processes
    :param shown: whether progress is
    """

    quick: bool
    runs: Path
    jobs: int = 1
    shown: bool = False


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
    :param measure: gives the data
    :param judge: applies the rule to the data
    :param draw: draws the data
    :param trained: whether the data come from trainings, of which a quick version says little
    """

    name: str
    text: str
    rule: str
    measure: Callable[[Effort], pd.DataFrame]
    judge: Callable[[pd.DataFrame], Finding]
    draw: Callable[[pd.DataFrame], Figure]
    trained: bool = False
