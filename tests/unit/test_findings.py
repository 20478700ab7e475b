"""A finding's lines and columns mean the characters, and the tokens, that they mean for a reader of the program."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.error_spans import outside, tokens_in, tokens_within
from actors.findings import Finding, character_range

PROGRAM = "π = '😀'\r\n\tprint(yy) \n\nlast"


@pytest.mark.parametrize(
    "place, text",
    [
        ((1, 1, 1, 2), "π"),
        ((1, 6, 1, 7), "😀"),  # a column is a character, whatever it takes in UTF-8 or UTF-16
        ((2, 8, 2, 10), "yy"),
        ((2, 1, 2, 12), "print(yy)"),  # without the blanks around it
        ((1, 5, 2, 3), "'😀'\r\n\tp"),
        ((1, 8, 2, 1), "'"),  # the line's end stands for what is before it
        ((3, 1, 3, 1), ")"),
        ((9, 1, 9, 1), "t"),  # and so does the end of the program
        ((4, 3, 4, 99), "st"),
        ((4, 3, 2, 1), "a"),  # one that ends before it begins is empty
        ((0, 0, 0, 0), None),
    ],
)
def test_a_place_is_the_characters_that_it_means(place: tuple[int, int, int, int], text: str | None) -> None:
    found = character_range(PROGRAM, Finding(*place, code="X"))
    assert (found and PROGRAM[slice(*found)]) == text


def test_a_byte_order_mark_is_no_column() -> None:
    program = "\ufeffprint(y)"
    found = character_range(program, Finding(1, 7, 1, 8, "X"))
    assert found is not None and program[slice(*found)] == "y"


def test_a_program_of_blanks_has_no_place() -> None:
    assert character_range(" \n\t", Finding(2, 1, 2, 2, "X")) is None


@given(st.text("ab \t\r\n😀\ufeff", max_size=20), st.tuples(*[st.integers(-2, 25)] * 4))
def test_whatever_is_said_the_range_is_in_the_program_and_shows(program: str, place: tuple[int, int, int, int]) -> None:
    found = character_range(program, Finding(*place, code="X"))
    if found is None:
        return
    start, end = found
    assert 0 <= start < end <= len(program)
    assert not program[start].isspace() and not program[end - 1].isspace()


OFFSETS = [(0, 2), (2, 2), (2, 5), (5, 5), (5, 6)]


@pytest.mark.parametrize(
    "place, overlapping, within",
    [((0, 6), (0, 5), (0, 5)), ((1, 5), (0, 3), (2, 3)), ((3, 4), (2, 3), None), ((6, 9), None, None)],
)
def test_tokens_overlap_a_range_or_lie_within_it(
    place: tuple[int, int], overlapping: tuple[int, int] | None, within: tuple[int, int] | None
) -> None:
    assert tokens_in(OFFSETS, *place) == overlapping
    assert tokens_within(OFFSETS, *place) == within


@given(
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda r: (min(r), max(r)))),
)
def test_what_is_outside_of_ranges_is_every_place_in_none_of_them(
    span: tuple[int, int], taken: list[tuple[int, int]]
) -> None:
    parts = outside(span, taken)
    covered = {i for start, end in taken for i in range(start, end)}
    assert [i for start, end in parts for i in range(start, end)] == [i for i in range(*span) if i not in covered]
    assert all(start < end for start, end in parts)
