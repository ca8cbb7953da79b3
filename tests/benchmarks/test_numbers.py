"""Numbers as text: nothing is too small or too large to be read, and what differs is told apart."""

import math

import pytest

from benchmarks.numbers import Form, differ, form_of, form_with, forms_of, return_text, rough_text


@pytest.mark.parametrize(
    ("largest", "text"),
    [
        (123_456_789.0, "123,456,789"),
        (4_800.4, "4,800"),
        (500.0, "500.0"),
        (-21.0, "-21.0"),
        (9.5, "9.50"),
        (0.5, "0.500"),
        (0.05, "0.0500"),
        (4.1e-4, "0.000410"),
        (-1.2e-5, "-1.20e-05"),
        (1e12, "1.00e+12"),
        (0.0, "0.000"),
    ],
)
def test_digits_follow_the_largest_value(largest: float, text: str) -> None:
    assert form_of([largest, 0.0, math.nan, math.inf]).text(largest) == text


def test_zero_has_no_sign_and_a_difference_has_one() -> None:
    assert Form(1).text(-0.01) == "0.0"
    assert Form(1).text(-0.01, "+") == "+0.0"
    assert Form(2, has_exponent=True).text(1.2e-5, "+") == "+1.20e-05"
    assert Form(2, has_exponent=True).text(0.0) == "0.00"


def test_usual_decimals_stay_unless_they_show_too_little() -> None:
    assert [return_text(value) for value in (1_234.56, 9.5, 0.0, 1.0)] == [
        "1,234.6",
        "9.5",
        "0.0",
        "1.0",
    ]
    assert [return_text(value) for value in (4.1e-4, -0.5, 2e12)] == [
        "0.000410",
        "-0.500",
        "2.00e+12",
    ]
    assert form_with(2, [0.93, 0.001]) == Form(2)


def test_a_column_has_one_form_where_that_shows_something_of_each_cell() -> None:
    assert forms_of([[498.2, 480.0], [3.0, math.nan]]) == [Form(1), Form(1)]
    assert forms_of([[4_812.0], [0.4]]) == [Form(0), Form(3)]
    assert forms_of([[1e12], [500.0]]) == [Form(2, has_exponent=True), Form(1)]


def test_two_cells_are_told_apart_however_close_they_are() -> None:
    values = [5e11 + 1_000, 5e11]
    forms = forms_of([[value] for value in values], [(0, 1)])
    assert forms[0].text(values[0]) != forms[1].text(values[1])
    assert Form(2).apart([(0.5003, 0.5)]) == Form(4)
    assert Form(2).apart([(0.7, 0.5)]) == Form(2)


def test_numbers_that_differ_by_rounding_errors_are_the_same() -> None:
    assert not differ(0.1 + 0.2, 0.3)
    assert differ(4.1e-12, 4.2e-12)
    assert not differ(0.0, 0.0)
    assert not differ(math.nan, 1.0)
    assert Form(1).apart([(0.1 + 0.2, 0.3)]) == Form(1)


def test_speeds_are_whole_unless_they_are_small() -> None:
    assert [rough_text(value) for value in (12_345.6, 10.4, 9.97, 0.25, 0.0)] == [
        "12,346",
        "10",
        "10",
        "0.25",
        "0",
    ]
