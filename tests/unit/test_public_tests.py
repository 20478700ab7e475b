"""Public tests that the data do not name: taken out of the private ones, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.problem_sets.public_tests import FEW, derive, distinct
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest


def stdio(*pairs: tuple[str, str], prompt: str = "Echo.", public: tuple[tuple[str, str], ...] = ()) -> Problem:
    tests = [[StdioTest(input=given, output=answer) for given, answer in each] for each in (public, pairs)]
    return Problem(id="p", prompt=prompt, kind="stdio", public_tests=tests[0], private_tests=tests[1])  # type: ignore[arg-type]


def inputs(tests: list[Any]) -> list[str]:
    return [test.input for test in tests]


@given(st.lists(st.tuples(st.text("1 \n", max_size=3), st.just("1")), min_size=1, max_size=9))
def test_no_test_is_lost_and_one_stays_private(pairs: list[tuple[str, str]]) -> None:
    before = stdio(*pairs, prompt="1 1")
    after = derive(before)
    assert sorted(inputs(after.public_tests + after.private_tests)) == sorted(inputs(before.private_tests))
    assert len(after.public_tests) == min(FEW, len(pairs) // 2) or "1" in "".join(inputs(after.public_tests))
    assert len(after.public_tests) <= min(FEW, len(pairs) // 2) < len(pairs)
    assert derive(after) == after or not after.public_tests


def test_tests_that_the_statement_shows_are_the_public_ones() -> None:
    prompt = "Example\n\nInput\n\n2\n1 2\n\nOutput\n\n3\n\nInput 9 Output 19"
    problem = derive(stdio(("1\n5\n", "5\n"), ("9\n", "9\n"), ("2\r\n1 2\r\n", "3"), ("7\n", "7\n"), prompt=prompt))
    assert inputs(problem.public_tests) == ["2\r\n1 2\r\n"]
    assert inputs(problem.private_tests) == ["1\n5\n", "9\n", "7\n"]


@pytest.mark.parametrize("prompt, shown", [("1 2 3", True), ("3 1 2", False), ("11 2 3", False), ("1 2 33", False)])
def test_a_statement_shows_a_test_in_whole_words_and_in_its_order(prompt: str, shown: bool) -> None:
    problem = derive(stdio(("7", "7"), ("1\n2\n", "3\n"), prompt=prompt))
    assert inputs(problem.public_tests) == (["1\n2\n"] if shown else ["7"])


def test_else_the_first_are() -> None:
    calls = [FunctionTest(args=[n], expected=n) for n in range(8)]
    problem = Problem(id="p", prompt="Same.", kind="function", entry_point="f", private_tests=[*calls])
    assert derive(problem).public_tests == calls[:3] and derive(problem).private_tests == calls[3:]


def test_what_cannot_be_divided_stays_as_it_is() -> None:
    known = stdio(("1", "1"), ("2", "2"), public=(("3", "3"),))
    script = Problem(id="p", prompt="p", kind="script", entry_point="f", private_tests=[CodeTest(code="f(1)\nf(2)")])
    one = script.model_copy(update={"private_tests": [CodeTest(code="assert f(1) == 1")]})
    for problem in (known, stdio(("1", "1")), script, one):
        assert derive(problem) == problem


def test_asserts_that_the_docstring_shows_leave_the_check() -> None:
    check = "def check(candidate):\n    assert candidate(1) == 1\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"
    problem = Problem(
        id="p",
        prompt="Complete this function.",
        kind="script",
        entry_point="f",
        starter_code='def f(n):\n    """Square.\n    >>> f(2)\n    4\n    """',
        private_tests=[CodeTest(code=check)],
    )
    divided = derive(problem)
    assert divided.public_tests == [CodeTest(code="assert f(2) == 4")]
    assert divided.private_tests == [CodeTest(code=check.replace("assert candidate(2) == 4", "pass"))]
    first = derive(problem.model_copy(update={"starter_code": "def f(n):"}))
    assert first.public_tests == [CodeTest(code="assert f(1) == 1")]


@pytest.mark.parametrize("again", ["3 4\n5\n", "3 4\n5", "3 4  \r\n5\r\n\n"])
def test_a_private_test_that_is_public_as_well_is_dropped(again: str) -> None:
    others = (("3\n4 5\n", "0\n"), ("1\n", "1\n"))
    problem = distinct(stdio((again, "1"), *others, ("1 \n", "1\n"), public=(("3 4\n5\n", "2\n"),)))
    assert inputs(problem.public_tests) == ["3 4\n5\n"]
    assert inputs(problem.private_tests) == ["3\n4 5\n", "1\n"]


def test_calls_and_code_are_compared_too() -> None:
    calls = [
        FunctionTest(args=[1], expected=1),
        FunctionTest(args=[True], expected=1),
        FunctionTest(args=[1], kwargs={"a": 1}, expected=1),
    ]
    code = CodeTest(code="assert f(1)")
    problem = Problem(
        id="p",
        prompt="p",
        kind="function",
        entry_point="f",
        public_tests=[calls[0], code],
        private_tests=[*calls, code],
    )
    assert distinct(problem).private_tests == calls[1:]
