"""What the model is told, and what it never is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.feedback import MAX_CHARS, MAX_TEST_CHARS, feedback, no_feedback
from executor.feedback_templates import DEFAULT, FeedbackTemplates
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.verdict import ErrorInfo, Frame, Outcome, TestResult, Verdict, no_code

PROBLEM = Problem(
    id="add",
    prompt="Add.",
    kind="stdio",
    public_tests=[StdioTest(input="1 2\n", output="3\n"), StdioTest(input="4 5\n6 7\n", output="9\n13\n")],
    private_tests=[StdioTest(input="77", output="88")],
)
PROGRAM = "def add(line):\n    a, b = line.split()\n    return int(a) + int(b)\n\nprint(add(input()))"
RETRY = "\n\n" + DEFAULT.retry.format(language="Python")
PASSED = TestResult(outcome=Outcome.PASS, public=True)
WRONG = TestResult(outcome=Outcome.FAILURE, public=True, got="4\n")


def verdict(*tests: TestResult, error: ErrorInfo | None = None) -> Verdict:
    outcome = next((test.outcome for test in tests if test.outcome is not Outcome.PASS), Outcome.PASS)
    return Verdict(problem_id="add", outcome=outcome, total=3, tests=list(tests), error=error)


def problem_of(*tests: Test) -> Problem:
    return Problem(id="p", prompt="?", kind="function", entry_point="f", public_tests=list(tests))


def test_a_wrong_answer_is_told_with_what_was_expected() -> None:
    assert feedback(PROBLEM, PROGRAM, verdict(WRONG, PASSED)) == (
        "Your program does not solve the task yet. It failed these tests:\n"
        "- Wrong answer. Input:\n    1 2\n  Expected output:\n    3\n  Output of your program:\n    4" + RETRY
    )


def test_all_that_failed_are_told_in_order_and_none_that_passed() -> None:
    both = feedback(PROBLEM, PROGRAM, verdict(WRONG, WRONG))
    assert 0 < both.index("    1 2\n") < both.index("    4 5\n    6 7\n  Expected output:\n    9\n    13\n")
    second = feedback(PROBLEM, PROGRAM, verdict(PASSED, WRONG))
    assert "1 2" not in second and "4 5" in second


def test_an_error_is_told_with_its_stack() -> None:
    stack = [
        Frame(line=5, function="<module>"),
        Frame(line=3, function="add", left_out=7),
        Frame(line=99, function="g"),
    ]
    error = ErrorInfo(type="ValueError", message="invalid literal: '{x}'", line=3, frames=stack)
    result = TestResult(outcome=Outcome.ERROR, public=True, error=error)
    assert feedback(PROBLEM, PROGRAM, verdict(result)) == (
        "Your program does not solve the task yet. It failed these tests:\n"
        "- Your program ended with an error. Test:\n    1 2\n  Error:\n"
        "    line 5, in <module>\n        print(add(input()))\n    ... 7 more calls ...\n"
        "    line 3, in add\n        return int(a) + int(b)\n    line 99, in g\n    ValueError: invalid literal: '{x}'"
        + RETRY
    )


def test_a_program_that_does_not_compile_is_told_of_once() -> None:
    error = ErrorInfo(type="SyntaxError", message="'(' was never closed", line=1, trusted=True)
    result = TestResult(outcome=Outcome.SYNTAX_ERROR, public=True, error=error)
    text = feedback(PROBLEM, "print((1)", verdict(result, error=error))
    assert text == (
        "Your program is not valid code, so no test was run:\n    line 1\n        print((1)\n    SyntaxError: '(' was never closed"
        + RETRY
    )


def test_an_answer_without_code_has_words_of_its_own() -> None:
    assert feedback(PROBLEM, None, no_code("add", 2)) == DEFAULT.no_code + RETRY


@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (Outcome.TIMEOUT, None, ["too long", "4 s", "    1 2"]),
        (Outcome.TIMEOUT, ErrorInfo(type="TimeoutError", line=2), ["line 2\n        a, b = line.split()"]),
        (Outcome.MEMORY, None, ["out of memory", "512 MiB", "    1 2"]),
        (Outcome.MEMORY, ErrorInfo(type="MemoryError", line=3), ["return int(a)"]),
        (Outcome.OUTPUT_LIMIT, None, ["output", "    1 2"]),
        (Outcome.ERROR, ErrorInfo(type="SIGSEGV", message="killed by SIGSEGV"), ["SIGSEGV"]),
    ],
)
def test_each_way_to_fail_is_told_as_such(outcome: Outcome, error: ErrorInfo | None, words: list[str]) -> None:
    text = feedback(PROBLEM, PROGRAM, verdict(TestResult(outcome=outcome, public=True, error=error)))
    assert all(word in text for word in words)


def test_verdicts_of_an_earlier_form_can_be_told() -> None:
    line = {"outcome": "error", "public": True, "seconds": 0.1, "message": "KeyError: 3 (line 2)", "input": "1", "expected": "2"}  # fmt: skip
    error = {"type": "KeyError", "message": "3", "line": 2, "column": None, "trusted": False}
    old = Verdict.model_validate({"problem_id": "add", "outcome": "error", "total": 1, "tests": [line], "error": error})
    assert "KeyError: 3 (line 2)" in feedback(PROBLEM, PROGRAM, old)


@pytest.mark.parametrize(
    ("test", "said", "words"),
    [
        (
            FunctionTest(args=[[1], "a"], kwargs={"k": 2}, expected="b"),
            {"got": "'c'"},
            ["f([1], 'a', k=2)", "Expected value:\n    'b'", "gave:\n    'c'"],
        ),
        (
            CodeTest(code="assert f(1) == 2\nassert f(2) == 3"),
            {"got": "4", "assertion": "assert f(2) == 3", "expected": "3"},
            ["Test:\n    assert f(2) == 3\n", "value:\n    3\n", "gave:\n    4"],
        ),
        (
            CodeTest(code="assert sorted(f(1)) == [2]"),
            {"got": "[4]", "assertion": "assert sorted(f(1)) == [2]"},
            ["    assert sorted(f(1)) == [2]\n", "gave:\n    [4]"],
        ),
        (CodeTest(code="x = f()\nraise ValueError(x)"), {}, ["    x = f()\n    raise ValueError(x)"]),
    ],
)
def test_calls_and_assertions_are_told_as_they_are_written(test: Test, said: dict[str, Any], words: list[str]) -> None:
    result = TestResult(outcome=Outcome.FAILURE, public=True, **said)
    text = feedback(problem_of(test), "def f(): pass", verdict(result))
    assert all(word in text for word in words)


def test_nothing_at_all_is_told_as_that() -> None:
    problem = PROBLEM.model_copy(update={"public_tests": [StdioTest(input="", output="1")]})
    text = feedback(problem, "", verdict(TestResult(outcome=Outcome.FAILURE, public=True, got="\n")))
    assert "Input:\n    (nothing)\n" in text and "your program:\n    (nothing)\n" in text


def test_what_is_too_long_is_cut_where_it_matters_least() -> None:
    """The beginning of what was given and expected is kept, the end of what came of it."""
    long = {name: "".join(f"{name} {i}\n" for i in range(2000)) for name in ("given", "right", "wrong")}
    problem = PROBLEM.model_copy(update={"public_tests": [StdioTest(input=long["given"], output=long["right"])]})
    text = feedback(problem, "", verdict(TestResult(outcome=Outcome.FAILURE, public=True, got=long["wrong"])))
    assert "    given 0\n" in text and "    right 0\n" in text and "    wrong 1999\n" in text
    assert "wrong 0\n" not in text and "1999" not in text.replace("wrong 1999", "")
    assert text.count("[the rest is cut]") == 2 and text.count("[the beginning is cut]\n    wrong ") == 1
    assert len(text) < MAX_TEST_CHARS + 300
    frames = [Frame(line=1 + i % 5, function=f"function_{i}") for i in range(8)]
    error = ErrorInfo(type="ValueError", message="mess " * 400, frames=frames)
    text = feedback(PROBLEM, PROGRAM, verdict(TestResult(outcome=Outcome.ERROR, public=True, error=error)))
    assert "ValueError: mess mess" in text and "function_7" in text and "function_0" not in text
    told = text.partition("    [the beginning is cut]\n    ")[2].splitlines()
    assert told[0].strip() in [*map(str.strip, PROGRAM.splitlines())] or told[0].startswith("line ")
    assert "mess m [the rest is cut]" in text


def many(number: int) -> tuple[Problem, Verdict]:
    tests = [StdioTest(input=f"input {i} " + "x" * 150, output=f"output {i}") for i in range(number)]
    return PROBLEM.model_copy(update={"public_tests": tests}), verdict(*[WRONG] * number)


def test_tests_for_which_there_is_no_room_are_counted() -> None:
    problem, failed = many(12)
    text = feedback(problem, "", failed)
    told = text.count("- Wrong answer.")
    assert 3 < told < 12 and f"\n- Failed as well, not shown here: {12 - told}\n" in text and len(text) <= MAX_CHARS
    assert "input 0 " in text and f"input {told - 1} " in text and f"input {told} " not in text


def test_with_less_room_there_is_less_to_read_and_still_what_to_do() -> None:
    problem, failed = many(3)
    texts = [feedback(problem, "", failed, max_chars=most) for most in range(1200, 0, -1)]
    assert all(len(text) <= most for text, most in zip(texts, range(1200, 0, -1), strict=True))
    assert [text.count("Wrong answer") for text in texts] == sorted((t.count("Wrong answer") for t in texts), reverse=True)  # fmt: skip
    whole = [text for text in texts if text.endswith(DEFAULT.retry.format(language="Python"))]
    assert len(whole) == 1200 - len(whole[-1]) + 1 and whole[-1] == RETRY.strip()
    assert DEFAULT.not_solved + RETRY in whole
    assert {text.count("Wrong answer") for text in texts} == {3, 2, 1, 0}


def test_no_feedback_says_nothing_of_tests() -> None:
    assert no_feedback(PROBLEM) == DEFAULT.not_solved + RETRY
    assert len(no_feedback(PROBLEM, max_chars=20)) == 20


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.INFRASTRUCTURE])
def test_there_is_no_feedback_where_there_is_nothing_to_mend(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match=outcome.value):
        feedback(PROBLEM, PROGRAM, Verdict(problem_id="add", outcome=outcome))


def test_a_private_test_gives_nothing_away() -> None:
    error = ErrorInfo(type="ValueError", message="invalid literal: '77'", line=2)
    failed = TestResult(outcome=Outcome.ERROR, public=False, message="ValueError")
    text = feedback(PROBLEM, PROGRAM, verdict(PASSED, PASSED, failed, error=error))
    assert text == no_feedback(PROBLEM)


def test_a_verdict_on_private_tests_alone_is_not_taken_for_one_on_public_ones() -> None:
    failed = TestResult(outcome=Outcome.ERROR, public=False, message="ValueError")
    assert feedback(PROBLEM, PROGRAM, verdict(failed, failed)) == no_feedback(PROBLEM)


words = st.text(st.sampled_from("ab {}\n\t%é\ud800") | st.characters(), max_size=60) | st.sampled_from(
    ["{test}", "{0}", "{", "}}", "x" * 3000, "y\n" * 3000, "\n" * 900, "{got!r}" * 200]
)
codes = words.map(lambda text: text.encode("utf-8", "replace").decode()).filter(
    bool
)  # half a surrogate pair is refused
stacks = st.lists(
    st.builds(Frame, line=st.integers(1, 8), function=st.sampled_from(["f", "<module>", "?"]), left_out=st.integers(0, 9)),
    max_size=8,
)  # fmt: skip
errors = st.builds(ErrorInfo, type=st.sampled_from(["KeyError", "X"]), message=words, line=st.integers(1, 9) | st.none(), frames=stacks)  # fmt: skip
outcomes = st.sampled_from([o for o in Outcome if o not in (Outcome.INFRASTRUCTURE, Outcome.NO_CODE)])
PRIVATE = "PRIVATE-OF-ALL"


@st.composite
def failures(draw: st.DrawFn) -> tuple[Problem, Verdict]:
    """A problem and a verdict; all that is private, and only that, holds PRIVATE."""
    stdio = draw(st.booleans())
    number = draw(st.integers(0, 5))
    if stdio:
        public: list[Test] = [StdioTest(input=draw(words), output=draw(words)) for _ in range(number)]
        private: list[Test] = [StdioTest(input=f"{PRIVATE} {draw(words)}", output=PRIVATE)]
    else:
        public = [
            draw(
                st.builds(FunctionTest, args=st.lists(words, max_size=2), expected=words)
                | st.builds(CodeTest, code=codes)
            )
            for _ in range(number)
        ]
        private = [FunctionTest(args=[PRIVATE], expected=PRIVATE), CodeTest(code=f"assert f() == '{PRIVATE}'")]
    problem = Problem(
        id="p",
        prompt="?",
        kind="stdio" if stdio else "function",
        entry_point="f",
        public_tests=public,
        private_tests=private,
    )
    results = [
        TestResult(
            outcome=draw(outcomes),
            public=True,
            message=draw(words),
            got=draw(words | st.none()),
            assertion=draw(words | st.none()),
            expected=draw(words | st.none()),
            error=draw(errors | st.none()),
        )
        for _ in range(number)
    ]
    results.append(TestResult(outcome=Outcome.ERROR, public=False, message=PRIVATE))
    error = ErrorInfo(type="KeyError", message=PRIVATE, line=1, frames=[Frame(line=1, function=PRIVATE)])
    return problem, Verdict(problem_id="p", outcome=Outcome.ERROR, tests=results, error=error)


@settings(max_examples=300)
@given(failures(), words, st.integers(0, 3000), st.integers(0, 900))
def test_it_is_never_too_long_and_holds_nothing_private(
    failed: tuple[Problem, Verdict], program: str, most: int, most_a_test: int
) -> None:
    problem, verdict = failed
    text = feedback(problem, program, verdict, DEFAULT, most, most_a_test)
    assert len(text) <= most and PRIVATE not in text
    text.encode()
    if most >= len(RETRY) + len(DEFAULT.not_solved):
        assert text.endswith(RETRY)
    shown = sum(result.outcome is not Outcome.PASS for result in verdict.tests if result.public)
    if not shown:
        assert text == no_feedback(problem, max_chars=most)


@settings(max_examples=100)
@given(words, words, words)
def test_what_is_filled_in_is_as_it_was(given: str, expected: str, got: str) -> None:
    """Braces above all: nothing that a program writes is a template."""
    templates = FeedbackTemplates(wrong_output="{test}|{expected}|{got}", header="")
    problem = PROBLEM.model_copy(update={"public_tests": [StdioTest(input=given, output=expected)]})
    result = TestResult(outcome=Outcome.FAILURE, public=True, got=got)
    text = feedback(problem, "", verdict(result), templates, 10**6, 10**6)
    filled = [(t.rstrip("\r\n") or "(nothing)").replace("\n", "\n    ") for t in (given, expected, got)]
    whole = "|".join("    " + t for t in filled) + RETRY
    assert text == whole.encode("utf-8", "replace").decode()
