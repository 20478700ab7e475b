"""What counts as the right answer."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest

from executor.comparing import text_equal, value_equal
from executor.problem import Checker

EXACT, TOKENS = Checker(), Checker(type="tokens")
FLOAT = Checker(type="float", abs=1e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("expected", "got", "checker", "same"),
    [
        ("5\n", b"5", EXACT, True),
        ("5", b"5  \r\n\n\n", EXACT, True),
        ("1 2\n3\n", b"1 2 \n3", EXACT, True),
        ("1\n2\n", b"1\n", EXACT, False),
        ("1\n", b"1\n2\n", EXACT, False),
        ("1\n2\n", b"1 2\n", EXACT, False),
        ("5\n", b" 5\n", EXACT, False),
        ("5\n", b"5\x00\n", EXACT, False),
        ("5\n", b"5\x1c\n", EXACT, False),
        ("5\n", b"The answer is 5\n", EXACT, False),
        ("h\u00e9 \u2713\n", "h\u00e9 \u2713".encode(), EXACT, True),
        ("a\n", b"\xff\n", EXACT, False),
        ("", b"", EXACT, True),
        ("", b"\n", EXACT, True),
        ("1 2\n3\n", b"1\n2 3", TOKENS, True),
        ("1 2 3", b"1 2", TOKENS, False),
        ("1 2", b"1 2 3", TOKENS, False),
        ("0.5", b"0.50000001", FLOAT, True),
        ("0.5", b"0.51", FLOAT, False),
        ("0.5", b"nan", FLOAT, False),
        ("nan", b"nan", FLOAT, True),  # the very same text
        ("inf", b"1e999", FLOAT, True),
        ("1.0", b"inf", FLOAT, False),
        ("1000", b"1_000", FLOAT, False),
        ("yes 1", b"no 1", FLOAT, False),
        ("1.0 2.0", b"1.0", FLOAT, False),
    ],
)
def test_text(expected: str, got: bytes, checker: Checker, same: bool) -> None:
    assert text_equal(expected, got, checker) is same


NAN = float("nan")


@pytest.mark.parametrize(
    ("expected", "got", "checker", "same"),
    [
        (1, 1, EXACT, True),
        (1, True, EXACT, False),
        (True, 1, EXACT, False),
        (1, 1.0, EXACT, False),
        (1, 1.0, FLOAT, True),
        (1, True, FLOAT, False),
        (1.5, 1.5000001, FLOAT, True),
        (1.5, "1.5", FLOAT, False),
        (NAN, NAN, EXACT, False),
        (NAN, NAN, FLOAT, False),
        (1.5, NAN, FLOAT, False),
        ([NAN], [NAN], EXACT, False),
        (float("inf"), float("inf"), FLOAT, True),
        (10**400, 10**400, FLOAT, True),
        (10**400, 10**400 + 1, FLOAT, False),
        ([1, 2], [1, 2], EXACT, True),
        ([1, 2], (1, 2), EXACT, False),
        ([1, [2, True]], [1, [2, 1]], EXACT, False),
        ([1], [1, 2], EXACT, False),
        ({"a": 1}, {"a": 1}, EXACT, True),
        ({"a": 1}, {"a": 1.0}, FLOAT, True),
        ({"1": 2}, {1: 2}, EXACT, False),
        ({1: 2}, {True: 2}, EXACT, False),
        ({1: 2}, {1.0: 2}, EXACT, False),
        ({1: 2, 2: 3}, {2: 3, 1: 2}, EXACT, True),
        ({"a": 1}, Counter("a"), EXACT, True),
        ({"a": [1]}, defaultdict(list, a=[1]), EXACT, True),
        ({"a": 1}, OrderedDict(a=1), EXACT, True),
        ({1, 2}, {2, 1}, EXACT, True),
        ({1}, {True}, EXACT, False),
        ({(1, 2)}, {(1, True)}, EXACT, False),
        ({1}, frozenset({1}), EXACT, False),
        ([1], deque([1]), EXACT, False),
        (b"a", bytearray(b"a"), EXACT, False),
        ("a b", "a  b\n", TOKENS, True),
        ("a b", "a b ", EXACT, False),
        (None, None, EXACT, True),
        (None, False, EXACT, False),
    ],
)
def test_values(expected: Any, got: Any, checker: Checker, same: bool) -> None:
    assert value_equal(expected, got, checker) is same
