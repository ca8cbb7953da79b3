"""Tables of values, and how they become text.

A cell is a value: a number, an estimate with its interval, steps, seconds, or text. Its column
knows how values of that kind are written side by side, and a renderer puts what is written into
Markdown, plain text or CSV (HTML and LaTeX are in :mod:`reports.rendering`). Nothing reads a number
back out of text.

Text may come from anyone: names of algorithms, environments and studies hold whatever their author
chose. A plain ``str`` is therefore always shown as it is, escaped by the renderer for its format;
what is to be bold or verbatim says so (:class:`Strong`, :class:`Code`, :class:`Link`).

>>> table = Table([Text("algorithm", ["npg", "a|b"]), Number("seeds", [3, 10])])
>>> print(to_markdown(table))
| algorithm | seeds |
| --------- | ----: |
| npg       |     3 |
| a\\|b      |    10 |
"""

from __future__ import annotations

import csv
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from numbers import Real
from typing import ClassVar, Literal, Protocol, TypeAlias
from urllib.parse import quote

from benchmarks.names import csv_text, escaped_markdown, verbatim, visible
from benchmarks.numbers import Form, form_of, form_with, forms_of

MISSING = "–"
"""What a cell without a value shows."""

# Beside letters and digits; everything else that ends an address in Markdown is percent-encoded.
_IN_ADDRESSES = "#/:?=&%+,;@"


@dataclass(frozen=True)
class Strong:
    """Bold text.

    :param text: the text, which may have marks itself
    """

    text: Inline


@dataclass(frozen=True)
class Code:
    """Text shown verbatim, in the font of code.

    :param text: the text, of one line
    """

    text: str


@dataclass(frozen=True)
class Link:
    """Text that leads to an address, an anchor or a file beside the report.

    :param text: the text, which may have marks itself
    :param target: the address, the anchor (``#scores``) or the file's name
    """

    text: Inline
    target: str


Inline: TypeAlias = str | Strong | Code | Link | tuple["Inline", ...]
"""Text within a line: plain, marked, or several of these one after the other."""


class Interval(Protocol):
    """A number with the ends of its interval, which are NaN where there is none."""

    @property
    def value(self) -> float:
        """The number."""

    @property
    def low(self) -> float:
        """The lower end of its interval."""

    @property
    def high(self) -> float:
        """The upper end of its interval."""


NUMBER, ABOVE, NEVER = 0, 1, 2
"""Kinds of cells, in the order in which they are sorted: a number, one that lies above, no end."""

Writer = Callable[[float], str]
"""Writes a number."""


@dataclass(frozen=True)
class Shown:
    """A cell as it is written, before a renderer escapes and arranges it.

    ``low`` and ``high`` are the ends of an interval, in brackets; ``note`` stands in its place.
    """

    value: Inline = ""
    low: str = ""
    high: str = ""
    note: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Column(ABC):
    """A heading, and the values below it.

    :param header: the heading
    :param values: a value for each row
    """

    header: str
    values: Sequence[object]

    align: ClassVar[Literal["l", "r"]] = "r"
    brackets: ClassVar[tuple[str, str]] = ("[", "]")

    @abstractmethod
    def shown(self) -> list[Shown]:
        """The cells."""

    def data(self) -> dict[str, list[object]]:
        """The values by the headings of the CSV columns that hold them; ``None`` is left empty."""
        return {self.header: [None if _is_missing(value) else value for value in self.values]}

    def sort_keys(self) -> list[list[float] | None]:
        """What each cell is sorted by: its kind (``NUMBER``, ``ABOVE``, ``NEVER``), and numbers.

        ``None``: by its text.
        """
        return [
            [NUMBER, float(value)] if isinstance(value, Real) and not _is_missing(value) else None
            for value in self.values
        ]

    def is_empty(self) -> bool:
        """Whether no cell has a value, so that the column can be left out."""
        return all(_is_missing(value) for value in self.values)


@dataclass(frozen=True)
class Text(Column):
    """A column of text, aligned to the left.

    :param values: text, plain or marked; None: missing
    """

    values: Sequence[Inline | None]
    align = "l"

    def shown(self) -> list[Shown]:
        return [Shown(MISSING if value is None else value) for value in self.values]

    def data(self) -> dict[str, list[object]]:
        return {self.header: [None if v is None else text_of(v) for v in self.values]}


