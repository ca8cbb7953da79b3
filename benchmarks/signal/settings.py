"""What is measured: batches, averaging, advantages and solvers, each with each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from benchmarks.command_line import split_names
from benchmarks.errors import SpecError, check_choice

CRITICS = ("model", "refit")
PLAIN = "identity"
"""The solver of the plain gradient, which is measured beside every other."""
MOST_SETTINGS = 1_000
FEWEST_BATCHES = 2  # fewer have no interval
# With fewer the bootstrap's interval holds the mean in less than 90% of cases (with 2 in half).
ENOUGH_BATCHES = 8
TRUTH_BLOCKS = 8

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class Data:
    """What a direction is computed from.

    ``average``: how many batches, one after the other, are taken together.
    """

    batch: int
    average: int

    @property
    def samples(self) -> int:
        """All samples behind a direction."""
        return self.batch * self.average


@dataclass(frozen=True)
class Advantages:
    """How advantages are estimated: with ``gae_lambda``, and the values of a critic."""

    gae_lambda: float
    critic: str


@dataclass(frozen=True)
class Solve:
    """How the direction follows from the gradient.

    ``damping`` is None for the plain gradient, ``iterations`` for all but conjugate gradient.
    """

    solver: str
    damping: float | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    data: Data
    advantages: Advantages
    solve: Solve


@dataclass(frozen=True)
class Plan:
    """All settings: each of one axis with each of the others."""

    data: list[Data]
    advantages: list[Advantages]
    solves: list[Solve]

    def check_samples(self, n_samples: int, n_envs: int) -> None:
        """Check that the samples suffice.

        :param n_samples: of both halves
        :param n_envs: the environments that they come from
        :raises SpecError: a batch is not of whole steps, or there are fewer than two of it
        """
        steps = n_samples // 2 // n_envs
        if steps < TRUTH_BLOCKS:
            raise SpecError(
                f"--samples: must be at least {2 * TRUTH_BLOCKS * n_envs:,} with {n_envs} "
                f"environments, got {n_samples:,}"
            )
        for each in self.data:
            if each.batch % n_envs:
                raise SpecError(
                    f"--batch: must be a multiple of the {n_envs} environments, whose steps are "
                    f"taken together, got {each.batch:,}"
                )
            if FEWEST_BATCHES * each.samples > steps * n_envs:
                times = f" times --average {each.average}" if each.average > 1 else ""
                raise SpecError(
                    f"--batch: {each.batch:,}{times}: must be at most "
                    f"{steps * n_envs // FEWEST_BATCHES:,}, a quarter of the {n_samples:,} "
                    "--samples, so that there are two of them to compare"
                )


def make_plan(
    batch: str,
    average: str,
    gae_lambda: str,
    critic: str,
    solver: str,
    damping: str,
    iterations: str,
    own_lambda: float,
) -> Plan:
    """The settings that options ask for, each a list separated by commas.

    :param own_lambda: the policy's own, where ``gae_lambda`` is empty
    :raises SpecError: a value that is not valid, or too many settings
    """
    # Imports torch, which takes a second.
    from sb3_natural.curvature.solvers import SOLVERS

    solvers, critics = split_names(solver), split_names(critic)
    check_choice("--solver", solvers, list(SOLVERS))
    check_choice("--critic", critics, CRITICS)
    lambdas = numbers("--gae-lambda", gae_lambda, float, 0, 1) if gae_lambda else [own_lambda]
    dampings = numbers("--damping", damping, float, 0)
    steps = numbers("--iterations", iterations, int, 1)
    if "empirical" in solvers and 0 in dampings:
        raise SpecError("--damping: must be positive for --solver empirical, got 0")
    plan = Plan(
        [Data(*each) for each in product(_counts("--batch", batch), _counts("--average", average))],
        [Advantages(*each) for each in product(lambdas, critics)],
        [Solve(PLAIN), *_solves([name for name in solvers if name != PLAIN], dampings, steps)],
    )
    n_settings = len(plan.data) * len(plan.advantages) * len(plan.solves)
    if n_settings > MOST_SETTINGS:
        raise SpecError(
            f"--batch, --average, --gae-lambda, --critic, --solver, --damping and --iterations: "
            f"must make at most {MOST_SETTINGS:,} settings, each with each, got {n_settings:,}"
        )
    return plan


def _solves(solvers: Sequence[str], dampings: Sequence[float], steps: Sequence[int]) -> list[Solve]:
    return [
        Solve(name, damping, iterations)
        for name in solvers
        for damping in dampings
        for iterations in (steps if name == "cg" else [None])
    ]


def _counts(option: str, text: str) -> list[int]:
    return numbers(option, text, int, 1)


def numbers(
    option: str, text: str, kind: Callable[[str], T], low: float, high: float = math.inf
) -> list[T]:
    """The numbers in an option's value, in increasing order.

    :raises SpecError: one of them is not a finite number from ``low`` to ``high``, or is given
        twice, or there is none
    """
    found: list[T] = []
    for name in split_names(text) or [text]:
        number = _number(name, kind)
        if number is None or not low <= number <= high or math.isinf(number):
            what = "integers" if kind is int else "numbers"
            limits = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
            raise SpecError(f"{option}: must be {what} {limits}, separated by commas, got {name!r}")
        if number in found:
            raise SpecError(f"{option}: {name} is given twice")
        found.append(number)
    return sorted(found)


def _number(text: str, kind: Callable[[str], T]) -> T | None:
    try:
        return kind(text.replace(",", ""))
    except ValueError:
        return None


def as_dict(setting: Setting) -> dict[str, Any]:
    """The setting as columns, in the order of the table."""
    return {
        "batch": setting.data.batch,
        "average": setting.data.average,
        **vars(setting.advantages),
        **vars(setting.solve),
    }
