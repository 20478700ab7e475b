"""What the model is told, and what it never is."""

from __future__ import annotations

from executor.feedback import MAX_CHARS, feedback
from executor.problem import Problem, StdioTest
from executor.verdict import ErrorInfo, Outcome, TestResult, Verdict, no_code

PROBLEM = Problem(
    id="add",
    prompt="Add.",
    kind="stdio",
    public_tests=[StdioTest(input="1 2", output="3")],
    private_tests=[StdioTest(input="77", output="88")],
)


def verdict(outcome: Outcome, tests: list[TestResult], error: ErrorInfo | None = None) -> Verdict:
    return Verdict(problem_id="add", outcome=outcome, passed=0, total=2, tests=tests, error=error)


def test_a_failing_public_test_is_shown() -> None:
    test = TestResult(outcome=Outcome.FAILURE, public=True, input="1 2", expected="3", got="4")
    assert feedback(verdict(Outcome.FAILURE, [test]), PROBLEM) == (
        "The program gives a wrong answer.\nInput: 1 2\nExpected: 3\nGot: 4"
    )


def test_an_error_names_class_line_and_message() -> None:
    test = TestResult(outcome=Outcome.ERROR, public=True, input="1 2", expected="3")
    error = ErrorInfo(type="ZeroDivisionError", message="division by zero", line=3)
    assert "Line 3: ZeroDivisionError: division by zero" in feedback(verdict(Outcome.ERROR, [test], error), PROBLEM)


def test_a_compile_error_shows_no_test() -> None:
    test = TestResult(outcome=Outcome.SYNTAX_ERROR, public=True, input="1 2", expected="3")
    error = ErrorInfo(type="SyntaxError", message="invalid syntax", line=1, trusted=True)
    text = feedback(verdict(Outcome.SYNTAX_ERROR, [test], error), PROBLEM)
    assert text == "The program does not compile.\nLine 1: SyntaxError: invalid syntax"


def test_a_private_test_gives_nothing_away() -> None:
    passed = TestResult(outcome=Outcome.PASS, public=True)
    failed = TestResult(outcome=Outcome.ERROR, public=False, message="ValueError")
    error = ErrorInfo(type="ValueError", message="invalid literal: '77'", line=2)
    text = feedback(verdict(Outcome.ERROR, [passed, failed], error), PROBLEM)
    assert "77" not in text and "88" not in text and "Line 2: ValueError" in text


def test_it_is_bounded() -> None:
    test = TestResult(outcome=Outcome.FAILURE, public=True, input="1\n" * 9000, expected="2\n" * 9000, got="3\n" * 9000)
    assert len(feedback(verdict(Outcome.FAILURE, [test]), PROBLEM)) <= MAX_CHARS


def test_every_outcome_has_words() -> None:
    for outcome in Outcome:
        assert feedback(verdict(outcome, []), PROBLEM)
    assert "code block" in feedback(no_code("add", 2), PROBLEM)
