"""What a zygote says is read as it was meant, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.sandbox import answer

READERS: list[Callable[[bytes], Any]] = [
    answer.read_ready,
    answer.read_spawned,
    answer.read_finished,
    answer.read_purged,
]
numbers = st.integers(-(2**63), 2**63 - 1)
ends = st.tuples(numbers, numbers, st.floats(allow_nan=False), numbers, st.booleans())


@given(numbers, st.lists(ends, max_size=4), st.floats(allow_nan=False), st.text())
def test_answers_are_read_as_they_were_meant(number: int, of: answer.Ends, rest_s: float, words: str) -> None:
    assert answer.read_ready(answer.ready(number)) == answer.read_spawned(answer.spawned(number)) == number
    assert answer.read_finished(answer.finished(of, rest_s)) == (of, rest_s)
    answer.read_purged(answer.purged())
    for read in READERS:
        with pytest.raises(answer.Failed):
            read(answer.failed(words))


@given(st.binary(max_size=80) | st.sampled_from([answer.ready(1), answer.finished([], 0.0)]).map(lambda raw: raw[:-1]))
def test_anything_else_is_a_value_error(raw: bytes) -> None:
    for read in READERS:
        try:
            read(raw)
        except (ValueError, answer.Failed):
            pass


def test_an_answer_to_something_else_is_refused() -> None:
    longer = answer.finished([], 0.0) + b"x"
    for wrong, why in ((b"", "no answer"), (answer.ready(1), "something else"), (answer.spawned(1) + b"x", "length")):
        with pytest.raises(ValueError, match=why):
            answer.read_spawned(wrong)
    with pytest.raises(ValueError, match="length"):
        answer.read_finished(longer)