@dataclass(frozen=True)
class Number(Column):
    """A column of numbers.

    :param values: numbers; None and NaN are missing, and a string stands for what is no number
    :param write: how the numbers are written, one function for all or one for each; None: as
        :func:`writer_for` does it
    :param missing: what a missing one shows
    :param bold: which are bold; empty: none
    """

    values: Sequence[float | str | None]
    write: Writer | Sequence[Writer] | None = None
    missing: str = MISSING
    bold: Sequence[bool] = ()

    def shown(self) -> list[Shown]:
        numbers = [value for value in self.values if not isinstance(value, str)]
        writers = _one_each(self.write or writer_for(numbers), len(self.values))
        return [
            Shown(_written(value, write, self.missing), bold=i < len(self.bold) and self.bold[i])
            for i, (value, write) in enumerate(zip(self.values, writers, strict=True))
        ]


@dataclass(frozen=True)
class Seconds(Column):
    """Durations in seconds, as :func:`duration` writes them."""

    values: Sequence[float | None]

    def shown(self) -> list[Shown]:
        return [Shown(_written(value, duration, MISSING)) for value in self.values]

    def data(self) -> dict[str, list[object]]:
        return {f"{self.header} (s)": super().data()[self.header]}


@dataclass(frozen=True)
class Estimates(Column):
    """A column of numbers with intervals: ``value [low, high]``.

    :param values: such as :class:`benchmarks.statistics.Estimate`; None: missing; a string says why
        it is
    :param write: how the numbers of each are written, one function for all or one for each; None:
        the digits suit the column, and values whose intervals do not overlap are told apart
    :param bold: which values are bold; empty: none
    :param alone: what stands in the place of an absent interval
    :param prefixes: what stands before each value, such as ``≈``; empty: nothing
    """

    values: Sequence[Interval | str | None]
    write: Writer | Sequence[Writer] | None = None
    bold: Sequence[bool] = ()
    alone: str = "(1 seed)"
    prefixes: Sequence[str] = ()

    def shown(self) -> list[Shown]:
        return [self._cell(i, value, write) for i, (value, write) in enumerate(self._written())]

    def _cell(self, i: int, value: Interval | str | None, write: Writer) -> Shown:
        if value is None or isinstance(value, str):
            return Shown(value or MISSING)
        if math.isnan(value.value):
            return Shown(MISSING)
        text = (self.prefixes[i] if self.prefixes else "") + write(value.value)
        bold = i < len(self.bold) and bool(self.bold[i])
        if math.isnan(value.low):
            return Shown(text, note=self.alone, bold=bold)
        return Shown(text, write(value.low), write(value.high), bold=bold)

    def _written(self) -> list[tuple[Interval | str | None, Writer]]:
        if self.write is not None:
            writers = _one_each(self.write, len(self.values))
            return list(zip(self.values, writers, strict=True))
        known = [i for i, value in enumerate(self.values) if _is_estimate(value)]
        cells = [_ends(self.values[i]) for i in known]
        forms = forms_of(cells, separate(cells)) if cells else []
        writers = [str] * len(self.values)
        for i, form in zip(known, forms, strict=True):
            writers[i] = form.text
        return list(zip(self.values, writers, strict=True))

    def data(self) -> dict[str, list[object]]:
        ends = [_ends(value) if _is_estimate(value) else None for value in self.values]
        names = self.header, f"{self.header} low", f"{self.header} high"
        columns: dict[str, list[object]] = {
            name: [None if end is None or math.isnan(end[i]) else end[i] for end in ends]
            for i, name in enumerate(names)
        }
        columns[self.header] = [
            value if isinstance(value, str) else number
            for value, number in zip(self.values, columns[self.header], strict=True)
        ]
        if any(self.prefixes):
            columns[f"{self.header} prefix"] = [each.strip() or None for each in self.prefixes]
        return columns

    def sort_keys(self) -> list[list[float] | None]:
        return [
            [NUMBER, *(end for end in _ends(value) if not math.isnan(end))]
            if _is_estimate(value)
            else None
            for value in self.values
        ]

    def is_empty(self) -> bool:
        return not any(_is_estimate(value) or isinstance(value, str) for value in self.values)


@dataclass(frozen=True)
class Verdicts(Estimates):
    """Estimates, each after a word for what it says: ``ahead 0.93 [0.78, 1.00]``.

    ``words``: one for each value; without a value, it stands alone. Those in ``strong`` are bold.
    In CSV the words are the column ``… verdict``.
    """

    words: Sequence[str | None] = ()
    strong: Collection[str] = ()

    def _cell(self, i: int, value: Interval | str | None, write: Writer) -> Shown:
        cell, word = super()._cell(i, value, write), self.words[i]
        if word is None:
            return cell
        marked = Strong(word) if word in self.strong else word
        return replace(cell, value=marked if value is None else (marked, " ", cell.value))

    def data(self) -> dict[str, list[object]]:
        return {**super().data(), f"{self.header} verdict": list(self.words)}

    def is_empty(self) -> bool:
        return not any(self.words)


