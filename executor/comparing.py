"""Whether an answer is the expected one. Pure; runs outside the program's process, on text and on plain values.

Invariants: types are exact at every depth (True is not 1, a tuple is not a list) except that under the float checker
ints and floats mix; NaN equals nothing; no method of the answer's class runs, as answers hold only the plain types of
languages/wire.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict, defaultdict
from typing import Any

from executor.problem import Checker

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)


def text_equal(expected: str, got: bytes, checker: Checker) -> bool:
    """Compare what a program wrote with what it should have written."""
    wanted = expected.encode("utf-8", "surrogatepass")
    if checker.type == "exact":
        return _lines(wanted) == _lines(got)
    left, right = wanted.split(), got.split()
    if len(left) != len(right):
        return False
    if checker.type == "tokens":
        return left == right
    return all(_token_equal(a, b, checker) for a, b in zip(left, right, strict=True))


def _lines(text: bytes) -> list[bytes]:
    lines = [line.rstrip(b" \t\r\f\v") for line in text.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _token_equal(expected: bytes, got: bytes, checker: Checker) -> bool:
    if expected == got:
        return True
    if len(got) > 1000 or not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(got)):
        return False
    return close(float(expected), float(got), checker)


def close(expected: float, got: float, checker: Checker) -> bool:
    """Within the absolute or the relative tolerance; infinities only if equal, NaN never."""
    try:
        a, b = float(expected), float(got)
    except OverflowError:  # an int beyond floats
        return expected == got
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b
    return abs(a - b) <= max(checker.abs, checker.rel * abs(a))


def value_equal(expected: Any, got: Any, checker: Checker) -> bool:
    """Compare plain values. The standard library's kinds of dict count as dict, since they hold the same."""
    a, b = _plain(expected), _plain(got)
    if checker.type == "float" and type(a) in (int, float) and type(b) in (int, float):
        return close(a, b, checker)
    if type(a) is not type(b):
        return False
    if type(a) is str and checker.type == "tokens":
        return a.split() == b.split()
    if type(a) in (list, tuple) or type(a).__name__ == "deque":
        return len(a) == len(b) and all(value_equal(x, y, checker) for x, y in zip(a, b, strict=True))
    if type(a) is dict:
        return _dict_equal(a, b, checker)
    if type(a) in (set, frozenset):
        return len(a) == len(b) and {_key(x) for x in a} == {_key(y) for y in b}
    return bool(a == b)


def _plain(value: Any) -> Any:
    return dict(value) if type(value) in (Counter, defaultdict, OrderedDict) else value


def _dict_equal(expected: dict[Any, Any], got: dict[Any, Any], checker: Checker) -> bool:
    if len(expected) != len(got):
        return False
    theirs = {_key(key): value for key, value in got.items()}
    return all((k := _key(key)) in theirs and value_equal(value, theirs[k], checker) for key, value in expected.items())


def _key(value: Any) -> Any:
    """What stands for a hashable value so that equal means equal in type as well; NaN equals not even itself."""
    if type(value) is float and math.isnan(value):
        return object()
    if type(value) is tuple:
        return (tuple, *map(_key, value))
    if type(value) is frozenset:
        return (frozenset, frozenset(map(_key, value)))
    return (type(value), value)
