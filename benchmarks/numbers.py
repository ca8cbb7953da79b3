"""How numbers become text: by significant digits, so that no return is too small to be seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

# Below and from here on powers of ten are easier to read than zeros.
_SMALL, _LARGE = 1e-4, 1e9
# Two numbers that differ by less than this share of the larger one differ by rounding errors.
_ROUNDING = 1e-9
# Decimals beyond the usual ones that two numbers may be given to be told apart.
_MORE = 9


@dataclass(frozen=True)
class Form:
    """How numbers that stand side by side are written: with how many decimals, of what."""

    decimals: int
    has_exponent: bool = False

    def text(self, value: float, sign: str = "") -> str:
        """``4,812``, ``0.000410`` or ``1.20e-05``; never a negative zero.

        :param sign: ``+`` for a difference, which has a sign in any case
        """
        if self.has_exponent and value:
            return f"{value:{sign}.{self.decimals}e}"
        # Adding 0 makes a negative zero a zero.
        return f"{round(float(value), self.decimals) + 0.0:{sign},.{self.decimals}f}"

    def shows(self, values: ArrayLike) -> bool:
        """Whether the largest of these has a digit other than zero."""
        largest = _largest(values)
        if self.has_exponent:
            return form_of(values).has_exponent
        return largest == 0 or largest >= 10.0**-self.decimals

    def apart(self, pairs: Iterable[tuple[float, float]]) -> "Form":
        """With as many more decimals as it takes to tell the two numbers of each pair apart."""
        form, pairs = self, [pair for pair in pairs if differ(*pair)]
        for _ in range(_MORE):
            if all(form.text(a) != form.text(b) for a, b in pairs):
                break
            form = form.finer()
        return form

    def finer(self) -> "Form":
        """With one more decimal."""
        return replace(self, decimals=self.decimals + 1)


def form_of(values: ArrayLike) -> Form:
    """Three or four significant digits of the largest value that is finite.

    Thousands are whole numbers, with commas between them.
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
    """So many decimals, unless the largest value then has fewer than two significant digits."""
    largest = _largest(values)
    usual = largest == 0 or 10.0 ** (1 - decimals) <= largest < _LARGE
    return Form(decimals) if usual else form_of(values)


def forms_of(cells: Sequence[Sequence[float]], apart: Iterable[tuple[int, int]] = ()) -> list[Form]:
    """A form for each cell of a column, one for all of them where that shows something of each.

    :param cells: the numbers of each, such as a mean and its interval, which share a form
    :param apart: places of two cells whose first numbers have to be told apart
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
    """Whether two numbers differ by more than rounding errors, so that they can be told apart."""
    return abs(a - b) > _ROUNDING * max(abs(a), abs(b))


def return_text(value: float) -> str:
    """A return that stands by itself, with a decimal, or with more where it is small."""
    return form_with(1, value).text(value)


def score_text(value: float) -> str:
    """What a run or trial is worth, with three decimals, or with more where it is small."""
    return form_with(3, value).text(value)


def rough_text(value: float) -> str:
    """A speed or an amount as a whole number; below ten with two significant digits."""
    return f"{value:,.0f}" if value == 0 or abs(value) >= 9.95 else f"{value:.2g}"


def _largest(values: ArrayLike) -> float:
    numbers = np.abs(np.asarray(values, dtype=np.float64).ravel())
    return float(np.max(numbers[np.isfinite(numbers)], initial=0.0))
