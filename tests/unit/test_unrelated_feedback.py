"""Feedback on another problem: believable, and about nothing that was done."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import UserError
from executor.feedback import no_feedback
from executor.feedback_templates import DEFAULT, FeedbackTemplates
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.unrelated_feedback import unrelated_feedback

TEMPLATES = FeedbackTemplates(
    header="",
    wrong_output="wrong<{test}|{expected}|{got}>",
    wrong_value="wrong<{test}|{expected}|{got}>",
    assertion="{test}{got}",
    check="check<{test}>",
)


def problem(name: str, *public: Test, private: list[Test] | None = None) -> Problem:
    kind = "stdio" if isinstance([*public, *(private or [])][0], StdioTest) else "function"
    return Problem(
        id=name,
        prompt="?",
        kind=kind,
        entry_point=None if kind == "stdio" else name,
        public_tests=list(public),
        private_tests=private or [],
    )


MINE = problem("mine", StdioTest(input="my input", output="my output"))
PRIVATE = problem("private", private=[StdioTest(input="secret", output="hush")])


def told(other: Problem, seed: int = 0) -> list[str]:
    """Test, expected and got."""
    text = unrelated_feedback(MINE, [MINE, PRIVATE, other], Random(seed), TEMPLATES)
    assert text.count("wrong<") == 1
    return [part.strip() for part in text.partition("wrong<")[2].partition(">")[0].split("|")]


def test_it_is_a_wrong_answer_to_a_test_of_another_problem() -> None:
    other = problem("other", StdioTest(input="1 2", output="3"), StdioTest(input="4 5", output="9"))
    seen = {tuple(told(other, seed)) for seed in range(20)}
    assert seen == {("1 2", "3", "9"), ("4 5", "9", "3")}  # the answer is another test's


def test_it_reads_as_true_feedback_does() -> None:
    other = problem("other", StdioTest(input="1 2", output="3"))
    text = unrelated_feedback(MINE, [other], Random(1))
    assert text.startswith(DEFAULT.header + "\n- Wrong answer. Input:\n    1 2\n  Expected output:\n    3\n")
    assert text.endswith(DEFAULT.retry.format(language="Python"))
    assert unrelated_feedback(MINE, [other], Random(1)) == text
    assert unrelated_feedback(MINE, [other], Random(1), max_chars=200) == no_feedback(MINE)


@pytest.mark.parametrize(
    "output",
    ["7", "-1", "0", "1 2 3\n4", "YES", "", "a", "9" * 5000, "0.5", "007", "1000000000", "ja 3", "\n"],
)
def test_an_answer_is_made_where_there_is_no_other(output: str) -> None:
    for seed in range(5):
        _, expected, got = told(problem("other", StdioTest(input="x", output=output)), seed)
        assert got != expected


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.integers(0, 99))
def test_a_value_is_made_that_is_not_the_expected_one(value: Any, seed: int) -> None:
    for test in (FunctionTest(args=["x"], expected=value), CodeTest(code=f"assert f('x') == {value!r}")):
        text = unrelated_feedback(MINE, [problem("f", test)], Random(seed), TEMPLATES)
        told = text.partition("<")[2].rpartition(">")[0]
        test_text, _, rest = told.partition("|")
        assert test_text.strip().startswith(("f('x')", "assert f('x') == "))
        if rest and "cut]" not in rest:
            half = len(rest) // 2
            assert rest[:half].strip() != rest[half:].strip("|").strip()


def test_an_assertion_is_told_as_it_stands() -> None:
    other = problem("f", CodeTest(code="assert f(1) == 5"), CodeTest(code="assert f(2) == 6"))
    assert told(other, 1) in (["assert f(1) == 5", "5", "6"], ["assert f(2) == 6", "6", "5"])
    for code in ("assert all(f(x) for x in [1])", "x = f(1)\nif x: raise ValueError", "("):
        text = unrelated_feedback(MINE, [problem("f", CodeTest(code=code))], Random(0), TEMPLATES)
        assert "check<    " in text and code.splitlines()[-1] in text


def test_nothing_of_this_problem_and_nothing_private_is_told() -> None:
    other = problem("other", StdioTest(input="1", output="3"), private=[StdioTest(input="secret", output="hush")])
    for seed in range(20):
        text = unrelated_feedback(MINE, [MINE, PRIVATE, other], Random(seed))
        assert not any(word in text for word in ("my input", "my output", "secret", "hush"))


@pytest.mark.parametrize("problems", [[], [MINE], [MINE, PRIVATE, PRIVATE]])
def test_without_another_problem_it_is_refused(problems: list[Problem]) -> None:
    with pytest.raises(UserError, match=r"^rollout.feedback=random: .*'mine'.*; .*rollout.feedback=none$"):
        unrelated_feedback(MINE, problems, Random(0))
