"""Test code as cases: those that stand alone and those that stay judge, together, exactly what the whole does."""

from __future__ import annotations

from typing import Any

import pytest
from evalplus_form import check, check_with_solution
from hypothesis import given
from hypothesis import strategies as st

from actors.problem_sets.code_cases import CodeCases, key, shown_calls


def calls_of(code: str, answers: dict[str, Any]) -> list[str]:
    """What a test calls `f` with, in order, where `f` gives these answers. Raises AssertionError for a wrong one."""
    called: list[str] = []

    def f(*arguments: Any) -> Any:
        called.append(repr(list(arguments)))
        return answers[called[-1]]

    names: dict[str, Any] = {"f": f}
    exec(code, names)
    if "check" in names:
        names["check"](f)
    return called


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([0.5, 1e-7, -2.0])
    | st.text("aé'\"\\\n,()[] ", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.tuples(inner, inner),
    max_leaves=4,
)


@given(st.lists(st.tuples(st.lists(values, max_size=2), values), min_size=1, max_size=6, unique_by=repr), st.data())
def test_cases_and_the_rest_make_the_same_calls_as_the_whole(cases: list[Any], data: st.DataObject) -> None:
    cases = list({repr(given): (given, answer) for given, answer in cases}.values())
    inputs, results = [list(case[0]) for case in cases], [case[1] for case in cases]
    answers = {repr(given): answer for given, answer in zip(inputs, results, strict=True)}
    code = CodeCases(check(inputs, results), "f")
    assert len(code.arguments) == len(inputs)
    taken = data.draw(st.sets(st.sampled_from(range(len(inputs))), max_size=len(inputs) - 1))
    assert calls_of(code.without(taken), answers) == [repr(given) for i, given in enumerate(inputs) if i not in taken]
    for number in taken:
        assert calls_of(code.alone(number), answers) == [repr(inputs[number])]


@pytest.mark.parametrize(
    "result, tolerance, wrong, near",
    [
        (3, 0, 4, 3),
        ("a", 0, "b", "a"),
        ([1, 2.5], 0, [1, 2.6], [1, 2.5]),
        (0.5, 0, 0.5001, 0.5 + 1e-7),
        ([0.5, 1.5], 0, [0.5, 1.6], (0.5 + 1e-7, 1.5)),
        (2, 1e-3, 2.1, 2.0005),
        ([], 0, [1, 2], []),
    ],
)
def test_a_case_alone_is_as_strict_as_in_the_test(result: Any, tolerance: float, wrong: Any, near: Any) -> None:
    code = CodeCases(check([[1], [2]], [result, result], tolerance), "f")
    for test in (code.alone(0), code.without([1])):
        assert calls_of(test, {"[1]": near}) == ["[1]"]
        with pytest.raises((AssertionError, ValueError)):
            calls_of(test, {"[1]": wrong})


def test_a_short_case_is_one_line_and_a_long_one_is_not_shown() -> None:
    code = CodeCases(check([[1, (2, "é")], ["x" * 1000]], [True, 0]), "f")
    assert code.alone(0) == "assert f(1, (2, 'é')) == True"
    assert code.alone(1) == ""


def test_a_solution_in_the_test_is_never_shown() -> None:
    test = check_with_solution([[1], [2], [3]], "def ref_func(n):\n    return n + 1\n")
    code = CodeCases(test, "f")
    assert code.arguments == ["[1]", "[2]", "[3]"] and not any(map(code.alone, range(3)))
    assert calls_of(code.without([1]), {"[1]": 2, "[3]": 4}) == ["[1]", "[3]"]


def test_a_comparison_of_its_own_stays_what_it_is() -> None:
    test = (
        "def _poly(x, xs):\n    return xs - x\n\ndef check(candidate):\n    inputs = [[3], [4]]\n    results = [3, 4]\n"
    )
    test += "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assert _poly(candidate(*inp), *inp) <= 0.1\n"
    alone = CodeCases(test, "f").alone(1)
    assert calls_of(alone, {"[4]": 3.95}) == ["[4]"]


def test_a_case_that_needs_a_name_keeps_the_tests_own_code() -> None:
    test = check([[1]], [2]).replace("[[1]]", "[[inf], [2]]").replace("[2]\n", "[0, inf]\n")
    code = CodeCases(f"from math import inf\n{test}", "f")
    assert calls_of(code.alone(0), {"[inf]": 0}) == ["[inf]"]
    assert calls_of(code.alone(1), {"[2]": float("inf")}) == ["[2]"]


def test_asserts_are_cases_if_they_need_nothing_else() -> None:
    test = """METADATA = {}


def check(candidate):
    assert candidate([1,  2]) == "a", "why; not"
    assert True, "prints"
    s = 3
    assert candidate(s) == 4
    assert abs(candidate(1, (2,)) - 0.5) < 1e-6; assert candidate(
        "é") is None
"""
    code = CodeCases(test, "f")
    assert code.arguments == ["[[1,2]]", "[1,[2]]", "['é']"]
    assert [code.alone(i) for i in range(3)] == [
        "assert f([1, 2]) == 'a', 'why; not'",
        "assert abs(f(1, (2,)) - 0.5) < 1e-06",
        "assert f('é') is None",
    ]
    answers = {"[[1, 2]]": "a", "[3]": 4, "[1, (2,)]": 0.5, "['é']": None}
    assert calls_of(code.without([0, 2]), answers) == ["[3]", "[1, (2,)]"]
    assert calls_of(code.without([0, 1, 2]), answers) == ["[3]"]


@pytest.mark.parametrize(
    "code",
    [
        "",
        "def check(candidate:",
        "for i in range(3):\n    assert f(i) == i\n",
        "inputs = [[1]]\nresults = [1, 2]\n",
        "\0",
    ],
)
def test_code_of_another_form_has_no_cases(code: str) -> None:
    assert CodeCases(code, "f").arguments == []


@pytest.mark.parametrize(
    "text, found",
    [
        (
            ">>> f([1.0, 2.0], 0.5)\n    False\n    >>> f('a)b')\n    'x'",
            ["assert f([1.0, 2.0], 0.5) == False", "assert f('a)b') == 'x'"],
        ),
        ("f(3) = [1, 3, 2, 8]", ["assert f(3) == [1, 3, 2, 8]"]),
        ("f(1) ➞ 2, f(2) and f(3) => 4.", ["", "", "assert f(3) == 4"]),
        ("def f(x):\n    f(x) is x, f(a=1) is 1, off(1) and f(", []),
    ],
)
def test_calls_that_a_text_shows(text: str, found: list[str]) -> None:
    assert list(shown_calls(text, "f").values()) == found


def test_a_tuple_is_as_good_as_a_list_in_arguments() -> None:
    import ast

    call = ast.parse('f((3, 4), (5,), "a, b", -1e-6)', mode="eval").body
    assert isinstance(call, ast.Call)
    assert [key(call.args)] == CodeCases(check([[[3, 4], [5], "a, b", -1e-6]], [0]), "f").arguments