@dataclass(frozen=True)
class StepsTaken:
    """Environment steps until something was reached: the median over seeds, the least, the most.

    Infinite where it was not reached within ``budget`` steps.
    """

    median: float
    lowest: float
    highest: float
    budget: float
    seeds: int


@dataclass(frozen=True)
class Steps(Column):
    """``median (lowest, highest)`` in environment steps.

    Infinitely many are ``> budget``; where all three are, the cell says ``not within budget``.
    """

    values: Sequence[StepsTaken]
    brackets = ("(", ")")

    def shown(self) -> list[Shown]:
        return [_steps_shown(steps) for steps in self.values]

    def data(self) -> dict[str, list[object]]:
        names = {"": "median", " low": "lowest", " high": "highest"}
        return {
            self.header + suffix: [_steps_data(steps, name) for steps in self.values]
            for suffix, name in names.items()
        }

    def sort_keys(self) -> list[list[float] | None]:
        return [_steps_key(steps) for steps in self.values]


@dataclass(frozen=True)
class Fraction(Column):
    """``4 of 5``; ``None`` is missing."""

    values: Sequence[tuple[int, int] | None]

    def shown(self) -> list[Shown]:
        return [Shown("{:,} of {:,}".format(*v) if v else MISSING) for v in self.values]

    def data(self) -> dict[str, list[object]]:
        return {
            name: [None if value is None else value[i] for value in self.values]
            for i, name in enumerate((self.header, f"{self.header}: of"))
        }

    def sort_keys(self) -> list[list[float] | None]:
        return [None if value is None else [NUMBER, *value] for value in self.values]


@dataclass(frozen=True)
class Table:
    """Columns of one length.

    :param columns: the columns, at least one
    :param name: name of the file it is exported to; empty: it is not exported
    :raises ValueError: there is no column, or they differ in length
    """

    columns: Sequence[Column]
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        lengths = {column.header: len(column.values) for column in self.columns}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns: must be of one length, and at least one; got {lengths}")

    def without_empty(self) -> Table:
        """The table without the columns in which no cell has a value."""
        return Table([each for each in self.columns if not each.is_empty()], name=self.name)


def to_markdown(table: Table) -> str:
    """The table in Markdown, its columns padded to one width."""
    columns = [
        [escaped_markdown(column.header), *_arranged(column, _markdown_cell, bold="**")]
        for column in table.columns
    ]
    widths = [max(3, *map(len, cells)) for cells in columns]
    rules = [
        "-" * (width - 1) + ":" if column.align == "r" else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    header, *rows = _lines(table, columns, widths)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rules, *rows))


def to_text(table: Table) -> str:
    """The table for a terminal, its columns two spaces apart."""
    columns = [[visible(each.header), *_arranged(each, text_of)] for each in table.columns]
    widths = [max(map(len, cells)) for cells in columns]
    return "\n".join("  ".join(cells).rstrip() for cells in _lines(table, columns, widths))


def to_csv(table: Table) -> str:
    """The table's values as CSV, the headings first.

    An estimate takes three columns: the value, ``… low`` and ``… high``, and where prefixes stand
    before values ``… prefix`` for these. Numbers have up to ten significant digits; ``> 50000`` is
    a number that lies above. What is missing is empty.
    """
    columns = [each for column in table.columns for each in column.data().items()]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([csv_text(visible(name)) for name, _ in columns])
    rows = zip(*(cells for _, cells in columns), strict=True)
    writer.writerows([[_csv_cell(value) for value in row] for row in rows])
    return file.getvalue()


def markdown_of(text: Inline, code: Callable[[str], str] = verbatim) -> str:
    """Text within a line, in Markdown.

    :param code: writes text verbatim
    """
    if isinstance(text, str):
        return escaped_markdown(text)
    if isinstance(text, Strong):
        return f"**{markdown_of(text.text, code)}**"
    if isinstance(text, Code):
        return code(text.text)
    if isinstance(text, Link):
        return f"[{markdown_of(text.text, code)}]({quote(text.target, safe=_IN_ADDRESSES)})"
    return "".join(markdown_of(part, code) for part in text)


def text_of(text: Inline) -> str:
    """Text within a line, without its marks."""
    if isinstance(text, str):
        return visible(text)
    if isinstance(text, Code):
        return visible(text.text)
    if isinstance(text, Strong | Link):
        return text_of(text.text)
    return "".join(map(text_of, text))


def writer_for(numbers: Sequence[float | None]) -> Writer:
    """Writes numbers that stand side by side: integers as such, others with the same decimals.

    What these decimals would show as zero has decimals of its own.

    :param numbers: all of them; ``None`` and NaN are missing
    """
    given = [float(number) for number in numbers if number is not None and not math.isnan(number)]
    are_integers = all(number.is_integer() for number in given)
    form = Form(0) if are_integers else form_of(given)
    return lambda number: (form if form.shows(number) else form_of(number)).text(number)


