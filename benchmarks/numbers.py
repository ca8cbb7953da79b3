"""Numbers as text, by significant digits, so that small returns are shown too."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

# Outside of this range powers of ten are easier to read than zeros.
_SMALL, _LARGE = 1e-4, 1e9
# Numbers that differ by less than this share of the larger one differ by rounding errors alone.
_ROUNDING = 1e-9
# The most decimals that are added to tell two numbers apart.
_MORE = 9


@dataclass(frozen=True)
class Form:
    """The form of numbers that stand side by side: their decimals, and whether with an exponent."""

    decimals: int
    has_exponent: bool = False

    def text(self, value: float, sign: str = "") -> str:
        """``4,812``, ``0.000410`` or ``1.20e-05``; never a negative zero.

        :param sign: ``+`` for a difference, which always shows its sign
        """
        if self.has_exponent and value:
            return f"{value:{sign}.{self.decimals}e}"
        # Adding 0 turns a negative zero into zero.
        return f"{round(float(value), self.decimals) + 0.0:{sign},.{self.decimals}f}"

    def shows(self, values: ArrayLike) -> bool:
        """Whether the largest of these has a digit other than zero."""
        largest = _largest(values)
        if self.has_exponent:
            return form_of(values).has_exponent
        return largest == 0 or largest >= 10.0**-self.decimals

    def apart(self, pairs: Iterable[tuple[float, float]]) -> "Form":
        """The form with enough decimals to tell the two numbers of each pair apart."""
        form, pairs = self, [pair for pair in pairs if differ(*pair)]
        for _ in range(_MORE):
            if all(form.text(a) != form.text(b) for a, b in pairs):
                break
            form = form.finer()
        return form

    def finer(self) -> "Form":
        """The form with one more decimal."""
        return replace(self, decimals=self.decimals + 1)


def form_of(values: ArrayLike) -> Form:
    """The form with three or four significant digits of the largest finite value.

    From 1,000 on, numbers are whole and have commas.
    """
    largest = _largest(values)
    if largest and not _SMALL <= largest < _LARGE:
        return Form(2, has_exponent=True)
    if largest >= 1_000:
        return Form(0)
    if largest >= 10:
        return Form(1)
    return Form(2 - int(np.floor(np.log10(min(largest or 0.1, 1)))))


def form_with(decimals: int, values: ArrayLike) -> Form:
    """The form with these decimals, unless the largest value has fewer than two digits then."""
    largest = _largest(values)
    usual = largest == 0 or 10.0 ** (1 - decimals) <= largest < _LARGE
    return Form(decimals) if usual else form_of(values)


def forms_of(cells: Sequence[Sequence[float]], apart: Iterable[tuple[int, int]] = ()) -> list[Form]:
    """A form for each cell of a column: the same one, except for cells that it would show as zero.

    :param cells: the numbers of each cell, such as a mean and its interval, which share a form
    :param apart: pairs of indices of cells whose first numbers must be told apart
    """
    common = form_of([value for cell in cells for value in cell])
    forms = [common if common.shows(cell) else form_of(cell) for cell in cells]
    pairs = [(i, j) for i, j in apart if differ(cells[i][0], cells[j][0])]
    for _ in range(_MORE):
        if all(forms[i].text(cells[i][0]) != forms[j].text(cells[j][0]) for i, j in pairs):
            break
        forms = [form.finer() for form in forms]
    return forms


def differ(a: float, b: float) -> bool:
    """Whether two numbers differ by more than rounding errors."""
    return abs(a - b) > _ROUNDING * max(abs(a), abs(b))


def return_text(value: float) -> str:
    """A single return with one decimal, or with more if it is small."""
    return form_with(1, value).text(value)


def score_text(value: float) -> str:
    """The score of a run or a trial with three decimals, or with more if it is small."""
    return form_with(3, value).text(value)


def rough_text(value: float) -> str:
    """A speed or an amount as a whole number, or with two significant digits below ten."""
    return f"{value:,.0f}" if value == 0 or abs(value) >= 9.95 else f"{value:.2g}"


def _largest(values: ArrayLike) -> float:
    numbers = np.abs(np.asarray(values, dtype=np.float64).ravel())
    return float(np.max(numbers[np.isfinite(numbers)], initial=0.0))
