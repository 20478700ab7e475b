"""Values cross whole and typed; no bytes whatever crash the reader or cost more than they weigh."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.comparing import value_equal
from executor.languages import wire
from executor.problem import Checker

hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.sets(hashables, max_size=4)
        | st.builds(deque, st.lists(inner, max_size=3))
        | st.builds(bytearray, st.binary())
    ),
    max_leaves=12,
)


@given(values)
def test_a_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    assert value_equal(value, wire.decode(wire.encode(value)), Checker())


@pytest.mark.parametrize(
    "value", [Counter("aab"), defaultdict(None, {1: 2}), OrderedDict(b=1, a=2), range(3, 9, 2), int, type(None)]
)
def test_what_the_standard_library_adds(value: Any) -> None:
    back = wire.decode(wire.encode(value))
    assert type(back) is type(value) and back == value


def test_floats_that_are_no_numbers() -> None:
    assert math.isnan(wire.decode(wire.encode(float("nan"))))
    assert math.copysign(1, wire.decode(wire.encode(-0.0))) == -1


def test_sets_keep_the_order_in_which_a_program_sees_them() -> None:
    for value in ({12, 13, 14, 15, 16}, {5, 10, 15, 20, 25, 30, 35}, {8, 0, 16}, {16, 0, 8}, set(range(1000))):
        assert list(wire.decode(wire.encode(value))) == list(value)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_wire_error(raw: bytes) -> None:
    try:
        wire.decode(raw)
    except wire.WireError:
        pass


@settings(max_examples=500)
@given(values, st.data())
def test_broken_values_are_a_value_or_a_wire_error(value: Any, data: st.DataObject) -> None:
    raw = bytearray(wire.encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.decode(bytes(raw))
    except wire.WireError:
        pass


def test_types_of_the_program_are_refused() -> None:
    class Always(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    for value in (Always(0), [Always(0)], object(), (x for x in ()), len):
        with pytest.raises(wire.WireError):
            wire.encode(value)


def test_nesting_and_size_are_bounded() -> None:
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(wire.WireError, match="deeper"):
        wire.encode(deep)
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(wire.WireError, match="deeper"):
        wire.encode(itself)
    with pytest.raises(wire.WireError, match="deeper"):
        wire.decode((b"l" + (1).to_bytes(4, "little")) * 10_000 + b"N")
    with pytest.raises(wire.TooLarge):
        wire.encode("x" * 1000, cap=999)
    with pytest.raises(wire.TooLarge):
        wire.encode(list(range(1000)), cap=999)
    with pytest.raises(wire.WireError):
        wire.decode(b"l\xff\xff\xff\xff")


@pytest.mark.parametrize("make", [deque, OrderedDict, Counter, set, frozenset, lambda: defaultdict(None)])
def test_memory_is_in_proportion_to_the_bytes(make: Any) -> None:
    few = [make() for _ in range(1000)]
    assert wire.decode(wire.encode(few)) == few
    raw = wire.encode([make()] * 100_000)
    with pytest.raises(wire.WireError, match="far more memory"):
        wire.decode(raw)
    assert wire._HEAVY[raw[5:6]] >= 0.9 * sys.getsizeof(make()), "it is charged less than it takes"


def test_keys_made_to_collide_are_refused_at_once() -> None:
    modulus = (1 << 61) - 1
    raw = wire.encode([k * modulus for k in range(1, 60_000)])
    start = time.monotonic()
    with pytest.raises(wire.WireError, match="collide"):
        wire.decode(b"S" + raw[1:])
    assert time.monotonic() - start < 5


def test_frames_leave_out_what_is_cut_short() -> None:
    raw = wire.frame(b"a") + wire.frame(b"bc")
    assert wire.frames(raw) == [b"a", b"bc"]
    assert wire.frames(raw[:-1]) == [b"a"]
    assert wire.frames(b"\xff\xff\xff\xff123") == []