def separate(estimates: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The places of each two estimates whose intervals do not overlap.

    :param estimates: of each value, lower and upper end, NaN where there is no interval
    """
    return [
        (i, j)
        for (i, (_, low_i, high_i)), (j, (_, low_j, high_j)) in combinations(
            enumerate(estimates), 2
        )
        if low_i > high_j or low_j > high_i
    ]


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if seconds < 10:
        return f"{form_with(1, seconds).text(seconds)} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_estimate(value: Interval | str | None) -> bool:
    return not (value is None or isinstance(value, str) or math.isnan(value.value))


def _ends(value: Interval | str | None) -> tuple[float, float, float]:
    assert value is not None
    assert not isinstance(value, str)
    return float(value.value), float(value.low), float(value.high)


def _one_each(write: Writer | Sequence[Writer], n_values: int) -> list[Writer]:
    """A writer for each value."""
    return [write] * n_values if callable(write) else list(write)


def _written(value: float | str | None, write: Writer, missing: str) -> str:
    if isinstance(value, str):
        return value
    return missing if value is None or math.isnan(value) else write(value)


def _steps_shown(steps: StepsTaken) -> Shown:
    if math.isinf(steps.lowest):
        return Shown(f"not within {steps.budget:,.0f}")
    median, lowest, highest = (
        f"> {steps.budget:,.0f}" if math.isinf(number) else f"{number:,.0f}"
        for number in (steps.median, steps.lowest, steps.highest)
    )
    return Shown(median, note="(1 seed)") if steps.seeds == 1 else Shown(median, lowest, highest)


def _steps_key(steps: StepsTaken) -> list[float]:
    if math.isinf(steps.lowest):
        return [NEVER, steps.budget]
    kind = ABOVE if math.isinf(steps.median) else NUMBER
    return [kind, *(min(n, steps.budget) for n in (steps.median, steps.lowest, steps.highest))]


def _steps_data(steps: StepsTaken, name: str) -> object:
    if math.isinf(steps.lowest):
        return f"not within {steps.budget:.0f}" if name == "median" else None
    if steps.seeds == 1 and name != "median":
        return None
    number = getattr(steps, name)
    return f"> {steps.budget:.0f}" if math.isinf(number) else number


def _markdown_cell(text: Inline) -> str:
    """In a table a bar ends the cell even within code, unless a backslash precedes it."""
    return markdown_of(text, lambda code: verbatim(code).replace("|", r"\|"))


def _arranged(column: Column, text: Callable[[Inline], str], bold: str = "") -> list[str]:
    """The cells as text, their numbers and brackets one below the other.

    :param bold: what stands before and after bold text
    """
    cells = column.shown()
    values = [text(cell.value) for cell in cells]
    beside = _beside(cells, column.brackets)
    if not any(beside):
        return [f"{bold}{v}{bold}" if c.bold else v for v, c in zip(values, cells, strict=True)]
    # Where one number has marks, the others have spaces in their place.
    mark = bold if any(cell.bold for cell in cells) else ""
    width = max(len(value) for value, has in zip(values, beside, strict=True) if has)
    arranged = []
    for cell, value, spread in zip(cells, values, beside, strict=True):
        edge = mark if cell.bold else " " * len(mark)
        number = f"{edge}{value}{edge}".rjust(width + 2 * len(mark))
        arranged.append(f"{number} {spread}" if spread else value)
    return arranged


def _beside(cells: Sequence[Shown], brackets: tuple[str, str]) -> list[str]:
    """The intervals, or what stands in their place, as wide as each other; empty without one."""
    opening, closing = brackets
    low = max((len(cell.low) for cell in cells), default=0)
    high = max((len(cell.high) for cell in cells), default=0)
    texts = [
        f"{opening}{cell.low:>{low}}, {cell.high:>{high}}{closing}" if cell.low else cell.note
        for cell in cells
    ]
    width = max(map(len, texts), default=0)
    return [text.ljust(width) if text else "" for text in texts]


def _lines(
    table: Table, columns: Sequence[Sequence[str]], widths: Sequence[int]
) -> list[tuple[str, ...]]:
    """The rows, heading first, each cell padded to the width of its column."""
    padded = [
        [cell.rjust(width) if column.align == "r" else cell.ljust(width) for cell in cells]
        for column, cells, width in zip(table.columns, columns, widths, strict=True)
    ]
    return list(zip(*padded, strict=True))


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value) if isinstance(value, int) else csv_text(str(value))
